#include "server/rpc_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/server_builder.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "server/credentials.h"
#include "server/listen_address.h"

namespace kv739::server {
namespace {

constexpr char kKeyValueName[] = "kv739.v1.KeyValue";
// Serve as long as the process does.
constexpr const char* kOtherNames[] = {"kv739.v1.Cluster", "kv739.v1.Admin",
                                       "raft.v1.Raft"};

void SetArguments(const RpcServerOptions& options,
                  grpc::ServerBuilder* builder) {
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3'000);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // Peers and clients ping every 10 s; less than half of that is abuse.
  builder->AddChannelArgument(
      GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 4'000);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                              options.max_connection_calls);
  builder->SetMaxReceiveMessageSize(options.max_receive_bytes);
  builder->SetMaxSendMessageSize(-1);
  // Reflection is the only user of threads; beside a polled queue they wait
  // and do not poll.
  builder->SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder->SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
}

}  // namespace

absl::StatusOr<std::unique_ptr<RpcServer>> RpcServer::Create(
    RpcServerOptions options) {
  if (options.address.empty()) options.address = options.listen;
  if (!options.admin.exit_now) options.admin.exit_now = [] { _exit(1); };
  if (!options.admin.stop) options.admin.stop = [] {};
  std::unique_ptr<RpcServer> server(new RpcServer(std::move(options)));
  if (absl::Status status = server->Listen(); !status.ok()) return status;
  return server;
}

RpcServer::RpcServer(RpcServerOptions options) : options_(std::move(options)) {}

absl::Status RpcServer::Listen() {
  absl::StatusOr<Listening> listening = ListenOn(options_.listen);
  if (!listening.ok()) return listening.status();
  port_ = listening->port;
  if (options_.reflection) {
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  }
  grpc::ServerBuilder builder;
  SetArguments(options_, &builder);
  using Acceptors = grpc::ServerBuilder::experimental_type;
  clients_ = builder.experimental().AddExternalConnectionAcceptor(
      Acceptors::ExternalConnectionType::FROM_FD, MakeServerCredentials());
  loop_ =
      std::make_unique<RpcLoop>(builder.AddCompletionQueue(),
                                std::make_shared<RpcShared>(), options_.clock);
  key_value_ =
      std::make_unique<KeyValueService>(loop_.get(), options_.key_value);
  cluster_ = std::make_unique<ClusterService>(
      loop_.get(), ClusterService::Node{
                       options_.transport.cluster_id, options_.transport.self,
                       options_.address, [this] { return healthy_; }});
  admin_ = std::make_unique<AdminService>(loop_.get(), options_.admin);
  health_ = std::make_unique<HealthService>(loop_.get());
  poller_ = std::make_unique<Poller>();
  transport_ = std::make_unique<TcpTransport>(
      poller_.get(), &loop_->shared()->map_epoch, options_.transport);
  snapshots_ = std::make_unique<SnapshotService>(
      loop_.get(), &raft_service_,
      [this](const PeerIdentity& caller) {
        return transport_->CheckCaller(caller);
      },
      options_.snapshots);
  options_.node.cluster_id = options_.transport.cluster_id;
  node_ =
      std::make_unique<NodeService>(loop_.get(), &raft_service_, options_.node);
  builder.RegisterService(key_value_->service());
  builder.RegisterService(cluster_->service());
  builder.RegisterService(admin_->service());
  builder.RegisterService(health_->service());
  builder.RegisterService(&raft_service_);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr) {
    return absl::FailedPreconditionError("gRPC does not start");
  }
  Accept(std::move(listening->sockets));
  return absl::OkStatus();
}

// From now on clients have connections, and whoever asks waits until Start().
void RpcServer::Accept(std::vector<Socket> sockets) {
  Acceptor::Options options;
  options.on_peer = [this](Socket socket, const PeerIdentity& identity) {
    transport_->Accept(std::move(socket), identity);
  };
  options.on_bad_peer = [this](int fd, const absl::Status& why) {
    transport_->RefuseOpening(fd, why);
  };
  options.on_other = [this](Socket socket, int listener) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters
        connection;
    connection.listener_fd = listener;
    if (options_.client_sockets != nullptr) {
      options_.client_sockets->Add(socket.fd());
    }
    connection.fd = socket.Release();
    clients_->HandleNewConnection(&connection);
  };
  acceptor_ = std::make_unique<Acceptor>(poller_.get(), std::move(sockets),
                                         std::move(options));
  poller_->SetTurnEnd([this] { transport_->EndTurn(); });
  acceptor_->Start();
  poller_->Start();
}

RpcServer::~RpcServer() { Shutdown(absl::Now()); }

