#include "server/listen_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kv739::server {
namespace {

// As many as wait while the thread is busy; the kernel's own limit is lower on
// some machines.
constexpr int kBacklog = 4096;

struct HostPort {
  std::string host;
  std::string port;
};

absl::StatusOr<HostPort> Split(absl::string_view text) {
  const size_t colon = text.rfind(':');
  uint32_t port = 0;
  if (colon == absl::string_view::npos || colon == 0 ||
      !absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text, "\" is not host:port"));
  }
  absl::string_view host = text.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return HostPort{std::string(host), std::to_string(port)};
}

bool operator==(const SocketAddress& a, const SocketAddress& b) {
  return a.size == b.size && std::memcmp(&a.storage, &b.storage, a.size) == 0;
}

uint16_t PortOf(int fd) {
  SocketAddress bound;
  bound.size = sizeof bound.storage;
  getsockname(fd, reinterpret_cast<sockaddr*>(&bound.storage), &bound.size);
  return ntohs(bound.storage.ss_family == AF_INET6
                   ? reinterpret_cast<sockaddr_in6*>(&bound.storage)->sin6_port
                   : reinterpret_cast<sockaddr_in*>(&bound.storage)->sin_port);
}

// 0, or why the address cannot be listened on.
int TryListen(const SocketAddress& address, Socket* out) {
  const int family = address.storage.ss_family;
  Socket fd(socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return errno;
  const int on = 1;
  // Connections of a server that just ended do not matter.
  setsockopt(fd.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) {
    const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&address.storage);
    const int only = IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr) ? 0 : 1;
    setsockopt(fd.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  }
  if (bind(fd.fd(), reinterpret_cast<const sockaddr*>(&address.storage),
           address.size) != 0 ||
      listen(fd.fd(), kBacklog) != 0) {
    return errno;
  }
  *out = std::move(fd);
  return 0;
}

}  // namespace

void Socket::Close() {
  if (fd_ >= 0) close(std::exchange(fd_, -1));
}

absl::StatusOr<std::vector<SocketAddress>> ResolveHostPort(
    absl::string_view host_port, bool numeric_only) {
  absl::StatusOr<HostPort> split = Split(host_port);
  if (!split.ok()) return split.status();
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (numeric_only ? AI_NUMERICHOST : 0);
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(split->host.c_str(), split->port.c_str(), &hints, &found);
  if (failed != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "host of \"", host_port, "\" is not known: ", gai_strerror(failed)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found,
                                                             freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    SocketAddress address;
    if (a->ai_addrlen > sizeof address.storage) continue;
    std::memcpy(&address.storage, a->ai_addr, a->ai_addrlen);
    address.size = a->ai_addrlen;
    // A hosts file may name an address twice.
    bool twice = false;
    for (const SocketAddress& known : addresses) {
      twice = twice || known == address;
    }
    if (!twice) addresses.push_back(address);
  }
  return addresses;
}

absl::StatusOr<Listening> ListenOn(absl::string_view host_port) {
  absl::StatusOr<std::vector<SocketAddress>> addresses =
      ResolveHostPort(host_port);
  if (!addresses.ok()) return addresses.status();
  Listening listening;
  int unusable = 0;
  for (const SocketAddress& address : *addresses) {
    Socket fd;
    const int error = TryListen(address, &fd);
    if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) {
      unusable = error;  // a machine without IPv6
      continue;
    }
    const absl::string_view port = host_port.substr(host_port.rfind(':') + 1);
    if (error == EADDRINUSE) {
      return absl::FailedPreconditionError(
          absl::StrCat("port ", port, " in use (", host_port, ")"));
    }
    if (error != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot listen on ", host_port, ": ", std::strerror(error)));
    }
    listening.port = PortOf(fd.fd());
    listening.sockets.push_back(std::move(fd));
    if (port == "0") break;
  }
  if (listening.sockets.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot listen on ", host_port, ": ", std::strerror(unusable)));
  }
  return listening;
}

}  // namespace kv739::server
