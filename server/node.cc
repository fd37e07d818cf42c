#include "server/node.h"

#include <stdlib.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kv/cluster_map.h"
#include "kv/engine.h"
#include "kv739/version.h"
#include "server/clock.h"
#include "server/data_directory.h"
#include "server/host.h"
#include "server/logging.h"
#include "server/metrics.h"
#include "server/replica_store.h"
#include "server/rpc_server.h"
#include "server/sync_monitor.h"
#include "server/timed_file_system.h"
#include "server/wal/wal.h"
#include "server/wal/wal_thread.h"

namespace kv739::server {
namespace {

constexpr char kExitPayload[] = "kv739/exit";

absl::Status WithExit(absl::Status status, ExitCode code) {
  status.SetPayload(kExitPayload, absl::Cord(absl::StrCat(int{code})));
  return status;
}

// Data that cannot be trusted must not be served, and must not be made worse
// by going on: the process ends here, without flushing anything.
[[noreturn]] void DieOf(const absl::Status& status) {
  LogError("stopping at once, nothing more is acknowledged: ",
           status.ToString());
  std::_Exit(kExitFailure);
}

class DeviceRandom : public raft::Random {
 public:
  uint64_t Next() override {
    return uint64_t{device_()} << 32 | uint64_t{device_()};
  }

 private:
  std::random_device device_;
};

raft::Options RaftOptions(const Settings& settings) {
  raft::Options options;
  options.election_timeout_ticks = settings.election_timeout_ticks;
  options.heartbeat_ticks = settings.heartbeat_ticks;
  options.max_append_bytes = settings.max_append_bytes;
  options.max_inflight_bytes = settings.max_inflight_bytes;
  options.max_inflight_messages = settings.max_inflight_messages;
  options.max_uncommitted_bytes = settings.max_uncommitted_bytes;
  options.max_cached_bytes = settings.entry_cache_bytes;
  return options;
}

HostOptions MakeHostOptions(const Settings& settings, raft::NodeId self) {
  HostOptions options;
  options.self = self;
  options.raft = RaftOptions(settings);
  options.loops = static_cast<int>(settings.loops);
  options.max_inbox_events = settings.max_inbox_events;
  options.max_key_bytes = settings.max_key_bytes;
  options.max_value_bytes = settings.max_value_bytes;
  options.portable_keys = settings.portable_keys;
  auto ticks = [&](uint64_t seconds) {
    return seconds * 1000 / settings.tick_ms;
  };
  options.keeper.replace_after_ticks = ticks(settings.replace_after_s);
  options.keeper.candidate_timeout_ticks = ticks(settings.candidate_timeout_s);
  options.keeper.round_ticks = settings.election_timeout_ticks;
  options.max_pending_proposals =
      static_cast<uint32_t>(settings.max_pending_proposals);
  options.snapshot.entries = settings.snapshot_entries;
  options.snapshot.log_bytes = settings.snapshot_log_bytes;
  options.snapshot.interval_s = settings.snapshot_interval_s;
  options.snapshot.trailing_entries = settings.snapshot_trailing_entries;
  return options;
}

class NodeImpl : public Node {
 public:
  explicit NodeImpl(const NodeConfig& config)
      : settings_(config.settings),
        map_(std::make_shared<const kv::ClusterMap>(
            kv::InitialClusterMap(config.cluster))),
        maps_(map_),
        file_system_(
            MakeTimedFileSystem(wal::FileSystem::Posix(), &sync_monitor_)) {}

  ~NodeImpl() override { Release(); }

  // The steps of a start, in order.
  absl::Status FindSelf(const NodeConfig& config);
  absl::Status OpenDirectory(const std::string& path);
  absl::Status OpenStorage();
  absl::Status Listen();
  absl::Status StartHost();
  absl::Status StartMetrics();
  void Serve();

  void RequestStop() override {
    absl::MutexLock lock(&stop_mutex_);
    stop_requested_ = true;
  }
  ExitCode WaitUntilStopped() override;

 private:
  void HandOver();
  // Ends and frees what was started, in the order that dependencies ask for.
  void Release();
  std::string AddressOf(raft::NodeId id) const {
    const std::shared_ptr<const kv::ClusterMap> map = maps_.Get();
    const kv::NodeInfo* node = map->FindNode(id);
    return node != nullptr ? node->address.ToString()
                           : absl::StrCat("node-", id.value());
  }
  std::vector<PeerConnectionStats> PeerStats() const;

  const Settings settings_;
  const std::shared_ptr<const kv::ClusterMap> map_;
  MapHolder maps_;
  const kv::NodeInfo* self_ = nullptr;  // in map_
  std::string address_;
  SyncMonitor sync_monitor_;
  DeviceRandom random_;

