// Counts that the hot path keeps for metrics: plain numbers, written by the
// owner of a loop and copied out on request. Metrics turn them into
// Prometheus families; nothing here knows Prometheus.
#ifndef KV739_SERVER_STATS_H_
#define KV739_SERVER_STATS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "raft/core.h"
#include "raft/types.h"
#include "server/group_keeper.h"
#include "server/operation.h"

namespace kv739::server {

// Counts in buckets whose upper bounds double, with a sum. Bucket i holds
// values <= unit * 2^i; the last one everything above.
class DoublingHistogram {
 public:
  static constexpr int kBuckets = 22;
  void Observe(uint64_t value) {
    int i = 0;
    for (uint64_t bound = 1; value > bound && i < kBuckets; bound <<= 1) ++i;
    ++counts_[i];
    sum_ += value;
  }
  void Merge(const DoublingHistogram& other) {
    for (int i = 0; i <= kBuckets; ++i) counts_[i] += other.counts_[i];
    sum_ += other.sum_;
  }
  // Not cumulative; counts()[kBuckets] is what lies above all bounds.
  const std::array<uint64_t, kBuckets + 1>& counts() const { return counts_; }
  static uint64_t UpperBound(int bucket) { return uint64_t{1} << bucket; }
  uint64_t sum() const { return sum_; }

 private:
  std::array<uint64_t, kBuckets + 1> counts_{};
  uint64_t sum_ = 0;
};

// A snapshot under way.
struct SnapshotTransferStats {
  raft::NodeId peer;  // the other end
  raft::Index index;
  uint64_t bytes = 0;  // as they travel
  uint64_t keys = 0;
  uint64_t total_bytes = 0;  // estimates
  uint64_t total_keys = 0;
  uint64_t nanos = 0;
};
// Of one direction.
struct SnapshotCounts {
  uint64_t done = 0;
  uint64_t bytes = 0;
  uint64_t nanos = 0;
  uint64_t failures = 0;  // streams that broke, snapshots thrown away
};

struct ReplicaStats {
  raft::GroupId group;
  raft::CoreStatus core;
  uint64_t log_entries = 0;  // held: last - first + 1
  uint64_t log_bytes = 0;    // of them, in the write-ahead log
  uint64_t sessions = 0;
  uint64_t pending_proposals = 0;
  uint64_t pending_reads = 0;
  uint64_t elections_started = 0;
  uint64_t elections_won = 0;
  raft::Index snapshot_index;  // applied durably: no log is needed below it
  uint64_t compactions = 0;    // times that the log was cut
  SnapshotCounts sent;
  SnapshotCounts received;
  std::vector<SnapshotTransferStats> sending;
  std::optional<SnapshotTransferStats> receiving;
  std::string fault;    // why this replica does not serve; empty: it does
  uint64_t audits = 0;  // led by this replica to an end
  uint64_t audit_mismatches = 0;  // replicas that they found wrong
  KeeperStatus keeper;            // of a leader
  bool resting = false;           // quiet, and without duties: no work per tick
};

struct HostStats {
  std::vector<ReplicaStats> replicas;  // by group
  // Latency in microseconds from arrival to answer, answered requests only.
  std::array<DoublingHistogram, kOpKinds> latency_us;
  std::array<std::array<uint64_t, kReplyCodes>, kOpKinds> replies{};
  DoublingHistogram proposals_per_turn;
  DoublingHistogram entries_per_apply;
  DoublingHistogram reads_per_round;
  uint64_t inbox_events = 0;   // waiting now
  uint64_t inbox_refused = 0;  // refused because the inbox was full
  uint64_t peer_messages_received = 0;
  uint64_t peer_messages_sent = 0;
  uint64_t peer_messages_dropped = 0;  // for groups that are not here
  uint64_t apply_stalls = 0;           // times the engine could take no more
  uint64_t leader_moves = 0;           // leaderships handed over to spread them
  uint64_t store_flushes = 0;          // to shorten logs
  uint64_t map_epoch = 0;
  bool stopping = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_STATS_H_
