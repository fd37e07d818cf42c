#include "kv/cluster_map.h"

#include <xxhash.h>

#include <algorithm>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "kv/ring.h"

namespace kv739::kv {
namespace {

constexpr size_t kGroupSize = 5;
constexpr size_t kSmallGroupSize = 3;

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
         std::binary_search(target.begin(), target.end(), node);
}

const GroupInfo* ClusterMap::FindGroup(raft::GroupId id) const {
  const auto it = std::lower_bound(
      groups.begin(), groups.end(), id,
      [](const GroupInfo& group, raft::GroupId g) { return group.id < g; });
  return it != groups.end() && it->id == id ? &*it : nullptr;
}

std::vector<raft::NodeId> ClusterMap::Spares() const {
  absl::flat_hash_set<raft::NodeId> busy;
  for (const GroupInfo& group : groups) {
    busy.insert(group.members.begin(), group.members.end());
    busy.insert(group.target.begin(), group.target.end());
  }
  std::vector<raft::NodeId> spares;
  for (const NodeInfo& node : nodes) {
    if (node.state == NodeState::kActive && !busy.contains(node.id)) {
      spares.push_back(node.id);
    }
  }
  return spares;
}

ClusterMap InitialClusterMap(const ClusterFile& file) {
  ClusterMap map;
  map.epoch = 1;
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
  map.cluster_id = HashName(all, {});

  const size_t count = map.nodes.size();
  const size_t size = count < kGroupSize ? kSmallGroupSize : kGroupSize;
  std::vector<raft::GroupId> ids;
  for (size_t first = 0; first + size <= count; first += size) {
    GroupInfo group;
    group.id = raft::GroupId(ids.size());
    for (size_t i = first; i < first + size; ++i) {
      group.members.push_back(map.nodes[i].id);
    }
    std::sort(group.members.begin(), group.members.end());
    group.target = group.members;
    ids.push_back(group.id);
    map.groups.push_back(std::move(group));
  }
  map.slots = AssignSlots(std::move(ids));
  return map;
}

}  // namespace kv739::kv