void RpcServer::Start(RequestHandler* handler, SnapshotProvider* snapshots) {
  handler_ = handler;
  const std::shared_ptr<const kv::ClusterMap> map = handler->map();
  transport_->SetMapEpoch(map->epoch);
  for (const char* name : kOtherNames) health_->SetStatus(name, true);
  UpdateHealth();
  key_value_->Start();
  cluster_->Start();
  admin_->Start();
  health_->Start();
  snapshots_->Start(snapshots);
  node_->Start();
  transport_->Start(handler, PeersOf(*map));
  peers_map_ = map;
  loop_->Start(handler, options_.tick_ms, [this] { OnTick(); });
}

void RpcServer::SetPeers(std::shared_ptr<const kv::ClusterMap> map) {
  loop_->Post(
      [this, map = std::move(map)]() mutable { UpdatePeers(std::move(map)); });
}

void RpcServer::UpdatePeers(std::shared_ptr<const kv::ClusterMap> map) {
  // Before Start() or after the stop there is no map to compare with.
  if (handler_ == nullptr || map->epoch <= peers_map_->epoch) return;
  transport_->SetPeers(PeersOf(*map));
  transport_->SetMapEpoch(map->epoch);
  peers_map_ = std::move(map);
}

std::vector<TcpTransport::Peer> RpcServer::PeersOf(const kv::ClusterMap& map) {
  std::vector<TcpTransport::Peer> peers;
  absl::flat_hash_set<std::string> addresses;  // in use
  for (const kv::NodeInfo& node : map.nodes) {
    if (node.state != kv::NodeState::kLeft) {
      addresses.insert(node.address.ToString());
    }
  }
  for (const kv::NodeInfo& node : map.nodes) {
    const std::string address = node.address.ToString();
    bool connect = true;
    if (node.state == kv::NodeState::kLeft) {
      // One that was never seen otherwise has no stream to be told on.
      const kv::NodeInfo* before =
          peers_map_ != nullptr ? peers_map_->FindNode(node.id) : nullptr;
      const bool was_there =
          before != nullptr && before->state != kv::NodeState::kLeft;
      auto [it, first] =
          left_until_.try_emplace(node.id, was_there ? ticks_ + kLeftTicks : 0);
      // Where another node has taken its place it is not there any more.
      connect = ticks_ < it->second && !addresses.contains(address);
    }
    peers.push_back({node.id, address, connect});
  }
  absl::erase_if(left_until_, [&map](const auto& left) {
    return map.FindNode(left.first) == nullptr;
  });
  return peers;
}

void RpcServer::OnTick() {
  ++ticks_;
  UpdatePeers(handler_->map());
  const bool time_is_up =
      std::any_of(left_until_.begin(), left_until_.end(),
                  [this](const auto& left) { return left.second == ticks_; });
  if (time_is_up) transport_->SetPeers(PeersOf(*peers_map_));
  if (ticks_ % kHealthTicks == 0 || draining_.load()) UpdateHealth();
}

void RpcServer::UpdateHealth() {
  healthy_ = !draining_.load() && handler_->AllGroupsHaveLeader();
  health_->SetStatus(kKeyValueName, healthy_);
  // The server as a whole is there for keys and values.
  health_->SetStatus("", healthy_);
}

void RpcServer::Shutdown(absl::Time deadline) {
  if (stopped_ || loop_ == nullptr) return;
  stopped_ = true;
  const std::shared_ptr<RpcShared> shared = loop_->shared();
  if (handler_ != nullptr) {
    draining_.store(true);
    shared->stopping.store(true);
    loop_->Post([this] {
      UpdateHealth();
      key_value_->BeginStop();
      health_->BeginStop();
      snapshots_->BeginStop();
    });
    shared->WaitForCalls(deadline);
  }
  // Only now: writes under way needed the peers.
  if (acceptor_ != nullptr) {
    poller_->Stop();
    acceptor_->Stop();
    transport_->Stop();
  }
  if (server_ != nullptr) {
    const gpr_timespec until =
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(absl::ToInt64Milliseconds(kGoodbye),
                                          GPR_TIMESPAN));
    server_->Shutdown(until);
  }
  loop_->Shutdown();
  if (key_value_ != nullptr) {
    key_value_->Release();
    cluster_->Release();
    admin_->Release();
    health_->Release();
    snapshots_->Release();
    node_->Release();
  }
  server_.reset();
  // Kept: transport_ and its poller_ for those who still send, loop_ for its
  // events' sake.
  handler_ = nullptr;
  key_value_.reset();
  cluster_.reset();
  admin_.reset();
  health_.reset();
}

}  // namespace kv739::server
