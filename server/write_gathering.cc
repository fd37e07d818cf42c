#include "server/write_gathering.h"

#include <algorithm>

#include "raft/planted.h"

namespace kv739::server {
namespace {

// How much one batch says about the next ones.
constexpr size_t kForget = 16;
constexpr double kKeep = 7.0 / 8;

}  // namespace

bool WriteGathering::Waits(size_t waiting, size_t under_way, uint64_t now) {
  if (under_way == 0 && now > active_at_ + kMaxWait && ends_ == 0) {
    expected_ = 0;
  }
  active_at_ = now;
  expected_ = std::max(expected_, waiting + under_way);
  if (expected_ < from_ || waiting * kShare >= expected_) return false;
  if (ends_ == 0) {
    const double share = static_cast<double>(expected_) / kShare;
    const double usual = writes_ > 0 ? share * nanos_ / writes_ : 0;
    ends_ = now + static_cast<uint64_t>(
                      std::min(2 * usual, static_cast<double>(kMaxWait)));
  }
  if (now < ends_ || KV739_PLANTED(L5_gathering_never_ends)) return true;
  // These are all that there are.
  expected_ = waiting + under_way;
  return false;
}

void WriteGathering::Proposed(size_t count, uint64_t now) {
  ends_ = 0;
  expected_ -= (expected_ + kForget - 1) / kForget;
  // A pause is no measure of how fast they come.
  const uint64_t since = std::min(now - std::min(now, proposed_at_), kMaxWait);
  nanos_ = nanos_ * kKeep + static_cast<double>(since);
  writes_ = writes_ * kKeep + static_cast<double>(count);
  proposed_at_ = active_at_ = now;
}

}  // namespace kv739::server
