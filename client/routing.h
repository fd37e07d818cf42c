// Where an operation goes: slot -> group -> the member that is believed to
// lead it. Pure: no I/O, no clock, no threads; owned by the engine.
//
// Belief about a group's leader comes from answers: a member that answered is
// kept, one that names another is followed, one that failed is left for the
// next member in turn. Nothing else is asked.
#ifndef KV739_CLIENT_ROUTING_H_
#define KV739_CLIENT_ROUTING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "client/operation.h"
#include "kv/cluster_map.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::client {

// Addresses that are remembered at most; names beyond are ignored, so that a
// server that answers nonsense cannot fill the memory.
inline constexpr size_t kMaxAddresses = 4096;

// Who may know the newest map: the servers of `map`, then those of the cluster
// file that it does not name; not those that have left.
std::vector<std::string> MapSources(const kv::ClusterMap& map,
                                    const kv::ClusterMap& file_map);

class Router {
 public:
  // Begins with the map that a new cluster of the file would have. `seed`:
  // which member of a group is asked first.
  Router(kv::ClusterMap file_map, uint64_t seed);

  // Takes the map when it is newer than the one here and is of the same
  // cluster; says whether it was. Which cluster that is, the first map tells
  // that has the id of the file, or that names more than half of the file's
  // servers: the file may have been edited since the cluster began, and its
  // id would be another one then.
  bool Update(kv::ClusterMap map);
  uint64_t epoch() const { return map_.epoch; }
  const kv::ClusterMap& map() const { return map_; }

  raft::GroupId GroupOf(kv::Slot slot) const { return map_.OwnerOf(slot); }
  // The member of `group` to ask now; nothing when the map has no such group.
  std::optional<NodeIndex> Target(raft::GroupId group);
  // How many members it has; 0: no such group.
  size_t MemberCount(raft::GroupId group) const;

  // Consequences of what happened at `node`. All of them change the belief
  // only when it was about `node`: of many operations that fail there, the
  // first one moves the group on.
  // It says `leader` leads; false when that is no usable address or `node`
  // itself, and the next member is believed in.
  bool NotLeader(raft::GroupId group, NodeIndex node, absl::string_view leader);
  // It did not answer or cannot serve: the next member is believed in.
  void Failed(raft::GroupId group, NodeIndex node);
  // It answered as the leader.
  void Succeeded(raft::GroupId group, NodeIndex node);

  const std::string& AddressOf(NodeIndex node) const {
    return addresses_[node];
  }
  size_t node_count() const { return addresses_.size(); }
  // Some node to ask for the map: all of MapSources() in turn.
  NodeIndex NextForMap();

 private:
  struct GroupState {
    std::vector<NodeIndex> members;
    NodeIndex believed = 0;
    size_t turn = 0;  // in `members`, of the last one chosen by turn
  };

  std::optional<NodeIndex> Intern(absl::string_view address);
  void TakeMap();
  bool IsOurs(const kv::ClusterMap& map) const;
  void NextMember(GroupState* group, NodeIndex failed);

  const kv::ClusterMap file_map_;
  kv::ClusterMap map_;
  bool learned_ = false;  // map_ or its like came from a server
  std::vector<NodeIndex> sources_;
  const uint64_t seed_;
  size_t map_turn_ = 0;
  std::vector<std::string> addresses_;
  absl::flat_hash_map<std::string, NodeIndex> index_;
  absl::flat_hash_map<raft::GroupId, GroupState> groups_;
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_ROUTING_H_
