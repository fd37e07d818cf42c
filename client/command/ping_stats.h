// Round trips counted: how many came back, how long they took. Keeps every
// time up to kMaxSamples, then one in two, one in four, ...: memory stays
// bounded however long it runs. Not thread-safe.
#ifndef KV739_CLIENT_COMMAND_PING_STATS_H_
#define KV739_CLIENT_COMMAND_PING_STATS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/time/time.h"

namespace kv739::command {

class PingStats {
 public:
  static constexpr size_t kMaxSamples = 1 << 16;

  void Lost() { ++sent_; }
  void Answered(absl::Duration time);

  uint64_t sent() const { return sent_; }
  uint64_t answered() const { return answered_; }
  // Of those answered; zero when there is none.
  absl::Duration mean() const;
  absl::Duration max() const { return max_; }
  // The smallest time that `percent` of the answers did not exceed.
  absl::Duration Percentile(double percent) const;

 private:
  uint64_t sent_ = 0;
  uint64_t answered_ = 0;
  absl::Duration sum_;
  absl::Duration max_;
  std::vector<absl::Duration> samples_;
  uint64_t keep_one_in_ = 1;
};

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_PING_STATS_H_
