#include "server/client_sockets.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace kv739::server {
namespace {

// Of one socket at all times; 0 where there is none.
uint64_t CookieOf(int fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return 0;
  return cookie;
}

bool HeardWithin(int fd, uint32_t millis) {
  tcp_info info = {};
  socklen_t size = sizeof info;
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  return info.tcpi_last_data_recv < millis;
}

void SetCork(int fd, int on) {
  // Fails for what is no TCP socket (any more): nothing is corked then.
  (void)setsockopt(fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on);
}

}  // namespace

void ClientSockets::Add(int fd) {
  const Known socket{fd, CookieOf(fd)};
  if (socket.cookie == 0) return;
  const std::lock_guard lock(mutex_);
  looked_at_ = 0;
  if (known_.size() >= kMaxSockets) Look();
  if (known_.size() < kMaxSockets) known_.push_back(socket);
}

size_t ClientSockets::size() const {
  const std::lock_guard lock(mutex_);
  return known_.size();
}

void ClientSockets::Look() {
  in_use_.clear();
  std::erase_if(known_, [](const Known& socket) {
    return CookieOf(socket.fd) != socket.cookie;
  });
  for (const Known& socket : known_) {
    if (HeardWithin(socket.fd, in_use_millis_)) in_use_.push_back(socket.fd);
  }
}

ClientSockets::Burst::Burst(ClientSockets* sockets, size_t answers,
                            uint64_t now_nanos) {
  if (sockets == nullptr || answers < kMinAnswersEach) return;
  {
    const std::lock_guard lock(sockets->mutex_);
    uint64_t& looked_at = sockets->looked_at_;
    if (looked_at == 0 || now_nanos - looked_at >= kLookNanos) {
      looked_at = now_nanos;
      sockets->Look();
    }
    if (answers < kMinAnswersEach * sockets->in_use_.size()) return;
    corked_ = sockets->in_use_;
  }
  for (int fd : corked_) SetCork(fd, 1);
}

ClientSockets::Burst::~Burst() {
  for (int fd : corked_) SetCork(fd, 0);
}

}  // namespace kv739::server
