// kv739.v1.Admin. Threads as in key_value_service.h.
#ifndef KV739_SERVER_ADMIN_SERVICE_H_
#define KV739_SERVER_ADMIN_SERVICE_H_

#include <functional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "server/audit.h"
#include "server/member_changes.h"
#include "server/rpc_loop.h"
#include "server/supervisor_client.h"
#include "server/unary_call.h"

namespace kv739::server {

// Whether gRPC's name of a peer ("ipv4:127.0.0.1:4711") is this host's
// loopback or a Unix socket.
bool IsLoopbackPeer(absl::string_view peer);

class AdminService {
 public:
  struct Rules {
    bool allow_remote = false;
    bool allow_die = true;
    // Die with clean = true, once the answer has left. Must not wait: it runs
    // in the loop thread.
    std::function<void()> stop;
    // Die with clean = false; _exit(1) in a server.
    std::function<void()> exit_now;
    // For RemoveServer and SetMembers; without it they are UNIMPLEMENTED.
    DirectoryParts directory;
    // See Host::Check(); without it Check is UNIMPLEMENTED.
    std::function<void(raft::GroupId,
                       absl::AnyInvocable<void(absl::StatusOr<AuditResult>)>)>
        check;
  };

  AdminService(RpcLoop* loop, Rules rules);

  grpc::Service* service() { return &service_; }
  void Start();
  void Release();

 private:
  using DiePool = UnaryPool<v1::DieRequest, v1::DieResponse>;
  using TransferPool =
      UnaryPool<v1::TransferLeaderRequest, v1::TransferLeaderResponse>;
  using RemovePool =
      UnaryPool<v1::RemoveServerRequest, v1::RemoveServerResponse>;
  using MembersPool = UnaryPool<v1::SetMembersRequest, v1::SetMembersResponse>;
  using StartPool = UnaryPool<v1::StartServerRequest, v1::StartServerResponse>;
  using CheckPool = UnaryPool<v1::CheckRequest, v1::CheckResponse>;

  // OK, or why this caller may not.
  grpc::Status Permitted(const grpc::ServerContext& context) const;
  grpc::Status MayChangeMembers(const grpc::ServerContext& context,
                                bool overloaded) const;
  void Die(DiePool::Call* call);
  void TransferLeader(TransferPool::Call* call);
  void RemoveServer(RemovePool::Call* call);
  void SetMembers(MembersPool::Call* call);
  void StartServer(StartPool::Call* call);
  void Check(CheckPool::Call* call);

  RpcLoop* const loop_;
  const Rules rules_;
  v1::Admin::AsyncService service_;
  DiePool die_;
  TransferPool transfer_leader_;
  RemovePool remove_server_;
  MembersPool set_members_;
  StartPool start_server_;
  CheckPool check_;
  SupervisorRelay supervisor_;  // its thread ends calls: it goes first
};

}  // namespace kv739::server

#endif  // KV739_SERVER_ADMIN_SERVICE_H_
