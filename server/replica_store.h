// Finds a node's replicas on its disk: state machines in the store, logs in
// the write-ahead log, and what both together say of where to go on.
#ifndef KV739_SERVER_REPLICA_STORE_H_
#define KV739_SERVER_REPLICA_STORE_H_

#include <vector>

#include "absl/status/statusor.h"
#include "kv/cluster_map.h"
#include "kv/engine.h"
#include "raft/types.h"
#include "server/host.h"
#include "server/wal/wal.h"

namespace kv739::server {

// Makes the replicas that `map` gives to `self`, empty and durable. Only for
// a data directory whose replicas were never made; making them again after a
// crash in between is harmless.
absl::Status CreateReplicas(kv::Engine* engine, wal::Wal* wal,
                            const kv::ClusterMap& map, raft::NodeId self);

// All replicas in the store, each with the part of its log that the state
// machine has not applied durably; and a vacant one for each group of which
// there is a hard state in the log and nothing else. Where a crash left a state
// machine ahead of its log, the log is brought behind it. DATA_LOSS when log
// and state do not meet.
//
// State of a group without a log is on its way out (the log goes first), or a
// first snapshot whose log never began. In neither case may it serve: what the
// group's log once promised to others may be in no state that a crash left. It
// is removed, and the replica is vacant. `install_dir` as of
// Engine::NewIngestion.
absl::StatusOr<std::vector<HostedReplica>> LoadReplicas(
    kv::Engine* engine, wal::Wal* wal, const std::string& install_dir);

}  // namespace kv739::server

#endif  // KV739_SERVER_REPLICA_STORE_H_
