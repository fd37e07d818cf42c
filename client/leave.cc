// Taking a server out of the cluster: the directory's leader is asked to record
// it, and then the map is watched until it says that the server has left.
// Asking again for what is under way changes nothing, so every doubt is
// answered by asking again.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/client.h"
#include "client/servers.h"
#include "kv/supervisor_protocol.h"
#include "kv739/v1/admin.grpc.pb.h"

namespace kv739::client {
namespace {

constexpr raft::GroupId kDirectory{0};
// Leaders that are followed at once, one naming the next.
constexpr int kMaxHops = 3;
constexpr size_t kNamedGroups = 8;  // in a message

// Who may lead the directory: its members first.
std::vector<std::string> DirectoryServers(const kv::ClusterMap& map,
                                          const kv::ClusterMap& file_map) {
  std::vector<std::string> servers;
  if (const kv::GroupInfo* group = map.FindGroup(kDirectory)) {
    for (const raft::NodeId id : group->members) {
      const kv::NodeInfo* node = map.FindNode(id);
      if (node != nullptr) servers.push_back(node->address.ToString());
    }
  }
  for (const std::string& other : MapSources(map, file_map)) {
    if (std::find(servers.begin(), servers.end(), other) == servers.end()) {
      servers.push_back(other);
    }
  }
  return servers;
}

// OK once the directory has recorded it.
int RequestRemoval(Servers* servers, const kv::ClusterMap& file_map,
                   const std::string& name, std::string* message) {
  const std::vector<std::string> all =
      DirectoryServers(servers->map(), file_map);
  std::string named;
  std::string last = "no server answers";
  int hops = 0;
  for (size_t turn = 0;;) {
    const std::string at =
        named.empty() ? all[turn++ % all.size()] : std::exchange(named, "");
    grpc::ClientContext context;
    servers->Limit(kChangeTimeout, &context);
    v1::RemoveServerRequest request;
    request.set_server(name);
    v1::RemoveServerResponse response;
    const grpc::Status status =
        v1::Admin::NewStub(servers->To(at))
            ->RemoveServer(&context, request, &response);
    if (status.ok() && response.epoch() != 0) return KV739_OK;
    if (!status.ok() && !IsPassing(status)) {
      return Refusal(at, status, message);
    }
    if (servers->Late()) {
      // The last word is of before.
    } else if (!status.ok()) {
      last = absl::StrCat(at, ": ", status.error_message());
    } else if (!response.leader().empty() && response.leader() != at) {
      named = response.leader();
      last = absl::StrCat(at, " names ", named, " as the leader of group 0");
      if (++hops <= kMaxHops) continue;
    } else {
      last = "group 0 has no leader";
    }
    hops = 0;
    if (!servers->Pause()) {
      return servers->GiveUp(
          absl::StrCat("nobody has taken the request to remove ", name, "; ",
                       last),
          message);
    }
  }
}

// The groups that still have it or are to have it.
std::string GroupsOf(const kv::ClusterMap& map, raft::NodeId node) {
  std::vector<uint64_t> groups;
  for (const kv::GroupInfo& group : map.groups) {
    if (group.Concerns(node)) groups.push_back(group.id.value());
  }
  if (groups.empty()) return "no group";
  const size_t count = groups.size();
  groups.resize(std::min(count, kNamedGroups));
  std::string text = absl::StrCat(count == 1 ? "group " : "groups ",
                                  absl::StrJoin(groups, ", "));
  if (count > groups.size()) {
    absl::StrAppend(&text, " and ", count - groups.size(), " others");
  }
  return text;
}

// Its process has ended: nobody answers there, or another server does, and a
// supervisor of this host knows of no such process.
bool IsGone(Servers* servers, const kv::NodeInfo& node) {
  const std::string name = node.address.ToString();
  const auto statuses = servers->Statuses({name});
  if (!statuses.empty()) {
    return statuses.begin()->second.node() != node.id.value();
  }
  // A connection that is refused, not one that is slow.
  grpc::Channel* channel = servers->To(name).get();
  if (channel->GetState(true) != GRPC_CHANNEL_TRANSIENT_FAILURE) return false;
  const auto process = kv::AskSupervisorAt(
      kv::SupervisorSocketPath(servers->map().cluster_id),
      {kv::SupervisorRequest::Verb::kStatus, node.address, false});
  return !process.ok() || process->state != kv::ServerProcess::State::kRunning;
}

}  // namespace

int Client::Leave(const std::string& server, bool clean, int timeout_ms,
                  std::string* message) {
  Servers servers(this,
                  timeout_ms == 0 ? kDefaultMembershipTimeoutMs : timeout_ms);
  const auto address = kv::Address::Parse(server);
  const bool answered = servers.Refresh();
  const kv::NodeInfo* found =
      address.ok() ? servers.map().FindNode(*address) : nullptr;
  if (found == nullptr) return UnknownServer(server, servers.map(), message);
  const kv::NodeInfo node = *found;
  const std::string name = node.address.ToString();
  if (!answered) {
    *message = "no server of the cluster can be reached";
    return KV739_E_UNAVAILABLE;
  }
  if (node.state == kv::NodeState::kActive) {
    if (const int code = RequestRemoval(&servers, file_map_, name, message)) {
      return code;
    }
    servers.Refresh();
  }
  while (true) {
    // The oldest of those that left are forgotten.
    const kv::NodeInfo* now = servers.map().FindNode(node.id);
    if (now == nullptr || now->state == kv::NodeState::kLeft) break;
    if (!servers.Pause()) {
      return servers.GiveUp(
          absl::StrCat("server ", name, " is leaving and still in ",
                       GroupsOf(servers.map(), node.id), "; it goes on"),
          message);
    }
    servers.Refresh();
  }
  while (clean && !IsGone(&servers, node)) {
    if (!servers.Pause()) {
      return servers.GiveUp(
          absl::StrCat("server ", name,
                       " has left and its process has not ended"),
          message);
    }
  }
  return KV739_OK;
}

}  // namespace kv739::client
