#include "server/admin_service.h"

#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace kv739::server {
namespace {

constexpr int kArmedCalls = 2;
constexpr int kMaxCalls = 64;

const kv::NodeInfo* FindNode(const kv::ClusterMap& map, raft::NodeId id) {
  for (const kv::NodeInfo& node : map.nodes) {
    if (node.id == id) return &node;
  }
  return nullptr;
}

// The one that has the address now.
const kv::NodeInfo* FindNode(const kv::ClusterMap& map,
                             absl::string_view address) {
  const auto parsed = kv::Address::Parse(address);
  return parsed.ok() ? map.FindNode(*parsed) : nullptr;
}

grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

}  // namespace

bool IsLoopbackPeer(absl::string_view peer) {
  if (absl::StartsWith(peer, "unix:")) return true;
  if (absl::ConsumePrefix(&peer, "ipv4:")) {
    return absl::StartsWith(peer, "127.");
  }
  if (!absl::ConsumePrefix(&peer, "ipv6:")) return false;
  // Brackets come as they are or percent-encoded.
  if (!absl::ConsumePrefix(&peer, "[") && !absl::ConsumePrefix(&peer, "%5B")) {
    return false;
  }
  return absl::StartsWith(peer, "::1]") || absl::StartsWith(peer, "::1%5D") ||
         absl::StartsWith(peer, "::ffff:127.");
}

AdminService::AdminService(RpcLoop* loop, Rules rules)
    : loop_(loop),
      rules_(std::move(rules)),
      die_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestDie(context, request, writer, queue, queue, tag);
          },
          [this](DiePool::Call* call) { Die(call); }),
      transfer_leader_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestTransferLeader(context, request, writer, queue,
                                           queue, tag);
          },
          [this](TransferPool::Call* call) { TransferLeader(call); }),
      remove_server_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestRemoveServer(context, request, writer, queue, queue,
                                         tag);
          },
          [this](RemovePool::Call* call) { RemoveServer(call); }),
      set_members_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestSetMembers(context, request, writer, queue, queue,
                                       tag);
          },
          [this](MembersPool::Call* call) { SetMembers(call); }),
      start_server_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestStartServer(context, request, writer, queue, queue,
                                        tag);
          },
          [this](StartPool::Call* call) { StartServer(call); }),
      check_(
          loop, kArmedCalls, kMaxCalls,
          [this](auto* context, auto* request, auto* writer, auto* queue,
                 void* tag) {
            service_.RequestCheck(context, request, writer, queue, queue, tag);
          },
          [this](CheckPool::Call* call) { Check(call); }) {}

void AdminService::Start() {
  die_.Start();
  transfer_leader_.Start();
  remove_server_.Start();
  set_members_.Start();
  start_server_.Start();
  check_.Start();
}

void AdminService::Release() {
  die_.Release();
  transfer_leader_.Release();
  remove_server_.Release();
  set_members_.Release();
  start_server_.Release();
  check_.Release();
}

grpc::Status AdminService::Permitted(const grpc::ServerContext& context) const {
  const std::string peer = context.peer();
  if (rules_.allow_remote || IsLoopbackPeer(peer)) return grpc::Status::OK;
  return grpc::Status(
      grpc::StatusCode::PERMISSION_DENIED,
      absl::StrCat("only from this host (setting allow_remote_admin), not ",
                   peer));
}

void AdminService::Die(DiePool::Call* call) {
  grpc::Status permitted = Permitted(call->context());
  if (permitted.ok() && !rules_.allow_die) {
    permitted = grpc::Status(grpc::StatusCode::PERMISSION_DENIED,
                             "switched off (setting allow_die)");
  }
  if (!permitted.ok()) {
    call->Finish(permitted);
    return;
  }
  if (!call->request().clean()) {
    rules_.exit_now();
  } else {
    call->RunAfterwards(rules_.stop);
  }
  call->Finish(grpc::Status::OK);
}

