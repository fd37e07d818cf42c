// Starting a server: through the supervisor of this host when it has the
// server, else through a server of the same host, and then watching until it
// has caught up.
#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "client/client.h"
#include "client/servers.h"
#include "kv/supervisor_protocol.h"
#include "kv739/v1/admin.grpc.pb.h"

namespace kv739::client {
namespace {

using Verb = kv::SupervisorRequest::Verb;

// A process that serves no more may be flushing still: so long it may take to
// end before it counts as one that runs.
constexpr std::chrono::milliseconds kEndingTimeout{15'000};

// Who started it, to ask how it is.
struct Starter {
  std::string socket;  // of a supervisor here, or
  std::string relay;   // address of a server
};

int CodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInternal:
      return KV739_E_INTERNAL;
    case absl::StatusCode::kUnavailable:
      return KV739_E_UNAVAILABLE;
    case absl::StatusCode::kDeadlineExceeded:
      return KV739_E_UNKNOWN;
    default:
      return KV739_E_REFUSED;
  }
}

// No supervisor there, or none that has servers of that host.
bool IsElsewhere(absl::StatusCode code) {
  return code == absl::StatusCode::kFailedPrecondition ||
         code == absl::StatusCode::kInvalidArgument;
}

// What a person types there.
std::string ByHand(const std::string& config_file, const kv::Address& address,
                   bool is_new) {
  return absl::StrCat(
      "no supervisor (kv739d -c) that can start it was found on ", address.host,
      "; run there: kv739d --cluster ", config_file, " --listen ",
      address.ToString(), " --data data/",
      absl::StrReplaceAll(address.host, {{":", "_"}}), "-", address.port,
      is_new ? " --join" : "");
}

class Start {
 public:
  Start(Servers* servers, const kv::ClusterMap& file_map, kv::Address address,
        bool is_new)
      : servers_(servers),
        file_map_(file_map),
        address_(std::move(address)),
        name_(address_.ToString()),
        is_new_(is_new) {}

  // Asks for the start.
  int Launch(const std::string& config_file, std::string* message);
  // True when it has caught up; otherwise what it still waits for.
  bool CaughtUp(std::string* waiting) {
    std::string why;
    const bool done = Look(&why);
    if (servers_->Late()) return false;
    *waiting = std::move(why);
    return done;
  }
  // How it ended, when that is known.
  std::optional<std::string> Ended();
  // The last launch was refused because there is such a process.
  bool runs() const { return runs_; }
  // Why it can never catch up.
  const std::string& hopeless() const { return hopeless_; }

 private:
  bool Look(std::string* waiting);
  int LaunchHere(bool* found, std::string* message);
  int LaunchThere(bool* found, std::string* message);
  bool CaughtUpIn(const kv::GroupInfo& group, uint64_t self,
                  const std::map<std::string, v1::GetStatusResponse>& statuses,
                  std::string* waiting);

