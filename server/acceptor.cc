#include "server/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "absl/strings/string_view.h"

namespace kv739::server {
namespace {

constexpr int kAcceptsPerTurn = 64;
// When the process has no descriptors left.
constexpr absl::Duration kPause = absl::Milliseconds(100);

void SetSocketOptions(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // As gRPC does for a server's connections, with our keepalive: what was sent
  // and is not acknowledged by then ends the connection.
  const int millis = 3'000;
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &millis, sizeof millis);
}

// What has come so far, without taking it; UNAVAILABLE when the other side has
// gone.
absl::StatusOr<Opening> Look(int fd) {
  char first[kOpeningBytes];
  const ssize_t n = recv(fd, first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return Opening();
  if (n <= 0) return absl::UnavailableError("closed by the other side");
  return ReadOpening(absl::string_view(first, static_cast<size_t>(n)));
}

bool IsUndecided(const absl::StatusOr<Opening>& opening) {
  return opening.ok() && opening->kind == Opening::Kind::kUndecided;
}

}  // namespace

class Acceptor::Listener : public Poller::Watcher {
 public:
  Listener(Acceptor* acceptor, int fd) : acceptor_(acceptor), fd_(fd) {}
  void OnReady(uint32_t) override { acceptor_->Accept(fd_); }

 private:
  Acceptor* const acceptor_;
  const int fd_;
};

class Acceptor::Waiting : public Poller::Watcher {
 public:
  Waiting(Acceptor* acceptor, Socket socket, int listener, uint64_t number)
      : acceptor_(acceptor),
        socket_(std::move(socket)),
        listener_(listener),
        number_(number),
        deadline_(Poller::NowNanos() +
                  static_cast<uint64_t>(
                      absl::ToInt64Nanoseconds(acceptor->options_.patience))) {}

  void Watch(std::shared_ptr<Waiting> self) {
    // Edges: its bytes stay in the socket.
    watch_ = acceptor_->poller_->Watch(
        socket_.fd(), EPOLLIN | EPOLLRDHUP | EPOLLET, std::move(self));
  }
  void Unwatch() { acceptor_->poller_->Unwatch(watch_, socket_.fd()); }
  uint64_t deadline() const { return deadline_; }

  void OnReady(uint32_t events) override {
    const auto opening = Look(socket_.fd());
    const bool ended = (events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0;
    if (IsUndecided(opening) && !ended) return;
    // Out of the set of sockets before anybody else gets it.
    Unwatch();
    Acceptor* const acceptor = acceptor_;
    Socket socket = std::move(socket_);
    const int listener = listener_;
    acceptor->Remove(number_);
    if (!IsUndecided(opening)) {
      acceptor->HandOn(std::move(socket), listener, opening);
    }
  }

 private:
  Acceptor* const acceptor_;
  Socket socket_;
  const int listener_;
  const uint64_t number_;
  const uint64_t deadline_;
  Poller::WatchId watch_ = 0;
};

Acceptor::Acceptor(Poller* poller, std::vector<Socket> listeners,
                   Options options)
    : poller_(poller),
      options_(std::move(options)),
      listeners_(std::move(listeners)) {}

Acceptor::~Acceptor() = default;

void Acceptor::Start() { Listen(); }

void Acceptor::Listen() {
  for (const Socket& listener : listeners_) {
    listening_.push_back(
        poller_->Watch(listener.fd(), EPOLLIN,
                       std::make_shared<Listener>(this, listener.fd())));
  }
}

void Acceptor::Pause() {
  for (size_t i = 0; i < listening_.size(); ++i) {
    poller_->Unwatch(listening_[i], listeners_[i].fd());
  }
  listening_.clear();
}

void Acceptor::Stop() {
  Pause();
  poller_->Cancel(&pause_timer_);
  poller_->Cancel(&oldest_timer_);
  for (auto& [number, undecided] : undecided_) undecided->Unwatch();
  undecided_.clear();
  listeners_.clear();
}

void Acceptor::Accept(int listener) {
  for (int i = 0; i < kAcceptsPerTurn; ++i) {
    Socket socket(
        accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
          errno == ENOMEM) {
        Pause();
        pause_timer_ = poller_->After(kPause, [this] { Listen(); });
        return;
      }
      if (errno == EAGAIN) return;
      continue;  // of one connection, which is gone
    }
    SetSocketOptions(socket.fd());
    // Mostly its first bytes are here already.
    const auto opening = Look(socket.fd());
    if (!IsUndecided(opening)) {
      HandOn(std::move(socket), listener, opening);
      continue;
    }
    if (undecided_.size() >= options_.max_undecided) {
      undecided_.begin()->second->Unwatch();
      undecided_.erase(undecided_.begin());
    }
    const uint64_t number = ++last_number_;
    auto undecided =
        std::make_shared<Waiting>(this, std::move(socket), listener, number);
    undecided_.emplace(number, undecided);
    undecided->Watch(undecided);
    if (oldest_timer_ == Poller::TimerId()) WaitForOldest();
  }
}

void Acceptor::HandOn(Socket socket, int listener,
                      const absl::StatusOr<Opening>& opening) {
  if (absl::IsUnavailable(opening.status())) return;
  if (!opening.ok()) {
    options_.on_bad_peer(socket.fd(), opening.status());
  } else if (opening->kind == Opening::Kind::kOther) {
    options_.on_other(std::move(socket), listener);
  } else {
    // They are there.
    char first[kOpeningBytes];
    if (recv(socket.fd(), first, sizeof first, MSG_DONTWAIT) ==
        static_cast<ssize_t>(sizeof first)) {
      options_.on_peer(std::move(socket), opening->identity);
    }
  }
}

void Acceptor::Remove(uint64_t number) { undecided_.erase(number); }

void Acceptor::WaitForOldest() {
  oldest_timer_ = {};
  if (undecided_.empty()) return;
  const uint64_t now = Poller::NowNanos();
  const uint64_t due = undecided_.begin()->second->deadline();
  oldest_timer_ = poller_->After(
      absl::Nanoseconds(due > now ? static_cast<int64_t>(due - now) : 0),
      [this] { EndOverdue(); });
}

void Acceptor::EndOverdue() {
  const uint64_t now = Poller::NowNanos();
  while (!undecided_.empty() && undecided_.begin()->second->deadline() <= now) {
    undecided_.begin()->second->Unwatch();
    undecided_.erase(undecided_.begin());
  }
  WaitForOldest();
}

}  // namespace kv739::server
