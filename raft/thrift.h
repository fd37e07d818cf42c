// Whether a leader asks all followers at once, or first those that a majority
// needs (raft/holding_back.cc), and whom.
//
// Asking fewer spares messages, wake-ups and syncs, and commits are the sooner
// for it where members share processors or disks, and where they have little to
// spare. Asking all is the sooner where followers' times differ from message to
// message: of four the two that happen to be fastest make a majority, and of
// two the slower one does. Nobody knows beforehand which it is, so commits are
// timed both ways, and the faster one is kept until the next trial.
//
// Pure computations. Times in nanoseconds of a clock that does not jump.
#ifndef KV739_RAFT_THRIFT_H_
#define KV739_RAFT_THRIFT_H_

#include <algorithm>
#include <cstdint>
#include <optional>

#include "raft/types.h"

namespace kv739::raft {

// Times one thing at a time: from when an index was sent off until it is there.
class IndexTimer {
 public:
  // Does nothing while another one is timed.
  void Start(Index index, uint64_t nanos) {
    if (!timed_) timed_ = Timed{index, nanos};
  }
  // All up to `index` is there: how long it took, if that was timed.
  std::optional<uint64_t> Reached(Index index, uint64_t nanos);
  // What is behind `index` has been taken back.
  void Retreat(Index index) {
    if (timed_ && timed_->index > index) timed_.reset();
  }
  // Of what is timed, so far; 0 without.
  uint64_t Elapsed(uint64_t nanos) const {
    return timed_ ? nanos - timed_->start : 0;
  }

 private:
  struct Timed {
    Index index;
    uint64_t start;
  };
  std::optional<Timed> timed_;
};

// What a leader knows of a follower for this.
class Pace {
 public:
  void Sent(Index last, uint64_t nanos) { timer_.Start(last, nanos); }
  // As of now: acknowledged up to `match`, sent up to `sent`.
  void Observe(Index match, Index sent, uint64_t nanos);
  // How long it takes to acknowledge: a moving average, or as long as what is
  // timed has had no answer.
  uint64_t AckNanos(uint64_t nanos) const {
    return std::max(average_, timer_.Elapsed(nanos));
  }

  // It is asked first.
  bool prompt = true;
  // Entries for it wait until then.
  std::optional<uint64_t> held_until;

 private:
  IndexTimer timer_;
  uint64_t average_ = 0;  // 0: not known yet
};

// Which of the two ways is faster, by turns of one, the other, and the first
// again, so that what slows down everything in the meantime does not count.
class Thrift {
 public:
  // Batches in a turn, and the first ones of each, which still feel the turn
  // before and do not count.
  static constexpr uint32_t kTurn = 64;
  static constexpr uint32_t kSettling = 8;
  // Batches between two trials: twice as many after each one that changed
  // nothing.
  static constexpr uint32_t kMinRest = 256;
  static constexpr uint32_t kMaxRest = 8192;
  // A single stall is no reason: no batch counts for more than so many times
  // the average.
  static constexpr uint64_t kMaxRatio = 4;

  // Whether only a majority is to be asked first, now.
  bool asks_few() const { return few_ != (turn_ == Turn::kTrial); }

  // Entries up to `last` are there to be sent.
  void Proposed(Index last, uint64_t nanos);
  void Committed(Index index, uint64_t nanos);

 private:
  enum class Turn { kRest, kBefore, kTrial, kAfter };

  void Count(uint64_t nanos);
  void NextTurn();
  void Decide();

  bool few_ = false;  // the way that is kept
  Turn turn_ = Turn::kBefore;
  uint32_t batches_ = 0;  // of this turn
  uint32_t rest_ = kMinRest;
  uint64_t kept_nanos_ = 0;  // both turns around the trial
  uint64_t trial_nanos_ = 0;
  uint64_t average_ = 0;
  Index seen_;
  IndexTimer timer_;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_THRIFT_H_
