// What a leader knows of one follower, and how much it may send it (paper
// section 5.3: nextIndex and matchIndex; the states are the usual ones of
// pipelined implementations).
//
//   kProbe      where the logs agree is not known: one message at a time
//   kReplicate  it is known: messages are sent ahead of their answers, within
//               a window of messages and bytes
//   kSnapshot   what the follower needs is no longer in the log: nothing is
//               sent until the snapshot has arrived
#ifndef KV739_RAFT_PROGRESS_H_
#define KV739_RAFT_PROGRESS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "raft/thrift.h"
#include "raft/types.h"

namespace kv739::raft {

// Unanswered AppendEntries, oldest first, in a ring of fixed size.
class Inflights {
 public:
  Inflights(uint32_t max_messages, uint64_t max_bytes)
      : max_messages_(max_messages), max_bytes_(max_bytes) {}

  bool full() const { return count_ >= max_messages_ || bytes_ >= max_bytes_; }
  bool empty() const { return count_ == 0; }
  uint32_t count() const { return count_; }
  uint64_t bytes() const { return bytes_; }
  // Still free; 0 when full.
  uint64_t free_bytes() const { return full() ? 0 : max_bytes_ - bytes_; }

  // A message whose last entry is `last`; not full.
  void Add(Index last, uint64_t bytes);
  // Everything up to `index` has been answered.
  void FreeTo(Index index);
  void Clear();

 private:
  struct Slot {
    Index last;
    uint64_t bytes;
  };
  uint32_t max_messages_;
  uint64_t max_bytes_;
  std::vector<Slot> ring_;  // grows to max_messages_ when it is needed
  uint32_t head_ = 0;
  uint32_t count_ = 0;
  uint64_t bytes_ = 0;
};

class Progress {
 public:
  enum class State : uint8_t { kProbe, kReplicate, kSnapshot };

  Progress(NodeId id, Index next, uint64_t now, uint32_t max_messages,
           uint64_t max_bytes)
      : id_(id),
        next_(next),
        last_heard_(now),
        inflights_(max_messages, max_bytes) {}

  NodeId id() const { return id_; }
  State state() const { return state_; }
  // Known to be on the follower's disk, and equal to the leader's log.
  Index match() const { return match_; }
  // The next entry to send.
  Index next() const { return next_; }
  const Inflights& inflights() const { return inflights_; }
  // The tick at which the follower was last heard of.
  uint64_t last_heard() const { return last_heard_; }
  void Heard(uint64_t now) { last_heard_ = now; }
  // Kept by raft/holding_back.cc.
  Pace& pace() { return pace_; }
  const Pace& pace() const { return pace_; }
  // The newest round of heartbeats it has answered (thesis section 6.4).
  uint64_t round() const { return round_; }
  void AnsweredRound(uint64_t round) { round_ = std::max(round_, round); }
  // The newest one with whose answer it kept a lease (raft/lease.h).
  uint64_t promised_round() const { return promised_round_; }
  void Promised(uint64_t round) {
    promised_round_ = std::max(promised_round_, round);
  }

  // May a message be made now? `last` is the leader's last index.
  bool CanSend(Index last) const;
  // A probe that had no answer is repeated without entries: they would be
  // sent to a follower that may be down.
  bool probes_empty() const { return repeated_; }

  // A message was sent that ends with entry `last` (next() - 1 when empty).
  void Sent(Index last, uint64_t bytes);
  // Equal and durable up to `index`. True when that is news. `first` is the
  // first index of the leader's log: short of it a snapshot is still needed.
  bool Acknowledged(Index index, Index first);
  // It refused a message behind `previous`; `next` is where to go on, between
  // match() + 1 and `previous`. False for an answer that is out of date.
  bool Refused(Index previous, Index next);
  // It refused what it is known to have: it may have lost anything, and what it
  // acknowledged no longer counts.
  void Forgot();
  // Time to repeat what may be lost. True when the window has been waiting
  // for an answer all the time: ask whether the messages arrived.
  bool OnHeartbeatTick();

  void BecomeProbe();
  // Nothing is sent until the next heartbeat tick or an answer.
  void Pause() { paused_ = true; }
  // True when a snapshot has to be asked for, false when one is on its way.
  bool BecomeSnapshot();
  bool snapshot_under_way() const { return snapshot_under_way_; }
  // The snapshot reached it up to `index`, or not at all (0).
  void SnapshotDone(Index index);

  // Entries are being read from disk for it.
  bool fetching() const { return fetching_; }
  void FetchStarted() { fetching_ = true; }
  void FetchDone(bool found) {
    fetching_ = false;
    paused_ = !found;
  }

 private:
  NodeId id_;
  State state_ = State::kProbe;
  bool paused_ = false;    // until the next heartbeat tick or an answer
  bool repeated_ = false;  // the probe is a repetition
  bool fetching_ = false;
  bool snapshot_under_way_ = false;
  bool answered_ = true;  // since the last heartbeat tick
  Index match_;
  Index next_;
  uint64_t last_heard_;
  uint64_t round_ = 0;
  uint64_t promised_round_ = 0;
  Inflights inflights_;
  Pace pace_;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_PROGRESS_H_
