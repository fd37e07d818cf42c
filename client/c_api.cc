// The handle-based calls of lib739kv.h.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "client/handle.h"

namespace kv739::client {
namespace {

// Operations of one batch call that are under way at once.
constexpr size_t kBatchWindow = 4096;

std::unique_ptr<kv739_result> MakeResult(Outcome outcome) {
  auto result = std::make_unique<kv739_result>();
  result->found = outcome.found;
  result->version = outcome.version;
  result->value = std::move(outcome.value);
  return result;
}

class AsyncOperation : public Operation {
 public:
  AsyncOperation(Request r, kv739_callback done, void* context)
      : Operation(std::move(r)), done_(done), context_(context) {}

  void Finished() override {
    const int code = outcome.code;
    if (code < 0) {
      Fail(code, std::move(outcome.message));
      done_(context_, code, nullptr);
      return;
    }
    const std::unique_ptr<kv739_result> result = MakeResult(std::move(outcome));
    done_(context_, code, result.get());
  }

 private:
  const kv739_callback done_;
  void* const context_;
};

struct Arguments {
  OpKind kind;
  const void* key;
  size_t key_length;
  bool has_value = false;
  const void* value = nullptr;
  size_t value_length = 0;
  uint64_t expected = 0;

  int Make(Request* request) const {
    return MakeRequest(kind, key, key_length, has_value, value, value_length,
                       expected, request);
  }
};

int Call(kv739_client* handle, const Arguments& arguments, int timeout_ms,
         kv739_result** result) {
  return Guarded([&] {
    if (result != nullptr) *result = nullptr;
    std::shared_ptr<Client> client;
    Request request;
    if (const int code = Enter(handle, timeout_ms, true, &client)) return code;
    if (const int code = arguments.Make(&request)) return code;
    Outcome outcome;
    const int code =
        RunSync(client.get(), std::move(request), timeout_ms, &outcome);
    if (code >= 0 && result != nullptr) {
      *result = MakeResult(std::move(outcome)).release();
    }
    return code;
  });
}

int CallAsync(kv739_client* handle, const Arguments& arguments, int timeout_ms,
              kv739_callback done, void* context) {
  return Guarded([&] {
    std::shared_ptr<Client> client;
    Request request;
    if (const int code = Enter(handle, timeout_ms, false, &client)) return code;
    if (done == nullptr) return Fail(KV739_E_INVALID, "the callback is NULL");
    if (const int code = arguments.Make(&request)) return code;
    const auto operation =
        std::make_shared<AsyncOperation>(std::move(request), done, context);
    operation->deadline = client->DeadlineIn(timeout_ms);
    const int code = client->Submit(operation);
    if (code != KV739_OK) Fail(code, std::move(operation->outcome.message));
    return code;
  });
}

// One of many; the calling thread waits for them in their order.
struct BatchItem {
  int code = KV739_OK;
  std::string message;
  std::shared_ptr<SyncOperation> operation;
};

void CollectItem(BatchItem* item, kv739_result** result) {
  if (item->operation == nullptr) return;
  item->operation->Wait();
  Outcome& outcome = item->operation->outcome;
  item->code = outcome.code;
  if (outcome.code < 0) {
    item->message = std::move(outcome.message);
  } else if (result != nullptr) {
    *result = MakeResult(std::move(outcome)).release();
  }
  item->operation = nullptr;
}

void SubmitItem(Client* client, const kv739_slice& key,
                const kv739_slice* value, Instant deadline, BatchItem* item) {
  Request request;
  const Arguments arguments{
      .kind = value == nullptr ? OpKind::kGet : OpKind::kPut,
      .key = key.data,
      .key_length = key.length,
      .has_value = value != nullptr,
      .value = value == nullptr ? nullptr : value->data,
      .value_length = value == nullptr ? 0 : value->length};
  item->code = arguments.Make(&request);
  if (item->code != KV739_OK) {
    item->message = kv739_last_error();
    return;
  }
  auto operation = std::make_shared<SyncOperation>(std::move(request));
  operation->deadline = deadline;
  item->code = client->Submit(operation);
  if (item->code != KV739_OK) {
    item->message = std::move(operation->outcome.message);
    return;
  }
  item->operation = std::move(operation);
}

int Batch(kv739_client* handle, const kv739_slice* keys,
          const kv739_slice* values, bool put, size_t count, int timeout_ms,
          int* codes, kv739_result** results) {
  return Guarded([&] {
    std::shared_ptr<Client> client;
    if (const int code = Enter(handle, timeout_ms, true, &client)) return code;
    if (count == 0) return KV739_OK;
    if (keys == nullptr || codes == nullptr || (put && values == nullptr)) {
      return Fail(KV739_E_INVALID, "keys, values or codes are NULL");
    }
    if (results != nullptr) std::fill_n(results, count, nullptr);
    std::vector<BatchItem> items(count);
    const Instant deadline = client->DeadlineIn(timeout_ms);
    const auto collect = [&](size_t i) {
      CollectItem(&items[i], results == nullptr ? nullptr : &results[i]);
      codes[i] = items[i].code;
    };
    for (size_t i = 0; i < count; ++i) {
      if (i >= kBatchWindow) collect(i - kBatchWindow);
      SubmitItem(client.get(), keys[i], put ? &values[i] : nullptr, deadline,
                 &items[i]);
    }
    for (size_t i = count - std::min(count, kBatchWindow); i < count; ++i) {
      collect(i);
    }
    for (size_t i = 0; i < count; ++i) {
      if (items[i].code < 0) {
        return Fail(items[i].code,
                    absl::StrCat("item ", i, ": ", items[i].message));
      }
    }
    return KV739_OK;
  });
}

int OnServer(kv739_client* handle, ServerCall call, const char* server,
             int flag, int timeout_ms) {
  return Guarded([&] {
    std::shared_ptr<Client> client;
    if (const int code = Enter(handle, timeout_ms, true, &client)) return code;
    return RunOnServer(client.get(), call, server, flag, timeout_ms);
  });
}

int ReadOptions(const kv739_options* given, Client::Options* options) {
  if (given == nullptr) return KV739_OK;
  if (given->struct_size < sizeof(kv739_options)) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("struct_size is ", given->struct_size,
                             ", it must be sizeof(kv739_options)"));
  }
  if (given->timeout_ms < 0 || given->timeout_ms > kMaxTimeoutMs) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("timeout_ms is ", given->timeout_ms,
                             ", it must be 0 to ", kMaxTimeoutMs));
  }
  if (given->max_pending < 0) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("max_pending is ", given->max_pending,
                             ", it must not be negative"));
  }
  if (given->timeout_ms > 0) options->timeout_ms = given->timeout_ms;
  if (given->max_pending > 0) options->max_pending = given->max_pending;
  return KV739_OK;
}

}  // namespace
}  // namespace kv739::client

