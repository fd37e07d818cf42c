// One thread that waits for sockets and for time, with epoll.
//
// It calls whoever watches a socket when that is ready, then what was posted,
// then timers that are due, then the end of the turn. A turn handles all that
// was ready at once. So what has arrived comes before a timer that was waiting
// for it, also when the thread did not run for long.
//
// Threads: Post() and Change() any. Watch(), Unwatch(), After() and Cancel()
// the poller's thread, or before Start(). What watches may be let go of in its
// own call.
#ifndef KV739_SERVER_POLLER_H_
#define KV739_SERVER_POLLER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace kv739::server {

class Poller {
 public:
  class Watcher {
   public:
    virtual ~Watcher() = default;
    // EPOLLIN and so on; EPOLLERR and EPOLLHUP come unasked.
    virtual void OnReady(uint32_t events) = 0;
  };
  using WatchId = uint64_t;                       // never used twice
  using TimerId = std::pair<uint64_t, uint64_t>;  // {0, 0}: none

  Poller();
  ~Poller();  // stops
  Poller(const Poller&) = delete;
  Poller& operator=(const Poller&) = delete;

  void Start();
  // Joins the thread. What was posted and not run is dropped, and so are
  // watchers and timers; from then on Post() does nothing.
  void Stop();
  // Runs `task` in the thread, soon; false after Stop().
  bool Post(absl::AnyInvocable<void()> task);
  // Called at the end of every turn. Before Start().
  void SetTurnEnd(std::function<void()> end) { turn_end_ = std::move(end); }

  // Does not own the socket. Unwatch() before it is closed.
  WatchId Watch(int fd, uint32_t events, std::shared_ptr<Watcher> watcher);
  void Unwatch(WatchId id, int fd);
  // Waits for other events; the socket must be watched and open.
  void Change(WatchId id, int fd, uint32_t events);

  TimerId After(absl::Duration delay, absl::AnyInvocable<void()> task);
  void Cancel(TimerId* timer);  // nothing when it has run; sets it to none

  static uint64_t NowNanos();  // monotonic

 private:
  static constexpr int kMaxEvents = 64;  // of one turn

  void Run();
  void RunPosted();
  void RunTimers();
  int WaitMillis() const;

  const int epoll_;
  const int wake_;  // an eventfd
  std::function<void()> turn_end_;
  std::thread thread_;

  std::mutex mutex_;  // guards these
  std::vector<absl::AnyInvocable<void()>> posted_;
  bool stopping_ = false;

  absl::flat_hash_map<WatchId, std::shared_ptr<Watcher>> watchers_;
  WatchId last_watch_ = 0;                                // 0 is the eventfd
  std::map<TimerId, absl::AnyInvocable<void()>> timers_;  // by time
  uint64_t last_timer_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_POLLER_H_
