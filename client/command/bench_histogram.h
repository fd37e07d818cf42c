// Latencies counted in log-linear buckets, in the manner of HDR histograms:
// 128 buckets for every power of two, so that a percentile is at most 0.8 %
// above the true one, whatever the range. Memory grows with the largest value
// only (2 s: 25 KiB). Values are nanoseconds. Not thread-safe; merge those of
// several threads.
#ifndef KV739_CLIENT_COMMAND_BENCH_HISTOGRAM_H_
#define KV739_CLIENT_COMMAND_BENCH_HISTOGRAM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kv739::bench {

class Histogram {
 public:
  void Record(uint64_t nanos);
  void Merge(const Histogram& other);

  uint64_t count() const { return count_; }
  // 0 when nothing was recorded. Exact.
  uint64_t min() const { return count_ == 0 ? 0 : min_; }
  uint64_t max() const { return max_; }
  double mean() const;
  // The value that `percent` of those recorded do not exceed: the upper edge
  // of its bucket, never above max(). 0 when nothing was recorded.
  uint64_t Percentile(double percent) const;

  struct Point {
    uint64_t upper;  // the largest value of the bucket
    uint64_t count;
  };
  // The buckets that are not empty, in ascending order.
  std::vector<Point> Points() const;

 private:
  static size_t BucketOf(uint64_t value);
  static uint64_t UpperEdge(size_t bucket);

  std::vector<uint64_t> counts_;
  uint64_t count_ = 0;
  uint64_t min_ = 0;
  uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_HISTOGRAM_H_
