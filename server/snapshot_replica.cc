#include "server/snapshot_replica.h"

#include <utility>

#include "server/replica.h"

namespace kv739::server {

ReplicaSnapshots::ReplicaSnapshots(const SnapshotContext* context,
                                   Replica* replica)
    : replica_(replica),
      compaction_(context, replica->group_,
                  replica->machine_->applied().index) {}

absl::Status ReplicaSnapshots::Advance(Turn& turn) {
  raft::Core* core = replica_->core_.get();
  if (std::exchange(ticked_, false)) compaction_.Tick(turn.now_nanos, *core);
  compaction_.Cut(turn.now_nanos, raft::Index(), core, turn);
  return absl::OkStatus();
}

void ReplicaSnapshots::AddStats(ReplicaStats* stats) const {
  stats->snapshot_index = compaction_.durable();
  stats->compactions = compaction_.compactions();
}

}  // namespace kv739::server
