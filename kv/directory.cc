// The rules of the directory's changes.
#include "kv/directory.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "raft/planted.h"

namespace kv739::kv {
namespace {

using NodeIds = std::vector<raft::NodeId>;

bool Has(const NodeIds& sorted, raft::NodeId node) {
  return std::binary_search(sorted.begin(), sorted.end(), node);
}

void Insert(NodeIds* sorted, raft::NodeId node) {
  sorted->insert(std::lower_bound(sorted->begin(), sorted->end(), node), node);
}

// One change to one map; `map_` is thrown away when it is refused.
class Applier {
 public:
  explicit Applier(ClusterMap map) : map_(std::move(map)) {}

  absl::Status operator()(const Bootstrap&) { return absl::OkStatus(); }
  absl::Status operator()(const AddNode& change);
  absl::Status operator()(const RemoveNode& change);
  absl::Status operator()(const SetTarget& change);
  absl::Status operator()(const GroupSettled& change);

  ClusterMap Finish() && {
    for (GroupInfo& group : map_.groups) {
      if (group.members == group.target) group.automatic = false;
      if (group.withdrawn.empty()) group.withdrawn_at = 0;
    }
    LetGo();
    ForgetOldest();
    return std::move(map_);
  }

 private:
  NodeInfo* Node(raft::NodeId id) {
    return const_cast<NodeInfo*>(map_.FindNode(id));
  }
  GroupInfo* Group(raft::GroupId id) {
    return const_cast<GroupInfo*>(map_.FindGroup(id));
  }
  std::string Name(raft::NodeId id) const {
    const NodeInfo* node = map_.FindNode(id);
    return node != nullptr ? node->address.ToString()
                           : absl::StrCat("node ", id.value());
  }

  // Puts `fresh` where the target of a group has `lost`. These and the next
  // return the number of places.
  size_t TakePlaces(raft::NodeId lost, raft::NodeId fresh);
  void TakeFreePlaces(raft::NodeId fresh, size_t has);
  absl::Status CheckTarget(const GroupTarget& change, const GroupInfo& group);
  // OK when the node may be in the target of the group.
  absl::Status CheckPlace(raft::NodeId id, const GroupInfo& group);
  absl::Status SetTargetOf(GroupInfo* group, const NodeIds& target);
  void Leave(raft::NodeId id);
  void LetGo();
  void ForgetOldest();
  bool Concerned(raft::NodeId id) const {
    return std::any_of(map_.groups.begin(), map_.groups.end(),
                       [&](const GroupInfo& g) { return g.Concerns(id); });
  }

  ClusterMap map_;
  // Counted when first asked for, and kept right from then on.
  std::optional<absl::flat_hash_map<raft::NodeId, size_t>> places_;
};

absl::Status Applier::operator()(const AddNode& change) {
  const NodeInfo& node = change.node;
  absl::Status status = CheckNode(node);
  if (!status.ok()) return status;
  if (NodeInfo* known = Node(node.id); known != nullptr) {
    if (known->state == NodeState::kLeft) {
      return absl::FailedPreconditionError(
          absl::StrCat(known->address.ToString(),
                       " has left the cluster; it can come back with an empty "
                       "data directory"));
    }
    if (!(known->address == node.address)) {
      return absl::FailedPreconditionError(absl::StrCat(
          "node ", node.id.value(), " is ", known->address.ToString(),
          " and cannot be ", node.address.ToString(), " too"));
    }
    known->metrics_port = node.metrics_port;
    known->http_port = node.http_port;
    return absl::OkStatus();
  }
  if (map_.nodes.size() >= kMaxNodes) {
    return absl::FailedPreconditionError(
        absl::StrCat("the cluster has ", kMaxNodes, " servers, the limit"));
  }
  const NodeInfo* same = map_.FindNode(node.address);
  const raft::NodeId lost = same != nullptr && same->state != NodeState::kLeft
                                ? same->id
                                : raft::NodeId();
  map_.nodes.push_back(node);
  map_.nodes.back().state = NodeState::kActive;
  size_t places = 0;
  if (lost) {
    places = TakePlaces(lost, node.id);
    Leave(lost);
  }
  TakeFreePlaces(node.id, places);
  return absl::OkStatus();
}

size_t Applier::TakePlaces(raft::NodeId lost, raft::NodeId fresh) {
  size_t places = 0;
  for (GroupInfo& group : map_.groups) {
    const auto it =
        std::lower_bound(group.target.begin(), group.target.end(), lost);
    if (it == group.target.end() || *it != lost) continue;
    group.target.erase(it);
    Insert(&group.target, fresh);
    ++places;
  }
  return places;
}

void Applier::TakeFreePlaces(raft::NodeId fresh, size_t has) {
  std::vector<GroupInfo*> free;
  for (GroupInfo& group : map_.groups) {
    if (group.target.size() < kFullGroup && !group.Concerns(fresh)) {
      free.push_back(&group);
    }
  }
  std::stable_sort(free.begin(), free.end(),
                   [](const GroupInfo* a, const GroupInfo* b) {
                     return a->target.size() < b->target.size();
                   });
  if (free.empty()) return;
  // Siblings of the first one are of its size, so they are taken from among
  // those that are sorted already.
  const NodeIds companions = free.front()->target;
  std::stable_partition(free.begin(), free.end(), [&](const GroupInfo* group) {
    return group->target == companions;
  });
  for (GroupInfo* group : free) {
    if (has >= map_.groups_per_five) break;
    Insert(&group->target, fresh);
    group->automatic = false;  // it is more than a replacement now
    ++has;
  }
}

absl::Status Applier::SetTargetOf(GroupInfo* group, const NodeIds& target) {
  // Whoever goes keeps its place: as a member, or as one that was withdrawn.
  for (raft::NodeId id : target) {
    if (group->Concerns(id)) {
      std::erase(group->withdrawn, id);
    } else if (places_) {
      ++(*places_)[id];
    }
  }
  for (raft::NodeId id : group->target) {
    if (Has(target, id) || Has(group->members, id)) continue;
    if (KV739_PLANTED(M8_withdrawn_goes_at_once)) continue;
    Insert(&group->withdrawn, id);
    group->withdrawn_at = map_.epoch + 1;
  }
  group->target = target;
  size_t withdrawn = 0;
  for (const GroupInfo& g : map_.groups) withdrawn += g.withdrawn.size();
  if (withdrawn <= kMaxWithdrawn) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "more than ", kMaxWithdrawn,
      " nodes were taken out of targets and are not let go by their groups "
      "yet; wait until these have leaders"));
}

