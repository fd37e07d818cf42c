// What the snapshots of one replica need of the host around it.
#ifndef KV739_SERVER_SNAPSHOT_CONTEXT_H_
#define KV739_SERVER_SNAPSHOT_CONTEXT_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "kv/engine.h"
#include "raft/types.h"
#include "server/background.h"
#include "server/gate.h"
#include "server/snapshot_exchange.h"
#include "server/wal/wal_thread.h"

namespace kv739::server {

class Flusher;
class Replica;
class SnapshotStore;
struct SnapshotOptions;
struct Turn;

// Runs with the loop owned.
using ReplicaCall = absl::AnyInvocable<void(Replica&, Turn&)>;

// Of one loop; outlives its replicas. All that it points to lives as long.
struct SnapshotContext {
  const SnapshotOptions* options = nullptr;
  kv::Engine* engine = nullptr;
  wal::LogWriter* log = nullptr;
  Background* background = nullptr;
  Flusher* flusher = nullptr;
  SnapshotStore* store = nullptr;
  SnapshotFetcher* fetcher = nullptr;  // null: nothing is ever received
  std::string install_dir;
  // Closed when the host stops. What runs in the background is inside.
  std::shared_ptr<Gate> gate;
  // Any thread, also of somebody who outlives the host: calls with the
  // group's replica, or not at all when it is gone or the host has stopped.
  std::function<void(raft::GroupId, ReplicaCall)> post;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_CONTEXT_H_
