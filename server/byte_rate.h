// A token bucket: when so many bytes may leave, at a rate that all who ask
// share. Does not wait itself. Time in nanoseconds of any clock that does not
// go back.
//
// Threads: any.
#ifndef KV739_SERVER_BYTE_RATE_H_
#define KV739_SERVER_BYTE_RATE_H_

#include <algorithm>
#include <cstdint>
#include <mutex>

namespace kv739::server {

class ByteRate {
 public:
  // 0: no limit. What was not used in a time of `burst_nanos` is not lost.
  explicit ByteRate(uint64_t bytes_per_second,
                    uint64_t burst_nanos = 100'000'000)
      : bytes_per_second_(bytes_per_second), burst_nanos_(burst_nanos) {}

  // Takes the bytes; the nanoseconds to wait before they may leave. Whoever
  // comes next waits for these too.
  uint64_t Take(uint64_t bytes, uint64_t now_nanos) {
    if (bytes_per_second_ == 0) return 0;
    const std::lock_guard lock(mutex_);
    const uint64_t oldest =
        now_nanos > burst_nanos_ ? now_nanos - burst_nanos_ : 0;
    paid_until_ = std::max(paid_until_, oldest);
    const uint64_t wait = paid_until_ > now_nanos ? paid_until_ - now_nanos : 0;
    paid_until_ +=
        static_cast<uint64_t>(static_cast<double>(bytes) * 1e9 /
                              static_cast<double>(bytes_per_second_));
    return wait;
  }

 private:
  const uint64_t bytes_per_second_;
  const uint64_t burst_nanos_;
  std::mutex mutex_;  // guards paid_until_
  // All that was taken would have left by then.
  uint64_t paid_until_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_BYTE_RATE_H_
