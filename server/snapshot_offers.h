// A leader's snapshots for its followers: which it has offered to whom. An
// offer is repeated until the follower has it, and withdrawn when the follower
// does not fetch, so that the core asks again, with a newer one.
//
// Owned by the replica, with the loop.
#ifndef KV739_SERVER_SNAPSHOT_OFFERS_H_
#define KV739_SERVER_SNAPSHOT_OFFERS_H_

#include <cstdint>
#include <map>
#include <memory>

#include "absl/status/statusor.h"
#include "raft/core.h"
#include "raft/types.h"
#include "server/snapshot_context.h"
#include "server/snapshot_store.h"

namespace kv739::server {

// An offer that nobody has fetched anything of for so long is withdrawn.
inline constexpr uint64_t kUnfetchedNanos = 30'000'000'000;
inline constexpr uint64_t kRepeatOfferNanos = 1'000'000'000;
// The leader's log is kept for a snapshot as long as its chunks flow, which is
// when the last one is younger than this.
inline constexpr uint64_t kFlowingNanos = 10'000'000'000;

class SnapshotOffers {
 public:
  SnapshotOffers(const SnapshotContext* context, raft::GroupId group)
      : context_(context), group_(group) {}

  // Ready::needs_snapshot.
  void Need(raft::NodeId peer, const raft::Core& core);
  // At every tick.
  void Tick(uint64_t now, raft::Core* core, Turn& turn);
  // Not the leader any more, or in another term.
  void Clear() { offers_.clear(); }
  bool empty() const { return offers_.empty(); }

  // The log behind this index is of use to somebody who receives; or 0.
  raft::Index Held(uint64_t now) const;

 private:
  struct Offer {
    uint64_t id = 0;
    std::shared_ptr<OutgoingSnapshot> snapshot;  // null while it is made
    absl::Status failed;                         // or could not be
    uint64_t repeat_at = 0;
  };
  void Announce(raft::NodeId peer, Offer* offer, uint64_t now,
                const raft::Core& core, Turn& turn) const;

  const SnapshotContext* const context_;
  const raft::GroupId group_;
  std::map<raft::NodeId, Offer> offers_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_OFFERS_H_
