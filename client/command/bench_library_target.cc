// lib739kv as a target, blocking and asynchronous.
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/command/bench_target.h"

namespace kv739::bench {
namespace {

Result ToResult(bool write, int code, const char* error) {
  if (code == 1 && !write) return {Outcome::kNotFound, ""};
  if (code >= 0) return {};
  return {
      write && kv739_maybe_applied(code) ? Outcome::kUnknown : Outcome::kFailed,
      error};
}

kv739_scan_cursor CursorOf(const Operation& o) {
  kv739_scan_cursor cursor = {};
  cursor.slot = o.slot;
  cursor.from_length = static_cast<unsigned>(o.from.size());
  o.from.copy(cursor.from, sizeof(cursor.from));
  return cursor;
}

// Of a page that was got.
Result ToResult(const kv739_scan_result* page) {
  Result result;
  result.keys = static_cast<uint32_t>(kv739_scan_result_count(page));
  result.more = kv739_scan_result_more(page) != 0;
  kv739_scan_cursor cursor = {};
  kv739_scan_result_cursor(page, &cursor);
  result.slot = cursor.slot;
  result.from.assign(cursor.from, cursor.from_length);
  return result;
}

class ThreadsTarget : public BlockingTarget {
 public:
  ThreadsTarget(kv739_client* client, int timeout_ms)
      : client_(client), timeout_ms_(timeout_ms) {}

  Result Run(const Operation& o) override {
    if (o.kind == Kind::kScan) return Scan(o);
    if (o.write) {
      const int code =
          kv739_client_put(client_, o.key.data(), o.key.size(), o.value.data(),
                           o.value.size(), timeout_ms_, nullptr);
      return ToResult(true, code, code < 0 ? kv739_last_error() : "");
    }
    // The value is taken, as who reads wants it.
    kv739_result* value = nullptr;
    const int code = kv739_client_get(client_, o.key.data(), o.key.size(),
                                      timeout_ms_, &value);
    const Result result =
        ToResult(false, code, code < 0 ? kv739_last_error() : "");
    kv739_result_free(value);
    return result;
  }

 private:
  Result Scan(const Operation& o) {
    kv739_scan_cursor cursor = CursorOf(o);
    kv739_scan_result* page = nullptr;
    const int code = kv739_client_scan(client_, nullptr, 0, o.left, 0, &cursor,
                                       timeout_ms_, &page);
    if (code != KV739_OK) return ToResult(false, code, kv739_last_error());
    Result result = ToResult(page);
    kv739_scan_result_free(page);
    return result;
  }

  kv739_client* const client_;
  const int timeout_ms_;
};

class LibraryAsyncTarget : public AsyncTarget {
 public:
  LibraryAsyncTarget(kv739_client* client, int timeout_ms)
      : client_(client), timeout_ms_(timeout_ms) {}

  bool Start(Call* call, Result* result) override {
    const Operation& o = call->operation;
    const int code = StartCall(o, call);
    if (code == KV739_OK) return true;
    *result = {Outcome::kFailed, kv739_last_error()};
    return false;
  }

 private:
  int StartCall(const Operation& o, Call* call) {
    if (o.kind == Kind::kScan) {
      const kv739_scan_cursor cursor = CursorOf(o);
      return kv739_client_scan_async(client_, nullptr, 0, o.left, 0, &cursor,
                                     timeout_ms_, ScanDone, call);
    }
    if (o.write) {
      return kv739_client_put_async(client_, o.key.data(), o.key.size(),
                                    o.value.data(), o.value.size(), timeout_ms_,
                                    Done, call);
    }
    return kv739_client_get_async(client_, o.key.data(), o.key.size(),
                                  timeout_ms_, Done, call);
  }
  static void ScanDone(void* context, int code, const kv739_scan_result* page) {
    static_cast<Call*>(context)->Done(
        code == KV739_OK ? ToResult(page)
                         : ToResult(false, code, kv739_strerror(code)));
  }
  static void Done(void* context, int code, const kv739_result*) {
    auto* call = static_cast<Call*>(context);
    call->Done(ToResult(call->operation.write, code,
                        code < 0 ? kv739_strerror(code) : ""));
  }

  kv739_client* const client_;
  const int timeout_ms_;
};

}  // namespace

std::unique_ptr<BlockingTarget> NewLibraryThreadsTarget(kv739_client* client,
                                                        int timeout_ms) {
  return std::make_unique<ThreadsTarget>(client, timeout_ms);
}

std::unique_ptr<AsyncTarget> NewLibraryAsyncTarget(kv739_client* client,
                                                   int timeout_ms) {
  return std::make_unique<LibraryAsyncTarget>(client, timeout_ms);
}

absl::Status AskLibrary(kv739_client* client, int timeout_ms) {
  std::string key;
  FormatKey(0, 0, &key);
  const int code =
      kv739_client_get(client, key.data(), key.size(), timeout_ms, nullptr);
  if (code >= 0) return absl::OkStatus();
  return absl::UnavailableError(kv739_last_error());
}

}  // namespace kv739::bench
