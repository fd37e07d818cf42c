// lib739kv's calls as the command uses them, over a map in this process. Being
// in the program, they are found before those of the shared library. Keys that
// begin with "error" fail with the code behind it: "error-4". A page of a scan
// holds two keys at most.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "client/lib739kv.h"

struct kv739_client {
  std::map<std::string, std::pair<std::string, uint64_t>> values;
  uint64_t version = 116911111111111111;
};
struct kv739_scan_result {
  std::vector<std::pair<std::string, std::pair<std::string, uint64_t>>> entries;
  bool more = false;
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

int kv739_client_scan(kv739_client* client, const void* prefix,
                      size_t prefix_length, size_t max_keys, int flags,
                      kv739_scan_cursor* cursor, int,
                      kv739_scan_result** result) {
  constexpr size_t kPageKeys = 2;
  const Slice wanted(prefix, prefix_length);
  if (const int code = Failure(wanted); code != 0) return code;
  auto* page = new kv739_scan_result;
  const size_t most = max_keys == 0 ? kPageKeys : std::min(kPageKeys, max_keys);
  auto it = client->values.lower_bound(
      std::string(cursor->from, cursor->from_length));
  for (; it != client->values.end() && page->entries.size() < most; ++it) {
    if (!absl::StartsWith(it->first, wanted.text)) continue;
    page->entries.push_back(*it);
    if ((flags & KV739_SCAN_KEYS_ONLY) != 0) {
      page->entries.back().second.first.clear();
    }
  }
  page->more = it != client->values.end();
  if (page->more) {
    cursor->from_length = static_cast<unsigned>(it->first.size());
    it->first.copy(cursor->from, sizeof(cursor->from));
  }
  *result = page;
  return KV739_OK;
}
void kv739_scan_result_free(kv739_scan_result* page) { delete page; }
size_t kv739_scan_result_count(const kv739_scan_result* page) {
  return page->entries.size();
}
int kv739_scan_result_more(const kv739_scan_result* page) { return page->more; }
const char* kv739_scan_result_key(const kv739_scan_result* page, size_t index,
                                  size_t* length) {
  *length = page->entries[index].first.size();
  return page->entries[index].first.c_str();
}
const char* kv739_scan_result_value(const kv739_scan_result* page, size_t index,
                                    size_t* length) {
  *length = page->entries[index].second.first.size();
  return page->entries[index].second.first.c_str();
}
uint64_t kv739_scan_result_version(const kv739_scan_result* page,
                                   size_t index) {
  return page->entries[index].second.second;
}

}  // extern "C"
