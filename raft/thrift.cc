#include "raft/thrift.h"

#include <utility>

namespace kv739::raft {
namespace {

// Of moving averages: the weight of the last value is one in so many.
constexpr uint64_t kMemory = 8;

void AddTo(uint64_t* average, uint64_t value) {
  *average =
      *average == 0 ? value : (*average * (kMemory - 1) + value) / kMemory;
}

}  // namespace

std::optional<uint64_t> IndexTimer::Reached(Index index, uint64_t nanos) {
  if (!timed_ || timed_->index > index) return std::nullopt;
  return nanos - std::exchange(timed_, std::nullopt)->start;
}

void Pace::Observe(Index match, Index sent, uint64_t nanos) {
  timer_.Retreat(sent);
  const std::optional<uint64_t> taken = timer_.Reached(match, nanos);
  if (taken) AddTo(&average_, std::max<uint64_t>(*taken, 1));
}

void Thrift::Proposed(Index last, uint64_t nanos) {
  if (last <= seen_) return;
  seen_ = last;
  timer_.Start(last, nanos);
}

void Thrift::Committed(Index index, uint64_t nanos) {
  const std::optional<uint64_t> taken = timer_.Reached(index, nanos);
  if (taken) Count(*taken);
}

void Thrift::Count(uint64_t nanos) {
  ++batches_;
  // The average may be of another load; it follows this one here.
  const bool settling = batches_ <= kSettling;
  const uint64_t counted =
      settling ? nanos : std::min(nanos, kMaxRatio * average_);
  AddTo(&average_, counted);
  if (turn_ == Turn::kRest) {
    if (batches_ >= rest_) NextTurn();
    return;
  }
  if (settling) return;
  (turn_ == Turn::kTrial ? trial_nanos_ : kept_nanos_) += counted;
  if (batches_ >= kSettling + kTurn) NextTurn();
}

void Thrift::NextTurn() {
  batches_ = 0;
  switch (turn_) {
    case Turn::kRest:
      kept_nanos_ = trial_nanos_ = 0;
      turn_ = Turn::kBefore;
      return;
    case Turn::kBefore:
      turn_ = Turn::kTrial;
      return;
    case Turn::kTrial:
      turn_ = Turn::kAfter;
      return;
    case Turn::kAfter:
      turn_ = Turn::kRest;
      return Decide();
  }
}

void Thrift::Decide() {
  const uint64_t kept = kept_nanos_ / 2;
  if (trial_nanos_ < kept - kept / 32) {
    few_ = !few_;
    rest_ = kMinRest;
  } else {
    rest_ = std::min(2 * rest_, kMaxRest);
  }
}

}  // namespace kv739::raft
