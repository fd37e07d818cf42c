// Named limits and timeouts of the core. Time is counted in ticks.
#ifndef KV739_RAFT_OPTIONS_H_
#define KV739_RAFT_OPTIONS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "raft/types.h"

namespace kv739::raft {

struct Options {
  NodeId self;

  // A follower campaigns after a time drawn from [election_timeout_ticks,
  // 2 * election_timeout_ticks) without a leader (paper section 5.2).
  uint32_t election_timeout_ticks = 25;
  uint32_t heartbeat_ticks = 5;
  // Or after a time drawn from [1, gone_timeout_ticks] when the connection to
  // the leader has ended, and again after [gone_timeout_ticks,
  // 2 * gone_timeout_ticks) when that led to nothing, for an election timeout;
  // 0: that changes nothing. Long beside the time that a vote takes, or votes
  // are split.
  uint32_t gone_timeout_ticks = 10;
  // A leader without anything to do for so long may rest, and followers agree
  // to it (raft/quiescence.cc); 0: never.
  uint32_t quiesce_after_ticks = 0;
  // Pre-vote (thesis section 9.6) and leader step-down without a quorum
  // (section 6.2). Only tests turn them off.
  bool pre_vote = true;
  bool check_quorum = true;

  // One AppendEntries carries at most this much (a single larger entry still
  // goes, alone).
  uint64_t max_append_bytes = 1 << 20;
  uint32_t max_append_entries = 4096;
  // Unanswered AppendEntries to one follower.
  uint64_t max_inflight_bytes = 16 << 20;
  uint32_t max_inflight_messages = 64;
  // Proposals that are not committed yet; beyond it Propose() refuses.
  uint64_t max_uncommitted_bytes = 64 << 20;
  // How long entries may wait for followers that a majority does not need, so
  // that they share a message (raft/holding_back.cc); 0: never.
  uint64_t hold_back_nanos = 0;
  // Recent applied and durable entries kept in memory to feed followers.
  uint64_t max_cached_bytes = 16 << 20;
  // Rounds of heartbeats for reads that may be under way; reads that come
  // meanwhile share the next one.
  uint32_t max_read_rounds = 1;
  uint32_t max_pending_reads = 65536;
  // A round for reads goes to a majority that answered the one before, and to
  // all when a tick passes without their answers. Off: always to all.
  bool read_rounds_to_majority = false;
  // How long a majority's answers to a round of heartbeats keep reads from
  // needing another one (raft/lease.h); 0: no leases are kept. With leases,
  // gone_timeout_ticks is not heeded: followers keep what they promised.
  uint64_t lease_nanos = 0;
  // One Ready hands out at most this much to apply.
  uint64_t max_apply_bytes = 16 << 20;

  // OK, or the first limit that makes no sense, by name.
  absl::Status Validate() const;
};

// The longest safe Options::lease_nanos where a follower's clock runs at most
// a quarter faster than its leader's: a fifth less than an election timeout
// without the tick that may come at once.
constexpr uint64_t LeaseNanos(uint32_t election_timeout_ticks,
                              uint64_t tick_nanos) {
  return (election_timeout_ticks - 1) * tick_nanos / 5 * 4;
}

// Where randomness comes from; only election timeouts use it.
class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t Next() = 0;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_OPTIONS_H_
