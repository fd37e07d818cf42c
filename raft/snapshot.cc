// Snapshots and the log that they replace: Raft paper section 7. The core deals
// with positions and configurations alone; the data is the owner's.
#include <utility>

#include "raft/check.h"
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {

// ---- follower ----

void Core::Impl::OnInstallSnapshot(NodeId from, const InstallSnapshot& m) {
  const LogPosition position = m.meta.position;
  if (!position.index || position.index.value() >= kNumberLimit ||
      !position.term || position.term > m.term ||
      !m.meta.configuration.Validate().ok()) {
    return Drop();
  }
  if (m.term < term_) {
    Send(from, AppendEntriesResponse{term_, false, position.index, {}});
    return;
  }
  if (!AcceptLeader(from, m.term)) return;
  // A snapshot holds what is committed. With its last entry we have all of it
  // (Log Matching).
  if (position.index > log_.committed() && log_.Matches(position)) {
    log_.CommitTo(position.index);
  }
  if (position.index <= log_.committed()) {
    if (KV739_PLANTED(S8_snapshot_offered_for_ever)) return;
    // Not needed (any more): let the leader go on behind what we have.
    return Acknowledge(from, log_.committed());
  }
  ready_.wants_snapshot = m.meta;
}

void Core::Impl::SnapshotInstalled(const SnapshotMeta& meta) {
  const LogPosition position = meta.position;
  if (position.index <= log_.applied()) return;
  KV739_RAFT_CHECK(position.term && position.term <= term_ &&
                       meta.configuration.Validate().ok(),
                   "installed snapshots are those that were asked for");
  const bool kept = log_.Install(position);
  if (!kept) {
    // A leader has everything that is committed, and who lacks some of it
    // cannot win.
    KV739_RAFT_CHECK(!is_leader(), "leader completeness");
    if (std::holds_alternative<Candidate>(role_)) {
      BecomeFollower(term_, NodeId());
    }
  }
  // The snapshot's configuration, and what the rest of the log says after it.
  std::vector<ConfigurationAt> configurations = {
      {position.index, meta.configuration}};
  for (ConfigurationAt& later : configurations_) {
    if ((kept || KV739_PLANTED(S2_configuration_of_the_old_log_kept)) &&
        later.index > position.index) {
      configurations.push_back(std::move(later));
    }
  }
  configurations_ = std::move(configurations);
  OnConfigurationChanged();
  if (auto* leader = std::get_if<Leader>(&role_)) {
    leader->uncommitted.CommittedTo(log_.committed());
  }
  ready_.persist.snapshot = position;
  if (leader() && !is_leader()) Acknowledge(leader(), position.index);
}

void Core::Impl::Compact(Index index) {
  log_.Compact(index);
  // Keep the one in force at the start of the log, and what follows it.
  size_t gone = 0;
  while (gone + 1 < configurations_.size() &&
         configurations_[gone + 1].index <= index) {
    ++gone;
  }
  configurations_.erase(configurations_.begin(),
                        configurations_.begin() + static_cast<ptrdiff_t>(gone));
}

// ---- leader ----

void Core::Impl::AskForSnapshot(Progress* peer) {
  // Who is down gets one when it is back.
  if (now_ - peer->last_heard() >= options_.election_timeout_ticks) {
    return peer->Pause();
  }
  // A replica that joined by the log alone does not know what the group was
  // before the first change of members in it. Nobody could use a snapshot from
  // there; another leader has a better one.
  if (configurations_.front().configuration.voters.empty()) {
    return peer->Pause();
  }
  if (peer->BecomeSnapshot()) ready_.needs_snapshot.push_back(peer->id());
}

void Core::Impl::SnapshotSent(NodeId id, Index index) {
  auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return;
  if (Progress* peer = leader->Find(id)) peer->SnapshotDone(index);
}

}  // namespace kv739::raft
