#include "client/command/status_model.h"

#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/command/text.h"

namespace kv739::command {
namespace {

// Looks up answers by node id for the time of one BuildView.
class Index {
 public:
  explicit Index(const ClusterAnswers& answers) {
    for (const ServerAnswer& answer : answers.servers) {
      by_address_[answer.address] = &answer;
    }
    if (!answers.map.has_value()) return;
    for (const v1::Node& node : answers.map->nodes()) {
      nodes_[node.id()] = &node;
      order_.push_back(node.id());
      const auto found = by_address_.find(node.address());
      if (found != by_address_.end()) by_node_[node.id()] = found->second;
    }
  }
  const ServerAnswer* Answer(uint64_t node) const {
    const auto found = by_node_.find(node);
    return found == by_node_.end() ? nullptr : found->second;
  }
  std::string Address(uint64_t node) const {
    const auto found = nodes_.find(node);
    return found == nodes_.end() ? absl::StrFormat("node %016x", node)
                                 : found->second->address();
  }
  // The group's members, present and to be, in the order of the map's nodes,
  // which is that of the cluster file; then those that are no node of the map.
  std::vector<uint64_t> InOrder(const v1::Group& group) const {
    std::set<uint64_t> left(group.members().begin(), group.members().end());
    left.insert(group.target().begin(), group.target().end());
    std::vector<uint64_t> members;
    for (const uint64_t node : order_) {
      if (left.erase(node) == 1) members.push_back(node);
    }
    members.insert(members.end(), left.begin(), left.end());
    return members;
  }

