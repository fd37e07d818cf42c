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

}  // namespace kv739::server
