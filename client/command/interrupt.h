// Ctrl-C as an event to wait for. For work that is repeated until the user has
// had enough: `status --wait`, `ping --mode continuous`.
#ifndef KV739_CLIENT_COMMAND_INTERRUPT_H_
#define KV739_CLIENT_COMMAND_INTERRUPT_H_

#include <errno.h>
#include <signal.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace kv739::command {

// While one lives, SIGINT and SIGTERM do not end this thread and the threads
// it starts; make it before the first connection.
class Interrupt {
 public:
  Interrupt() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    sigaddset(&signals_, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
  }
  ~Interrupt() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // True as soon as one arrives, false when none does in this time.
  bool Wait(absl::Duration time) {
    const absl::Time end = absl::Now() + time;
    while (true) {
      const absl::Duration left =
          std::max(end - absl::Now(), absl::ZeroDuration());
      const timespec span = absl::ToTimespec(left);
      if (sigtimedwait(&signals_, nullptr, &span) > 0) return true;
      if (errno != EINTR) return false;
    }
  }

 private:
  sigset_t signals_;
  sigset_t before_;
};

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_INTERRUPT_H_
