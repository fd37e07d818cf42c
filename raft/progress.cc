#include "raft/progress.h"

#include <algorithm>
#include <utility>

#include "raft/check.h"
#include "raft/planted.h"

namespace kv739::raft {

void Inflights::Add(Index last, uint64_t bytes) {
  KV739_RAFT_CHECK(!full(), "the window has room");
  if (count_ == ring_.size()) {
    // Unroll, then grow; at most max_messages_.
    std::rotate(ring_.begin(), ring_.begin() + head_, ring_.end());
    head_ = 0;
    ring_.resize(
        std::min<size_t>(max_messages_, std::max<size_t>(8, ring_.size() * 2)));
  }
  ring_[(head_ + count_) % ring_.size()] = {last, bytes};
  ++count_;
  bytes_ += bytes;
}

void Inflights::FreeTo(Index index) {
  while (count_ > 0 && ring_[head_].last <= index) {
    bytes_ -= ring_[head_].bytes;
    head_ = (head_ + 1) % static_cast<uint32_t>(ring_.size());
    --count_;
  }
}

void Inflights::Clear() {
  head_ = 0;
  count_ = 0;
  bytes_ = 0;
}

bool Progress::CanSend(Index last) const {
  if (paused_ || fetching_) return false;
  switch (state_) {
    case State::kProbe:
      return true;
    case State::kReplicate:
      return next_ <= last && !inflights_.full();
    case State::kSnapshot:
      return false;
  }
  return false;
}

void Progress::Sent(Index last, uint64_t bytes) {
  if (state_ == State::kProbe) {
    paused_ = true;
    return;
  }
  if (last < next_) return;
  inflights_.Add(last, bytes);
  next_ = last + 1;
}

bool Progress::Acknowledged(Index index, Index first) {
  const bool news = index > match_;
  if (news) match_ = index;
  if (index < match_) return false;  // an old answer
  if (state_ == State::kSnapshot && match_ + 1 < first) return news;
  next_ = std::max(next_, match_ + 1);
  answered_ = true;
  if (!KV739_PLANTED(L5_window_never_opens)) inflights_.FreeTo(index);
  if (state_ != State::kReplicate) {
    state_ = State::kReplicate;
    paused_ = false;
    repeated_ = false;
    inflights_.Clear();
    next_ = match_ + 1;
  }
  return news;
}

bool Progress::Refused(Index previous, Index next) {
  if (state_ == State::kSnapshot) return false;
  if (previous <= match_ || previous >= next_) return false;
  // While probing only the one probe under way can be refused.
  if (state_ == State::kProbe && previous + 1 != next_) return false;
  KV739_RAFT_CHECK(next > match_ && next <= previous,
                   "backtracking goes back, and not behind what matches");
  BecomeProbe();
  next_ = next;
  answered_ = true;
  return true;
}

void Progress::Forgot() {
  if (state_ == State::kSnapshot) return;
  const Index next = match_;
  match_ = Index();
  BecomeProbe();
  next_ = next;
  answered_ = true;
}

bool Progress::OnHeartbeatTick() {
  const bool waited = !answered_;
  answered_ = inflights_.empty();
  if (fetching_) return false;
  if (state_ == State::kProbe && paused_) repeated_ = true;
  paused_ = false;
  return state_ == State::kReplicate && waited && !inflights_.empty();
}

void Progress::BecomeProbe() {
  state_ = State::kProbe;
  paused_ = false;
  repeated_ = false;
  inflights_.Clear();
  next_ = match_ + 1;
}

bool Progress::BecomeSnapshot() {
  state_ = State::kSnapshot;
  paused_ = false;
  repeated_ = false;
  inflights_.Clear();
  return !std::exchange(snapshot_under_way_, true);
}

void Progress::SnapshotDone(Index index) {
  snapshot_under_way_ = false;
  if (state_ != State::kSnapshot) return;
  BecomeProbe();
  if (index) {
    next_ = std::max(next_, index + 1);
  } else {
    paused_ = true;  // tried again at the next heartbeat tick
  }
}

}  // namespace kv739::raft
