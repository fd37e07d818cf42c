#include "client/errors.h"

#include <utility>

#include "kv739/version.h"

namespace {

thread_local std::string last_message;
thread_local int last_code = KV739_OK;

}  // namespace

namespace kv739::client {

int Fail(int code, std::string message) {
  last_message = std::move(message);
  last_code = code;
  return code;
}

}  // namespace kv739::client

extern "C" {

const char* kv739_strerror(int code) {
  switch (code) {
    case KV739_OK:
      return "done";
    case 1:
      return "there was nothing";
    case KV739_E_INVALID:
      return "bad argument or over a limit";
    case KV739_E_TIMEOUT:
      return "deadline passed, nothing took effect";
    case KV739_E_UNKNOWN:
      return "outcome unknown, the write may take effect";
    case KV739_E_UNAVAILABLE:
      return "no server could be reached";
    case KV739_E_CONFIG:
      return "cluster file missing or malformed";
    case KV739_E_TOO_SMALL:
      return "buffer too small";
    case KV739_E_CLOSED:
      return "client closed";
    case KV739_E_FORKED:
      return "client of the parent process";
    case KV739_E_DENIED:
      return "refused by the server";
    case KV739_E_OVERLOADED:
      return "too many operations wait in this client";
    case KV739_E_INTERNAL:
      return "internal error";
    case KV739_E_REFUSED:
      return "the servers cannot do this";
    default:
      return "unknown code";
  }
}

int kv739_maybe_applied(int code) {
  // A write whose old value did not fit has been done.
  return code >= 0 || code == KV739_E_UNKNOWN || code == KV739_E_TOO_SMALL;
}

int kv739_is_retryable(int code) {
  return code == KV739_E_TIMEOUT || code == KV739_E_UNKNOWN ||
         code == KV739_E_UNAVAILABLE || code == KV739_E_OVERLOADED;
}

const char* kv739_last_error(void) { return last_message.c_str(); }

int kv739_last_error_code(void) { return last_code; }

const char* kv739_version(void) {
  static const std::string text =
      std::string(kv739::kVersion) + " (" + kv739::kGitRevision + ")";
  return text.c_str();
}

}  // extern "C"
