#include "tests/unit/command/fake_cluster.h"

#include <arpa/inet.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "kv739/v1/cluster.grpc.pb.h"

namespace kv739::command {
namespace {

constexpr uint64_t kTerm = 7;
constexpr uint64_t kLastIndex = 100;

absl::Mutex transfer_mutex(absl::kConstInit);
std::string& LastTransfer() {
  static std::string* last = new std::string;
  return *last;
}

}  // namespace

// Callback services: a call that hangs holds no thread, and ends when the
// caller gives up.
struct FakeCluster::Server final : v1::Cluster::CallbackService,
                                   v1::Admin::CallbackService {
  Kind kind = Kind::kUp;
  std::string address;
  int reserved = -1;  // a bound socket that does not listen
  v1::GetStatusResponse status;
  v1::GetMapResponse* map = nullptr;
  const v1::CheckResponse* check = nullptr;
  std::unique_ptr<grpc::Server> rpc;

  // Ends when the caller has gone.
  class Hanging : public grpc::ServerUnaryReactor {
   public:
    void OnCancel() override { Finish(grpc::Status::CANCELLED); }
    void OnDone() override { delete this; }
  };
  static grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                          grpc::Status status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(std::move(status));
    return reactor;
  }

  grpc::ServerUnaryReactor* GetStatus(grpc::CallbackServerContext* context,
                                      const v1::GetStatusRequest*,
                                      v1::GetStatusResponse* answer) override {
    if (kind == Kind::kHangs) return new Hanging;
    *answer = status;
    return Answer(context, grpc::Status::OK);
  }
  grpc::ServerUnaryReactor* GetMap(grpc::CallbackServerContext* context,
                                   const v1::GetMapRequest*,
                                   v1::GetMapResponse* answer) override {
    if (kind == Kind::kHangs) return new Hanging;
    absl::MutexLock lock(&transfer_mutex);
    *answer = *map;
    return Answer(context, grpc::Status::OK);
  }
  grpc::ServerUnaryReactor* TransferLeader(
      grpc::CallbackServerContext* context,
      const v1::TransferLeaderRequest* request,
      v1::TransferLeaderResponse* answer) override {
    {
      absl::MutexLock lock(&transfer_mutex);
      LastTransfer() =
          absl::StrCat(address, " ", request->group(), " ", request->target());
    }
    if (request->target() == "nowhere:1") {
      return Answer(context, {grpc::StatusCode::ABORTED, "it did not happen"});
    }
    answer->set_leader(request->target());
    return Answer(context, grpc::Status::OK);
  }

  // "" when it is the first server itself.
  std::string OtherLeader() const {
    const std::string& leader = map->nodes(0).address();
    return leader == address ? "" : leader;
  }

