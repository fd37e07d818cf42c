// How long making the log durable takes, and whether it is taking too long
// right now (a leader whose disk hangs must not look healthy).
// Fed by the WAL's threads, read by metrics and health; atomic counters only.
#ifndef KV739_SERVER_SYNC_MONITOR_H_
#define KV739_SERVER_SYNC_MONITOR_H_

#include <array>
#include <atomic>
#include <cstdint>

#include "server/clock.h"
#include "server/stats.h"

namespace kv739::server {

class SyncMonitor {
 public:
  // Bounds as DoublingHistogram has them, in microseconds.
  static constexpr int kBuckets = DoublingHistogram::kBuckets;
  // Syncs at one time whose age is watched; more are only timed.
  static constexpr int kWatched = 8;

  struct Snapshot {
    std::array<uint64_t, kBuckets + 1> counts{};  // not cumulative
    uint64_t sum_us = 0;
    uint64_t failures = 0;
    // Age of the oldest sync under way; 0 when there is none.
    uint64_t oldest_nanos = 0;
  };

  explicit SyncMonitor(const Clock* clock = Clock::Real()) : clock_(clock) {}
  SyncMonitor(const SyncMonitor&) = delete;
  SyncMonitor& operator=(const SyncMonitor&) = delete;

  // Any thread. Times from construction to Done(), which is called once.
  class Sync {
   public:
    explicit Sync(SyncMonitor* monitor);
    void Done(bool ok);

   private:
    SyncMonitor* const monitor_;
    const uint64_t start_;
    int slot_ = kWatched;
  };

  // Any thread. Counts of one moment may miss each other's newest sync.
  Snapshot Read() const;

 private:
  const Clock* const clock_;
  std::array<std::atomic<uint64_t>, kBuckets + 1> counts_{};
  std::atomic<uint64_t> sum_us_{0};
  std::atomic<uint64_t> failures_{0};
  std::array<std::atomic<uint64_t>, kWatched> started_{};  // nanos, 0: free
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SYNC_MONITOR_H_
