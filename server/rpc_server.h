// Everything of a node that others see: the port, gRPC's services with the
// thread that serves them, and the connections of peers with theirs. An
// acceptor tells who comes for which.
//
//   Create()     binds the port; nothing is served yet
//   transport()  for the handler, which is made next
//   Start()      serves, ticks, connects to the peers
//   Shutdown()   ends in order
//
// The handler must outlive Shutdown(); its answers may come after it and even
// after the server is gone. One thread calls these methods.
#ifndef KV739_SERVER_RPC_SERVER_H_
#define KV739_SERVER_RPC_SERVER_H_

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/acceptor.h"
#include "server/admin_service.h"
#include "server/client_sockets.h"
#include "server/cluster_service.h"
#include "server/health.h"
#include "server/key_value_service.h"
#include "server/listen_address.h"
#include "server/node_service.h"
#include "server/poller.h"
#include "server/poller_timer.h"
#include "server/request_handler.h"
#include "server/rpc_loop.h"
#include "server/snapshot_service.h"
#include "server/tcp_transport.h"

namespace kv739::server {

struct RpcServerOptions {
  std::string listen;   // host:port to bind; port 0: any
  std::string address;  // what status calls this node; empty: `listen`
  uint32_t tick_ms = 20;
  // One message from a client. A larger one fails its call with
  // RESOURCE_EXHAUSTED. Streams of clients send up to 16 MiB.
  int max_receive_bytes = (16 << 20) + (1 << 20);
  // Per connection; the others wait in their client.
  int max_connection_calls = 4096;
  bool reflection = true;
  KeyValueLimits key_value;
  AdminService::Rules admin;
  TcpTransport::Options transport;  // names cluster and node, too
  SnapshotService::Options snapshots;
  NodeService::Rules node;  // its cluster is the transport's
  // Gets the sockets of clients; null: nobody needs them. Must outlive the
  // server.
  ClientSockets* client_sockets = nullptr;
  Clock* clock = Clock::Real();
};

class RpcServer {
 public:
  // FAILED_PRECONDITION "port N in use"; INVALID_ARGUMENT for no host:port.
  static absl::StatusOr<std::unique_ptr<RpcServer>> Create(
      RpcServerOptions options);
  // Shuts down at once if that was not done.
  ~RpcServer();
  RpcServer(const RpcServer&) = delete;
  RpcServer& operator=(const RpcServer&) = delete;

  int port() const { return port_; }
  // Drops everything until Start().
  Transport* transport() { return transport_.get(); }
  // On the peers' thread; rings while this server is not shut down.
  std::unique_ptr<WakeTimer> MakeTimer(std::function<void()> wake) {
    return MakePollerTimer(poller_.get(), std::move(wake));
  }

  // Connects to all nodes of the handler's map that have not left, and at each
  // tick to those that it has then. `snapshots` must outlive Shutdown(), too;
  // without it other nodes are told that there are none.
  void Start(RequestHandler* handler, SnapshotProvider* snapshots = nullptr);
  // The same at once. Any thread; nothing for a map that is not newer.
  void SetPeers(std::shared_ptr<const kv::ClusterMap> map);

  // Health says NOT_SERVING from now on; the rest goes on. Any thread.
  void BeginStop() { draining_.store(true); }
  // Refuses new calls, waits for those under way until the deadline, cancels
  // the rest, ends the peers' streams and joins the thread.
  void Shutdown(absl::Time deadline);

  // Any thread, while the server lives.
  std::vector<PeerState> Peers() const { return transport_->States(); }
  std::array<uint64_t, kRefusalReasons> Refusals() const {
    return transport_->refusals();
  }
  // Until Shutdown().
  SnapshotService::Stats Snapshots() const { return snapshots_->stats(); }

 private:
  // Ticks between two looks at what health shall say.
  static constexpr int kHealthTicks = 5;
  // Streams to a node that has left stay for so many ticks, for it to be told.
  // Later it may only come and ask.
  static constexpr int64_t kLeftTicks = 250;
  // How long the connections get to end in order once all calls have.
  static constexpr absl::Duration kGoodbye = absl::Milliseconds(100);

  explicit RpcServer(RpcServerOptions options);
  absl::Status Listen();
  void Accept(std::vector<Socket> sockets);
  void OnTick();
  void UpdateHealth();
  // Loop thread, or before it runs.
  std::vector<TcpTransport::Peer> PeersOf(const kv::ClusterMap& map);
  void UpdatePeers(std::shared_ptr<const kv::ClusterMap> map);

  RpcServerOptions options_;
  std::atomic<bool> draining_{false};
  RequestHandler* handler_ = nullptr;
  int port_ = 0;
  bool stopped_ = false;

  // Loop thread.
  int64_t ticks_ = 0;
  bool healthy_ = false;
  std::shared_ptr<const kv::ClusterMap> peers_map_;
  // Nodes that have left, and until when there are streams to them.
  absl::flat_hash_map<raft::NodeId, int64_t> left_until_;

  // In the order in which they are made, which no one else may change.
  std::unique_ptr<RpcLoop> loop_;
  std::unique_ptr<KeyValueService> key_value_;
  std::unique_ptr<ClusterService> cluster_;
  std::unique_ptr<AdminService> admin_;
  std::unique_ptr<HealthService> health_;
  ::raft::v1::Raft::AsyncService raft_service_;
  std::unique_ptr<Poller> poller_;
  std::unique_ptr<TcpTransport> transport_;
  std::unique_ptr<SnapshotService> snapshots_;
  std::unique_ptr<NodeService> node_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> clients_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Acceptor> acceptor_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_RPC_SERVER_H_
