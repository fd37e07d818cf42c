#include "server/supervisor_socket.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kv/supervisor_protocol.h"

namespace kv739::server {
namespace {

constexpr mode_t kOwnerOnly = 0700;

absl::Status Wrong(const std::string& path, absl::string_view what) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", what));
}

// Makes the directory, and refuses one into which others may write.
absl::Status PrepareDirectory(const std::string& path) {
  if (::mkdir(path.c_str(), kOwnerOnly) != 0 && errno != EEXIST) {
    return Wrong(path, strerror(errno));
  }
  struct stat info = {};
  if (::lstat(path.c_str(), &info) != 0) return Wrong(path, strerror(errno));
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() ||
      (info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return Wrong(path, "must be a directory of this user alone (mode 0700)");
  }
  return absl::OkStatus();
}

// The open file is the one that has the name.
bool IsNamed(int fd, const std::string& path) {
  struct stat mine = {};
  struct stat named = {};
  return ::fstat(fd, &mine) == 0 && ::stat(path.c_str(), &named) == 0 &&
         mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

absl::Status RunsAlready(int fd) {
  char owner[32] = {};
  const ssize_t n = ::pread(fd, owner, sizeof(owner) - 1, 0);
  return absl::AlreadyExistsError(absl::StrCat(
      "a supervisor of this cluster runs here already",
      n > 0 ? absl::StrCat(", process ", absl::StripAsciiWhitespace(owner))
            : ""));
}

// The descriptor of a lock that this process has from now on.
absl::StatusOr<int> TakeLock(const std::string& path) {
  while (true) {
    const int fd =
        ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
               S_IRUSR | S_IWUSR);
    if (fd < 0) return Wrong(path, strerror(errno));
    absl::Cleanup close = [&fd] { ::close(fd); };
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) return RunsAlready(fd);
    // The last owner may have removed it between the two calls.
    if (!IsNamed(fd, path)) continue;
    const std::string owner = absl::StrCat(::getpid(), "\n");
    if (::ftruncate(fd, 0) != 0 ||
        ::pwrite(fd, owner.data(), owner.size(), 0) !=
            static_cast<ssize_t>(owner.size())) {
      return Wrong(path, strerror(errno));
    }
    std::move(close).Cancel();
    return fd;
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<SupervisorSocket>> SupervisorSocket::Listen(
    const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Wrong(path, "longer than the path of a socket may be");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return Wrong(path, "has no directory");
  if (absl::Status s = PrepareDirectory(path.substr(0, slash)); !s.ok()) {
    return s;
  }
  const absl::StatusOr<int> lock = TakeLock(path + ".lock");
  if (!lock.ok()) return lock.status();
  absl::Cleanup unlock = [&] { ::close(*lock); };
  // Of an owner that has died: the lock is ours.
  ::unlink(path.c_str());
  const int fd =
      ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return Wrong(path, strerror(errno));
  absl::Cleanup close = [&] { ::close(fd); };
  const mode_t before = ::umask(S_IRWXG | S_IRWXO);
  const int bound =
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  ::umask(before);
  if (bound != 0 || ::listen(fd, static_cast<int>(kMaxSupervisorPeers)) != 0) {
    return Wrong(path, strerror(errno));
  }
  std::move(close).Cancel();
  std::move(unlock).Cancel();
  return std::unique_ptr<SupervisorSocket>(
      new SupervisorSocket(path, *lock, fd));
}

SupervisorSocket::~SupervisorSocket() {
  for (const Peer& peer : peers_) ::close(peer.fd);
  ::unlink(path_.c_str());
  ::close(fd_);
  ::unlink((path_ + ".lock").c_str());
  ::close(lock_);
}

int SupervisorSocket::Prepare(std::vector<pollfd>* polled) {
  const short events = peers_.size() < kMaxSupervisorPeers ? POLLIN : 0;
  polled->push_back({fd_, events, 0});
  auto soonest = Clock::time_point::max();
  for (const Peer& peer : peers_) {
    polled->push_back({peer.fd, POLLIN, 0});
    soonest = std::min(soonest, peer.until);
  }
  if (peers_.empty()) return -1;
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(soonest - Clock::now());
  return static_cast<int>(std::max<int64_t>(left.count(), 0));
}

void SupervisorSocket::Serve(const pollfd* polled, size_t count,
                             const Handler& handler) {
  const Clock::time_point now = Clock::now();
  std::vector<Peer> stay;
  // Entry 0 is the listener's, the others are in the order of the peers.
  for (size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = peers_[i];
    const bool ready = i + 1 < count && polled[i + 1].revents != 0;
    if ((ready && !Read(&peer, handler)) || now >= peer.until) {
      ::close(peer.fd);
    } else {
      stay.push_back(std::move(peer));
    }
  }
  peers_ = std::move(stay);
  if (count > 0 && polled[0].revents != 0) Accept();
}

void SupervisorSocket::Accept() {
  while (peers_.size() < kMaxSupervisorPeers) {
    const int fd =
        ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) return;
    peers_.push_back({fd, Clock::now() + kSupervisorPeerTime, ""});
  }
}

bool SupervisorSocket::Read(Peer* peer, const Handler& handler) {
  char buffer[256];
  const ssize_t n = ::recv(peer->fd, buffer, sizeof(buffer), 0);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) return false;
  peer->line.append(buffer, static_cast<size_t>(n));
  const size_t end = peer->line.find('\n');
  if (end == std::string::npos) {
    return peer->line.size() <= kv::kMaxSupervisorLine;
  }
  const std::string answer =
      handler(absl::string_view(peer->line).substr(0, end)) + "\n";
  // It fits into the empty buffer of a new connection; a peer for whom it does
  // not has its own reasons.
  (void)!::send(peer->fd, answer.data(), answer.size(),
                MSG_NOSIGNAL | MSG_DONTWAIT);
  return false;
}

}  // namespace kv739::server
