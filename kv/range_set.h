// The key ranges that ingestions of one engine are under way for: no two of
// them share a key. Claims may end in any thread, and before the set does.
#ifndef KV739_KV_RANGE_SET_H_
#define KV739_KV_RANGE_SET_H_

#include <iterator>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::kv {

class RangeSet {
 public:
  class Claim {
   public:
    Claim(Claim&& other) noexcept
        : set_(std::exchange(other.set_, nullptr)),
          begin_(std::move(other.begin_)),
          end_(std::move(other.end_)) {}
    Claim& operator=(Claim&&) = delete;
    ~Claim() {
      if (set_ == nullptr) return;
      const std::lock_guard lock(set_->mutex_);
      set_->ranges_.erase(begin_);
    }
    const std::string& begin() const { return begin_; }
    const std::string& end() const { return end_; }

   private:
    friend class RangeSet;
    Claim(RangeSet* set, std::string begin, std::string end)
        : set_(set), begin_(std::move(begin)), end_(std::move(end)) {}
    RangeSet* set_;
    std::string begin_;
    std::string end_;
  };

  absl::StatusOr<Claim> Take(absl::string_view begin, absl::string_view end) {
    if (begin >= end) return absl::InvalidArgumentError("an empty range");
    std::string first(begin);
    std::string last(end);
    const std::lock_guard lock(mutex_);
    const auto next = ranges_.lower_bound(first);
    const bool taken =
        (next != ranges_.end() && next->first < last) ||
        (next != ranges_.begin() && std::prev(next)->second > first);
    if (taken) {
      return absl::FailedPreconditionError(
          "another ingestion for keys of this range is under way");
    }
    ranges_.emplace(first, last);
    return Claim(this, std::move(first), std::move(last));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> ranges_;  // begin to end; under mutex_
};

// Every engine's rule for the keys of an ingestion. `last` is empty before
// the first.
inline absl::Status CheckIngestedKey(const RangeSet::Claim& range,
                                     absl::string_view last,
                                     absl::string_view key) {
  if (key < range.begin() || key >= range.end()) {
    return absl::InvalidArgumentError("a key outside of the ingested range");
  }
  if (key <= last) {
    return absl::InvalidArgumentError("keys of an ingestion must rise");
  }
  return absl::OkStatus();
}

}  // namespace kv739::kv

#endif  // KV739_KV_RANGE_SET_H_
