// Bytes over TCP, for tests that speak to a port without a library between.
#ifndef KV739_TESTS_SUPPORT_TCP_H_
#define KV739_TESTS_SUPPORT_TCP_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kv739::test {

// Connects to 127.0.0.1, sends `bytes`, ends its side, and reads until the
// other side ends or breaks the connection, or nothing comes for `patience`;
// what was read. UNAVAILABLE when there is no connection.
absl::StatusOr<std::string> Exchange(
    uint16_t port, const std::string& bytes,
    absl::Duration patience = absl::Seconds(10));

// Whether somebody takes connections to this port of 127.0.0.1.
bool Accepts(uint16_t port);

// Body of a GET; UNAVAILABLE when the answer is not 200.
absl::StatusOr<std::string> HttpGet(uint16_t port, const std::string& path);

// Accepts connections on a port of its own and never answers.
class SilentListener {
 public:
  explicit SilentListener(uint16_t port);
  ~SilentListener();
  SilentListener(const SilentListener&) = delete;
  SilentListener& operator=(const SilentListener&) = delete;

 private:
  int fd_;
};

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_TCP_H_
