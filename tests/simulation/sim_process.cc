#include "tests/simulation/sim_process.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/replica.h"
#include "server/replica_store.h"

namespace kv739::world {
namespace {

constexpr uint64_t kTickNanos = 20 * kMillisecond;
constexpr uint64_t kReserveBytes = 1 << 30;

}  // namespace

void SimServer::Transport::Send(raft::NodeId to,
                                std::vector<server::GroupMessage> messages) {
  if (server_->doomed_) return;
  for (const server::GroupMessage& message : messages) {
    server_->world_->checks().OnSend(server_->id(), to, message.group,
                                     message.message,
                                     server_->DurableLog(message.group));
  }
  PeerBatch batch;
  batch.messages = std::move(messages);
  batch.epoch = epoch_;
  server_->outbox_.emplace_back(to, std::move(batch));
}

void SimServer::Transport::SendToNode(raft::NodeId to,
                                      server::NodeMessage message) {
  if (server_->doomed_) return;
  PeerBatch batch;
  batch.of_node = std::move(message);
  batch.epoch = epoch_;
  server_->outbox_.emplace_back(to, std::move(batch));
}

void SimServer::Jobs::RunNext() {
  running_ = true;
  sim::SimRandom& random = server_->world_->random();
  const uint64_t slow = random.Chance(1, 10) ? 200'000 : 10'000;
  server_->After(random.Between(100, slow) * kMicrosecond, [this] {
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    job();
    job = nullptr;
    if (jobs_.empty()) {
      running_ = false;
    } else {
      RunNext();
    }
  });
}

// ---- a start, once it is known who this is ----

absl::StatusOr<std::vector<server::HostedReplica>> SimServer::OpenStorage(
    const kv::ClusterMap& first) {
  wal::WalOptions options;
  options.segment_bytes = world_->profile().segment_bytes;
  options.cache_bytes = 64 << 10;
  options.direct = world_->profile().direct;
  options.format_version =
      upgraded_ ? wal::kFormatVersion : wal::kFormatVersion - 1;
  options.new_log_id = world_->random().Next() | 1;
  auto wal = wal::Wal::Open(&disk_->files, "/wal", options);
  if (!wal.ok()) return wal.status();
  process_->wal = *std::move(wal);
  if (!disk_->directory.initialized()) {
    absl::Status status =
        server::CreateReplicas(&disk_->store, process_->wal.get(), first, id());
    if (!status.ok()) return status;
    disk_->directory.MarkInitialized().IgnoreError();
  }
  return server::LoadReplicas(&disk_->store, process_->wal.get(),
                              disk_->directory.install_path());
}

// P10: what this disk was told to keep is there.
void SimServer::CheckFound(const std::vector<server::HostedReplica>& replicas) {
  ShadowLogs found;
  for (const server::HostedReplica& replica : replicas) {
    found[replica.group] = ShadowOf(replica.state);
  }
  for (const auto& [group, durable] : disk_->durable) {
    const std::string missing =
        Missing(durable, found[group], disk_->under_way, group);
    if (missing.empty()) continue;
    world_->checks().Fail(
        absl::StrCat("P10 server ", index_, " group ", group.value(),
                     " starts without what its disk had: ", missing,
                     suspect_ ? " (after damage)" : ""));
  }
  disk_->durable = found;
  disk_->under_way.clear();
  written_ = std::move(found);
}

void SimServer::Serve(std::shared_ptr<const kv::ClusterMap> map,
                      const kv::ClusterMap& first) {
  process_ = std::make_unique<Process>();
  process_->maps = std::make_unique<server::MapHolder>(std::move(map));
  process_->random = std::make_unique<sim::SimRandom>(world_->random().Next());
  process_->jobs = std::make_unique<Jobs>(this);
  auto replicas = OpenStorage(first);
  if (doomed_) return;
  if (!replicas.ok()) return StartFailed(replicas.status());
  CheckFound(*replicas);
  suspect_ = false;
  process_->maps->Listen([this] { OnNewMap(); });
  OnNewMap();
  StartLog();
  absl::Status status = StartHost(*std::move(replicas));
  if (!status.ok()) return StartFailed(status);
  state_ = State::kRunning;
  Note("serves");
  world_->net().ServerUp(index_);
  Tick();
}

void SimServer::StartFailed(const absl::Status& status) {
  Note("start failed", static_cast<uint64_t>(status.code()));
  const bool lost = absl::IsDataLoss(status) && suspect_;
  const bool failed = injected_ || full_ || absl::IsAborted(status) ||
                      world_->now() < unreadable_until_;
  if (!lost && !failed) {
    world_->checks().Fail(absl::StrCat("P10 server ", index_,
                                       " does not start: ", status.ToString()));
  }
  EndProcess();
  disk_->store.Crash();
  if (absl::IsAborted(status)) {
    disk_->files.PowerLoss([this] { return world_->random().Chance(1, 2); });
  } else {
    disk_->files.Restart();
  }
  state_ = State::kDown;
  if (!lost) return StartAfter(kSecond / 2);
  // Whoever operates it sees that it does not start, and gives it a new disk.
  world_->queue().Add(world_->now() + kSecond, [this, life = life_] {
    if (life != life_) return;
    Wipe();
    Start();
  });
}

void SimServer::StartLog() {
  SimLog::Parts parts;
  parts.wal = process_->wal.get();
  parts.random = &world_->random();
  parts.after = [this](uint64_t delay, Task task) {
    After(delay, std::move(task));
  };
  parts.write_nanos = [this] { return WriteNanos(); };
  parts.on_submit = [this](const wal::GroupWrite& write) {
    if (!write.remove_group) {
      world_->checks().OnWrite(id(), written_[write.group], write);
    }
    Write(write, &written_);
  };
  parts.on_durable = [this](const wal::GroupWrite& write) {
    Write(write, &disk_->durable);
  };
  parts.on_failure = [this](const absl::Status&,
                            std::deque<wal::GroupWrite> writes) {
    Note("log failed");
    disk_->under_way = std::move(writes);
    Doom(world_->random().Chance(1, 2));
  };
  process_->log = std::make_unique<SimLog>(std::move(parts));
}

absl::Status SimServer::StartHost(std::vector<server::HostedReplica> replicas) {
  const Profile& p = world_->profile();
  server::HostOptions options;
  options.self = id();
  options.loops = p.servers >= 10 ? 2 : 1;
  options.gather_from = p.gather_from;
  options.raft.hold_back_nanos = uint64_t{p.hold_back_ms} * 1'000'000;
  options.raft.quiesce_after_ticks = p.quiesce_after_ticks;
  options.keeper.replace_after_ticks = p.replace_after_ticks;
  options.keeper.candidate_timeout_ticks = 250;
  options.audit.interval_ticks = p.has(Fault::kAudit) ? 250 : 15'000;
  options.snapshot.entries = p.snapshot_entries;
  options.snapshot.trailing_entries = p.trailing_entries;
  options.snapshot.min_gap_ms = p.has(Fault::kSnapshots) ? 100 : 2'000;
  if (p.leases) {
    options.raft.lease_nanos =
        raft::LeaseNanos(options.raft.election_timeout_ticks, kTickNanos);
  }
  process_->transport = std::make_unique<Transport>(this);
  process_->fetcher = std::make_unique<Fetcher>(this);
  process_->monitor = std::make_unique<server::DiskMonitor>(
      [this]() -> std::optional<uint64_t> {
        return full_ ? 0 : uint64_t{1} << 40;
      },
      kReserveBytes);
  server::HostParts parts;
  parts.engine = &disk_->store;
  parts.log = process_->log.get();
  parts.transport = process_->transport.get();
  parts.clock = &clock_;
  parts.make_timer = [this](std::function<void()> wake) {
    return std::make_unique<Timer>(this, std::move(wake));
  };
  parts.maps = process_->maps.get();
  parts.background = process_->jobs.get();
  parts.disk = process_->monitor.get();
  parts.random = process_->random.get();
  parts.fetcher = process_->fetcher.get();
  parts.on_failure = [this](const absl::Status& status) {
    Note("host failed", static_cast<uint64_t>(status.code()));
    if (!injected_ && !suspect_ && !doomed_ && !full_) {
      world_->checks().Fail(
          absl::StrCat("P10 server ", index_, " fails: ", status.ToString()));
    }
    Doom(false);
  };
  auto host = server::Host::Create(options, parts, std::move(replicas));
  if (!host.ok()) return host.status();
  process_->host = *std::move(host);
  return absl::OkStatus();
}

// ---- while it runs ----

// A late tick is not made up for.
void SimServer::Tick() {
  After(kTickNanos * 1000 / clock_.rate(), [this] {
    process_->host->Tick();
    process_->host->ForEachReplica([this](const server::Replica& replica) {
      world_->result().rests += replica.core().quiet() && replica.Rests();
    });
    Tick();
  });
}

// As server/node.cc: saves it, and ends when it says that this node has left.
void SimServer::OnNewMap() {
  if (!process_->saving_map) {
    process_->saving_map = true;
    process_->jobs->Run([this] {
      process_->saving_map = false;
      disk_->directory.SaveMap(process_->maps->Get());
    });
  }
  const auto map = process_->maps->Get();
  const kv::NodeInfo* self = map->FindNode(id());
  if (self == nullptr || self->state != kv::NodeState::kLeft || gone_) return;
  Note("has left");
  gone_ = true;
  world_->queue().Add(world_->now(), [this, life = life_] {
    if (life != life_) return;
    if (state_ == State::kRunning && !paused_) return Restart(0);
    Crash(false, 0);
  });
}

}  // namespace kv739::world
