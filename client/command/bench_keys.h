// Which keys a benchmark asks for. The distributions are those of YCSB
// (Cooper et al., SoCC 2010): the zipfian generator of Gray et al., "Quickly
// generating billion-record synthetic databases" (SIGMOD 1994), with its
// popular items scattered over all keys by a hash.
//
// Keys have numbers; 0 to KeySpace::initial() - 1 are there from the start.
#ifndef KV739_CLIENT_COMMAND_BENCH_KEYS_H_
#define KV739_CLIENT_COMMAND_BENCH_KEYS_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <queue>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace kv739::bench {

// SplitMix64: a few instructions, and the same numbers on every machine.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next();
  // In [0, n); n > 0.
  uint64_t Below(uint64_t n);
  // In [0, 1).
  double Unit();

 private:
  uint64_t state_;
};

// Item i of n is chosen with a probability proportional to 1 / (i + 1)^theta.
class Zipfian {
 public:
  static constexpr double kTheta = 0.99;
  explicit Zipfian(uint64_t items, double theta = kTheta);
  // The number of items may change; costs a few pow().
  void Resize(uint64_t items);
  // `unit` in [0, 1). The item, below items().
  uint64_t Item(double unit) const;
  uint64_t items() const { return items_; }

 private:
  const double theta_;
  const double alpha_;
  uint64_t items_ = 0;
  double zeta_ = 0;
  double eta_ = 0;
};

// The sum of 1 / i^theta for i from 1 to n, in constant time for large n.
double Zeta(uint64_t n, double theta);

// How many keys there are. Thread-safe.
class KeySpace {
 public:
  explicit KeySpace(uint64_t keys);
  uint64_t initial() const { return initial_; }
  // All keys below have been inserted.
  uint64_t visible() const { return visible_.load(std::memory_order_relaxed); }
  // The number of a key to insert; to be followed by Inserted().
  uint64_t NewKey() { return next_.fetch_add(1, std::memory_order_relaxed); }
  // Its insertion has ended, well or not: waiting for one that failed would
  // hide all later ones.
  void Inserted(uint64_t key);

 private:
  const uint64_t initial_;
  std::atomic<uint64_t> visible_;
  std::atomic<uint64_t> next_;
  absl::Mutex mutex_;
  // Inserted above visible_; as many as insertions are in flight at most.
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<uint64_t>>
      ahead_ ABSL_GUARDED_BY(mutex_);
};

enum class Distribution {
  kUniform,
  kZipfian,  // over the initial keys, popular ones scattered
  kLatest,   // zipfian, the newest key the most popular
};

// Draws key numbers. Not thread-safe; the key space may be shared.
class KeyChooser {
 public:
  // `keys` must outlive it.
  KeyChooser(Distribution distribution, const KeySpace* keys);
  uint64_t Next(Random* random);

 private:
  const Distribution distribution_;
  const KeySpace* const keys_;
  Zipfian zipfian_;
};

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_KEYS_H_
