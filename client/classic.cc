// The classic calls: one client per process, behind the handle-based parts.
//
// The client is shared: a call that is under way keeps it alive while
// kv739_shutdown() ends it. The lock is held for moments and around fork(),
// so that a child finds it free.
#include <pthread.h>
#include <stdlib.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "client/handle.h"

namespace kv739::client {
namespace {

struct Process {
  std::mutex mutex;
  std::shared_ptr<Client> client;
};

// Never destroyed: other threads may still call while the process exits.
Process& TheProcess() {
  static Process* const process = [] {
    auto* made = new Process;
    pthread_atfork([] { TheProcess().mutex.lock(); },
                   [] { TheProcess().mutex.unlock(); },
                   [] { TheProcess().mutex.unlock(); });
    return made;
  }();
  return *process;
}

// Of a forked parent: dead here, and never to be touched again.
void Abandon(std::shared_ptr<Client>* client) {
  new std::shared_ptr<Client>(std::move(*client));
  *client = nullptr;
}

int FailClassic(int code, std::string message) {
  Fail(code, std::move(message));
  return -1;
}

// The default deadline of the classic calls, from the environment.
int ReadTimeout(int* timeout_ms) {
  const char* text = getenv("KV739_TIMEOUT_MS");
  if (text == nullptr || *text == '\0') return 0;
  int value = 0;
  if (!absl::SimpleAtoi(text, &value) || value < 1 || value > kMaxTimeoutMs) {
    return FailClassic(KV739_E_CONFIG,
                       absl::StrCat("KV739_TIMEOUT_MS is \"", text,
                                    "\", it must be 1 to ", kMaxTimeoutMs));
  }
  *timeout_ms = value;
  return 0;
}

std::shared_ptr<Client> Current() {
  Process& process = TheProcess();
  const std::lock_guard lock(process.mutex);
  return process.client;
}

// One operation on the process's client: 0, 1 or -1.
int Run(OpKind kind, const void* key, size_t key_length, const void* value,
        size_t value_length, Outcome* outcome) {
  const std::shared_ptr<Client> client = Current();
  if (client == nullptr) {
    return FailClassic(KV739_E_CLOSED, "not initialized; call kv739_init");
  }
  Request request;
  if (CheckUse(client.get(), 0, true) != KV739_OK ||
      MakeRequest(kind, key, key_length, kind == OpKind::kPut, value,
                  value_length, 0, &request) != KV739_OK) {
    return -1;
  }
  const int code = RunSync(client.get(), std::move(request), 0, outcome);
  return code < 0 ? -1 : code;
}

// Copies a value into a classic buffer.
int CopyOut(const Outcome& outcome, const char* what, char* buffer) {
  if (outcome.value.size() > KV739_MAX_CLASSIC_VALUE) {
    return FailClassic(
        KV739_E_TOO_SMALL,
        absl::StrCat(what, " has ", outcome.value.size(),
                     " bytes, a buffer of the classic calls holds ",
                     KV739_MAX_CLASSIC_VALUE));
  }
  std::memcpy(buffer, outcome.value.c_str(), outcome.value.size() + 1);
  return 0;
}

kv739_result* NewResult(Outcome outcome) {
  auto result = std::make_unique<kv739_result>();
  result->found = outcome.found;
  result->version = outcome.version;
  result->value = std::move(outcome.value);
  return result.release();
}

int RunSized(OpKind kind, const void* key, size_t key_length, const void* value,
             size_t value_length, kv739_result** result) {
  if (result != nullptr) *result = nullptr;
  Outcome outcome;
  const int code = Run(kind, key, key_length, value, value_length, &outcome);
  if (code >= 0 && result != nullptr) *result = NewResult(std::move(outcome));
  return code;
}

int Init(const char* config_file) {
  Process& process = TheProcess();
  Client::Options options;
  if (ReadTimeout(&options.timeout_ms) != 0) return -1;
  const std::lock_guard lock(process.mutex);
  if (process.client != nullptr && process.client->Forked()) {
    Abandon(&process.client);
  }
  if (process.client != nullptr) {
    return FailClassic(KV739_E_INVALID,
                       "already initialized; call kv739_shutdown first");
  }
  return OpenClient(config_file, options, &process.client) == KV739_OK ? 0 : -1;
}

int Shutdown() {
  Process& process = TheProcess();
  std::shared_ptr<Client> client;
  {
    const std::lock_guard lock(process.mutex);
    client = std::exchange(process.client, nullptr);
  }
  if (client == nullptr) {
    return FailClassic(KV739_E_CLOSED, "not initialized");
  }
  if (client->Forked()) {
    Abandon(&client);
    return 0;
  }
  client->Close();
  return 0;
}

// The C calls give -1 for every failure.
template <typename Body>
int GuardedClassic(Body&& body) noexcept {
  const int code = Guarded(std::forward<Body>(body));
  return code < 0 ? -1 : code;
}

int OnServer(ServerCall call, const char* server, int flag) {
  return GuardedClassic([&] {
    const std::shared_ptr<Client> client = Current();
    if (client == nullptr) {
      return Fail(KV739_E_CLOSED, "not initialized; call kv739_init");
    }
    return RunOnServer(client.get(), call, server, flag, 0);
  });
}

}  // namespace
}  // namespace kv739::client

