#include "server/member_changes.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kv739::server {
namespace {

using NodeIds = std::vector<raft::NodeId>;

std::string Name(const kv::ClusterMap& map, raft::NodeId id) {
  const kv::NodeInfo* node = map.FindNode(id);
  return node != nullptr ? node->address.ToString()
                         : absl::StrCat("node ", id.value());
}

absl::StatusOr<const kv::NodeInfo*> Find(const kv::ClusterMap& map,
                                         absl::string_view server) {
  const auto address = kv::Address::Parse(server);
  if (!address.ok()) return address.status();
  const kv::NodeInfo* node = map.FindNode(*address);
  if (node != nullptr) return node;
  return absl::NotFoundError(
      absl::StrCat("no server ", address->ToString(), " in the cluster"));
}

// OK, or who is missed. `when` says whose voters they are: a sentence goes on.
absl::Status CheckMajority(const kv::ClusterMap& map, raft::GroupId group,
                           const NodeIds& voters, absl::string_view when,
                           const IsThere& is_there) {
  const size_t needed = voters.size() / 2 + 1;
  std::vector<std::string> missed;
  for (raft::NodeId id : voters) {
    if (!is_there(id)) missed.push_back(Name(map, id));
  }
  if (voters.size() - missed.size() >= needed) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "group ", group.value(), " ", when, " without a live majority: of its ",
      voters.size(), " voters ", needed, " must be connected, and ",
      absl::StrJoin(missed, ", "), missed.size() == 1 ? " is" : " are",
      " not"));
}

absl::Status CheckChange(const kv::ClusterMap& map, const kv::GroupInfo& group,
                         const NodeIds& target, const IsThere& is_there) {
  absl::Status status =
      CheckMajority(map, group.id, group.members, "is now", is_there);
  if (!status.ok()) return status;
  return CheckMajority(map, group.id, target, "would be left", is_there);
}

// Who may take the places of a node that leaves.
class Substitutes {
 public:
  Substitutes(const kv::ClusterMap& map, raft::NodeId leaving,
              const IsThere& is_there)
      : most_(map.groups_per_five) {
    for (const kv::Candidate& candidate : map.Candidates()) {
      if (candidate.id != leaving && is_there(candidate.id)) {
        open_.push_back({candidate, false});
      }
    }
  }

  // None when there is none for this group.
  raft::NodeId Take(const kv::GroupInfo& group) {
    One* best = nullptr;
    for (One& one : open_) {
      if (one.node.places >= most_ || group.Concerns(one.node.id)) continue;
      if (best == nullptr || Rank(one) < Rank(*best)) best = &one;
    }
    if (best == nullptr) return {};
    ++best->node.places;
    best->taken = true;
    return best->node.id;
  }

 private:
  struct One {
    kv::Candidate node;
    bool taken;
  };
  static std::pair<bool, size_t> Rank(const One& one) {
    return {!one.taken, one.node.places};
  }

  const size_t most_;
  std::vector<One> open_;  // in the order of the map
};

}  // namespace

absl::StatusOr<kv::RemoveNode> PlanRemoval(const kv::ClusterMap& map,
                                           absl::string_view server,
                                           const IsThere& is_there) {
  const auto found = Find(map, server);
  if (!found.ok()) return found.status();
  const kv::NodeInfo& node = **found;
  kv::RemoveNode change;
  change.node = node.id;
  if (node.state != kv::NodeState::kActive) return change;  // asked for again
  Substitutes substitutes(map, node.id, is_there);
  for (const kv::GroupInfo& group : map.groups) {
    if (!group.Concerns(node.id)) continue;
    kv::GroupTarget target{group.id, group.target, group.target};
    const auto place =
        std::find(target.target.begin(), target.target.end(), node.id);
    if (place != target.target.end()) {
      target.target.erase(place);
      if (const raft::NodeId fresh = substitutes.Take(group)) {
        target.target.push_back(fresh);
        std::sort(target.target.begin(), target.target.end());
      }
    }
    if (target.target.size() < kv::kSmallestGroup) {
      return absl::FailedPreconditionError(absl::StrCat(
          "group ", group.id.value(), " would be left with ",
          target.target.size(), " voters, fewer than ", kv::kSmallestGroup,
          ", and no connected spare can take the place of ",
          node.address.ToString(), "; start another server first"));
    }
    absl::Status status = CheckChange(map, group, target.target, is_there);
    if (!status.ok()) return status;
    change.targets.push_back(std::move(target));
  }
  return change;
}

absl::StatusOr<kv::SetTarget> PlanMembers(
    const kv::ClusterMap& map, raft::GroupId group,
    const std::vector<std::string>& servers,
    const std::vector<std::string>& expected, const IsThere& is_there) {
  const kv::GroupInfo* info = map.FindGroup(group);
  if (info == nullptr) {
    return absl::NotFoundError(absl::StrCat("no group ", group.value()));
  }
  const auto ids = [&](const std::vector<std::string>& names,
                       NodeIds* out) -> absl::Status {
    for (const std::string& name : names) {
      const auto node = Find(map, name);
      if (!node.ok()) return node.status();
      out->push_back((*node)->id);
    }
    std::sort(out->begin(), out->end());
    return absl::OkStatus();
  };
  kv::SetTarget change;
  change.group.group = group;
  absl::Status status = ids(servers, &change.group.target);
  if (status.ok()) status = ids(expected, &change.group.expected);
  if (!status.ok()) return status;
  if (expected.empty()) change.group.expected = info->target;
  // What the directory would say goes first.
  const auto after = kv::ApplyDirectoryChange(&map, change);
  if (!after.ok()) return after.status();
  status = CheckChange(map, *info, change.group.target, is_there);
  if (!status.ok()) return status;
  return change;
}

namespace {

// Who leads the directory, as far as this node can tell.
std::string LeaderHint(const kv::ClusterMap& map, const HostStats& stats,
                       const IsThere& is_there) {
  for (const ReplicaStats& replica : stats.replicas) {
    if (replica.group != kv::kDirectoryGroup) continue;
    const kv::NodeInfo* node = map.FindNode(replica.core.soft.leader);
    return node == nullptr ? "" : node->address.ToString();
  }
  // Not a member: any of them knows better.
  const kv::GroupInfo* group = map.FindGroup(kv::kDirectoryGroup);
  for (raft::NodeId id : group != nullptr ? group->members : NodeIds()) {
    if (is_there(id)) return Name(map, id);
  }
  return "";
}

bool Leads(const HostStats& stats) {
  return std::any_of(stats.replicas.begin(), stats.replicas.end(),
                     [](const ReplicaStats& replica) {
                       return replica.group == kv::kDirectoryGroup &&
                              replica.core.soft.role == raft::Role::kLeader;
                     });
}

}  // namespace

void ChangeMembers(RequestHandler* handler, const DirectoryParts& parts,
                   MemberPlan plan, DirectoryDone done) {
  handler->CollectStats([handler, parts, plan = std::move(plan),
                         done = std::move(done)](HostStats stats) mutable {
    const std::shared_ptr<const kv::ClusterMap> map = handler->map();
    DirectoryAnswer answer;
    if (!Leads(stats)) {
      answer.status = absl::UnavailableError(
          "this server does not lead the directory (group 0), and does not "
          "know who does");
      answer.leader = LeaderHint(*map, stats, parts.is_there);
      done(std::move(answer));
      return;
    }
    const absl::StatusOr<kv::DirectoryChange> change = plan(*map);
    if (!change.ok()) {
      answer.status = change.status();
      done(std::move(answer));
      return;
    }
    parts.propose(*change, std::move(done));
  });
}

}  // namespace kv739::server
