// Timers of many operations at O(1) each: a hashed wheel of kBuckets lists.
// A timer fires in the first Advance() at or after its time, rounded up to
// kTick. Not thread-safe. The owner keeps items alive while they are in it.
#ifndef KV739_CLIENT_TIMER_WHEEL_H_
#define KV739_CLIENT_TIMER_WHEEL_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace kv739::client {

// Microseconds of a monotonic clock with any origin.
using Instant = int64_t;
inline constexpr Instant kNever = std::numeric_limits<Instant>::max();
inline constexpr Instant kMillisecond = 1000;

template <typename T>
class TimerWheel {
 public:
  static constexpr Instant kTick = 2 * kMillisecond;
  static constexpr size_t kBuckets = 4096;

  // One per item; says where the item is.
  struct Hook {
    size_t bucket = kBuckets;  // kBuckets: not in the wheel
    size_t position = 0;
  };

  explicit TimerWheel(Hook T::*hook) : hook_(hook) {}

  bool empty() const { return size_ == 0; }

  // Sets the item's timer to `when`, instead of what it was.
  void Arm(std::shared_ptr<T> item, Instant when) {
    Disarm(item.get());
    if (when == kNever) return;
    const int64_t tick = std::max(TickOf(when), now_tick_ + 1);
    std::vector<Entry>& bucket = buckets_[tick % kBuckets];
    Hook& hook = (*item).*hook_;
    hook.bucket = tick % kBuckets;
    hook.position = bucket.size();
    bucket.push_back({tick, std::move(item)});
    ++size_;
  }

  void Disarm(T* item) {
    Hook& hook = item->*hook_;
    if (hook.bucket == kBuckets) return;
    std::vector<Entry>& bucket = buckets_[hook.bucket];
    if (hook.position + 1 != bucket.size()) {
      bucket[hook.position] = std::move(bucket.back());
      ((*bucket[hook.position].item).*hook_).position = hook.position;
    }
    bucket.pop_back();
    hook.bucket = kBuckets;
    --size_;
  }

  // Takes out and returns all items.
  std::vector<std::shared_ptr<T>> TakeAll() {
    std::vector<std::shared_ptr<T>> all;
    for (std::vector<Entry>& bucket : buckets_) {
      Collect(&bucket, kNever, &all);
    }
    return all;
  }

  // Takes out and returns the items whose time has come.
  std::vector<std::shared_ptr<T>> Advance(Instant now) {
    std::vector<std::shared_ptr<T>> due;
    const int64_t last = now / kTick;
    if (last <= now_tick_) return due;
    // After a long pause every bucket is looked at once, not once a turn.
    int64_t first = now_tick_ + 1;
    if (last - first >= static_cast<int64_t>(kBuckets)) {
      first = last - static_cast<int64_t>(kBuckets) + 1;
    }
    now_tick_ = last;
    for (int64_t tick = first; tick <= last && size_ > 0; ++tick) {
      Collect(&buckets_[tick % kBuckets], last, &due);
    }
    return due;
  }

 private:
  struct Entry {
    int64_t tick;
    std::shared_ptr<T> item;
  };

  static int64_t TickOf(Instant when) { return (when + kTick - 1) / kTick; }

  void Collect(std::vector<Entry>* bucket, int64_t last,
               std::vector<std::shared_ptr<T>>* due) {
    for (size_t i = 0; i < bucket->size();) {
      if ((*bucket)[i].tick > last) {
        ++i;  // of a later turn of the wheel
        continue;
      }
      due->push_back((*bucket)[i].item);
      Disarm(due->back().get());
    }
  }

  Hook T::*const hook_;
  std::array<std::vector<Entry>, kBuckets> buckets_;
  int64_t now_tick_ = 0;
  size_t size_ = 0;
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_TIMER_WHEEL_H_
