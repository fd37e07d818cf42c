// The supervisor's end of kv/supervisor_protocol.h: a Unix socket, and the
// connections to it, served from the supervisor's one thread between its
// signals. Bounded: kMaxSupervisorPeers connections (the others wait in the
// kernel's queue), one line each, dropped after kSupervisorPeerTime.
#ifndef KV739_SERVER_SUPERVISOR_SOCKET_H_
#define KV739_SERVER_SUPERVISOR_SOCKET_H_

#include <poll.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::server {

inline constexpr size_t kMaxSupervisorPeers = 16;
inline constexpr std::chrono::milliseconds kSupervisorPeerTime{2000};

class SupervisorSocket {
 public:
  // The answer to a line; both without their newline.
  using Handler = std::function<std::string(absl::string_view line)>;

  // Listens at `path`, in a directory that is made when it is not there and
  // must be this user's alone. ALREADY_EXISTS: another process does, and is
  // named; a lock beside the socket tells, so that one whose owner died is
  // replaced. Otherwise what is in the way.
  static absl::StatusOr<std::unique_ptr<SupervisorSocket>> Listen(
      const std::string& path);
  // Takes the socket away, and the lock with it.
  ~SupervisorSocket();
  SupervisorSocket(const SupervisorSocket&) = delete;
  SupervisorSocket& operator=(const SupervisorSocket&) = delete;

  // What to poll, appended to `polled`, and for how long at most: -1 for ever.
  int Prepare(std::vector<pollfd>* polled);
  // After the poll, with the entries that Prepare() appended.
  void Serve(const pollfd* polled, size_t count, const Handler& handler);

  const std::string& path() const { return path_; }

 private:
  using Clock = std::chrono::steady_clock;
  struct Peer {
    int fd = -1;
    Clock::time_point until;
    std::string line;
  };

  SupervisorSocket(std::string path, int lock, int fd)
      : path_(std::move(path)), lock_(lock), fd_(fd) {}
  void Accept();
  // False: the connection is done with.
  bool Read(Peer* peer, const Handler& handler);

  const std::string path_;
  const int lock_;
  const int fd_;
  std::vector<Peer> peers_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SUPERVISOR_SOCKET_H_
