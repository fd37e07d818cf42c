#include "client/command/bench_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kv739::bench {
namespace {

constexpr int kSubBits = 7;
constexpr size_t kSub = size_t{1} << kSubBits;

}  // namespace

// Values below 2 * kSub have a bucket each; above, the kSubBits below the
// highest bit choose one of kSub in their power of two.
size_t Histogram::BucketOf(uint64_t value) {
  const int shift =
      std::max(0, static_cast<int>(std::bit_width(value)) - kSubBits - 1);
  return static_cast<size_t>(shift) * kSub + (value >> shift);
}

uint64_t Histogram::UpperEdge(size_t bucket) {
  if (bucket < 2 * kSub) return bucket;
  const size_t shift = bucket / kSub - 1;
  const uint64_t top = bucket - shift * kSub;
  return (top << shift) + ((uint64_t{1} << shift) - 1);
}

void Histogram::Record(uint64_t nanos) {
  const size_t bucket = BucketOf(nanos);
  if (bucket >= counts_.size()) counts_.resize(bucket + 1);
  ++counts_[bucket];
  min_ = count_ == 0 ? nanos : std::min(min_, nanos);
  max_ = std::max(max_, nanos);
  sum_ += static_cast<double>(nanos);
  ++count_;
}

void Histogram::Merge(const Histogram& other) {
  if (other.count_ == 0) return;
  if (other.counts_.size() > counts_.size()) {
    counts_.resize(other.counts_.size());
  }
  for (size_t i = 0; i < other.counts_.size(); ++i) {
    counts_[i] += other.counts_[i];
  }
  min_ = count_ == 0 ? other.min_ : std::min(min_, other.min_);
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  count_ += other.count_;
}

double Histogram::mean() const {
  return count_ == 0 ? 0 : sum_ / static_cast<double>(count_);
}

uint64_t Histogram::Percentile(double percent) const {
  if (count_ == 0) return 0;
  // Less a little, so that rounding does not take 7 % of 100 for the 8th.
  const double exact = percent * static_cast<double>(count_) / 100 - 1e-6;
  const uint64_t rank =
      std::clamp<uint64_t>(static_cast<uint64_t>(std::ceil(exact)), 1, count_);
  uint64_t seen = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= rank) return std::clamp(UpperEdge(i), min_, max_);
  }
  return max_;
}

std::vector<Histogram::Point> Histogram::Points() const {
  std::vector<Point> points;
  for (size_t i = 0; i < counts_.size(); ++i) {
    if (counts_[i] > 0) points.push_back({UpperEdge(i), counts_[i]});
  }
  return points;
}

}  // namespace kv739::bench
