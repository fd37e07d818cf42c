// Time as a node sees it; the simulator has its own.
#ifndef KV739_SERVER_CLOCK_H_
#define KV739_SERVER_CLOCK_H_

#include <cstdint>

namespace kv739::server {

class Clock {
 public:
  virtual ~Clock() = default;
  // Never goes back; for durations and deadlines.
  virtual uint64_t MonotonicNanos() const = 0;
  // Milliseconds since 1970; may jump in either direction.
  virtual uint64_t WallMillis() const = 0;

  static Clock* Real();  // lives for ever
};

}  // namespace kv739::server

#endif  // KV739_SERVER_CLOCK_H_
