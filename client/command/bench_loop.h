// When a benchmark starts its operations, and what it counts.
//
// Closed: so many operations in flight, each followed by the next as soon as
// it has ended. Open: operations arrive at a rate, whether the earlier ones
// have ended or not; those that find no place in flight wait. Latency is
// counted from the arrival, so that a pause of the servers is felt by all who
// would have come meanwhile and not only by those in flight (no coordinated
// omission).
//
// No clock and no threads: the caller says what time it is (nanoseconds, never
// going back) and guards it. Time runs from `begin`; operations that begin or
// arrive from `measure_from` until `end` are counted, also when they end
// later.
#ifndef KV739_CLIENT_COMMAND_BENCH_LOOP_H_
#define KV739_CLIENT_COMMAND_BENCH_LOOP_H_

#include <array>
#include <cstdint>
#include <deque>
#include <string>

#include "client/command/bench_histogram.h"
#include "client/command/bench_workload.h"

namespace kv739::bench {

// A closed loop's place in flight rests so long after a failure: servers that
// refuse at once are not flooded, and the client's CPU is left alone.
inline constexpr uint64_t kPauseAfterFailure = 10'000'000;
// An operation of an open loop that starts so much after its arrival is late.
inline constexpr uint64_t kLateAfter = 1'000'000;
// What arrived before the end may still start so long after it.
inline constexpr uint64_t kStartsAfterEnd = 100'000'000;

struct LoopOptions {
  int in_flight = 64;
  // Arrivals a second; 0: a closed loop.
  double rate = 0;
  // Poisson arrivals, else evenly spaced ones.
  bool poisson = true;
  // Arrivals that may wait; more are dropped.
  size_t max_backlog = 100'000;
  uint64_t begin = 0;
  uint64_t measure_from = 0;
  uint64_t end = 0;
  uint64_t seed = 0;
};

struct LoopStats {
  // Of operations that went well (a key that is not there is well); what a
  // failure took stands in `failures`.
  std::array<Histogram, kKinds> latency;
  Histogram failures;
  uint64_t not_found = 0;
  uint64_t scanned = 0;  // keys that scans have got
  uint64_t failed = 0;
  uint64_t unknown = 0;
  std::string first_error;
  // Open loops.
  uint64_t arrivals = 0;
  uint64_t late = 0;
  uint64_t dropped = 0;  // no room in the backlog, or in it at the end

  void Merge(const LoopStats& other);
};

class LoadLoop {
 public:
  static constexpr uint64_t kNever = UINT64_MAX;

  // `source` must outlive it.
  LoadLoop(const LoopOptions& options, Source* source);

  // True: `operation` is to be started now, and Done() is to follow.
  bool Take(uint64_t now, Operation* operation);
  // When to look again if no operation ends until then: Take() can be true, or
  // the loop is over. kNever when only Done() helps.
  uint64_t NextTake(uint64_t now);
  // What was to be done has been done. True: the operation has a second part
  // and is to be started again, as it now is.
  bool Done(uint64_t now, Operation* operation, const Result& result);
  // Ends the loop now, if it would not have ended before. What waits is
  // dropped; what is in flight is still to be Done().
  void Stop(uint64_t now);
  // Take() will never be true again; to be asked after it was false.
  bool over(uint64_t now) const;

  int in_flight() const { return in_flight_; }
  uint64_t end() const { return options_.end; }
  const LoopStats& stats() const { return stats_; }

 private:
  bool Counts(uint64_t start) const {
    return start >= options_.measure_from && start < options_.end;
  }
  // Takes in what has arrived until `now`.
  void Admit(uint64_t now);
  double Gap();  // between two arrivals; nanoseconds
  void EndPauses(uint64_t now);
  void Count(uint64_t now, const Operation& operation, const Result& result);

  LoopOptions options_;
  Source* const source_;
  Random random_;
  LoopStats stats_;
  int in_flight_ = 0;
  std::deque<uint64_t> pauses_;   // of a closed loop: their ends, ascending
  double next_arrival_ = 0;       // after begin; nanoseconds
  std::deque<uint64_t> backlog_;  // arrivals that wait
};

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_LOOP_H_
