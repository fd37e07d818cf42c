// lib739kv's calls as the command uses them, over a map in this process. Being
// in the program, they are found before those of the shared library. Keys that
// begin with "error" fail with the code behind it: "error-4".
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "client/lib739kv.h"

struct kv739_client {
  std::map<std::string, std::pair<std::string, uint64_t>> values;
  uint64_t version = 116911111111111111;
};
struct kv739_result {
  bool found = false;
  std::string value;
  uint64_t version = 0;
};

namespace {

struct Slice {
  Slice(const void* data, size_t length)
      : text(static_cast<const char*>(data), length) {}
  std::string text;
};

int Failure(const Slice& key) {
  return absl::StartsWith(key.text, "error")
             ? std::atoi(key.text.c_str() + sizeof("error") - 1)
             : 0;
}

// What is there before a write.
kv739_result* Find(kv739_client* client, const Slice& key) {
  const auto found = client->values.find(key.text);
  if (found == client->values.end()) return new kv739_result;
  return new kv739_result{true, found->second.first, found->second.second};
}

int Write(kv739_client* client, const Slice& key, std::string value,
          kv739_result** result) {
  *result = Find(client, key);
  (*result)->version = ++client->version;
  client->values[key.text] = {std::move(value), client->version};
  return (*result)->found ? 0 : 1;
}

}  // namespace

extern "C" {

int kv739_open(const char*, const kv739_options*, kv739_client** client) {
  *client = new kv739_client;
  return KV739_OK;
}
void kv739_close(kv739_client* client) { delete client; }
const char* kv739_last_error() { return "the library says why"; }
void kv739_result_free(kv739_result* result) { delete result; }
int kv739_result_found(const kv739_result* result) { return result->found; }
const char* kv739_result_value(const kv739_result* result, size_t* length) {
  *length = result->value.size();
  return result->value.c_str();
}
uint64_t kv739_result_version(const kv739_result* result) {
  return result->version;
}

int kv739_client_get(kv739_client* client, const void* key, size_t key_length,
                     int, kv739_result** result) {
  const Slice k(key, key_length);
  if (const int code = Failure(k); code != 0) return code;
  *result = Find(client, k);
  return (*result)->found ? 0 : 1;
}
int kv739_client_put(kv739_client* client, const void* key, size_t key_length,
                     const void* value, size_t value_length, int,
                     kv739_result** result) {
  const Slice k(key, key_length);
  if (const int code = Failure(k); code != 0) return code;
  return Write(client, k, Slice(value, value_length).text, result);
}
int kv739_client_append(kv739_client* client, const void* key,
                        size_t key_length, const void* value,
                        size_t value_length, int, kv739_result** result) {
  const Slice k(key, key_length);
  const auto found = client->values.find(k.text);
  const std::string before =
      found == client->values.end() ? "" : found->second.first;
  return Write(client, k, before + Slice(value, value_length).text, result);
}
int kv739_client_delete(kv739_client* client, const void* key,
                        size_t key_length, int, kv739_result** result) {
  const Slice k(key, key_length);
  *result = Find(client, k);
  if ((*result)->found) (*result)->version = ++client->version;
  return client->values.erase(k.text) == 1 ? 0 : 1;
}
int kv739_client_cas(kv739_client* client, const void* key, size_t key_length,
                     uint64_t expected, const void* value, size_t value_length,
                     int, kv739_result** result) {
  const Slice k(key, key_length);
  *result = Find(client, k);
  if ((*result)->version != expected) return 1;
  kv739_result_free(*result);
  Write(client, k, Slice(value, value_length).text, result);
  return 0;
}

}  // extern "C"
