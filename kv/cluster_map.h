// The cluster map: who the nodes are, which groups they form, and which group
// owns each slot. A value, passed by copy or shared_ptr<const ClusterMap>.
#ifndef KV739_KV_CLUSTER_MAP_H_
#define KV739_KV_CLUSTER_MAP_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "kv/cluster_file.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

// The numbers are on disk and on the wire.
enum class NodeState : uint8_t {
  kActive = 0,
  kLeaving = 1,  // takes no new place; its places are being filled by others
  // In no target, and never again: kept so that it can be told. One that lost
  // its disk may be among `members` until its group has settled.
  kLeft = 2,
};

struct NodeInfo {
  raft::NodeId id;
  Address address;
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
  NodeState state = NodeState::kActive;
  bool operator==(const NodeInfo&) const = default;
};

struct GroupInfo {
  raft::GroupId id;
  // Voters, sorted, as the group's leader last reported them.
  std::vector<raft::NodeId> members;
  // The voters that the group is to have, sorted; as `members` when nothing is
  // to change.
  std::vector<raft::NodeId> target;
  // Of the group's log, where its leader found `members`; 0: never reported.
  raft::Index settled;
  // The change is the replacement of a node that is away: taken back when it
  // returns in time.
  bool automatic = false;
  // Nodes that were in the target, are in neither list now, and may be in a
  // configuration that the group's log has or is getting; sorted. The group
  // needs them until its leader says otherwise (GroupSettled::released).
  std::vector<raft::NodeId> withdrawn;
  // The epoch in which the last of these was withdrawn; 0: none.
  uint64_t withdrawn_at = 0;
  bool changing() const { return members != target || !withdrawn.empty(); }
  // In any of the lists.
  bool Concerns(raft::NodeId node) const;
  bool operator==(const GroupInfo&) const = default;
};

// A node that may get a place in a group.
struct Candidate {
  raft::NodeId id;
  size_t places = 0;  // groups that have it or are to have it
  bool operator==(const Candidate&) const = default;
};

struct ClusterMap {
  uint64_t cluster_id = 0;
  uint64_t epoch = 0;
  // Groups that every five of the cluster file got, 1..kMaxGroupsPerFive; for
  // ever the number of groups that a node may have places in.
  uint32_t groups_per_five = 1;
  // As in the cluster file, then as they came; one that leaves goes to the
  // end.
  std::vector<NodeInfo> nodes;
  std::vector<GroupInfo> groups;     // by id; group 0 carries the directory too
  std::vector<raft::GroupId> slots;  // kSlotCount owners

  bool operator==(const ClusterMap&) const = default;

  const NodeInfo* FindNode(raft::NodeId id) const;
  // The one that has the address now: a node that has left gives it up.
  const NodeInfo* FindNode(const Address& address) const;
  const GroupInfo* FindGroup(raft::GroupId id) const;
  raft::GroupId OwnerOf(Slot slot) const { return slots[slot]; }
  // Active nodes that no group has or is to have.
  std::vector<raft::NodeId> Spares() const;
  // Active nodes with fewer places than a node may have; in the order of
  // `nodes`. With one group for every five these are the spares.
  std::vector<Candidate> Candidates() const;
  // Of every node that has any: groups that have it or are to have it.
  absl::flat_hash_map<raft::NodeId, size_t> Places() const;
};

// The map that a cluster starts with, epoch 1: with N groups per five,
// consecutive fives of the file form groups 0 to N-1, N to 2N-1, ...; three or
// four servers in all form groups of three; what is left over is spare. Node
// ids are hashes of the addresses, the cluster id one of all addresses and of N
// unless it is 1, so that all servers and clients of one file agree on them.
ClusterMap InitialClusterMap(const ClusterFile& file);

}  // namespace kv739::kv

#endif  // KV739_KV_CLUSTER_MAP_H_
