#include "client/routing.h"

#include <algorithm>
#include <utility>

namespace kv739::client {

std::vector<std::string> MapSources(const kv::ClusterMap& map,
                                    const kv::ClusterMap& file_map) {
  std::vector<std::string> sources;
  for (const kv::NodeInfo& node : map.nodes) {
    if (node.state != kv::NodeState::kLeft) {
      sources.push_back(node.address.ToString());
    }
  }
  for (const kv::NodeInfo& node : file_map.nodes) {
    if (map.FindNode(node.address) == nullptr) {
      sources.push_back(node.address.ToString());
    }
  }
  return sources;
}

Router::Router(kv::ClusterMap file_map, uint64_t seed)
    : file_map_(std::move(file_map)), map_(file_map_), seed_(seed) {
  map_turn_ = seed_;
  TakeMap();
}

bool Router::IsOurs(const kv::ClusterMap& map) const {
  if (map.cluster_id == map_.cluster_id) return true;
  if (learned_) return false;
  const auto named = std::count_if(
      file_map_.nodes.begin(), file_map_.nodes.end(),
      [&](const kv::NodeInfo& node) {
        const kv::NodeInfo* there = map.FindNode(node.address);
        return there != nullptr && there->state != kv::NodeState::kLeft;
      });
  return static_cast<size_t>(named) * 2 > file_map_.nodes.size();
}

bool Router::Update(kv::ClusterMap map) {
  if (!IsOurs(map)) return false;
  learned_ = true;
  if (map.cluster_id == map_.cluster_id && map.epoch <= map_.epoch) {
    return false;
  }
  map_ = std::move(map);
  TakeMap();
  return true;
}

void Router::TakeMap() {
  absl::flat_hash_map<raft::GroupId, GroupState> groups;
  for (const kv::GroupInfo& info : map_.groups) {
    GroupState state;
    for (raft::NodeId id : info.members) {
      const kv::NodeInfo* node = map_.FindNode(id);
      if (node == nullptr) continue;
      if (auto index = Intern(node->address.ToString())) {
        state.members.push_back(*index);
      }
    }
    if (state.members.empty()) continue;
    state.turn = seed_ % state.members.size();
    state.believed = state.members[state.turn];
    // A leader that is still a member is still the best guess.
    auto old = groups_.find(info.id);
    if (old != groups_.end()) {
      auto same = std::find(state.members.begin(), state.members.end(),
                            old->second.believed);
      if (same != state.members.end()) {
        state.turn = same - state.members.begin();
        state.believed = *same;
      }
    }
    groups.emplace(info.id, std::move(state));
  }
  groups_ = std::move(groups);
  sources_.clear();
  for (const std::string& address : MapSources(map_, file_map_)) {
    if (auto index = Intern(address)) sources_.push_back(*index);
  }
}

std::optional<NodeIndex> Router::Intern(absl::string_view address) {
  auto known = index_.find(address);
  if (known != index_.end()) return known->second;
  if (addresses_.size() >= kMaxAddresses) return std::nullopt;
  const NodeIndex index = static_cast<NodeIndex>(addresses_.size());
  addresses_.emplace_back(address);
  index_.emplace(std::string(address), index);
  return index;
}

std::optional<NodeIndex> Router::Target(raft::GroupId group) {
  auto it = groups_.find(group);
  if (it == groups_.end()) return std::nullopt;
  return it->second.believed;
}

size_t Router::MemberCount(raft::GroupId group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? 0 : it->second.members.size();
}

bool Router::NotLeader(raft::GroupId group, NodeIndex node,
                       absl::string_view leader) {
  auto it = groups_.find(group);
  if (it == groups_.end()) return false;
  std::optional<NodeIndex> named;
  if (!leader.empty() && leader != addresses_[node]) {
    auto address = kv::Address::Parse(leader);
    if (address.ok()) named = Intern(address->ToString());
  }
  if (!named || *named == node) {
    NextMember(&it->second, node);
    return false;
  }
  if (it->second.believed == node) it->second.believed = *named;
  return true;
}

void Router::Failed(raft::GroupId group, NodeIndex node) {
  auto it = groups_.find(group);
  if (it != groups_.end()) NextMember(&it->second, node);
}

void Router::Succeeded(raft::GroupId group, NodeIndex node) {
  auto it = groups_.find(group);
  if (it != groups_.end()) it->second.believed = node;
}

void Router::NextMember(GroupState* group, NodeIndex failed) {
  if (group->believed != failed) return;
  group->turn = (group->turn + 1) % group->members.size();
  // The turn may stand where the failed one was reached by a hint.
  if (group->members[group->turn] == failed) {
    group->turn = (group->turn + 1) % group->members.size();
  }
  group->believed = group->members[group->turn];
}

NodeIndex Router::NextForMap() {
  if (sources_.empty()) return 0;
  return sources_[map_turn_++ % sources_.size()];
}

}  // namespace kv739::client
