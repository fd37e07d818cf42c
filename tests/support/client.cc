#include "tests/support/client.h"

#include <ostream>

#include "absl/strings/str_cat.h"

namespace kv739::test {
namespace {

// Frees `result`.
Answer Collect(int code, kv739_result* result) {
  Answer answer;
  answer.code = code;
  if (code < 0) answer.error = kv739_last_error();
  if (result == nullptr) return answer;
  if (kv739_result_found(result) == 1) {
    size_t length = 0;
    const char* value = kv739_result_value(result, &length);
    answer.seen = std::string(value, length);
  }
  answer.version = kv739_result_version(result);
  kv739_result_free(result);
  return answer;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Answer& answer) {
  return out << answer.code << " " << kv739_strerror(answer.code) << " "
             << answer.error;
}

Outcome OutcomeOf(int code) {
  if (code >= 0) return Outcome::kDone;
  return kv739_maybe_applied(code) == 1 ? Outcome::kUnknown : Outcome::kRefused;
}

absl::StatusOr<std::unique_ptr<Client>> Client::Open(const std::string& config,
                                                     int timeout_ms) {
  kv739_options options = {};
  options.struct_size = sizeof options;
  options.timeout_ms = timeout_ms;
  kv739_client* handle = nullptr;
  const int code = kv739_open(config.c_str(), &options, &handle);
  if (code != KV739_OK) {
    return absl::UnavailableError(absl::StrCat(
        "kv739_open: ", kv739_strerror(code), ": ", kv739_last_error()));
  }
  return std::unique_ptr<Client>(new Client(handle));
}

Answer Client::Get(const std::string& key, int timeout_ms) {
  kv739_result* result = nullptr;
  const int code =
      kv739_client_get(handle_, key.data(), key.size(), timeout_ms, &result);
  return Collect(code, result);
}

Answer Client::Put(const std::string& key, const std::string& value,
                   int timeout_ms) {
  kv739_result* result = nullptr;
  const int code =
      kv739_client_put(handle_, key.data(), key.size(), value.data(),
                       value.size(), timeout_ms, &result);
  return Collect(code, result);
}

Answer Client::Delete(const std::string& key, int timeout_ms) {
  kv739_result* result = nullptr;
  const int code =
      kv739_client_delete(handle_, key.data(), key.size(), timeout_ms, &result);
  return Collect(code, result);
}

Answer Client::Append(const std::string& key, const std::string& value,
                      int timeout_ms) {
  kv739_result* result = nullptr;
  const int code =
      kv739_client_append(handle_, key.data(), key.size(), value.data(),
                          value.size(), timeout_ms, &result);
  return Collect(code, result);
}

Answer Client::Cas(const std::string& key, uint64_t expected,
                   const std::string& value, int timeout_ms) {
  kv739_result* result = nullptr;
  const int code =
      kv739_client_cas(handle_, key.data(), key.size(), expected, value.data(),
                       value.size(), timeout_ms, &result);
  return Collect(code, result);
}

}  // namespace kv739::test