absl::Status Applier::operator()(const RemoveNode& change) {
  NodeInfo* node = Node(change.node);
  if (node == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no node ", change.node.value()));
  }
  if (node->state != NodeState::kActive) return absl::OkStatus();
  const std::string name = node->address.ToString();
  node->state = NodeState::kLeaving;
  for (auto it = change.targets.begin(); it != change.targets.end(); ++it) {
    if (std::any_of(change.targets.begin(), it, [&](const GroupTarget& other) {
          return other.group == it->group;
        })) {
      return absl::InvalidArgumentError(
          absl::StrCat("group ", it->group.value(), " twice"));
    }
  }
  for (GroupInfo& group : map_.groups) {
    const auto it =
        std::find_if(change.targets.begin(), change.targets.end(),
                     [&](const GroupTarget& t) { return t.group == group.id; });
    const bool named = it != change.targets.end();
    if (named != group.Concerns(change.node)) {
      return absl::AbortedError(absl::StrCat(
          "the groups of ", name, " have changed: ", named ? "not in" : "in",
          " group ", group.id.value(), " now"));
    }
    if (!named) continue;
    // Still named in it is refused as a place of a node that is not active.
    absl::Status status = CheckTarget(*it, group);
    if (!status.ok()) return status;
    status = SetTargetOf(&group, it->target);
    if (!status.ok()) return status;
    group.automatic = false;
  }
  for (const GroupTarget& target : change.targets) {
    if (Group(target.group) == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("there is no group ", target.group.value()));
    }
  }
  return absl::OkStatus();
}

absl::Status Applier::operator()(const SetTarget& change) {
  GroupInfo* group = Group(change.group.group);
  if (group == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no group ", change.group.group.value()));
  }
  if (group->target == change.group.target) {
    // Asked for again. What an operator asks for is not taken back.
    if (!change.automatic) group->automatic = false;
    return absl::OkStatus();
  }
  absl::Status status = CheckTarget(change.group, *group);
  if (!status.ok()) return status;
  status = SetTargetOf(group, change.group.target);
  group->automatic = change.automatic;
  return status;
}

