// The sockets that a server listens on: one for every address of its name, or
// none at all.
#ifndef KV739_SERVER_LISTEN_ADDRESS_H_
#define KV739_SERVER_LISTEN_ADDRESS_H_

#include <sys/socket.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::server {

// A descriptor and whoever closes it.
class Socket {
 public:
  explicit Socket(int fd = -1) : fd_(fd) {}
  ~Socket() { Close(); }
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Socket& operator=(Socket&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  int fd() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int Release() { return std::exchange(fd_, -1); }
  void Close();

 private:
  int fd_;
};

struct SocketAddress {
  sockaddr_storage storage = {};
  socklen_t size = 0;
};

// All addresses of "host:port", IPv4 and IPv6; asks the network for a name that
// is not numeric, and waits for it, unless `numeric_only`.
//   INVALID_ARGUMENT  not host:port, or the host is not known
absl::StatusOr<std::vector<SocketAddress>> ResolveHostPort(
    absl::string_view host_port, bool numeric_only = false);

struct Listening {
  std::vector<Socket> sockets;  // non-blocking
  int port = 0;
};

// Listens on every address of the host that this machine has ("localhost" has
// both loopbacks). With port 0 on the first one only.
//   INVALID_ARGUMENT     not host:port, or the host is not known
//   FAILED_PRECONDITION  the port is in use, or may not be used; says why
absl::StatusOr<Listening> ListenOn(absl::string_view host_port);

}  // namespace kv739::server

#endif  // KV739_SERVER_LISTEN_ADDRESS_H_
