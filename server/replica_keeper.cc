// A leader's part in the membership of its group: asks the keeper, and does
// what it says.
#include <utility>
#include <variant>

#include "kv/directory.h"
#include "server/logging.h"
#include "server/replica.h"

namespace kv739::server {

void Replica::Keep(const kv::ClusterMap& map,
                   absl::Span<const SpareNode> spares, uint64_t now_ticks,
                   DirectoryClient* directory) {
  if (group_ == kv::kDirectoryGroup && machine_->directory() == nullptr) {
    // A new cluster: what the servers' files agree on becomes the directory.
    directory->Send(kv::Bootstrap{map});
    return;
  }
  const kv::GroupInfo* group = map.FindGroup(group_);
  if (group == nullptr) return;
  const raft::CoreStatus core = core_->Status();
  const KeeperState before = keeper_.status().state;
  KeeperAction action = keeper_.Decide(
      {options_.self, core, *group, spares, now_ticks, map.groups});
  const KeeperStatus& status = keeper_.status();
  if (status.state != before) {
    LogInfo("group ", group_.value(), ": members: ", status.Describe());
  }
  if (auto* configuration = std::get_if<raft::Configuration>(&action)) {
    auto position = core_->ProposeConfiguration(std::move(*configuration));
    if (position.ok()) {
      LogInfo("group ", group_.value(),
              ": a change of members begins at entry ",
              position->index.value());
    }
  } else if (auto* change = std::get_if<kv::DirectoryChange>(&action)) {
    directory->Send(*change);
  }
}

// Behind by more than this would hold back writes for too long.
constexpr uint64_t kAbleLag = 4096;

LeaderBalance::Group Replica::BalanceView() const {
  const raft::CoreStatus core = core_->Status();
  LeaderBalance::Group view;
  view.id = group_;
  view.term = core.soft.term;
  view.leader = core.soft.leader;
  view.voters = core.configuration.voters;
  const KeeperState members = keeper_.status().state;
  const bool calm =
      core_->IsLeader() && !core.transferring && !core.changing && core.fit &&
      !transfer_done_ &&
      (members == KeeperState::kSettled || members == KeeperState::kNoSpare);
  if (!calm) return view;
  for (const raft::PeerProgress& peer : core.peers) {
    if (!peer.learner && peer.recently_active && !peer.needs_snapshot &&
        peer.match + kAbleLag >= core.last_index) {
      view.able.push_back(peer.id);
    }
  }
  return view;
}

}  // namespace kv739::server
