// A leader's lease (thesis section 6.4.1): the time in which no other leader
// can have been elected, because a majority has promised, so that reads need no
// round of heartbeats.
//
// The promise of a follower: after it has heard from its leader it neither
// votes nor campaigns for an election timeout of its own ticks, be its
// connection to the leader gone or not; and one that starts keeps still for as
// long, since it may have promised before it stopped. It says so in its answers
// to heartbeats; others' answers confirm reads as ever, but make no lease. So a
// cluster in which some do not keep leases merely has fewer of them.
//
// The lease is counted from when the round of heartbeats was sent, by the
// leader's monotonic clock, and lasts for Options::lease_nanos: an election
// timeout less a tick (the follower's tick may come at once) and less a fifth,
// the bound on how much faster a follower's clock may run than the leader's.
// Handing leadership over breaks promises: it ends leases for good in a term,
// for the call to campaign may still be on its way when it was given up.
//
// One object per leadership.
#ifndef KV739_RAFT_LEASE_H_
#define KV739_RAFT_LEASE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>

namespace kv739::raft {

class Lease {
 public:
  // Round `round` of heartbeats leaves now, or later than `nanos`.
  void Sent(uint64_t round, uint64_t nanos);
  // A majority has promised in its answers to this round, or later ones.
  void Promised(uint64_t round);
  // It is to be earned again, with other members.
  void Forget() {
    sent_.clear();
    since_ = 0;
  }
  // Of leaders that stay leaders, none any more.
  void End() { ended_ = true; }
  bool HoldsAt(uint64_t nanos, uint64_t length) const {
    return !ended_ && since_ > 0 && nanos >= since_ && nanos - since_ < length;
  }

 private:
  // Rounds whose answers are awaited; the oldest are given up first.
  static constexpr size_t kMaxRounds = 64;

  std::deque<std::pair<uint64_t, uint64_t>> sent_;  // round, nanos; ascending
  uint64_t since_ = 0;                              // 0: never yet
  bool ended_ = false;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_LEASE_H_