  grpc::ServerUnaryReactor* SetMembers(
      grpc::CallbackServerContext* context,
      const v1::SetMembersRequest* request,
      v1::SetMembersResponse* answer) override {
    absl::MutexLock lock(&transfer_mutex);
    answer->set_leader(OtherLeader());
    if (!answer->leader().empty()) return Answer(context, grpc::Status::OK);
    v1::Group* group = map->mutable_groups(static_cast<int>(request->group()));
    if (request->expected_size() != group->members_size()) {
      return Answer(context,
                    {grpc::StatusCode::ABORTED, "somebody was faster"});
    }
    group->clear_members();
    for (const v1::Node& node : map->nodes()) {
      for (const std::string& server : request->servers()) {
        if (node.address() == server) group->add_members(node.id());
      }
    }
    *group->mutable_target() = group->members();
    map->set_epoch(map->epoch() + 1);
    answer->set_epoch(map->epoch());
    return Answer(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* RemoveServer(
      grpc::CallbackServerContext* context,
      const v1::RemoveServerRequest* request,
      v1::RemoveServerResponse* answer) override {
    absl::MutexLock lock(&transfer_mutex);
    answer->set_leader(OtherLeader());
    if (!answer->leader().empty()) return Answer(context, grpc::Status::OK);
    for (v1::Node& node : *map->mutable_nodes()) {
      if (node.address() != request->server()) continue;
      if (map->nodes_size() == 3) {
        return Answer(context, {grpc::StatusCode::FAILED_PRECONDITION,
                                "group 0 would be left with 2 voters"});
      }
      node.set_state(v1::LEFT);
    }
    map->set_epoch(map->epoch() + 1);
    answer->set_epoch(map->epoch());
    return Answer(context, grpc::Status::OK);
  }

  grpc::ServerUnaryReactor* Check(grpc::CallbackServerContext* context,
                                  const v1::CheckRequest* request,
                                  v1::CheckResponse* answer) override {
    for (const v1::CheckedGroup& group : check->groups()) {
      for (const uint64_t wanted : request->groups()) {
        if (wanted == group.group()) *answer->add_groups() = group;
      }
    }
    return Answer(context, grpc::Status::OK);
  }

  void Start() {
    int port = 0;
    if (kind == Kind::kDown) {
      // Bound and not listening: the port is refused and nobody else gets it.
      reserved = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in any = {};
      any.sin_family = AF_INET;
      any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      socklen_t length = sizeof(any);
      if (bind(reserved, reinterpret_cast<sockaddr*>(&any), length) != 0 ||
          getsockname(reserved, reinterpret_cast<sockaddr*>(&any), &length) !=
              0) {
        std::abort();
      }
      port = ntohs(any.sin_port);
    } else {
      grpc::ServerBuilder builder;
      builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                               &port);
      builder.RegisterService(static_cast<v1::Cluster::CallbackService*>(this));
      builder.RegisterService(static_cast<v1::Admin::CallbackService*>(this));
      rpc = builder.BuildAndStart();
      if (rpc == nullptr) std::abort();
    }
    address = absl::StrCat("127.0.0.1:", port);
  }
  ~Server() {
    if (rpc != nullptr) {
      rpc->Shutdown();
      rpc->Wait();
    }
    if (reserved >= 0) close(reserved);
  }
};

FakeCluster::FakeCluster(const std::vector<Kind>& kinds) {
  for (const Kind kind : kinds) {
    servers_.push_back(std::make_unique<Server>());
    servers_.back()->kind = kind;
    servers_.back()->map = &map_;
    servers_.back()->check = &check_;
    servers_.back()->Start();
  }
  Describe();
}

FakeCluster::~FakeCluster() = default;

void FakeCluster::Describe() {
  const size_t size = servers_.size() < 5 ? 3 : 5;
  map_.set_cluster_id(0xc3f1);
  map_.set_epoch(42);
  for (size_t i = 0; i < servers_.size(); ++i) {
    v1::Node* node = map_.add_nodes();
    node->set_id(i + 1);
    node->set_address(servers_[i]->address);
    node->set_metrics_port(9090 + i);
    v1::GetStatusResponse& status = servers_[i]->status;
    status.set_cluster_id(map_.cluster_id());
    status.set_node(i + 1);
    status.set_address(servers_[i]->address);
    status.set_version("0.1.0");
    status.set_map_epoch(42);
    status.set_healthy(true);
    status.set_pid(1000 + i);
  }
  const size_t groups = servers_.size() / size;
  for (size_t g = 0; g < groups; ++g) {
    v1::Group* group = map_.add_groups();
    group->set_id(g);
    v1::SlotRange* range = map_.add_slots();
    range->set_first(4096 / groups * g);
    range->set_last(4096 / groups * (g + 1) - 1);
    range->set_group(g);
    size_t leader = g * size;
    while (leader < (g + 1) * size && servers_[leader]->kind != Kind::kUp) {
      ++leader;
    }
    for (size_t i = g * size; i < (g + 1) * size; ++i) {
      group->add_members(i + 1);
      v1::ReplicaStatus* replica = servers_[i]->status.add_replicas();
      replica->set_group(g);
      replica->set_term(kTerm);
      replica->set_leader(leader + 1);
      replica->set_commit(kLastIndex - 1);
      replica->set_applied(kLastIndex - 2);
      replica->set_first_index(11);
      replica->set_last_index(kLastIndex);
      replica->set_log_bytes(2048);
      if (i != leader) continue;
      replica->set_role(v1::LEADER);
      for (size_t peer = g * size; peer < (g + 1) * size; ++peer) {
        if (peer == leader) continue;
        v1::PeerStatus* p = replica->add_peers();
        p->set_node(peer + 1);
        const bool up = servers_[peer]->kind == Kind::kUp;
        p->set_active(up);
        p->set_match(up ? kLastIndex : 60);
      }
    }
  }
}

const std::string& FakeCluster::address(size_t server) const {
  return servers_[server]->address;
}

std::string FakeCluster::ConfigText() const {
  std::string text;
  for (const auto& server : servers_) {
    absl::StrAppend(&text, server->address, "\n");
  }
  return text;
}

v1::GetStatusResponse* FakeCluster::status(size_t server) {
  return &servers_[server]->status;
}

void FakeCluster::ReverseMembers() {
  auto* members = map_.mutable_groups(0)->mutable_members();
  std::reverse(members->begin(), members->end());
}

std::string FakeCluster::last_transfer() const {
  absl::MutexLock lock(&transfer_mutex);
  return LastTransfer();
}

}  // namespace kv739::command
