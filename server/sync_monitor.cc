#include "server/sync_monitor.h"

#include <algorithm>

namespace kv739::server {

SyncMonitor::Sync::Sync(SyncMonitor* monitor)
    : monitor_(monitor),
      // 0 means a free slot.
      start_(std::max<uint64_t>(1, monitor->clock_->MonotonicNanos())) {
  for (int i = 0; i < kWatched; ++i) {
    uint64_t free = 0;
    if (monitor_->started_[i].compare_exchange_strong(
            free, start_, std::memory_order_relaxed)) {
      slot_ = i;
      break;
    }
  }
}

void SyncMonitor::Sync::Done(bool ok) {
  if (slot_ < kWatched) {
    monitor_->started_[slot_].store(0, std::memory_order_relaxed);
  }
  if (!ok) {
    monitor_->failures_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const uint64_t us = (monitor_->clock_->MonotonicNanos() - start_) / 1000;
  int bucket = 0;
  while (bucket < kBuckets && us > DoublingHistogram::UpperBound(bucket)) {
    ++bucket;
  }
  monitor_->counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  monitor_->sum_us_.fetch_add(us, std::memory_order_relaxed);
}

SyncMonitor::Snapshot SyncMonitor::Read() const {
  Snapshot snapshot;
  for (int i = 0; i <= kBuckets; ++i) {
    snapshot.counts[i] = counts_[i].load(std::memory_order_relaxed);
  }
  snapshot.sum_us = sum_us_.load(std::memory_order_relaxed);
  snapshot.failures = failures_.load(std::memory_order_relaxed);
  const uint64_t now = clock_->MonotonicNanos();
  for (const auto& slot : started_) {
    const uint64_t start = slot.load(std::memory_order_relaxed);
    if (start != 0 && start < now) {
      snapshot.oldest_nanos = std::max(snapshot.oldest_nanos, now - start);
    }
  }
  return snapshot;
}

}  // namespace kv739::server