using namespace kv739::client;  // NOLINT: the names of this file

extern "C" {

int kv739_open(const char* config_file, const kv739_options* options,
               kv739_client** client) {
  return Guarded([&] {
    if (client == nullptr) return Fail(KV739_E_INVALID, "client is NULL");
    kv739::client::Client::Options own;
    if (const int code = ReadOptions(options, &own)) return code;
    auto handle = std::make_unique<kv739_client>();
    if (const int code = OpenClient(config_file, own, &handle->client)) {
      return code;
    }
    *client = handle.release();
    return KV739_OK;
  });
}

void kv739_close(kv739_client* client) {
  if (client == nullptr) return;
  if (client->client->Forked()) {
    // Its threads are not in this process, nor can its memory be trusted:
    // left where it is.
    new std::shared_ptr<kv739::client::Client>(std::move(client->client));
  } else {
    client->client->Close();
  }
  delete client;
}

void kv739_result_free(kv739_result* result) { delete result; }

int kv739_result_found(const kv739_result* result) {
  return result != nullptr && result->found ? 1 : 0;
}

const char* kv739_result_value(const kv739_result* result, size_t* length) {
  if (length != nullptr) *length = result == nullptr ? 0 : result->value.size();
  return result == nullptr ? "" : result->value.c_str();
}

uint64_t kv739_result_version(const kv739_result* result) {
  return result == nullptr ? 0 : result->version;
}

int kv739_client_get(kv739_client* client, const void* key, size_t key_length,
                     int timeout_ms, kv739_result** result) {
  return Call(client, {OpKind::kGet, key, key_length}, timeout_ms, result);
}

int kv739_client_put(kv739_client* client, const void* key, size_t key_length,
                     const void* value, size_t value_length, int timeout_ms,
                     kv739_result** result) {
  return Call(client,
              {OpKind::kPut, key, key_length, true, value, value_length},
              timeout_ms, result);
}

int kv739_client_delete(kv739_client* client, const void* key,
                        size_t key_length, int timeout_ms,
                        kv739_result** result) {
  return Call(client, {OpKind::kDelete, key, key_length}, timeout_ms, result);
}

int kv739_client_append(kv739_client* client, const void* key,
                        size_t key_length, const void* value,
                        size_t value_length, int timeout_ms,
                        kv739_result** result) {
  return Call(client,
              {OpKind::kAppend, key, key_length, true, value, value_length},
              timeout_ms, result);
}

int kv739_client_cas(kv739_client* client, const void* key, size_t key_length,
                     uint64_t expected, const void* value, size_t value_length,
                     int timeout_ms, kv739_result** result) {
  return Call(
      client,
      {OpKind::kCas, key, key_length, true, value, value_length, expected},
      timeout_ms, result);
}

int kv739_client_get_async(kv739_client* client, const void* key,
                           size_t key_length, int timeout_ms,
                           kv739_callback done, void* context) {
  return CallAsync(client, {OpKind::kGet, key, key_length}, timeout_ms, done,
                   context);
}

int kv739_client_put_async(kv739_client* client, const void* key,
                           size_t key_length, const void* value,
                           size_t value_length, int timeout_ms,
                           kv739_callback done, void* context) {
  return CallAsync(client,
                   {OpKind::kPut, key, key_length, true, value, value_length},
                   timeout_ms, done, context);
}

int kv739_client_delete_async(kv739_client* client, const void* key,
                              size_t key_length, int timeout_ms,
                              kv739_callback done, void* context) {
  return CallAsync(client, {OpKind::kDelete, key, key_length}, timeout_ms, done,
                   context);
}

int kv739_client_append_async(kv739_client* client, const void* key,
                              size_t key_length, const void* value,
                              size_t value_length, int timeout_ms,
                              kv739_callback done, void* context) {
  return CallAsync(
      client, {OpKind::kAppend, key, key_length, true, value, value_length},
      timeout_ms, done, context);
}

int kv739_client_cas_async(kv739_client* client, const void* key,
                           size_t key_length, uint64_t expected,
                           const void* value, size_t value_length,
                           int timeout_ms, kv739_callback done, void* context) {
  return CallAsync(
      client,
      {OpKind::kCas, key, key_length, true, value, value_length, expected},
      timeout_ms, done, context);
}

int kv739_client_batch_get(kv739_client* client, const kv739_slice* keys,
                           size_t count, int timeout_ms, int* codes,
                           kv739_result** results) {
  return Batch(client, keys, nullptr, false, count, timeout_ms, codes, results);
}

int kv739_client_batch_put(kv739_client* client, const kv739_slice* keys,
                           const kv739_slice* values, size_t count,
                           int timeout_ms, int* codes, kv739_result** results) {
  return Batch(client, keys, values, true, count, timeout_ms, codes, results);
}

int kv739_client_die(kv739_client* client, const char* server, int clean,
                     int timeout_ms) {
  return OnServer(client, &kv739::client::Client::Die, server, clean,
                  timeout_ms);
}

int kv739_client_start(kv739_client* client, const char* server, int is_new,
                       int timeout_ms) {
  return OnServer(client, &kv739::client::Client::Start, server, is_new,
                  timeout_ms);
}

int kv739_client_leave(kv739_client* client, const char* server, int clean,
                       int timeout_ms) {
  return OnServer(client, &kv739::client::Client::Leave, server, clean,
                  timeout_ms);
}

}  // extern "C"
