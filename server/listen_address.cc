#include "server/listen_address.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace kv739::server {
namespace {

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

absl::StatusOr<std::string> Numeric(const addrinfo& address) {
  char host[NI_MAXHOST];
  char port[NI_MAXSERV];
  const int failed =
      getnameinfo(address.ai_addr, address.ai_addrlen, host, sizeof(host), port,
                  sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
  if (failed != 0) return absl::InternalError(gai_strerror(failed));
  return address.ai_family == AF_INET6 ? absl::StrCat("[", host, "]:", port)
                                       : absl::StrCat(host, ":", port);
}

// 0, or why the address cannot be bound.
int TryBind(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno;
  const int on = 1;
  // As gRPC binds: connections of a server that just ended do not matter.
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ai_family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
  }
  int error = 0;
  if (bind(fd, address.ai_addr, address.ai_addrlen) != 0) {
    error = errno;
  } else if (listen(fd, 1) != 0) {
    error = errno;
  }
  close(fd);
  return error;
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ResolveListenAddress(
    absl::string_view host_port) {
  absl::StatusOr<HostPort> split = Split(host_port);
  if (!split.ok()) return split.status();
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int failed =
      getaddrinfo(split->host.c_str(), split->port.c_str(), &hints, &found);
  if (failed != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "host of \"", host_port, "\" is not known: ", gai_strerror(failed)));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found,
                                                             freeaddrinfo);
  std::vector<std::string> addresses;
  int unusable = 0;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int error = TryBind(*a);
    if (error == EADDRNOTAVAIL || error == EAFNOSUPPORT) {
      unusable = error;  // a machine without IPv6
      continue;
    }
    if (error == EADDRINUSE) {
      return absl::FailedPreconditionError(
          absl::StrCat("port ", split->port, " in use (", host_port, ")"));
    }
    if (error != 0) {
      return absl::FailedPreconditionError(absl::StrCat(
          "cannot listen on ", host_port, ": ", std::strerror(error)));
    }
    absl::StatusOr<std::string> numeric = Numeric(*a);
    if (!numeric.ok()) return numeric.status();
    // A hosts file may name an address twice.
    if (absl::c_linear_search(addresses, *numeric)) continue;
    addresses.push_back(*std::move(numeric));
    if (split->port == "0") break;
  }
  if (addresses.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot listen on ", host_port, ": ", std::strerror(unusable)));
  }
  return addresses;
}

}  // namespace kv739::server
