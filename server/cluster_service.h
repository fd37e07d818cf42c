// kv739.v1.Cluster: the map and this node's status, as the handler gives
// them. Threads as in key_value_service.h.
#ifndef KV739_SERVER_CLUSTER_SERVICE_H_
#define KV739_SERVER_CLUSTER_SERVICE_H_

#include <functional>
#include <string>

#include "kv739/v1/cluster.grpc.pb.h"
#include "server/rpc_loop.h"
#include "server/unary_call.h"

namespace kv739::server {

// Overwrites `out`.
void EncodeMap(const kv::ClusterMap& map, v1::GetMapResponse* out);
void EncodeReplica(const ReplicaStats& stats, v1::ReplicaStatus* out);

class ClusterService {
 public:
  struct Node {
    uint64_t cluster_id = 0;
    raft::NodeId id;
    std::string address;
    std::function<bool()> healthy;  // loop thread
  };

  ClusterService(RpcLoop* loop, Node node);

  grpc::Service* service() { return &service_; }
  void Start();
  void Release();

 private:
  using MapPool = UnaryPool<v1::GetMapRequest, v1::GetMapResponse>;
  using StatusPool = UnaryPool<v1::GetStatusRequest, v1::GetStatusResponse>;

  void GetStatus(StatusPool::Call* call);

  RpcLoop* const loop_;
  const Node node_;
  const uint64_t start_nanos_;
  v1::Cluster::AsyncService service_;
  MapPool get_map_;
  StatusPool get_status_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_CLUSTER_SERVICE_H_
