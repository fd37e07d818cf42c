// grpc.health.v1.Health on the loop. gRPC's own implementation needs threads
// of the callback API that poll the same sockets as the loop does.
//
// A service is known once SetStatus() has named it. Threads as in
// key_value_service.h.
#ifndef KV739_SERVER_HEALTH_H_
#define KV739_SERVER_HEALTH_H_

#include <memory>
#include <string>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_set.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "server/rpc_loop.h"
#include "server/unary_call.h"

namespace kv739::server {

class HealthService {
 public:
  // Watchers beyond it are refused.
  static constexpr size_t kMaxWatches = 256;

  explicit HealthService(RpcLoop* loop);
  ~HealthService();

  grpc::Service* service() { return &service_; }
  void Start();
  void Release();

  // Tells watchers when it changes.
  void SetStatus(const std::string& service, bool serving);
  // Ends all watches.
  void BeginStop();

 private:
  class Watch;
  using Response = grpc::health::v1::HealthCheckResponse;
  using CheckPool = UnaryPool<grpc::health::v1::HealthCheckRequest, Response>;

  void Check(CheckPool::Call* call);
  void ArmWatch();
  Response::ServingStatus StatusOf(const std::string& service) const;

  RpcLoop* const loop_;
  grpc::health::v1::Health::AsyncService service_;
  CheckPool check_;
  absl::btree_map<std::string, bool> serving_;
  absl::flat_hash_set<std::unique_ptr<Watch>> watches_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_HEALTH_H_
