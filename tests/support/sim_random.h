// The one source of chance in a simulated run: the same seed gives the same
// numbers on every machine (unlike the standard distributions).
#ifndef KV739_TESTS_SUPPORT_SIM_RANDOM_H_
#define KV739_TESTS_SUPPORT_SIM_RANDOM_H_

#include <cstdint>

#include "raft/options.h"

namespace kv739::sim {

class SimRandom : public raft::Random {
 public:
  explicit SimRandom(uint64_t seed) : state_(seed) {}

  // SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t Next() override {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // In [0, bound).
  uint64_t Below(uint64_t bound) { return Next() % bound; }
  // In [low, high].
  uint64_t Between(uint64_t low, uint64_t high) {
    return low + Below(high - low + 1);
  }
  // True in `n` of `of` cases.
  bool Chance(uint64_t n, uint64_t of) { return Below(of) < n; }

 private:
  uint64_t state_;
};

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_SIM_RANDOM_H_
