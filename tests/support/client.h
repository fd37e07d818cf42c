// The handle-based calls of lib739kv with C++ types, for tests.
#ifndef KV739_TESTS_SUPPORT_CLIENT_H_
#define KV739_TESTS_SUPPORT_CLIENT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/lib739kv.h"
#include "tests/support/history.h"

namespace kv739::test {

struct Answer {
  int code = 0;  // as the call returned it
  Stored seen;   // value read, or the old one
  uint64_t version = 0;
  std::string error;  // kv739_last_error() when the call failed

  bool ok() const { return code >= 0; }
};
std::ostream& operator<<(std::ostream& out, const Answer& answer);
// How an operation with this code ended.
Outcome OutcomeOf(int code);

// Any thread, as the handle.
class Client {
 public:
  static absl::StatusOr<std::unique_ptr<Client>> Open(const std::string& config,
                                                      int timeout_ms = 0);
  ~Client() { kv739_close(handle_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  kv739_client* handle() { return handle_; }
  // Timeouts of 0: that of the handle.
  Answer Get(const std::string& key, int timeout_ms = 0);
  Answer Put(const std::string& key, const std::string& value,
             int timeout_ms = 0);
  Answer Delete(const std::string& key, int timeout_ms = 0);
  Answer Append(const std::string& key, const std::string& value,
                int timeout_ms = 0);
  Answer Cas(const std::string& key, uint64_t expected,
             const std::string& value, int timeout_ms = 0);

 private:
  explicit Client(kv739_client* handle) : handle_(handle) {}
  kv739_client* const handle_;
};

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_CLIENT_H_
