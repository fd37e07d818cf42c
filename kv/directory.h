// The directory: the cluster map as a replicated value of group 0, and the
// changes that its log carries. Values and pure functions, no threads.
//
// A change of members is asked for by giving a group another `target`. The
// group's own leader takes it there (learners, joint consensus) and reports the
// voters that it has then (GroupSettled); only that changes `members`. So the
// directory says what is wanted, the group's log what is, and a crash of
// anybody leaves a target that the next leader goes on with.
//
// A node has places in at most `groups_per_five` groups: among the members or
// in the target of a group.
//
// Every change that changes something raises the epoch by one. A change that
// asks for what is there already is OK and changes nothing: whoever is in doubt
// sends it again.
//
// A leader may act on an older map than the directory's. A node that was in a
// target may so be in the group's configuration, or get there, before it is
// among the members and after the target has it no more. Such a node is
// withdrawn, not gone: it keeps its place, and serves, until a leader that
// knows of the withdrawal says that the group is without it. That leader has a
// configuration without the node in the log, behind the last report; so every
// later leader with an older map sees that its log knows more than its map, and
// asks before it acts.
#ifndef KV739_KV_DIRECTORY_H_
#define KV739_KV_DIRECTORY_H_

#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/cluster_map.h"
#include "raft/types.h"

namespace kv739::kv {

inline constexpr raft::GroupId kDirectoryGroup{0};
inline constexpr size_t kFullGroup = 5;      // voters a group is filled up to
inline constexpr size_t kSmallestGroup = 3;  // no change leaves fewer
inline constexpr size_t kLargestGroup = 9;   // nor makes more
inline constexpr size_t kMaxNodes = 1024;    // those that left included
// Withdrawn and not let go yet, in all groups together.
inline constexpr size_t kMaxWithdrawn = 1024;
// Nodes that have left and are remembered; the oldest is forgotten first.
inline constexpr size_t kMaxLeftNodes = 64;

// The first change of all: the map that the servers of the cluster file agree
// on. Keeps its epoch. Nothing when there is a directory already.
struct Bootstrap {
  ClusterMap map;
};
// A node with a new id. It gets a place in the smallest group (by target, then
// by id) that has fewer than kFullGroup, and further ones while it may have
// them: first in groups that have the same target as that one had, then again
// in the smallest. With none it is a spare. When another node has its address,
// that one is lost (its disk is): it leaves at once, and the new one takes its
// places in every target before any other. An id that is known with this
// address gets the new ports.
// Refused: an id that has left or has another address; too many nodes.
struct AddNode {
  NodeInfo node;
};
struct GroupTarget {
  raft::GroupId group;
  std::vector<raft::NodeId> expected;  // the target that this was based on
  std::vector<raft::NodeId> target;    // sorted
};
// The node becomes kLeaving and, when no group has it any more, kLeft.
// `targets` takes it out of exactly the groups that have or are to have it.
// Nothing when it is leaving already.
// Refused: an unknown node; other groups than those (ABORTED); targets that
// still name the node or break a rule of SetTarget.
struct RemoveNode {
  raft::NodeId node;
  std::vector<GroupTarget> targets;
};
// Refused: an unknown group; another target than expected (ABORTED); fewer than
// kSmallestGroup or more than kLargestGroup; a node that is unknown, not
// active, or has as many places in other groups as it may have; a node twice;
// more than kMaxWithdrawn nodes withdrawn.
struct SetTarget {
  GroupTarget group;
  bool automatic = false;
};
// The group's leader reports its voters: a committed configuration that is not
// joint, at this index of the group's log. A report that is older than the last
// one is nothing. It is taken as it is: the group's log says what is.
// Refused: an unknown group or node; no members.
struct GroupSettled {
  raft::GroupId group;
  raft::Index index;
  std::vector<raft::NodeId> members;
  // The group's `withdrawn_at` when the log has, behind the last report, a
  // configuration without any that were withdrawn until then, and has none of
  // them now: they are let go, unless more were withdrawn meanwhile. 0: none.
  uint64_t released = 0;
};

using DirectoryChange =
    std::variant<Bootstrap, AddNode, RemoveNode, SetTarget, GroupSettled>;

// Begins with a version byte. Decode is INVALID_ARGUMENT for anything that
// Encode does not make.
std::string EncodeDirectoryChange(const DirectoryChange& change);
absl::StatusOr<DirectoryChange> DecodeDirectoryChange(absl::string_view bytes);

// Everything of the map; also the form of the file and the messages that carry
// it. Ends with a checksum. Decode checks that the map makes sense: ids known,
// lists sorted, every slot owned.
std::string EncodeClusterMap(const ClusterMap& map);
absl::StatusOr<ClusterMap> DecodeClusterMap(absl::string_view bytes);

// OK, or what Decode would say of it.
absl::Status CheckClusterMap(const ClusterMap& map);
absl::Status CheckNode(const NodeInfo& node);

// The map after the change, with the epoch raised when anything differs.
// `before` is null before Bootstrap; until then all else is UNAVAILABLE.
// FAILED_PRECONDITION, ABORTED, NOT_FOUND or INVALID_ARGUMENT with a sentence
// for people when it is refused.
absl::StatusOr<ClusterMap> ApplyDirectoryChange(const ClusterMap* before,
                                                const DirectoryChange& change);

}  // namespace kv739::kv

#endif  // KV739_KV_DIRECTORY_H_