void AdminService::TransferLeader(TransferPool::Call* call) {
  const grpc::Status permitted = Permitted(call->context());
  if (!permitted.ok()) {
    call->Finish(permitted);
    return;
  }
  if (call->overloaded()) {
    call->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                              "too many calls are under way"));
    return;
  }
  raft::NodeId target;
  const std::shared_ptr<const kv::ClusterMap> map = loop_->handler()->map();
  if (!call->request().target().empty()) {
    const kv::NodeInfo* node = FindNode(*map, call->request().target());
    if (node == nullptr) {
      call->Finish(
          grpc::Status(grpc::StatusCode::NOT_FOUND,
                       absl::StrCat("no server ", call->request().target(),
                                    " in the cluster map")));
      return;
    }
    target = node->id;
  }
  loop_->handler()->TransferLeadership(
      raft::GroupId(call->request().group()), target,
      [call = call->shared_from_this(),
       map](absl::StatusOr<raft::NodeId> leader) {
        if (!leader.ok()) {
          call->Finish(ToGrpc(leader.status()));
          return;
        }
        const kv::NodeInfo* node = FindNode(*map, *leader);
        if (node != nullptr) {
          call->response().set_leader(node->address.ToString());
        }
        call->Finish(grpc::Status::OK);
      });
}

namespace {

// Ends the call with what became of the change.
template <typename Call>
DirectoryDone FinishWith(std::shared_ptr<Call> call) {
  return [call = std::move(call)](DirectoryAnswer answer) {
    if (answer.status.ok()) {
      call->response().set_epoch(answer.epoch);
    } else if (answer.leader.empty()) {
      call->Finish(ToGrpc(answer.status));
      return;
    } else {
      call->response().set_leader(answer.leader);
    }
    call->Finish(grpc::Status::OK);
  };
}

}  // namespace

grpc::Status AdminService::MayChangeMembers(const grpc::ServerContext& context,
                                            bool overloaded) const {
  const grpc::Status permitted = Permitted(context);
  if (!permitted.ok()) return permitted;
  if (overloaded) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                        "too many calls are under way");
  }
  if (!rules_.directory.propose) {
    return grpc::Status(grpc::StatusCode::UNIMPLEMENTED,
                        "this server has no directory");
  }
  return grpc::Status::OK;
}

void AdminService::RemoveServer(RemovePool::Call* call) {
  const grpc::Status may =
      MayChangeMembers(call->context(), call->overloaded());
  if (!may.ok()) {
    call->Finish(may);
    return;
  }
  ChangeMembers(
      loop_->handler(), rules_.directory,
      [server = call->request().server(), is_there = rules_.directory.is_there](
          const kv::ClusterMap& map) -> absl::StatusOr<kv::DirectoryChange> {
        return PlanRemoval(map, server, is_there);
      },
      FinishWith(call->shared_from_this()));
}

void AdminService::SetMembers(MembersPool::Call* call) {
  const grpc::Status may =
      MayChangeMembers(call->context(), call->overloaded());
  if (!may.ok()) {
    call->Finish(may);
    return;
  }
  ChangeMembers(
      loop_->handler(), rules_.directory,
      [request = call->request(), is_there = rules_.directory.is_there](
          const kv::ClusterMap& map) -> absl::StatusOr<kv::DirectoryChange> {
        return PlanMembers(
            map, raft::GroupId(request.group()),
            {request.servers().begin(), request.servers().end()},
            {request.expected().begin(), request.expected().end()}, is_there);
      },
      FinishWith(call->shared_from_this()));
}

void AdminService::StartServer(StartPool::Call* call) {
  const grpc::Status permitted = Permitted(call->context());
  if (!permitted.ok()) {
    call->Finish(permitted);
    return;
  }
  if (call->overloaded()) {
    call->Finish(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                              "too many calls are under way"));
    return;
  }
  const v1::StartServerRequest& request = call->request();
  auto server = kv::Address::Parse(request.server());
  if (!server.ok()) {
    call->Finish(ToGrpc(server.status()));
    return;
  }
  const auto verb = request.only_ask() ? kv::SupervisorRequest::Verb::kStatus
                                       : kv::SupervisorRequest::Verb::kStart;
  supervisor_.Ask(
      {verb, *std::move(server), request.is_new()},
      [call =
           call->shared_from_this()](absl::StatusOr<kv::ServerProcess> known) {
        if (known.ok()) {
          call->response().set_pid(known->pid);
          call->response().set_ended(known->how);
        }
        call->Finish(known.ok() ? grpc::Status::OK : ToGrpc(known.status()));
      });
}

}  // namespace kv739::server
