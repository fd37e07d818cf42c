#include "server/node.h"

#include <linux/close_range.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kv/cluster_map.h"
#include "kv/engine.h"
#include "kv739/version.h"
#include "server/client_sockets.h"
#include "server/clock.h"
#include "server/data_directory.h"
#include "server/host.h"
#include "server/identity_file.h"
#include "server/joining.h"
#include "server/logging.h"
#include "server/map_file.h"
#include "server/map_seeker.h"
#include "server/metrics.h"
#include "server/node_questions.h"
#include "server/replica_store.h"
#include "server/rpc_server.h"
#include "server/snapshot_fetcher.h"
#include "server/sync_monitor.h"
#include "server/timed_file_system.h"
#include "server/wal/wal.h"
#include "server/wal/wal_thread.h"

namespace kv739::server {
namespace {

// Data that cannot be trusted must not be served, and must not be made worse
// by going on: the process ends here, without flushing anything.
[[noreturn]] void DieOf(const absl::Status& status) {
  LogError("stopping at once, nothing more is acknowledged: ",
           status.ToString());
  std::_Exit(kExitFailure);
}

// The same process, from its beginning: as safe as its end and a new start, and
// nobody needs to be there for it.
[[noreturn]] void StartAfresh(const absl::Status& status) {
  LogWarn("starting afresh: ", status.message());
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  // Sockets, files and their locks.
  syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
  execv("/proc/self/exe", arguments.data());
  DieOf(status);
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
  options.gone_timeout_ticks = settings.gone_timeout_ticks;
  options.quiesce_after_ticks = settings.quiesce_after_ticks;
  options.read_rounds_to_majority = true;
  options.max_append_bytes = settings.max_append_bytes;
  options.max_inflight_bytes = settings.max_inflight_bytes;
  options.max_inflight_messages = settings.max_inflight_messages;
  options.max_uncommitted_bytes = settings.max_uncommitted_bytes;
  options.max_cached_bytes = settings.entry_cache_bytes;
  options.hold_back_nanos = uint64_t{settings.hold_back_ms} * 1'000'000;
  if (settings.read_leases) {
    options.lease_nanos =
        raft::LeaseNanos(settings.election_timeout_ticks,
                         uint64_t{settings.tick_ms} * 1'000'000);
  }
  return options;
}

HostOptions MakeHostOptions(const Settings& settings, raft::NodeId self) {
  HostOptions options;
  options.self = self;
  options.raft = RaftOptions(settings);
  options.loops = static_cast<int>(settings.loops);
  options.gather_from = settings.gather_from;
  options.max_inbox_events = settings.max_inbox_events;
  options.max_key_bytes = settings.max_key_bytes;
  options.max_value_bytes = settings.max_value_bytes;
  options.portable_keys = settings.portable_keys;
  auto ticks = [&](uint64_t seconds) {
    return seconds * 1000 / settings.tick_ms;
  };
  options.keeper.replace_after_ticks = ticks(settings.replace_after_s);
  options.keeper.candidate_timeout_ticks = ticks(settings.candidate_timeout_s);
  options.balance.enabled = settings.balance_leaders;
  options.balance.look_ticks = std::max<uint64_t>(1, 1000 / settings.tick_ms);
  options.balance.rest_ticks = ticks(10);
  options.audit.interval_ticks = ticks(settings.audit_interval_s);
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
        file_(config.cluster),
        address_(config.listen.ToString()),
        maps_(std::make_shared<const kv::ClusterMap>(
            kv::InitialClusterMap(config.cluster))),
        file_system_(
            MakeTimedFileSystem(wal::FileSystem::Posix(), &sync_monitor_)) {}

  ~NodeImpl() override { Release(); }

  // The steps of a start, in order.
  absl::Status FindSelf(const NodeConfig& config);
  absl::Status JoinCluster(const NodeConfig& config);
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
  void OnNewMap();
  void SeekMaps();
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
  const kv::ClusterFile file_;
  const std::string address_;
  kv::NodeInfo self_;
  MapHolder maps_;
  Membership membership_;  // without its directory, which is below
  std::atomic<bool> left_{false};
  SyncMonitor sync_monitor_;
  DeviceRandom random_;

  // In the order in which they depend on each other.
  std::unique_ptr<DataDirectory> directory_;
  std::unique_ptr<kv::Engine> engine_;
  std::unique_ptr<wal::FileSystem> file_system_;
  std::unique_ptr<wal::Wal> wal_;
  std::unique_ptr<wal::WalThread> wal_thread_;
  ClientSockets client_sockets_;
  std::unique_ptr<RpcServer> rpc_;
  std::unique_ptr<BackgroundThread> background_;
  std::unique_ptr<MapSaver> map_saver_;
  std::unique_ptr<DiskMonitor> disk_;
  std::unique_ptr<GrpcSnapshotFetcher> fetcher_;
  std::unique_ptr<Host> host_;
  std::unique_ptr<MetricsServer> metrics_;
  std::unique_ptr<MapSeeker> seeker_;

  absl::Mutex stop_mutex_;
  bool stop_requested_ ABSL_GUARDED_BY(stop_mutex_) = false;
};

MembershipConfig ToMembershipConfig(const NodeConfig& config) {
  MembershipConfig membership;
  membership.cluster = config.cluster;
  membership.listen = config.listen;
  membership.data_dir = config.data_dir;
  membership.join = config.join;
  membership.metrics_port = config.metrics_port;
  membership.http_port = config.http_port;
  membership.cancel = config.cancel;
  return membership;
}

absl::Status NodeImpl::FindSelf(const NodeConfig& config) {
  auto membership =
      BeginMembership(ToMembershipConfig(config), OverTheNetwork());
  if (!membership.ok()) return membership.status();
  membership_ = *std::move(membership);
  directory_ = std::move(membership_.directory);
  self_ = membership_.self;
  maps_.Begin(membership_.map);
  return absl::OkStatus();
}

absl::Status NodeImpl::JoinCluster(const NodeConfig& config) {
  if (membership_.joining) {
    absl::Status status = Join(ToMembershipConfig(config), OverTheNetwork(),
                               directory_.get(), &membership_);
    if (!status.ok()) return status;
    maps_.Begin(membership_.map);
  }
  background_ = std::make_unique<BackgroundThread>();
  map_saver_ = std::make_unique<MapSaver>(directory_->map_path(), &maps_,
                                          background_.get(), 0);
  maps_.Listen([this] { OnNewMap(); });
  map_saver_->OnNewMap();
  return absl::OkStatus();
}

// A newer map. Whichever thread brought it must not wait for us.
void NodeImpl::OnNewMap() {
  map_saver_->OnNewMap();
  const MapHolder::Map map = maps_.Get();
  const kv::NodeInfo* self = map->FindNode(self_.id);
  if (self == nullptr || self->state != kv::NodeState::kLeft) return;
  if (!left_.exchange(true)) {
    LogInfo("this server has left the cluster (map epoch ", map->epoch,
            "); stopping");
  }
  RequestStop();
}

absl::Status NodeImpl::OpenStorage() {
  kv::EngineOptions engine_options;
  engine_options.write_buffer_bytes = settings_.write_buffer_bytes;
  engine_options.block_cache_bytes = settings_.block_cache_bytes;
  engine_options.background_threads =
      static_cast<int>(settings_.storage_threads);
  auto engine = kv::OpenRocksEngine(directory_->db_path(), engine_options);
  if (!engine.ok()) return WithExit(engine.status(), kExitDirectory);
  // A generation goes to RocksDB past its write buffers. The larger it is, the
  // more of what was written again in it is written out once.
  kv::BufferOptions buffer;
  buffer.write_out_bytes = settings_.write_buffer_bytes;
  buffer.max_dirty_bytes = 2 * buffer.write_out_bytes;
  buffer.cache_bytes = settings_.write_buffer_bytes;
  engine_ = kv::NewBufferedEngine(*std::move(engine), buffer);

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
        CreateReplicas(engine_.get(), wal_.get(), membership_.first, self_.id);
    if (status.ok()) status = directory_->MarkInitialized();
    if (!status.ok()) return WithExit(status, kExitDirectory);
    LogInfo("new data directory, cluster ",
            FormatId(directory_->identity().cluster_id), ", node ",
            FormatId(self_.id.value()));
  }
  return absl::OkStatus();
}

absl::Status NodeImpl::Listen() {
  RpcServerOptions options;
  options.listen = address_;
  options.address = address_;
  options.tick_ms = settings_.tick_ms;
  options.client_sockets = &client_sockets_;
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
  options.admin.directory.is_there = [this](raft::NodeId id) {
    return id == self_.id || rpc_->transport()->Connected(id);
  };
  options.admin.directory.propose = [this](const kv::DirectoryChange& change,
                                           DirectoryDone done) {
    host_->ProposeDirectoryChange(change, std::move(done));
  };
  options.admin.check =
      [this](raft::GroupId group,
             absl::AnyInvocable<void(absl::StatusOr<AuditResult>)> done) {
        host_->Check(group, std::move(done));
      };
  options.snapshots.bytes_per_second = settings_.snapshot_send_bytes_per_s;
  options.transport.cluster_id = directory_->identity().cluster_id;
  options.transport.self = self_.id;
  options.transport.incarnation = directory_->identity().incarnation;
  options.transport.check_peer = [directory = directory_.get()](
                                     raft::NodeId peer, uint64_t incarnation) {
    return directory->CheckPeer(peer, incarnation);
  };
  options.transport.max_queue_bytes = settings_.max_peer_queue_bytes;
  options.node = AnswerOverTheNetwork(&maps_, directory_.get(),
                                      options.admin.directory.propose);
  auto rpc = RpcServer::Create(std::move(options));
  if (!rpc.ok()) return rpc.status();
  rpc_ = *std::move(rpc);
  return absl::OkStatus();
}

absl::Status NodeImpl::StartHost() {
  auto replicas =
      LoadReplicas(engine_.get(), wal_.get(), directory_->install_path());
  if (!replicas.ok()) return WithExit(replicas.status(), kExitDirectory);
  for (const HostedReplica& replica : *replicas) {
    LogInfo("group ", replica.group.value(), ": log to ",
            replica.state.last_index.value(), ", applied to ",
            replica.state.applied.value(), ", ", replica.state.entries.size(),
            " entries to replay, term ", replica.state.hard_state.term.value());
  }
  wal_thread_ = wal::WalThread::Start(
      wal_.get(), [](const absl::Status& status) { DieOf(status); });
  GrpcSnapshotFetcher::Options fetches;
  fetches.self.cluster_id = directory_->identity().cluster_id;
  fetches.self.from = self_.id;
  fetches.self.incarnation = directory_->identity().incarnation;
  fetches.address_of = [this](raft::NodeId id) {
    const std::shared_ptr<const kv::ClusterMap> map = maps_.Get();
    const kv::NodeInfo* node = map->FindNode(id);
    return node != nullptr ? node->address.ToString() : std::string();
  };
  fetcher_ = std::make_unique<GrpcSnapshotFetcher>(std::move(fetches));
  HostParts parts;
  parts.fetcher = fetcher_.get();
  parts.engine = engine_.get();
  parts.log = wal_thread_.get();
  parts.transport = rpc_->transport();
  parts.clock = Clock::Real();
  parts.make_timer = [this](std::function<void()> wake) {
    return rpc_->MakeTimer(std::move(wake));
  };
  parts.client_sockets = &client_sockets_;
  parts.maps = &maps_;
  parts.background = background_.get();
  disk_ = std::make_unique<DiskMonitor>(
      DiskMonitor::OfDirectory(directory_->db_path()),
      settings_.disk_reserve_bytes);
  parts.disk = disk_.get();
  parts.install_dir = directory_->install_path();
  parts.random = &random_;
  parts.on_failure = [](const absl::Status& status) {
    if (absl::IsAborted(status)) StartAfresh(status);
    DieOf(status);
  };
  auto host = Host::Create(MakeHostOptions(settings_, self_.id), parts,
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
                     : self_.metrics_port;
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
  rpc_->Start(host_.get(), host_->snapshots());
  LogInfo("kv739d ", kVersion, " (", kGitRevision, ") listening on ", address_,
          ", metrics on port ", metrics_->port());
  SeekMaps();
}

void NodeImpl::SeekMaps() {
  MapSeeker::Parts parts;
  parts.self = self_.id;
  parts.maps = &maps_;
  parts.connected = [this](raft::NodeId id) {
    return rpc_->transport()->Connected(id);
  };
  parts.inquire =
      [inquire = OverTheNetwork().inquire, own = self_.address](
          const kv::Address& to,
          absl::Duration timeout) -> absl::StatusOr<kv::ClusterMap> {
    auto answer = inquire(to, own, timeout);
    if (!answer.ok()) return answer.status();
    return std::move(answer->map);
  };
  for (const kv::ServerLine& line : file_.servers) {
    if (!(line.address == self_.address)) parts.others.push_back(line.address);
  }
  seeker_ = std::make_unique<MapSeeker>(std::move(parts));
  seeker_->Start();
}

// ---- the end ----

ExitCode NodeImpl::WaitUntilStopped() {
  {
    absl::MutexLock lock(&stop_mutex_);
    stop_mutex_.Await(absl::Condition(&stop_requested_));
  }
  HandOver();
  seeker_.reset();
  LogInfo("draining requests");
  rpc_->Shutdown(absl::Now() + absl::Seconds(2));
  host_->Stop();
  fetcher_.reset();
  LogInfo("requests drained");
  metrics_.reset();
  background_->Stop();
  map_saver_->Save();
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
  seeker_.reset();
  metrics_.reset();
  if (rpc_ != nullptr) rpc_->Shutdown(absl::Now());
  // The host lets go of the fetcher before that ends.
  if (host_ != nullptr && fetcher_ != nullptr) host_->Stop();
  fetcher_.reset();
  if (background_ != nullptr) background_->Stop();
  wal_thread_.reset();
  host_.reset();
  map_saver_.reset();
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
  // The port before the data, and before anybody is told: a second server on it
  // must not touch anything.
  if (status.ok()) status = node->Listen();
  if (status.ok()) status = node->JoinCluster(config);
  if (status.ok()) status = node->OpenStorage();
  if (status.ok()) status = node->StartHost();
  if (status.ok()) status = node->StartMetrics();
  if (!status.ok()) return status;
  node->Serve();
  return node;
}

ExitCode Node::ExitCodeFor(const absl::Status& status) {
  return ExitCodeOf(status);
}

}  // namespace kv739::server
