#include "server/snapshot_offers.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "raft/planted.h"
#include "server/logging.h"
#include "server/replica.h"
#include "server/snapshot_replica.h"

namespace kv739::server {
namespace {

uint64_t NewId() {
  static std::atomic<uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

}  // namespace

void SnapshotOffers::Need(raft::NodeId peer, const raft::Core& core) {
  Offer& offer = offers_[peer];
  offer = Offer();
  offer.id = NewId();
  // Behind it our log goes on without a gap.
  const raft::Index at_least =
      KV739_PLANTED(M6_snapshot_from_before_it_joined)
          ? core.log_start().index
          : std::max(core.log_start().index, core.MemberSince(peer));
  context_->background->Run(
      [context = *context_, group = group_, peer, id = offer.id, at_least] {
        if (!context.gate->Enter()) return;
        auto made = context.store->Prepare(group, peer, at_least);
        context.post(group, [peer, id, made](Replica& replica, Turn&) {
          auto& offers = replica.snapshots().offers().offers_;
          const auto it = offers.find(peer);
          if (it == offers.end() || it->second.id != id) return;
          if (made.ok()) {
            it->second.snapshot = *made;
          } else {
            it->second.failed = made.status();
          }
        });
        context.gate->Leave();
      });
}

void SnapshotOffers::Announce(raft::NodeId peer, Offer* offer, uint64_t now,
                              const raft::Core& core, Turn& turn) const {
  if (now < offer->repeat_at) return;
  offer->repeat_at = now + kRepeatOfferNanos;
  turn.outbox[peer].push_back(GroupMessage{
      group_, raft::InstallSnapshot{core.term(), offer->snapshot->info.meta}});
}

void SnapshotOffers::Tick(uint64_t now, raft::Core* core, Turn& turn) {
  if (offers_.empty()) return;
  const raft::CoreStatus status = core->Status();
  for (auto it = offers_.begin(); it != offers_.end();) {
    auto& [id, offer] = *it;
    const raft::NodeId node = id;
    const auto peer = std::find_if(status.peers.begin(), status.peers.end(),
                                   [&](const auto& p) { return p.id == node; });
    if (peer == status.peers.end()) {  // no member any more
      it = offers_.erase(it);
      continue;
    }
    if (!offer.failed.ok()) {
      LogWarn("group ", group_.value(), ": no snapshot for node ",
              absl::Hex(node.value()), ": ", offer.failed.ToString());
      core->SnapshotSent(node, raft::Index());
      it = offers_.erase(it);
      continue;
    }
    if (offer.snapshot == nullptr) {
      ++it;
      continue;
    }
    const raft::LogPosition position = offer.snapshot->info.meta.position;
    if (!peer->needs_snapshot || peer->match >= position.index) {
      core->SnapshotSent(node, std::min(peer->match, position.index));
      it = offers_.erase(it);
      continue;
    }
    // By another thread's clock it may be a little ahead of us.
    const uint64_t active = offer.snapshot->active_nanos.load();
    const bool silent = now > active && now - active >= kUnfetchedNanos;
    if (silent || !context_->store->Keeps(group_, position)) {
      LogInfo("group ", group_.value(), ": node ", absl::Hex(node.value()),
              " does not fetch the snapshot at ", position.index.value());
      core->SnapshotSent(node, raft::Index());
      it = offers_.erase(it);
      continue;
    }
    Announce(node, &offer, now, *core, turn);
    ++it;
  }
}

raft::Index SnapshotOffers::Held(uint64_t now) const {
  raft::Index held;
  for (const auto& [peer, offer] : offers_) {
    if (offer.snapshot == nullptr) continue;
    const uint64_t active = offer.snapshot->active_nanos.load();
    const bool complete = offer.snapshot->complete.load();
    // Once all has been read the peer puts it in place.
    const uint64_t patience = complete ? kUnfetchedNanos : kFlowingNanos;
    if (now > active && now - active >= patience) continue;
    const raft::Index index = offer.snapshot->info.meta.position.index;
    held = held ? std::min(held, index) : index;
  }
  return held;
}

}  // namespace kv739::server
