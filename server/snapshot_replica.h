// Snapshots of one replica: cutting its log, sending its state to followers
// that are too far behind, and being such a follower. The parts are in files
// of their own; here is what they have to do with the replica.
//
// Owned by the replica, with the loop.
#ifndef KV739_SERVER_SNAPSHOT_REPLICA_H_
#define KV739_SERVER_SNAPSHOT_REPLICA_H_

#include <string>

#include "absl/status/status.h"
#include "raft/ready.h"
#include "server/snapshot_compaction.h"
#include "server/snapshot_context.h"
#include "server/stats.h"

namespace kv739::server {

class ReplicaSnapshots {
 public:
  // Both outlive it.
  ReplicaSnapshots(const SnapshotContext* context, Replica* replica);

  // At every tick; Advance() follows in the same turn.
  void Tick() { ticked_ = true; }
  // Once a turn, before the core's Ready is taken: what time and what other
  // threads have brought.
  absl::Status Advance(Turn& turn);

  Compaction& compaction() { return compaction_; }
  void AddStats(ReplicaStats* stats) const;

 private:
  Replica* const replica_;
  Compaction compaction_;
  bool ticked_ = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_REPLICA_H_