  Servers* const servers_;
  const kv::ClusterMap& file_map_;
  const kv::Address address_;
  const std::string name_;
  const bool is_new_;
  Starter starter_;
  // What each group's leader had committed when it was first seen.
  std::map<raft::GroupId, uint64_t> goals_;
  size_t silent_ = 0;  // servers of its groups, in the last look
  bool runs_ = false;
  std::string hopeless_;
};

int Start::Launch(const std::string& config_file, std::string* message) {
  bool found = false;
  runs_ = false;
  message->clear();
  int code = LaunchHere(&found, message);
  if (!found) code = LaunchThere(&found, message);
  if (found) return code;
  *message = absl::StrCat(message->empty() ? "" : absl::StrCat(*message, "; "),
                          ByHand(config_file, address_, is_new_));
  return code == KV739_OK ? KV739_E_REFUSED : code;
}

int Start::LaunchHere(bool* found, std::string* message) {
  // The supervisor's name for the cluster is made from its file.
  for (const uint64_t cluster :
       {servers_->map().cluster_id, file_map_.cluster_id}) {
    const std::string socket = kv::SupervisorSocketPath(cluster);
    const auto started =
        kv::AskSupervisorAt(socket, {Verb::kStart, address_, is_new_});
    if (!started.ok() && IsElsewhere(started.status().code())) continue;
    *found = true;
    starter_.socket = socket;
    if (started.ok()) return KV739_OK;
    *message = std::string(started.status().message());
    runs_ = absl::IsAlreadyExists(started.status());
    return CodeOf(started.status());
  }
  return KV739_OK;
}

int Start::LaunchThere(bool* found, std::string* message) {
  int code = KV739_OK;
  for (const kv::NodeInfo& node : servers_->map().nodes) {
    if (node.address.host != address_.host || node.address == address_ ||
        node.state == kv::NodeState::kLeft) {
      continue;
    }
    const std::string relay = node.address.ToString();
    grpc::ClientContext context;
    servers_->Limit(kChangeTimeout, &context);
    v1::StartServerRequest request;
    request.set_server(name_);
    request.set_is_new(is_new_);
    v1::StartServerResponse response;
    const grpc::Status status = v1::Admin::NewStub(servers_->To(relay))
                                    ->StartServer(&context, request, &response);
    if (status.ok()) {
      *found = true;
      starter_.relay = relay;
      return KV739_OK;
    }
    switch (status.error_code()) {
      case grpc::StatusCode::UNAVAILABLE:
      case grpc::StatusCode::FAILED_PRECONDITION:
      case grpc::StatusCode::INVALID_ARGUMENT:
      case grpc::StatusCode::UNIMPLEMENTED:
        continue;
      case grpc::StatusCode::PERMISSION_DENIED:
        code = Refusal(relay, status, message);
        continue;
      default:
        *found = true;
        runs_ = status.error_code() == grpc::StatusCode::ALREADY_EXISTS;
        return Refusal(relay, status, message);
    }
  }
  return code;
}

std::optional<std::string> Start::Ended() {
  if (!starter_.socket.empty()) {
    const auto process =
        kv::AskSupervisorAt(starter_.socket, {Verb::kStatus, address_, false});
    // A supervisor ends with the last of its servers.
    if (absl::IsFailedPrecondition(process.status())) {
      return "ended, and its supervisor with it";
    }
    if (!process.ok() || process->state != kv::ServerProcess::State::kEnded) {
      return std::nullopt;
    }
    return process->how;
  }
  grpc::ClientContext context;
  servers_->Limit(kChangeTimeout, &context);
  v1::StartServerRequest request;
  request.set_server(name_);
  request.set_only_ask(true);
  v1::StartServerResponse response;
  const grpc::Status status = v1::Admin::NewStub(servers_->To(starter_.relay))
                                  ->StartServer(&context, request, &response);
  if (!status.ok() || response.ended().empty()) return std::nullopt;
  return response.ended();
}

bool Start::Look(std::string* waiting) {
  auto statuses = servers_->Statuses({name_});
  if (statuses.empty()) {
    *waiting = "does not answer yet";
    return false;
  }
  const v1::GetStatusResponse self = statuses.begin()->second;
  servers_->Refresh();
  const kv::ClusterMap& map = servers_->map();
  const raft::NodeId id(self.node());
  const kv::NodeInfo* node = map.FindNode(id);
  if (node == nullptr || self.stopping()) {
    *waiting = node == nullptr ? "has not joined yet" : "is stopping";
    return false;
  }
  if (node->state == kv::NodeState::kLeft) {
    hopeless_ = "has left the cluster";
    return false;
  }
  std::vector<std::string> others;
  for (const kv::GroupInfo& group : map.groups) {
    if (!group.Concerns(id)) continue;
    for (const raft::NodeId member : group.members) {
      const kv::NodeInfo* other = map.FindNode(member);
      if (other != nullptr) others.push_back(other->address.ToString());
    }
  }
  std::sort(others.begin(), others.end());
  others.erase(std::unique(others.begin(), others.end()), others.end());
  statuses = servers_->Statuses(others, &silent_);
  statuses[name_] = self;
  for (const kv::GroupInfo& group : map.groups) {
    if (group.Concerns(id) &&
        !CaughtUpIn(group, id.value(), statuses, waiting)) {
      return false;
    }
  }
  // A group without a majority keeps it from being healthy, and is no reason
  // to wait: there is a goal for each of the others.
  const bool all_led = std::all_of(
      map.groups.begin(), map.groups.end(), [&](const kv::GroupInfo& group) {
        return !group.Concerns(id) || goals_.contains(group.id);
      });
  if (all_led && !self.healthy()) {
    *waiting = "says that it is not healthy";
    return false;
  }
  return true;
}

bool Start::CaughtUpIn(
    const kv::GroupInfo& group, uint64_t self,
    const std::map<std::string, v1::GetStatusResponse>& statuses,
    std::string* waiting) {
  const v1::ReplicaStatus* mine = nullptr;
  const v1::ReplicaStatus* leader = nullptr;
  size_t answering = 0;
  for (const auto& [address, status] : statuses) {
    answering += std::binary_search(group.members.begin(), group.members.end(),
                                    raft::NodeId(status.node()));
    for (const v1::ReplicaStatus& replica : status.replicas()) {
      if (replica.group() != group.id.value()) continue;
      if (status.node() == self) mine = &replica;
      if (replica.role() == v1::LEADER &&
          (leader == nullptr || replica.term() > leader->term())) {
        leader = &replica;
      }
    }
  }
  const std::string where = absl::StrCat("group ", group.id.value());
  if (leader == nullptr && answering + silent_ <= group.members.size() / 2) {
    return true;
  }
  if (leader == nullptr) {
    *waiting = absl::StrCat("waits for a leader of ", where);
    return false;
  }
  const uint64_t goal =
      goals_.emplace(group.id, leader->commit()).first->second;
  if (mine == nullptr) {
    *waiting = absl::StrCat("has no replica of ", where, " yet");
    return false;
  }
  if (!mine->fault().empty()) {
    *waiting = absl::StrCat("does not serve ", where, ": ", mine->fault());
    return false;
  }
  if (mine->applied() < goal) {
    *waiting =
        absl::StrCat("is at ", mine->applied(), " of ", goal, " in ", where);
    return false;
  }
  if (!std::binary_search(group.members.begin(), group.members.end(),
                          raft::NodeId(self))) {
    *waiting = absl::StrCat("does not vote in ", where, " yet");
    return false;
  }
  return true;
}

}  // namespace