 private:
  std::vector<uint64_t> order_;
  std::map<std::string, const ServerAnswer*> by_address_;
  std::map<uint64_t, const v1::Node*> nodes_;
  std::map<uint64_t, const ServerAnswer*> by_node_;
};

const v1::ReplicaStatus* FindReplica(const ServerAnswer* answer,
                                     uint64_t group) {
  if (answer == nullptr || !answer->status.ok()) return nullptr;
  for (const v1::ReplicaStatus& replica : answer->response.replicas()) {
    if (replica.group() == group) return &replica;
  }
  return nullptr;
}

std::string RoleName(v1::Role role) {
  switch (role) {
    case v1::LEADER:
      return "leader";
    case v1::CANDIDATE:
      return "candidate";
    default:
      return "follower";
  }
}

bool Has(const google::protobuf::RepeatedField<uint64_t>& nodes,
         uint64_t node) {
  return std::find(nodes.begin(), nodes.end(), node) != nodes.end();
}

// A map of before there were targets has none.
bool IsTarget(const v1::Group& group, uint64_t node) {
  return Has(group.target().empty() ? group.members() : group.target(), node);
}

TransferView BuildTransfer(const Index& index,
                           const v1::SnapshotTransfer& transfer) {
  TransferView view;
  view.peer = index.Address(transfer.peer());
  view.bytes = transfer.bytes();
  view.keys = transfer.keys();
  view.seconds = transfer.seconds();
  const auto part = [](double done, double total) {
    return total <= 0 ? 0 : static_cast<int>(100 * done / total);
  };
  view.percent = transfer.total_keys() > 0
                     ? part(transfer.keys(), transfer.total_keys())
                     : part(transfer.bytes(), transfer.total_bytes());
  view.percent = std::clamp(view.percent, 0, 99);
  return view;
}

MemberView BuildMember(const Index& index, const v1::Group& map_group,
                       uint64_t node) {
  const uint64_t group = map_group.id();
  MemberView member;
  member.place = !Has(map_group.members(), node) ? "joining"
                 : IsTarget(map_group, node)     ? "voter"
                                                 : "leaving";
  member.server = index.Address(node);
  const ServerAnswer* answer = index.Answer(node);
  member.reachable = answer != nullptr && answer->status.ok();
  if (!member.reachable) {
    member.state = "unreachable";
    member.reason = answer == nullptr ? "not in the map"
                                      : std::string(answer->status.message());
    return member;
  }
  const v1::ReplicaStatus* replica = FindReplica(answer, group);
  if (replica == nullptr) {
    member.state = "missing";
    return member;
  }
  member.state = RoleName(replica->role());
  member.term = replica->term();
  member.commit = replica->commit();
  member.applied = replica->applied();
  member.last_index = replica->last_index();
  member.fault = replica->fault();
  if (replica->has_receiving()) {
    member.receiving = BuildTransfer(index, replica->receiving());
  }
  return member;
}

// The replica that leads: of those that say so, the one of the highest term;
// a lower one was cut off and has not noticed yet.
const v1::ReplicaStatus* FindLeader(const Index& index, const v1::Group& group,
                                    uint64_t* node) {
  const v1::ReplicaStatus* leader = nullptr;
  for (const uint64_t member : index.InOrder(group)) {
    const v1::ReplicaStatus* replica =
        FindReplica(index.Answer(member), group.id());
    if (replica != nullptr && replica->role() == v1::LEADER &&
        (leader == nullptr || replica->term() > leader->term())) {
      leader = replica;
      *node = member;
    }
  }
  return leader;
}

// How many of these voters may still fail.
int CanLose(const Index& index,
            const google::protobuf::RepeatedField<uint64_t>& voters,
            const std::set<std::string>& alive) {
  int living = 0;
  for (const uint64_t voter : voters) {
    living += alive.contains(index.Address(voter));
  }
  return std::max(0, living - (voters.size() / 2 + 1));
}

void AddLeadersKnowledge(const Index& index, const v1::Group& group,
                         const v1::ReplicaStatus& leader, uint64_t leader_node,
                         GroupView* view, std::vector<std::string>* problems) {
  view->leader = index.Address(leader_node);
  view->term = leader.term();
  view->commit = leader.commit();
  view->applied = leader.applied();
  view->log_bytes = leader.log_bytes();
  if (leader.last_index() + 1 > leader.first_index()) {
    view->log_entries = leader.last_index() + 1 - leader.first_index();
  }
  std::map<std::string, const v1::PeerStatus*> peers;
  for (const v1::PeerStatus& peer : leader.peers()) {
    peers[index.Address(peer.node())] = &peer;
  }
  std::set<std::string> alive;
  for (MemberView& member : view->members) {
    if (member.server == view->leader) {
      member.lag = 0;
      alive.insert(member.server);
      continue;
    }
    if (member.state == "leader") member.state = "deposed leader";
    const auto peer = peers.find(member.server);
    if (peer == peers.end()) continue;
    const uint64_t last = leader.last_index();
    member.lag = last - std::min(last, peer->second->match());
    member.needs_snapshot = peer->second->needs_snapshot();
    if (peer->second->learner()) {
      member.learner = true;
      if (member.state == "follower") member.state = "learner";
    }
    if (!peer->second->active()) member.silent_ms = peer->second->silent_ms();
    if (!member.reachable) continue;
    if (peer->second->active()) {
      alive.insert(member.server);
    } else {
      problems->push_back(absl::StrCat("the leader of group ", view->id,
                                       " does not hear ", member.server));
    }
  }
  view->joint = !leader.outgoing().empty();
  for (const v1::SnapshotTransfer& transfer : leader.sending()) {
    view->sending.push_back(BuildTransfer(index, transfer));
  }
  view->can_lose = CanLose(
      index, leader.voters().empty() ? group.members() : leader.voters(),
      alive);
  if (view->joint) {
    view->can_lose =
        std::min(view->can_lose, CanLose(index, leader.outgoing(), alive));
  }
}

// What is under way in the group, in a sentence; "" when nothing.
std::string Change(const GroupView& group) {
  if (!group.changing) return "";
  std::vector<std::string> steps;
  for (const MemberView& member : group.members) {
    if (member.place == "joining") {
      steps.push_back(absl::StrCat(member.server, " joins"));
      if (member.receiving.has_value()) {
        absl::StrAppend(&steps.back(), " (receives a snapshot, ",
                        member.receiving->percent, " %)");
      }
    } else if (member.place == "leaving") {
      steps.push_back(absl::StrCat(member.server, " goes"));
    }
  }
  return absl::StrCat("group ", group.id,
                      group.automatic ? " is replacing a server that is away: "
                                      : " is changing its members: ",
                      absl::StrJoin(steps, ", "),
                      group.joint ? " (in the joint configuration)" : "");
}

GroupView BuildGroup(const Index& index, const v1::Group& group,
                     std::vector<std::string>* problems) {
  GroupView view;
  view.id = group.id();
  view.automatic = group.automatic();
  int answering = 0;
  int voters = 0;
  for (const uint64_t node : index.InOrder(group)) {
    view.members.push_back(BuildMember(index, group, node));
    const MemberView& member = view.members.back();
    if (IsTarget(group, node)) view.target.push_back(member.server);
    view.changing = view.changing || member.place != "voter";
    voters += member.place != "joining";
    answering += member.reachable && member.place != "joining";
    view.term = std::max(view.term, member.term);
    view.commit = std::max(view.commit, member.commit);
    view.applied = std::max(view.applied, member.applied);
    if (!member.fault.empty()) {
      problems->push_back(absl::StrCat(member.server, " does not serve group ",
                                       view.id, ": ", member.fault));
    }
    if (member.state == "missing" && member.place == "voter") {
      problems->push_back(
          absl::StrCat(member.server, " has no replica of group ", view.id));
    }
  }
  uint64_t leader_node = 0;
  const v1::ReplicaStatus* leader = FindLeader(index, group, &leader_node);
  if (leader != nullptr) {
    AddLeadersKnowledge(index, group, *leader, leader_node, &view, problems);
  } else {
    problems->push_back(absl::StrCat("group ", view.id, " has no leader, ",
                                     answering, " of ", Count(voters, "member"),
                                     answering == 1 ? " answers" : " answer"));
  }
  return view;
}

std::string MetricsUrl(const std::string& address, uint32_t port) {
  const size_t colon = address.rfind(':');
  return absl::StrCat("http://", address.substr(0, colon), ":", port,
                      "/metrics");
}

ServerView BuildServer(const ServerAnswer& answer) {
  ServerView view;
  view.address = answer.address;
  view.reachable = answer.status.ok();
  if (!view.reachable) {
    view.reason = std::string(answer.status.message());
    return view;
  }
  const v1::GetStatusResponse& said = answer.response;
  view.id = said.node();
  view.version = said.version();
  if (!said.git_revision().empty()) {
    absl::StrAppend(&view.version, " (", said.git_revision(), ")");
  }
  view.pid = said.pid();
  view.uptime_seconds = said.uptime_seconds();
  view.map_epoch = said.map_epoch();
  view.healthy = said.healthy();
  view.stopping = said.stopping();
  return view;
}

void AddServers(const ClusterAnswers& answers, const kv::ClusterFile& file,
                ClusterView* view) {
  std::map<std::string, uint32_t> metrics;
  for (const kv::ServerLine& line : file.servers) {
    metrics[line.address.ToString()] = line.metrics_port;
  }
  std::map<std::string, uint64_t> mapped;
  std::map<std::string, v1::NodeState> states;
  std::set<uint64_t> busy;
  if (answers.map.has_value()) {
    for (const v1::Node& node : answers.map->nodes()) {
      // A node that has left gives its address up.
      if (node.state() == v1::LEFT && mapped.contains(node.address())) continue;
      mapped[node.address()] = node.id();
      states[node.address()] = node.state();
      if (node.metrics_port() != 0) {
        metrics[node.address()] = node.metrics_port();
      }
    }
    for (const v1::Group& group : answers.map->groups()) {
      busy.insert(group.members().begin(), group.members().end());
      busy.insert(group.target().begin(), group.target().end());
      busy.insert(group.withdrawn().begin(), group.withdrawn().end());
    }
  }
  for (const ServerAnswer& answer : answers.servers) {
    ServerView server = BuildServer(answer);
    if (const auto found = mapped.find(answer.address); found != mapped.end()) {
      server.id = found->second;
      const v1::NodeState state = states[answer.address];
      server.membership = state == v1::LEFT      ? "left"
                          : state == v1::LEAVING ? "leaving"
                                                 : "active";
      server.spare = state == v1::ACTIVE && !busy.contains(server.id);
    }
    if (const auto port = metrics.find(answer.address);
        port != metrics.end() && port->second != 0) {
      server.metrics_url = MetricsUrl(answer.address, port->second);
    }
    view->servers.push_back(std::move(server));
  }
}

void AddServerProblems(const ClusterAnswers& answers, ClusterView* view) {
  for (size_t i = 0; i < view->servers.size(); ++i) {
    const ServerView& server = view->servers[i];
    std::string what;
    if (server.membership == "leaving") {
      view->changes.push_back(server.address + " is leaving");
    }
    // It may stop, and does.
    if (server.membership == "left" && (!server.reachable || server.stopping)) {
      continue;
    }
    if (!server.reachable) {
      what = absl::StrCat(" is unreachable: ", server.reason);
    } else if (answers.servers[i].response.cluster_id() != view->cluster_id) {
      what = absl::StrFormat(" belongs to another cluster, %016x",
                             answers.servers[i].response.cluster_id());
    } else if (server.stopping) {
      what = " is stopping";
    } else if (!server.healthy) {
      what = " says that it is not healthy";
    }
    if (!what.empty()) view->problems.push_back(server.address + what);
  }
}

}  // namespace

const GroupView* ClusterView::FindGroup(uint64_t id) const {
  for (const GroupView& group : groups) {
    if (group.id == id) return &group;
  }
  return nullptr;
}

bool ClusterView::AllGroupsLed() const {
  return !groups.empty() &&
         std::all_of(groups.begin(), groups.end(), [](const GroupView& group) {
           return !group.leader.empty();
         });
}

bool ClusterView::Settled() const {
  return AllGroupsLed() && std::all_of(servers.begin(), servers.end(),
                                       [](const ServerView& server) {
                                         return !server.reachable ||
                                                server.healthy;
                                       });
}

ClusterView BuildView(const ClusterAnswers& answers,
                      const kv::ClusterFile& file) {
  ClusterView view;
  const bool answered =
      std::any_of(answers.servers.begin(), answers.servers.end(),
                  [](const ServerAnswer& a) { return a.status.ok(); });
  AddServers(answers, file, &view);
  if (answers.map.has_value()) {
    view.cluster_id = answers.map->cluster_id();
    view.epoch = answers.map->epoch();
    AddServerProblems(answers, &view);
    const Index index(answers);
    std::map<uint64_t, uint32_t> slots;
    for (const v1::SlotRange& range : answers.map->slots()) {
      slots[range.group()] += range.last() - range.first() + 1;
    }
    for (const v1::Group& group : answers.map->groups()) {
      view.groups.push_back(BuildGroup(index, group, &view.problems));
      const std::string change = Change(view.groups.back());
      if (!change.empty()) view.changes.push_back(change);
      view.groups.back().slots = slots[group.id()];
    }
  } else if (answered) {
    view.problems.push_back("no server knows the cluster map");
  } else {
    view.problems.push_back(absl::StrCat(
        "none of ", Count(answers.servers.size(), "server"), " answers"));
  }
  view.verdict = !answered               ? Verdict::kUnreachable
                 : view.problems.empty() ? Verdict::kOk
                                         : Verdict::kDegraded;
  return view;
}

}  // namespace kv739::command
