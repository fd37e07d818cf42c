// The cluster map: who the nodes are, which groups they form, and which group
// owns each slot. A value, passed by copy or shared_ptr<const ClusterMap>.
#ifndef KV739_KV_CLUSTER_MAP_H_
#define KV739_KV_CLUSTER_MAP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kv/cluster_file.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

struct NodeInfo {
  raft::NodeId id;
  Address address;
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
};

struct GroupInfo {
  raft::GroupId id;
  std::vector<raft::NodeId> members;  // voters, sorted
};

struct ClusterMap {
  uint64_t cluster_id = 0;
  uint64_t epoch = 0;
  std::vector<NodeInfo> nodes;       // in the cluster file's order
  std::vector<GroupInfo> groups;     // by id; group 0 carries the directory too
  std::vector<raft::GroupId> slots;  // kSlotCount owners

  const NodeInfo* FindNode(raft::NodeId id) const;
  const NodeInfo* FindNode(const Address& address) const;
  const GroupInfo* FindGroup(raft::GroupId id) const;
  raft::GroupId OwnerOf(Slot slot) const { return slots[slot]; }
  // Nodes in no group.
  std::vector<raft::NodeId> Spares() const;
};

// The map that a cluster starts with, epoch 1: consecutive fives of the file
// form groups 0, 1, ...; three or four servers in all form one group of
// three; what is left over is spare. Cluster id and node ids are hashes of
// the addresses, so that all servers and clients of one file agree on them.
ClusterMap InitialClusterMap(const ClusterFile& file);

}  // namespace kv739::kv

#endif  // KV739_KV_CLUSTER_MAP_H_
