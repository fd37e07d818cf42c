// Wakes somebody at a time, to less than a millisecond.
#ifndef KV739_SERVER_WAKE_TIMER_H_
#define KV739_SERVER_WAKE_TIMER_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace kv739::server {

class WakeTimer {
 public:
  virtual ~WakeTimer() = default;
  // Calls back soon after that time (Clock::MonotonicNanos), on a thread of
  // the timer's. The last call counts. Any thread; never blocks.
  virtual void Set(uint64_t at_nanos) = 0;
};

// The callback may still be called once while the timer is destroyed.
using MakeWakeTimer =
    std::function<std::unique_ptr<WakeTimer>(std::function<void()> wake)>;

}  // namespace kv739::server

#endif  // KV739_SERVER_WAKE_TIMER_H_