int Client::Start(const std::string& server, bool is_new, int timeout_ms,
                  std::string* message) {
  Servers servers(this,
                  timeout_ms == 0 ? kDefaultMembershipTimeoutMs : timeout_ms);
  const auto address = kv::Address::Parse(server);
  if (!address.ok()) {
    *message = std::string(address.status().message());
    return KV739_E_INVALID;
  }
  const std::string name = address->ToString();
  const bool answered = servers.Refresh();
  const kv::NodeInfo* node = servers.map().FindNode(*address);
  if (!is_new && node == nullptr && file_map_.FindNode(*address) == nullptr) {
    return UnknownServer(server, servers.map(), message);
  }
  if (is_new && !answered) {
    *message = "no server of the cluster that it is to join can be reached";
    return KV739_E_UNAVAILABLE;
  }
  if (!servers.Statuses({name}).empty()) {
    *message = absl::StrCat("server ", name, " runs already");
    return KV739_E_REFUSED;
  }
  if (!is_new && node != nullptr && node->state == kv::NodeState::kLeft) {
    *message =
        absl::StrCat("server ", name,
                     " has left the cluster: its data is of no use; start "
                     "it as a new one on an empty data directory");
    return KV739_E_REFUSED;
  }
  client::Start start(&servers, file_map_, *address, is_new);
  const auto ended_by = std::chrono::steady_clock::now() + kEndingTimeout;
  while (const int code = start.Launch(options_.config_file, message)) {
    if (is_new || !start.runs() ||
        std::chrono::steady_clock::now() >= ended_by || !servers.Pause()) {
      return code;
    }
  }
  std::string waiting = "does not answer yet";
  while (!start.CaughtUp(&waiting)) {
    if (!start.hopeless().empty()) {
      *message = absl::StrCat("server ", name, " ", start.hopeless());
      return KV739_E_REFUSED;
    }
    if (const auto how = start.Ended()) {
      *message =
          absl::StrCat("server ", name, " ", *how, "; its log says more");
      return KV739_E_REFUSED;
    }
    if (!servers.Pause()) {
      return servers.GiveUp(
          absl::StrCat("server ", name, " was started and ", waiting), message);
    }
  }
  return KV739_OK;
}

}  // namespace kv739::client
