#include "client/command/ping_stats.h"

#include <algorithm>
#include <cmath>

namespace kv739::command {

void PingStats::Answered(absl::Duration time) {
  ++sent_;
  if (answered_++ % keep_one_in_ == 0) {
    samples_.push_back(time);
    if (samples_.size() == kMaxSamples) {
      for (size_t i = 0; i < kMaxSamples / 2; ++i)
        samples_[i] = samples_[2 * i];
      samples_.resize(kMaxSamples / 2);
      keep_one_in_ *= 2;
    }
  }
  sum_ += time;
  max_ = std::max(max_, time);
}

absl::Duration PingStats::mean() const {
  return answered_ == 0 ? absl::ZeroDuration() : sum_ / double(answered_);
}

absl::Duration PingStats::Percentile(double percent) const {
  if (samples_.empty()) return absl::ZeroDuration();
  std::vector<absl::Duration> sorted = samples_;
  const auto rank =
      static_cast<size_t>(std::ceil(percent / 100 * double(sorted.size())));
  const size_t at = std::clamp<size_t>(rank, 1, sorted.size()) - 1;
  std::nth_element(sorted.begin(), sorted.begin() + at, sorted.end());
  return sorted[at];
}

}  // namespace kv739::command
