#include "client/command/bench_loop.h"

#include <algorithm>
#include <cmath>

namespace kv739::bench {

void LoopStats::Merge(const LoopStats& other) {
  for (int kind = 0; kind < kKinds; ++kind) {
    latency[kind].Merge(other.latency[kind]);
  }
  failures.Merge(other.failures);
  not_found += other.not_found;
  scanned += other.scanned;
  failed += other.failed;
  unknown += other.unknown;
  if (first_error.empty()) first_error = other.first_error;
  arrivals += other.arrivals;
  late += other.late;
  dropped += other.dropped;
}

LoadLoop::LoadLoop(const LoopOptions& options, Source* source)
    : options_(options), source_(source), random_(options.seed) {
  if (options_.rate > 0) next_arrival_ = Gap();
}

double LoadLoop::Gap() {
  const double mean = 1e9 / options_.rate;
  return options_.poisson ? -std::log(1 - random_.Unit()) * mean : mean;
}

void LoadLoop::Admit(uint64_t now) {
  if (options_.rate <= 0) return;
  while (true) {
    const uint64_t arrival =
        options_.begin + static_cast<uint64_t>(next_arrival_);
    if (arrival > now || arrival >= options_.end) return;
    next_arrival_ += Gap();  // not rounded: small errors would add up
    const bool counts = Counts(arrival);
    if (counts) ++stats_.arrivals;
    if (backlog_.size() < options_.max_backlog) {
      backlog_.push_back(arrival);
    } else if (counts) {
      ++stats_.dropped;
    }
  }
}

void LoadLoop::EndPauses(uint64_t now) {
  while (!pauses_.empty() && pauses_.front() <= now) pauses_.pop_front();
}

bool LoadLoop::over(uint64_t now) const {
  if (source_->Exhausted()) return true;
  if (now < options_.end) return false;
  return backlog_.empty() || now - options_.end >= kStartsAfterEnd;
}

bool LoadLoop::Take(uint64_t now, Operation* operation) {
  Admit(now);
  EndPauses(now);
  if (over(now)) return false;
  if (in_flight_ + static_cast<int>(pauses_.size()) >= options_.in_flight) {
    return false;
  }
  uint64_t intended = now;
  if (options_.rate > 0) {
    if (backlog_.empty()) return false;
    intended = backlog_.front();
    backlog_.pop_front();
    if (Counts(intended) && now - intended > kLateAfter) ++stats_.late;
  }
  if (!source_->Next(operation)) return false;
  operation->intended = intended;
  ++in_flight_;
  return true;
}

uint64_t LoadLoop::NextTake(uint64_t now) {
  Admit(now);
  EndPauses(now);
  if (over(now)) return now;
  uint64_t next = kNever;
  if (in_flight_ + static_cast<int>(pauses_.size()) >= options_.in_flight) {
    if (!pauses_.empty()) next = pauses_.front();
  } else if (options_.rate <= 0) {
    // The source had none: what is in flight may bring one back.
    if (in_flight_ == 0) next = now;
    if (!pauses_.empty()) next = pauses_.front();
  } else if (!backlog_.empty()) {
    next = now;
  } else {
    next = options_.begin + static_cast<uint64_t>(next_arrival_);
  }
  return std::min(
      next, now < options_.end ? options_.end : options_.end + kStartsAfterEnd);
}

void LoadLoop::Count(uint64_t now, const Operation& operation,
                     const Result& result) {
  if (!Counts(operation.intended)) return;
  const uint64_t took = now - operation.intended;
  if (result.outcome == Outcome::kOk || result.outcome == Outcome::kNotFound) {
    stats_.latency[static_cast<int>(operation.kind)].Record(took);
    if (result.outcome == Outcome::kNotFound) ++stats_.not_found;
    stats_.scanned += operation.got;
    return;
  }
  stats_.failures.Record(took);
  ++(result.outcome == Outcome::kUnknown ? stats_.unknown : stats_.failed);
  if (stats_.first_error.empty()) stats_.first_error = result.error;
}

bool LoadLoop::Done(uint64_t now, Operation* operation, const Result& result) {
  const bool well =
      result.outcome == Outcome::kOk || result.outcome == Outcome::kNotFound;
  if (well && operation->kind == Kind::kReadModifyWrite && !operation->write) {
    operation->write = true;
    return true;
  }
  if (well && operation->kind == Kind::kScan) {
    operation->got += result.keys;
    operation->left -= std::min(operation->left, result.keys);
    if (operation->left > 0 && result.more) {
      operation->slot = result.slot;
      operation->from = result.from;
      return true;
    }
  }
  --in_flight_;
  Count(now, *operation, result);
  source_->Ended(*operation, result.outcome);
  if (!well && options_.rate <= 0) pauses_.push_back(now + kPauseAfterFailure);
  return false;
}

void LoadLoop::Stop(uint64_t now) {
  Admit(std::min(now, options_.end));
  options_.end = std::min(options_.end, now);
  options_.measure_from = std::min(options_.measure_from, options_.end);
  for (const uint64_t arrival : backlog_) stats_.dropped += Counts(arrival);
  backlog_.clear();
}

}  // namespace kv739::bench
