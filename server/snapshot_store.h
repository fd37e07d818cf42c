// The snapshots that a node sends: views of its groups, kept while streams read
// them and for a while after, so that a stream that broke finds its own again.
//
// A view keeps alive in the store what has been overwritten since, so their
// number is bounded: one that nobody reads makes room for a new one, and when
// all are read, whoever wants one comes again later.
//
// Threads: any; blocks for the disk, but in the methods for loops. Cursors may
// outlive it, the engine must outlive them.
#ifndef KV739_SERVER_SNAPSHOT_STORE_H_
#define KV739_SERVER_SNAPSHOT_STORE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kv/engine.h"
#include "raft/types.h"
#include "server/clock.h"
#include "server/snapshot_exchange.h"
#include "server/stats.h"

namespace kv739::server {

inline constexpr size_t kMaxKeptSnapshots = 8;  // of a node
inline constexpr uint64_t kKeptIdleNanos = 60'000'000'000;

// One snapshot for one peer, over all its streams.
struct OutgoingSnapshot {
  raft::GroupId group;
  raft::NodeId peer;
  SnapshotInfo info;
  uint64_t begin_nanos = 0;
  std::atomic<uint64_t> active_nanos{0};  // when something last moved
  std::atomic<uint64_t> bytes{0};
  std::atomic<uint64_t> keys{0};
  std::atomic<int> streams{0};
  std::atomic<bool> complete{false};  // all chunks have been read
};

class SnapshotStore : public SnapshotProvider {
 public:
  // All outlive it.
  SnapshotStore(kv::Engine* engine, Clock* clock);
  ~SnapshotStore() override;

  // A snapshot for this peer at or beyond `at_least`: one that is kept, or a
  // new one. RESOURCE_EXHAUSTED when there are too many.
  absl::StatusOr<std::shared_ptr<OutgoingSnapshot>> Prepare(
      raft::GroupId group, raft::NodeId peer, raft::Index at_least);

  absl::StatusOr<std::unique_ptr<SnapshotCursor>> OpenSnapshot(
      raft::NodeId to, const SnapshotRequest& request) override;

  // ---- for loops: these do not block ----

  // Whether this replica is whole, and may be copied. At first none is.
  void SetServing(raft::GroupId group, bool serving);
  bool Keeps(raft::GroupId group, raft::LogPosition position) const;
  // Lets go of what nobody has read for kKeptIdleNanos.
  void Expire();
  // Adds what is being sent of the group, and what has been.
  void AddStats(raft::GroupId group, ReplicaStats* stats) const;

 private:
  class Impl;
  class Cursor;
  const std::shared_ptr<Impl> impl_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_STORE_H_