using namespace kv739::client;  // NOLINT: the names of this file

extern "C" {

int kv739_init(const char* config_file) {
  return GuardedClassic([&] { return Init(config_file); });
}

int kv739_shutdown(void) {
  return GuardedClassic([&] {
    if (Client::InCallback()) {
      return Fail(KV739_E_INVALID, "a callback may not end its client");
    }
    return Shutdown();
  });
}

int kv739_get(const char* key, char* value) {
  return GuardedClassic([&] {
    if (value == nullptr) {
      return Fail(KV739_E_INVALID, "the buffer for the value is NULL");
    }
    value[0] = '\0';
    Outcome outcome;
    const int code = Run(OpKind::kGet, key, key == nullptr ? 0 : strlen(key),
                         nullptr, 0, &outcome);
    return code == 0 ? CopyOut(outcome, "the value", value) : code;
  });
}

int kv739_put(const char* key, const char* value, char* old_value) {
  return GuardedClassic([&] {
    if (old_value != nullptr) old_value[0] = '\0';
    if (value == nullptr) return Fail(KV739_E_INVALID, "the value is NULL");
    const size_t length = strlen(value);
    if (length > KV739_MAX_CLASSIC_VALUE) {
      return Fail(KV739_E_INVALID,
                  absl::StrCat("the value has ", length,
                               " bytes, the limit of the classic calls is ",
                               KV739_MAX_CLASSIC_VALUE));
    }
    Outcome outcome;
    const int code = Run(OpKind::kPut, key, key == nullptr ? 0 : strlen(key),
                         value, length, &outcome);
    if (code != 0 || old_value == nullptr) return code;
    return CopyOut(outcome, "the write was done, but the old value", old_value);
  });
}

int kv739_get_sized(const void* key, size_t key_length, kv739_result** result) {
  return GuardedClassic([&] {
    return RunSized(OpKind::kGet, key, key_length, nullptr, 0, result);
  });
}

int kv739_put_sized(const void* key, size_t key_length, const void* value,
                    size_t value_length, kv739_result** result) {
  return GuardedClassic([&] {
    return RunSized(OpKind::kPut, key, key_length, value, value_length, result);
  });
}

int kv739_die(const char* server, int clean) {
  return OnServer(&Client::Die, server, clean);
}

int kv739_start(const char* server, int is_new) {
  return OnServer(&Client::Start, server, is_new);
}

int kv739_leave(const char* server, int clean) {
  return OnServer(&Client::Leave, server, clean);
}

}  // extern "C"