absl::Status Applier::CheckTarget(const GroupTarget& change,
                                  const GroupInfo& group) {
  const std::string name = absl::StrCat("group ", group.id.value());
  if (change.expected != group.target) {
    return absl::AbortedError(absl::StrCat(
        "the members that ", name,
        " is to have were changed by someone else meanwhile; look and try "
        "again"));
  }
  const NodeIds& target = change.target;
  if (std::adjacent_find(target.begin(), target.end(),
                         std::greater_equal<>()) != target.end()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "members of ", name, ": not sorted, or one of them twice"));
  }
  if (target.size() < kSmallestGroup) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, " would be left with ", target.size(),
                     " voters, fewer than ", kSmallestGroup));
  }
  if (target.size() > kLargestGroup) {
    return absl::FailedPreconditionError(
        absl::StrCat(name, " would have ", target.size(), " voters, more than ",
                     kLargestGroup));
  }
  for (raft::NodeId id : target) {
    absl::Status status = CheckPlace(id, group);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status Applier::CheckPlace(raft::NodeId id, const GroupInfo& group) {
  const std::string name = absl::StrCat("group ", group.id.value());
  const NodeInfo* node = map_.FindNode(id);
  if (node == nullptr) {
    return absl::NotFoundError(absl::StrCat("there is no node ", id.value()));
  }
  if (node->state != NodeState::kActive) {
    return absl::FailedPreconditionError(absl::StrCat(
        Name(id), " is leaving or has left; it cannot be in ", name));
  }
  if (!places_) places_ = map_.Places();
  const auto it = places_->find(id);
  const size_t all = it == places_->end() ? 0 : it->second;
  const size_t others = all - (group.Concerns(id) ? 1 : 0);
  if (others < map_.groups_per_five) return absl::OkStatus();
  const auto other = std::find_if(
      map_.groups.begin(), map_.groups.end(),
      [&](const GroupInfo& g) { return g.id != group.id && g.Concerns(id); });
  if (map_.groups_per_five == 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(Name(id), " has a place in group ", other->id.value(),
                     "; it cannot be in ", name, " too"));
  }
  return absl::FailedPreconditionError(absl::StrCat(
      Name(id), " has places in ", others, " groups, group ", other->id.value(),
      " among them; it cannot be in ", name, " too"));
}

absl::Status Applier::operator()(const GroupSettled& change) {
  GroupInfo* group = Group(change.group);
  if (group == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("there is no group ", change.group.value()));
  }
  if (change.index <= group->settled) return absl::OkStatus();
  const NodeIds& members = change.members;
  if (members.empty() ||
      std::adjacent_find(members.begin(), members.end(),
                         std::greater_equal<>()) != members.end()) {
    return absl::InvalidArgumentError("members: none, or not sorted");
  }
  for (raft::NodeId id : members) {
    if (Node(id) == nullptr) {
      return absl::NotFoundError(absl::StrCat("there is no node ", id.value()));
    }
  }
  group->members = members;
  group->settled = change.index;
  if (change.released != 0 && change.released == group->withdrawn_at) {
    group->withdrawn.clear();
  }
  for (raft::NodeId id : members) std::erase(group->withdrawn, id);
  return absl::OkStatus();
}

// To the end, so that those that left stand in the order of leaving.
void Applier::Leave(raft::NodeId id) {
  const auto it =
      std::find_if(map_.nodes.begin(), map_.nodes.end(),
                   [&](const NodeInfo& node) { return node.id == id; });
  it->state = NodeState::kLeft;
  std::rotate(it, it + 1, map_.nodes.end());
}

void Applier::LetGo() {
  NodeIds out;
  for (const NodeInfo& node : map_.nodes) {
    if (node.state == NodeState::kLeaving && !Concerned(node.id)) {
      out.push_back(node.id);
    }
  }
  for (raft::NodeId id : out) Leave(id);
}

void Applier::ForgetOldest() {
  size_t left = std::count_if(
      map_.nodes.begin(), map_.nodes.end(),
      [](const NodeInfo& node) { return node.state == NodeState::kLeft; });
  for (auto it = map_.nodes.begin();
       left > kMaxLeftNodes && it != map_.nodes.end();) {
    if (it->state == NodeState::kLeft && !Concerned(it->id)) {
      it = map_.nodes.erase(it);
      --left;
    } else {
      ++it;
    }
  }
}

}  // namespace

absl::StatusOr<ClusterMap> ApplyDirectoryChange(const ClusterMap* before,
                                                const DirectoryChange& change) {
  if (before == nullptr) {
    const Bootstrap* first = std::get_if<Bootstrap>(&change);
    if (first == nullptr) {
      return absl::UnavailableError("there is no directory yet");
    }
    absl::Status status = CheckClusterMap(first->map);
    if (!status.ok()) return status;
    return first->map;
  }
  Applier applier(*before);
  absl::Status status = std::visit(applier, change);
  if (!status.ok()) return status;
  ClusterMap after = std::move(applier).Finish();
  if (!(after == *before)) after.epoch = before->epoch + 1;
  return after;
}

}  // namespace kv739::kv