  // In the order in which they depend on each other.
  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<kv::Engine> engine_;
  std::unique_ptr<wal::FileSystem> file_system_;
  std::unique_ptr<wal::Wal> wal_;
  std::unique_ptr<wal::WalThread> wal_thread_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<BackgroundThread> background_;
  std::unique_ptr<DiskMonitor> disk_;
  std::unique_ptr<Host> host_;
  std::unique_ptr<MetricsServer> metrics_;

  absl::Mutex stop_mutex_;
  bool stop_requested_ ABSL_GUARDED_BY(stop_mutex_) = false;
};

absl::Status NodeImpl::FindSelf(const NodeConfig& config) {
  self_ = map_->FindNode(config.listen);
  address_ = config.listen.ToString();
  if (self_ != nullptr) return absl::OkStatus();
  return WithExit(
      absl::InvalidArgumentError(absl::StrCat(
          address_, " is not in the cluster file, which has ",
          absl::StrJoin(map_->nodes, ", ",
                        [](std::string* out, const kv::NodeInfo& node) {
                          out->append(node.address.ToString());
                        }))),
      kExitUsage);
}

absl::Status NodeImpl::OpenDirectory(const std::string& path) {
  auto directory =
      DataDirectory::Open(path, map_->cluster_id, self_->id, address_);
  if (!directory.ok()) return WithExit(directory.status(), kExitDirectory);
  directory_ = *std::move(directory);
  return absl::OkStatus();
}

absl::Status NodeImpl::OpenStorage() {
  kv::EngineOptions engine_options;
  engine_options.write_buffer_bytes = settings_.write_buffer_bytes;
  engine_options.block_cache_bytes = settings_.block_cache_bytes;
  engine_options.background_threads =
      static_cast<int>(settings_.storage_threads);
  auto engine = kv::OpenRocksEngine(directory_->db_path(), engine_options);
  if (!engine.ok()) return WithExit(engine.status(), kExitDirectory);
  engine_ = *std::move(engine);

  wal::WalOptions wal_options;
  wal_options.segment_bytes = settings_.wal_segment_bytes;
  wal_options.spare_segments = settings_.wal_spare_segments;
  wal_options.cache_bytes = settings_.wal_cache_bytes;
  wal_options.direct = settings_.wal_direct_io;
  auto wal =
      wal::Wal::Open(file_system_.get(), directory_->wal_path(), wal_options);
  if (!wal.ok()) return WithExit(wal.status(), kExitDirectory);
  wal_ = *std::move(wal);

  if (!directory_->initialized()) {
    absl::Status status =
        CreateReplicas(engine_.get(), wal_.get(), *map_, self_->id);
    if (status.ok()) status = directory_->MarkInitialized();
    if (!status.ok()) return WithExit(status, kExitDirectory);
    LogInfo("new data directory, cluster ", absl::Hex(map_->cluster_id),
            ", node ", absl::Hex(self_->id.value()));
  }
  return absl::OkStatus();
}

absl::Status NodeImpl::Listen() {
  RpcServerOptions options;
  options.listen = address_;
  options.address = address_;
  options.tick_ms = settings_.tick_ms;
  options.admin.allow_remote = settings_.allow_remote_admin;
  options.admin.allow_die = settings_.allow_die;
  options.admin.stop = [this] {
    LogInfo("asked to stop");
    RequestStop();
  };
  options.admin.exit_now = [] {
    LogWarn("asked to exit at once");
    std::_Exit(kExitFailure);
  };
  options.transport.cluster_id = map_->cluster_id;
  options.transport.self = self_->id;
  options.transport.incarnation = directory_->identity().incarnation;
  options.transport.check_peer = [directory = directory_.get()](
                                     raft::NodeId peer, uint64_t incarnation) {
    return directory->CheckPeer(peer, incarnation);
  };
  options.transport.max_queue_bytes = settings_.max_peer_queue_bytes;
  auto rpc = RpcServer::Create(std::move(options));
  if (!rpc.ok()) return rpc.status();
  rpc_ = *std::move(rpc);
  return absl::OkStatus();
}

absl::Status NodeImpl::StartHost() {
  auto replicas = LoadReplicas(engine_.get(), wal_.get());
  if (!replicas.ok()) return WithExit(replicas.status(), kExitDirectory);
  for (const HostedReplica& replica : *replicas) {
    LogInfo("group ", replica.group.value(), ": log to ",
            replica.state.last_index.value(), ", applied to ",
            replica.state.applied.value(), ", ", replica.state.entries.size(),
            " entries to replay, term ", replica.state.hard_state.term.value());
  }
  wal_thread_ = wal::WalThread::Start(
      wal_.get(), [](const absl::Status& status) { DieOf(status); });
  HostParts parts;
  parts.engine = engine_.get();
  parts.log = wal_thread_.get();
  parts.transport = rpc_->transport();
  parts.clock = Clock::Real();
  parts.maps = &maps_;
  background_ = std::make_unique<BackgroundThread>();
  parts.background = background_.get();
  disk_ = std::make_unique<DiskMonitor>(
      DiskMonitor::OfDirectory(directory_->db_path()),
      settings_.disk_reserve_bytes);
  parts.disk = disk_.get();
  parts.install_dir = directory_->install_path();
  parts.random = &random_;
  parts.on_failure = [](const absl::Status& status) { DieOf(status); };
  auto host = Host::Create(MakeHostOptions(settings_, self_->id), parts,
                           *std::move(replicas));
  if (!host.ok()) return host.status();
  host_ = *std::move(host);
  return absl::OkStatus();
}

std::vector<PeerConnectionStats> NodeImpl::PeerStats() const {
  std::vector<PeerConnectionStats> all;
  for (const PeerState& state : rpc_->Peers()) {
    PeerConnectionStats peer;
    peer.peer = state.address;
    peer.connected = state.connected;
    peer.queued_bytes = state.queue_bytes;
    peer.connects = state.connects;
    peer.dropped_messages = state.dropped_messages;
    all.push_back(std::move(peer));
  }
  return all;
}

absl::Status NodeImpl::StartMetrics() {
  MetricsOptions options;
  options.host = settings_.metrics_host;
  options.port = settings_.metrics_port != 0
                     ? static_cast<uint16_t>(settings_.metrics_port)
                     : self_->metrics_port;
  MetricsParts parts;
  parts.host = [this](absl::AnyInvocable<void(HostStats)> done) {
    host_->CollectStats(std::move(done));
  };
  parts.address_of = [this](raft::NodeId id) { return AddressOf(id); };
  parts.wal = [this] { return wal_->stats(); };
  parts.peers = [this] { return PeerStats(); };
  parts.syncs = &sync_monitor_;
  auto metrics = MetricsServer::Start(options, std::move(parts));
  if (!metrics.ok()) return metrics.status();
  metrics_ = *std::move(metrics);
  return absl::OkStatus();
}

void NodeImpl::Serve() {
  rpc_->Start(host_.get());
  LogInfo("kv739d ", kVersion, " (", kGitRevision, ") listening on ", address_,
          ", metrics on port ", metrics_->port());
}

// ---- the end ----

ExitCode NodeImpl::WaitUntilStopped() {
  {
    absl::MutexLock lock(&stop_mutex_);
    stop_mutex_.Await(absl::Condition(&stop_requested_));
  }
  HandOver();
  LogInfo("draining requests");
  rpc_->Shutdown(absl::Now() + absl::Seconds(2));
  host_->Stop();
  LogInfo("requests drained");
  metrics_.reset();
  background_->Stop();
  wal_thread_.reset();
  absl::Status status = engine_->Flush();
  if (!status.ok()) {
    // Nothing is lost: the log replays it.
    LogWarn("the store could not be flushed: ", status.ToString());
  } else {
    LogInfo("data flushed");
  }
  Release();
  LogInfo("server stopped gracefully");
  return kExitStopped;
}

void NodeImpl::HandOver() {
  LogInfo("stopping: handing over leaderships");
  rpc_->BeginStop();
  // Shared: the host may answer after we have stopped waiting.
  struct Result {
    absl::Notification done;
    int still_led = 0;
  };
  auto result = std::make_shared<Result>();
  host_->BeginStop([result](int still_led) {
    result->still_led = still_led;
    result->done.Notify();
  });
  if (!result->done.WaitForNotificationWithTimeout(
          absl::Milliseconds(settings_.stop_timeout_ms))) {
    LogWarn("leaderships not handed over within ", settings_.stop_timeout_ms,
            " ms");
  } else if (result->still_led > 0) {
    LogWarn(result->still_led, " groups have nobody to take over");
  } else {
    LogInfo("leaderships handed over");
  }
}

void NodeImpl::Release() {
  metrics_.reset();
  if (rpc_ != nullptr) rpc_->Shutdown(absl::Now());
  if (background_ != nullptr) background_->Stop();
  wal_thread_.reset();
  host_.reset();
  background_.reset();
  rpc_.reset();
  wal_.reset();
  engine_.reset();
  directory_.reset();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Node>> Node::Start(const NodeConfig& config) {
  auto node = std::make_unique<NodeImpl>(config);
  absl::Status status = node->FindSelf(config);
  if (status.ok()) status = node->OpenDirectory(config.data_dir);
  // The port before the data: a second server on it must not touch anything.
  if (status.ok()) status = node->Listen();
  if (status.ok()) status = node->OpenStorage();
  if (status.ok()) status = node->StartHost();
  if (status.ok()) status = node->StartMetrics();
  if (!status.ok()) return status;
  node->Serve();
  return node;
}

ExitCode Node::ExitCodeFor(const absl::Status& status) {
  if (status.ok()) return kExitStopped;
  auto payload = status.GetPayload(kExitPayload);
  if (!payload) return kExitFailure;
  return static_cast<ExitCode>(std::stoi(std::string(*payload)));
}

}  // namespace kv739::server
