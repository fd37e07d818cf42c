// Hybrid logical clock of a leader (Kulkarni et al., 2014): follows the wall
// clock, never goes back, never repeats.
#ifndef KV739_KV_HYBRID_CLOCK_H_
#define KV739_KV_HYBRID_CLOCK_H_

#include <algorithm>
#include <cstdint>

#include "kv/types.h"

namespace kv739::kv {

class HybridClock {
 public:
  // A stamp above every earlier one and above all that were observed.
  // `wall_milliseconds` may jump in either direction.
  Version Next(uint64_t wall_milliseconds) {
    last_ = std::max(last_ + 1, wall_milliseconds << kVersionCounterBits);
    return last_;
  }
  void Observe(Version version) { last_ = std::max(last_, version); }

 private:
  Version last_ = 0;
};

inline uint64_t VersionMilliseconds(Version version) {
  return version >> kVersionCounterBits;
}

}  // namespace kv739::kv

#endif  // KV739_KV_HYBRID_CLOCK_H_
