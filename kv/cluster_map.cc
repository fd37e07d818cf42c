#include "kv/cluster_map.h"

#include <xxhash.h>

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "kv/ring.h"

namespace kv739::kv {
namespace {

// Never 0 and never one of `taken`: the next seed is tried until it is so.
uint64_t HashName(absl::string_view name,
                  const absl::flat_hash_set<raft::NodeId>& taken) {
  for (uint64_t seed = 0;; ++seed) {
    const uint64_t hash = XXH3_64bits_withSeed(name.data(), name.size(), seed);
    if (hash != 0 && !taken.contains(raft::NodeId(hash))) return hash;
  }
}

}  // namespace

const NodeInfo* ClusterMap::FindNode(raft::NodeId id) const {
  for (const NodeInfo& node : nodes) {
    if (node.id == id) return &node;
  }
  return nullptr;
}

const NodeInfo* ClusterMap::FindNode(const Address& address) const {
  const NodeInfo* left = nullptr;
  for (const NodeInfo& node : nodes) {
    if (!(node.address == address)) continue;
    if (node.state != NodeState::kLeft) return &node;
    left = &node;
  }
  return left;
}

bool GroupInfo::Concerns(raft::NodeId node) const {
  return std::binary_search(members.begin(), members.end(), node) ||
         std::binary_search(target.begin(), target.end(), node) ||
         std::binary_search(withdrawn.begin(), withdrawn.end(), node);
}

const GroupInfo* ClusterMap::FindGroup(raft::GroupId id) const {
  const auto it = std::lower_bound(
      groups.begin(), groups.end(), id,
      [](const GroupInfo& group, raft::GroupId g) { return group.id < g; });
  return it != groups.end() && it->id == id ? &*it : nullptr;
}

absl::flat_hash_map<raft::NodeId, size_t> ClusterMap::Places() const {
  absl::flat_hash_map<raft::NodeId, size_t> places;
  for (const GroupInfo& group : groups) {
    for (raft::NodeId id : group.members) ++places[id];
    if (!group.changing()) continue;
    for (raft::NodeId id : group.withdrawn) ++places[id];
    for (raft::NodeId id : group.target) {
      if (!std::binary_search(group.members.begin(), group.members.end(), id)) {
        ++places[id];
      }
    }
  }
  return places;
}

std::vector<Candidate> ClusterMap::Candidates() const {
  const absl::flat_hash_map<raft::NodeId, size_t> places = Places();
  std::vector<Candidate> candidates;
  for (const NodeInfo& node : nodes) {
    if (node.state != NodeState::kActive) continue;
    const auto it = places.find(node.id);
    const size_t taken = it == places.end() ? 0 : it->second;
    if (taken < groups_per_five) candidates.push_back({node.id, taken});
  }
  return candidates;
}

std::vector<raft::NodeId> ClusterMap::Spares() const {
  std::vector<raft::NodeId> spares;
  for (const Candidate& candidate : Candidates()) {
    if (candidate.places == 0) spares.push_back(candidate.id);
  }
  return spares;
}

ClusterMap InitialClusterMap(const ClusterFile& file) {
  ClusterMap map;
  map.epoch = 1;
  map.groups_per_five = file.groups_per_five;
  std::string all;
  absl::flat_hash_set<raft::NodeId> taken;
  for (const ServerLine& server : file.servers) {
    const std::string name = server.address.ToString();
    absl::StrAppend(&all, name, "\n");
    const raft::NodeId id(HashName(name, taken));
    taken.insert(id);
    map.nodes.push_back({id, server.address, server.metrics_port,
                         server.http_port, NodeState::kActive});
  }
  // No address has this form, and clusters of one group per five keep the ids
  // that they have always had.
  if (map.groups_per_five > 1) {
    absl::StrAppend(&all, "groups_per_five=", map.groups_per_five, "\n");
  }
  map.cluster_id = HashName(all, {});

  const size_t count = map.nodes.size();
  const size_t size = count < kFive ? kFew : kFive;
  std::vector<raft::GroupId> ids;
  for (size_t first = 0; first + size <= count; first += size) {
    GroupInfo group;
    for (size_t i = first; i < first + size; ++i) {
      group.members.push_back(map.nodes[i].id);
    }
    std::sort(group.members.begin(), group.members.end());
    group.target = group.members;
    for (uint32_t n = 0; n < map.groups_per_five; ++n) {
      group.id = raft::GroupId(ids.size());
      ids.push_back(group.id);
      map.groups.push_back(group);
    }
  }
  map.slots = AssignSlots(std::move(ids));
  return map;
}

}  // namespace kv739::kv
