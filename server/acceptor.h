// Takes the connections of a port that nodes and clients share: looks at the
// first bytes without taking them, and hands on whoever has said enough.
//
// A connection that says nothing, or only half an opening, costs a descriptor
// here, for kPatience at most, and only so long as there are not
// kMaxUndecided newer ones. Bytes of nobody's protocol go to the others' server
// like any others that are not a peer's.
//
// All in the poller's thread; Stop() after that has ended, too.
//
// With TLS, its handshake goes between accept() and the look at the opening:
// the name agreed on (ALPN) then tells peers from clients.
#ifndef KV739_SERVER_ACCEPTOR_H_
#define KV739_SERVER_ACCEPTOR_H_

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/listen_address.h"
#include "server/peer_frame.h"
#include "server/poller.h"

namespace kv739::server {

class Acceptor {
 public:
  static constexpr absl::Duration kPatience = absl::Seconds(10);
  static constexpr size_t kMaxUndecided = 512;

  struct Options {
    // Its first kOpeningBytes, which are a sound hello, have been taken.
    std::function<void(Socket, const PeerIdentity&)> on_peer;
    // A peer that makes no sense; the connection ends after this.
    std::function<void(int fd, const absl::Status&)> on_bad_peer;
    // Nothing has been taken. `listener` is what it came through.
    std::function<void(Socket, int listener)> on_other;
    absl::Duration patience = kPatience;
    size_t max_undecided = kMaxUndecided;
  };

  Acceptor(Poller* poller, std::vector<Socket> listeners, Options options);
  ~Acceptor();

  void Start();
  // Listens no more; ends what is undecided.
  void Stop();
  size_t undecided() const { return undecided_.size(); }

 private:
  class Listener;
  class Waiting;

  // Takes what has come, up to a number.
  void Accept(int listener);
  // To whom it belongs, or ends it.
  void HandOn(Socket socket, int listener,
              const absl::StatusOr<Opening>& opening);
  void Remove(uint64_t number);
  void EndOverdue();
  void WaitForOldest();
  void Pause();
  void Listen();

  Poller* const poller_;
  const Options options_;
  std::vector<Socket> listeners_;
  std::vector<Poller::WatchId> listening_;  // of each, or none while paused
  // In the order in which they came, so the first is the next to go.
  std::map<uint64_t, std::shared_ptr<Waiting>> undecided_;
  uint64_t last_number_ = 0;
  Poller::TimerId oldest_timer_;
  Poller::TimerId pause_timer_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_ACCEPTOR_H_
