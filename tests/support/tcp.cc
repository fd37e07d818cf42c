#include "tests/support/tcp.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kv739::test {
namespace {

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  return address;
}

}  // namespace

bool Accepts(uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  const bool connected =
      connect(fd, reinterpret_cast<const sockaddr*>(&address),
              sizeof address) == 0;
  close(fd);
  return connected;
}

absl::StatusOr<std::string> Exchange(uint16_t port, const std::string& bytes,
                                     absl::Duration patience) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  auto close_fd = absl::MakeCleanup([fd] { close(fd); });
  const sockaddr_in address = Loopback(port);
  if (fd < 0 || connect(fd, reinterpret_cast<const sockaddr*>(&address),
                        sizeof address) != 0) {
    return absl::UnavailableError(
        absl::StrCat("port ", port, ": ", std::strerror(errno)));
  }
  size_t sent = 0;
  while (sent < bytes.size()) {
    // The other side may well break the connection in the middle.
    const ssize_t n =
        send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) break;
    sent += static_cast<size_t>(n);
  }
  shutdown(fd, SHUT_WR);
  std::string answer;
  char buffer[16384];
  pollfd wait = {.fd = fd, .events = POLLIN, .revents = 0};
  while (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(patience))) >
         0) {
    const ssize_t n = recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) break;
    answer.append(buffer, static_cast<size_t>(n));
  }
  return answer;
}

absl::StatusOr<std::string> HttpGet(uint16_t port, const std::string& path) {
  const auto answer =
      Exchange(port, absl::StrCat("GET ", path,
                                  " HTTP/1.1\r\nHost: localhost\r\n"
                                  "Connection: close\r\n\r\n"));
  if (!answer.ok()) return answer.status();
  const size_t head = answer->find("\r\n\r\n");
  if (!absl::StartsWith(*answer, "HTTP/1.1 200") || head == std::string::npos) {
    return absl::UnavailableError(
        absl::StrCat("answered: ", answer->substr(0, 200)));
  }
  return answer->substr(head + 4);
}

SilentListener::SilentListener(uint16_t port)
    : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const sockaddr_in address = Loopback(port);
  const int on = 1;
  setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) !=
          0 ||
      listen(fd_, 16) != 0) {
    std::perror("a port that was just free");
    std::abort();
  }
}

SilentListener::~SilentListener() { close(fd_); }

}  // namespace kv739::test
