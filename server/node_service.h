// raft.v1.Raft/Inquire and Join: how a server finds the cluster that it
// belongs to and becomes a node of it. What is answered is decided by the
// callbacks; this is the gRPC side of it. The calling side is node_client.h.
//
// Threads as in key_value_service.h.
#ifndef KV739_SERVER_NODE_SERVICE_H_
#define KV739_SERVER_NODE_SERVICE_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "raft/types.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/rpc_loop.h"
#include "server/unary_call.h"

namespace kv739::server {

// Maps are in the form of kv::EncodeClusterMap; nobody here looks into them.
struct InquireAnswer {
  uint64_t cluster_id = 0;
  std::string map;
  // The server of the caller's address was met before by the one that answers.
  bool met = false;
};
struct JoinCall {
  uint64_t cluster_id = 0;
  raft::NodeId node;
  std::string address;  // host:port
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
};
struct JoinAnswer {
  // Not done here: the one to ask, host:port, when it is known.
  std::string leader;
  // Done: the map that has the node.
  std::string map;
};

class NodeService {
 public:
  static constexpr size_t kMaxAddressBytes = 300;

  struct Rules {
    uint64_t cluster_id = 0;
    // Any thread, quick.
    std::function<InquireAnswer(std::string address)> inquire;
    // Calls back once, now or later, on any thread. Never blocks.
    std::function<void(
        JoinCall, absl::AnyInvocable<void(absl::StatusOr<JoinAnswer>)> done)>
        join;
  };

  // A call for which there is no callback is answered UNAVAILABLE.
  NodeService(RpcLoop* loop, ::raft::v1::Raft::AsyncService* service,
              Rules rules);

  void Start();
  void Release();

 private:
  using InquirePool =
      UnaryPool<::raft::v1::InquireRequest, ::raft::v1::InquireResponse>;
  using JoinPool = UnaryPool<::raft::v1::JoinRequest, ::raft::v1::JoinResponse>;

  void Inquire(InquirePool::Call* call);
  void Join(JoinPool::Call* call);

  const Rules rules_;
  InquirePool inquire_;
  JoinPool join_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_SERVICE_H_
