// What operators ask of the members of groups, as changes of the directory:
// made by the leader of group 0, which knows who is there, and refused where
// the directory could not know better (kv/directory.h has the other rules).
#ifndef KV739_SERVER_MEMBER_CHANGES_H_
#define KV739_SERVER_MEMBER_CHANGES_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/cluster_map.h"
#include "kv/directory.h"
#include "raft/types.h"
#include "server/directory_client.h"
#include "server/request_handler.h"

namespace kv739::server {

// The node is there: this one, or one with a stream to this one.
using IsThere = std::function<bool(raft::NodeId)>;

// Takes the server out of its groups. In each, a node that is there and may
// have another place takes it, or the group shrinks: one that has just got a
// place by this, so that sibling groups stay on the same nodes, then the one
// with the fewest places, then the first in the map. NOT_FOUND for an unknown
// server; FAILED_PRECONDITION, naming the group and why, when that would have
// fewer than three voters or no majority that is there, before or after.
absl::StatusOr<kv::RemoveNode> PlanRemoval(const kv::ClusterMap& map,
                                           absl::string_view server,
                                           const IsThere& is_there);
// `expected` empty: whatever the target is now. Errors as above.
absl::StatusOr<kv::SetTarget> PlanMembers(
    const kv::ClusterMap& map, raft::GroupId group,
    const std::vector<std::string>& servers,
    const std::vector<std::string>& expected, const IsThere& is_there);

// What it takes to change the directory from a node.
struct DirectoryParts {
  IsThere is_there;
  std::function<void(const kv::DirectoryChange&, DirectoryDone)> propose;
};
using MemberPlan = absl::AnyInvocable<absl::StatusOr<kv::DirectoryChange>(
    const kv::ClusterMap&)>;

// Makes the plan and proposes it if this node leads the directory; otherwise
// UNAVAILABLE with the `leader` to ask, or one who should know. Any thread;
// `done` is called once, on some thread.
void ChangeMembers(RequestHandler* handler, const DirectoryParts& parts,
                   MemberPlan plan, DirectoryDone done);

}  // namespace kv739::server

#endif  // KV739_SERVER_MEMBER_CHANGES_H_
