#include "client/handle.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "client/fork.h"
#include "kv/cluster_file.h"

namespace kv739::client {

static_assert(KV739_MAX_KEY == kv::kMaxKeyBytes);
static_assert(KV739_MAX_VALUE == kv::kMaxValueBytes);
static_assert(KV739_MEMBERSHIP_TIMEOUT_MS == kDefaultMembershipTimeoutMs);

int OpenClient(const char* config_file, const Client::Options& options,
               std::shared_ptr<Client>* client) {
  if (config_file == nullptr) {
    return Fail(KV739_E_INVALID, "the name of the cluster file is NULL");
  }
  if (ForkedFromNetworkUser()) {
    return Fail(KV739_E_FORKED,
                "this process was forked while its parent had a client open "
                "or used gRPC; fork before, or exec a program");
  }
  const auto file = kv::ReadClusterFile(config_file);
  if (!file.ok()) {
    return Fail(KV739_E_CONFIG, std::string(file.status().message()));
  }
  Client::Options own = options;
  own.config_file = config_file;
  *client = Client::Make(kv::InitialClusterMap(*file), own);
  return KV739_OK;
}

int MakeRequest(OpKind kind, const void* key, size_t key_length, bool has_value,
                const void* value, size_t value_length, uint64_t expected,
                Request* request) {
  if (key == nullptr) return Fail(KV739_E_INVALID, "the key is NULL");
  if (key_length == 0) return Fail(KV739_E_INVALID, "the key is empty");
  if (key_length > KV739_MAX_KEY) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("the key has ", key_length,
                             " bytes, the limit is ", KV739_MAX_KEY));
  }
  if (has_value) {
    if (value == nullptr && value_length > 0) {
      return Fail(KV739_E_INVALID, "the value is NULL");
    }
    if (value_length > KV739_MAX_VALUE) {
      return Fail(KV739_E_INVALID,
                  absl::StrCat("the value has ", value_length,
                               " bytes, the limit is ", KV739_MAX_VALUE));
    }
    if (value_length > 0) {
      request->value.assign(static_cast<const char*>(value), value_length);
    }
  }
  request->kind = kind;
  request->key.assign(static_cast<const char*>(key), key_length);
  request->expected = expected;
  return KV739_OK;
}

int CheckUse(const Client* client, int timeout_ms, bool synchronous) {
  if (client->Forked()) {
    return Fail(KV739_E_FORKED,
                "the client belongs to the process that this one was forked "
                "from");
  }
  if (timeout_ms < 0 || timeout_ms > kMaxTimeoutMs) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("the timeout is ", timeout_ms,
                             " ms, it must be 0 to ", kMaxTimeoutMs));
  }
  if (synchronous && Client::InCallback()) {
    return Fail(KV739_E_INVALID,
                "a callback may not make a call that waits; use an "
                "asynchronous one");
  }
  return KV739_OK;
}

int Enter(kv739_client* handle, int timeout_ms, bool synchronous,
          std::shared_ptr<Client>* client) {
  if (handle == nullptr) {
    return Fail(KV739_E_INVALID, "the client is NULL");
  }
  *client = handle->client;
  return CheckUse(client->get(), timeout_ms, synchronous);
}

int RunSync(Client* client, Request request, int timeout_ms, Outcome* outcome) {
  const auto operation = std::make_shared<SyncOperation>(std::move(request));
  operation->deadline = client->DeadlineIn(timeout_ms);
  const int code = client->Submit(operation);
  if (code != KV739_OK) {
    return Fail(code, std::move(operation->outcome.message));
  }
  operation->Wait();
  if (operation->outcome.code < 0) {
    return Fail(operation->outcome.code, std::move(operation->outcome.message));
  }
  *outcome = std::move(operation->outcome);
  return outcome->code;
}

int RunOnServer(Client* client, ServerCall call, const char* server, int flag,
                int timeout_ms) {
  if (const int code = CheckUse(client, timeout_ms, true)) return code;
  if (server == nullptr) return Fail(KV739_E_INVALID, "the server is NULL");
  std::string message;
  const int code = (client->*call)(server, flag != 0, timeout_ms, &message);
  return code == KV739_OK ? code : Fail(code, std::move(message));
}

}  // namespace kv739::client
