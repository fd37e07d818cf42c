#include "server/host.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "server/gate.h"
#include "server/logging.h"
#include "server/loop.h"
#include "server/map_spreader.h"
#include "server/node_conditions.h"
#include "server/node_pulse.h"
#include "server/snapshot_flusher.h"
#include "server/snapshot_replica.h"
#include "server/snapshot_store.h"

namespace kv739::server {
namespace {

bool IsPortable(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
         (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '/';
}

NodePulse::Options PulseOptions(const HostOptions& options,
                                const HostParts& parts) {
  NodePulse::Options pulse;
  pulse.self = options.self;
  pulse.process = parts.random->Next();
  pulse.silent_after_ticks = options.raft.election_timeout_ticks;
  if (options.raft.quiesce_after_ticks > 0) {
    pulse.interval_ticks = options.raft.heartbeat_ticks;
  }
  return pulse;
}

// Calls `done` with the sum once every loop has given its part.
template <typename T>
struct Gather {
  std::mutex mutex;  // guards value and missing
  T value{};
  size_t missing = 0;
  absl::AnyInvocable<void(T)> done;
};

}  // namespace

class Host::Impl {
 public:
  Impl(const HostOptions& options, const HostParts& parts)
      : options_(options),
        parts_(parts),
        pulse_(PulseOptions(options, parts), parts.maps, parts.transport),
        spreader_(options.self, parts.maps, parts.transport),
        directory_(options.self, parts.maps, parts.transport, parts.clock,
                   [this](std::vector<Operation> operations) {
                     Submit(std::move(operations));
                   }),
        flusher_(parts.engine, parts.background, gate_),
        store_(parts.engine, parts.clock) {
    SnapshotContext snapshots;
    snapshots.engine = parts_.engine;
    snapshots.log = parts_.log;
    snapshots.background = parts_.background;
    snapshots.flusher = &flusher_;
    snapshots.store = &store_;
    snapshots.fetcher = parts_.fetcher;
    snapshots.install_dir = parts_.install_dir;
    snapshots.gate = gate_;
    for (int i = 0; i < options_.loops; ++i) {
      loops_.push_back(std::make_unique<Loop>(
          options_, parts_, &conditions_, &pulse_, &directory_,
          parts_.random->Next(), snapshots));
    }
  }
  // No other thread comes back to the loops from then on.
  ~Impl() { gate_->Close(); }

  absl::Status Add(HostedReplica replica) {
    return LoopOf(replica.group).AddReplica(std::move(replica));
  }

  void Submit(std::vector<Operation> operations);
  void OnPeerMessages(raft::NodeId from, std::vector<GroupMessage> messages);
  void OnNodeMessage(raft::NodeId from, NodeMessage message);
  void OnPeerEpoch(raft::NodeId peer, uint64_t map_epoch);
  void OnPeerGone(raft::NodeId peer);
  void OnAuditMessage(raft::NodeId from, const std::string& payload);
  void Check(raft::GroupId group, Replica::AuditDone done);
  void ProposeDirectoryChange(const kv::DirectoryChange& change,
                              DirectoryDone done) {
    directory_.Propose(change, std::move(done));
  }
  // Once all replicas are there.
  void Begin() {
    parts_.maps->Listen([this] { OnNewMap(); });
    OnNewMap();
  }
  void Tick() {
    spreader_.Tick();
    if (conditions_.Tick()) TellDiskLow();
    WatchDisk();
    for (raft::NodeId node : pulse_.Tick()) {
      for (auto& loop : loops_) {
        loop->Post([loop = loop.get(), node](Turn& turn) {
          loop->PeerSilent(node, turn);
        });
      }
    }
    for (auto& loop : loops_) loop->Post(TickEvent{});
  }
  void CollectStats(absl::AnyInvocable<void(HostStats)> done);
  void TransferLeadership(raft::GroupId group, raft::NodeId target,
                          Replica::TransferDone done);
  SnapshotProvider* snapshots() { return &store_; }
  void RebuildReplica(raft::GroupId group, std::string why) {
    LoopOf(group).PostTo(group,
                         [why = std::move(why)](Replica& replica, Turn& turn) {
                           replica.snapshots().Rebuild(why, turn);
                         });
  }
  void BeginStop(absl::AnyInvocable<void(int)> done);
  void Stop();
  std::shared_ptr<const kv::ClusterMap> map() const {
    return parts_.maps->Get();
  }
  void ForEachReplica(absl::FunctionRef<void(const Replica&)> visit) const {
    for (const auto& loop : loops_) {
      for (const auto& replica : loop->replicas()) visit(*replica);
    }
  }
  bool AllGroupsHaveLeader() const {
    return std::all_of(loops_.begin(), loops_.end(), [](const auto& loop) {
      return loop->AllGroupsHaveLeader();
    });
  }

 private:
  Loop& LoopOf(raft::GroupId group) {
    return *loops_[group.value() % loops_.size()];
  }
  // OK, or why the operation is refused before any group sees it.
  bool Check(const kv::ClusterMap& map, Operation& operation,
             Reply* refusal) const;
  // Also finds out how far the group's slots go.
  bool CheckScan(const kv::ClusterMap& map, Operation& operation,
                 Reply* refusal) const;

  // Asks for the free space in the background.
  void WatchDisk();
  void TellDiskLow();
  void OnNewMap();

  const HostOptions options_;
  const HostParts parts_;
  NodeConditions conditions_;
  std::atomic<uint64_t> disk_ticks_{0};
  std::atomic<bool> disk_asked_{false};
  NodePulse pulse_;
  MapSpreader spreader_;
  DirectoryClient directory_;
  const std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
  Flusher flusher_;
  SnapshotStore store_;
  std::vector<std::unique_ptr<Loop>> loops_;
};

bool Host::Impl::CheckScan(const kv::ClusterMap& map, Operation& operation,
                           Reply* refusal) const {
  auto invalid = [&](std::string message) {
    refusal->code = ReplyCode::kInvalidArgument;
    refusal->message = std::move(message);
    return false;
  };
  auto too_long = [&](const char* what, const std::string& bytes) {
    return invalid(absl::StrCat(what, " has ", bytes.size(),
                                " bytes; the limit of keys is ",
                                options_.max_key_bytes));
  };
  kv::ScanRequest& scan = *operation.scan;
  if (scan.slot >= kv::kSlotCount) {
    return invalid(absl::StrCat("slot ", scan.slot, ": the last one is ",
                                kv::kSlotCount - 1));
  }
  if (scan.from.size() > options_.max_key_bytes) {
    return too_long("`from`", scan.from);
  }
  if (scan.prefix.size() > options_.max_key_bytes) {
    return too_long("the prefix", scan.prefix);
  }
  operation.group = map.OwnerOf(static_cast<kv::Slot>(scan.slot));
  scan.end_slot = scan.slot + 1;
  while (scan.end_slot < kv::kSlotCount &&
         map.OwnerOf(static_cast<kv::Slot>(scan.end_slot)) == operation.group) {
    ++scan.end_slot;
  }
  return true;
}

bool Host::Impl::Check(const kv::ClusterMap& map, Operation& operation,
                       Reply* refusal) const {
  if (IsScan(operation.kind)) return CheckScan(map, operation, refusal);
  auto invalid = [&](std::string message) {
    refusal->code = ReplyCode::kInvalidArgument;
    refusal->message = std::move(message);
    return false;
  };
  const bool of_key = operation.kind < OpKind::kOpenSession;
  if (of_key) {
    if (operation.key.empty()) return invalid("the key is empty");
    if (operation.key.size() > options_.max_key_bytes) {
      return invalid(absl::StrCat("the key has ", operation.key.size(),
                                  " bytes; the limit is ",
                                  options_.max_key_bytes));
    }
    if (operation.value.size() > options_.max_value_bytes) {
      return invalid(absl::StrCat("the value has ", operation.value.size(),
                                  " bytes; the limit is ",
                                  options_.max_value_bytes));
    }
    if (options_.portable_keys) {
      auto bad = std::find_if_not(operation.key.begin(), operation.key.end(),
                                  IsPortable);
      if (bad != operation.key.end()) {
        return invalid(absl::StrCat(
            "the key has a byte other than letters, digits and - _ . / at "
            "offset ",
            bad - operation.key.begin()));
      }
    }
    operation.group = map.OwnerOf(kv::SlotOf(operation.key));
  }
  return true;
}

void Host::Impl::Submit(std::vector<Operation> operations) {
  const std::shared_ptr<const kv::ClusterMap> map = parts_.maps->Get();
  std::vector<std::vector<Operation>> by_loop(loops_.size());
  for (Operation& operation : operations) {
    Reply refusal;
    if (!Check(*map, operation, &refusal)) {
      refusal.tag = operation.tag;
      refusal.kind = operation.kind;
      operation.sink->Deliver(std::move(refusal));
      operation.sink->Flush();
      continue;
    }
    by_loop[operation.group.value() % loops_.size()].push_back(
        std::move(operation));
  }
  for (size_t i = 0; i < loops_.size(); ++i) {
    if (!by_loop[i].empty()) loops_[i]->Post(std::move(by_loop[i]));
  }
}

void Host::Impl::OnPeerMessages(raft::NodeId from,
                                std::vector<GroupMessage> messages) {
  pulse_.Heard(from);
  if (loops_.size() == 1) {
    loops_[0]->Post(PeerEvent{from, std::move(messages)});
    return;
  }
  std::vector<std::vector<GroupMessage>> by_loop(loops_.size());
  for (GroupMessage& message : messages) {
    by_loop[message.group.value() % loops_.size()].push_back(
        std::move(message));
  }
  for (size_t i = 0; i < loops_.size(); ++i) {
    if (!by_loop[i].empty()) {
      loops_[i]->Post(PeerEvent{from, std::move(by_loop[i])});
    }
  }
}

void Host::Impl::OnPeerEpoch(raft::NodeId peer, uint64_t map_epoch) {
  spreader_.OnPeerEpoch(peer, map_epoch);
}

void Host::Impl::OnPeerGone(raft::NodeId peer) {
  pulse_.Gone(peer);
  for (auto& loop : loops_) {
    loop->Post(
        [loop = loop.get(), peer](Turn& turn) { loop->PeerGone(peer, turn); });
  }
}

void Host::Impl::OnNodeMessage(raft::NodeId from, NodeMessage message) {
  pulse_.Heard(from);
  switch (message.kind) {
    case NodeMessage::Kind::kMap: {
      auto map = kv::DecodeClusterMap(message.payload);
      if (map.ok()) {
        parts_.maps->Offer(std::make_shared<kv::ClusterMap>(*std::move(map)));
      }
      return;
    }
    case NodeMessage::Kind::kDirectoryChange:
      directory_.OnReceived(message.payload);
      return;
    case NodeMessage::Kind::kDiskLow:
      conditions_.PeerIsLow(from);
      return;
    case NodeMessage::Kind::kAudit:
      OnAuditMessage(from, message.payload);
      return;
    case NodeMessage::Kind::kPulse:
      if (pulse_.OnPulse(from, message.payload)) {
        // What it was the leader of, it leads no more.
        OnPeerGone(from);
        pulse_.Heard(from);
      }
      return;
  }
}

void Host::Impl::OnAuditMessage(raft::NodeId from, const std::string& payload) {
  auto message = DecodeAuditMessage(payload);
  if (!message.ok()) return;
  const raft::GroupId group =
      std::visit([](const auto& m) { return m.group; }, *message);
  LoopOf(group).Post(
      [this, from, group, message = *std::move(message)](Turn& turn) {
        Replica* replica = LoopOf(group).Find(group);
        if (replica == nullptr) return;
        replica->OnAuditMessage(from, message, turn);
        if (replica->Touch()) turn.touched.push_back(replica);
      });
}

void Host::Impl::WatchDisk() {
  if (parts_.disk == nullptr) return;
  if (disk_ticks_.fetch_add(1) % NodeConditions::kRepeatTicks != 0) return;
  if (disk_asked_.exchange(true)) return;
  parts_.background->Run([this] {
    if (parts_.disk->Check()) {
      const bool low = parts_.disk->low();
      const std::string what = parts_.disk->Describe();
      if (low) {
        LogWarn(what);
      } else {
        LogInfo("the disk has room again: ", parts_.disk->free_bytes() >> 20,
                " MiB are free");
      }
      conditions_.SetDiskLow(low ? what : std::string());
    }
    disk_asked_.store(false);
  });
}

void Host::Impl::TellDiskLow() {
  for (const kv::NodeInfo& node : parts_.maps->Get()->nodes) {
    if (node.id == options_.self || !parts_.transport->Connected(node.id)) {
      continue;
    }
    parts_.transport->SendToNode(node.id,
                                 {NodeMessage::Kind::kDiskLow, std::string()});
  }
}

void Host::Impl::OnNewMap() {
  const MapHolder::Map map = parts_.maps->Get();
  parts_.transport->SetMapEpoch(map->epoch);
  const kv::GroupInfo* directory = map->FindGroup(kv::kDirectoryGroup);
  // Those who have it at first hand.
  if (directory != nullptr && directory->Concerns(options_.self)) {
    spreader_.SendToAll();
  }
  for (auto& loop : loops_) {
    loop->Post([loop = loop.get()](Turn& turn) { loop->TakeMap(turn); });
  }
}

void Host::Impl::CollectStats(absl::AnyInvocable<void(HostStats)> done) {
  auto gather = std::make_shared<Gather<HostStats>>();
  gather->done = std::move(done);
  {
    const std::lock_guard lock(gather->mutex);
    gather->missing = loops_.size();
    gather->value.map_epoch = parts_.maps->Get()->epoch;
    gather->value.store_flushes = flusher_.flushes();
  }
  for (auto& loop : loops_) {
    loop->Post([gather, loop = loop.get()](Turn&) {
      HostStats all;
      {
        const std::lock_guard lock(gather->mutex);
        loop->AddStats(&gather->value);
        if (--gather->missing > 0) return;
        all = std::move(gather->value);
      }
      std::sort(all.replicas.begin(), all.replicas.end(),
                [](const ReplicaStats& a, const ReplicaStats& b) {
                  return a.group < b.group;
                });
      gather->done(std::move(all));
    });
  }
}

void Host::Impl::TransferLeadership(raft::GroupId group, raft::NodeId target,
                                    Replica::TransferDone done) {
  LoopOf(group).Post(
      [this, group, target, done = std::move(done)](Turn& turn) mutable {
        Replica* replica = LoopOf(group).Find(group);
        if (replica == nullptr) {
          done(absl::NotFoundError(
              absl::StrCat("group ", group.value(), " is not on this server")));
          return;
        }
        replica->Transfer(target, std::move(done));
        if (replica->Touch()) turn.touched.push_back(replica);
      });
}

void Host::Impl::Check(raft::GroupId group, Replica::AuditDone done) {
  LoopOf(group).Post([this, group, done = std::move(done)](Turn& turn) mutable {
    Replica* replica = LoopOf(group).Find(group);
    if (replica == nullptr) {
      done(absl::NotFoundError(
          absl::StrCat("group ", group.value(), " is not on this server")));
      return;
    }
    replica->Check(std::move(done));
    if (replica->Touch()) turn.touched.push_back(replica);
  });
}

void Host::Impl::BeginStop(absl::AnyInvocable<void(int)> done) {
  auto gather = std::make_shared<Gather<int>>();
  gather->done = std::move(done);
  {
    const std::lock_guard lock(gather->mutex);
    gather->missing = loops_.size();
  }
  // A loop is finished when each transfer of its groups has ended.
  auto finished = [gather](int still_led) {
    int all = 0;
    {
      const std::lock_guard lock(gather->mutex);
      gather->value += still_led;
      if (--gather->missing > 0) return;
      all = gather->value;
    }
    gather->done(all);
  };
  for (auto& loop : loops_) {
    loop->Post([finished, loop = loop.get()](Turn& turn) {
      loop->BeginStop();
      struct Count {
        int open = 1;
        int still_led = 0;
      };
      auto count = std::make_shared<Count>();
      auto ended = [count, finished](bool still_led) {
        count->still_led += still_led;
        if (--count->open == 0) finished(count->still_led);
      };
      for (const auto& replica : loop->replicas()) {
        if (!replica->IsLeader()) continue;
        ++count->open;
        replica->Transfer(raft::NodeId(),
                          [ended](absl::StatusOr<raft::NodeId> leader) {
                            ended(!leader.ok());
                          });
        if (replica->Touch()) turn.touched.push_back(replica.get());
      }
      ended(false);
    });
  }
}

void Host::Impl::Stop() {
  for (auto& loop : loops_) {
    loop->Post([loop = loop.get()](Turn& turn) {
      loop->BeginStop();
      for (const auto& replica : loop->replicas()) {
        replica->AbandonAll(turn);
        replica->snapshots().Stop();
      }
      loop->CloseScans(turn);
    });
  }
  gate_->Close();
}

Host::Host(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Host::~Host() = default;

absl::StatusOr<std::unique_ptr<Host>> Host::Create(
    const HostOptions& options, const HostParts& parts,
    std::vector<HostedReplica> replicas) {
  if (!parts.install_dir.empty()) {
    absl::Status status = kv::RemoveIngestionFiles(parts.install_dir);
    if (!status.ok()) return status;
  }
  auto impl = std::make_unique<Impl>(options, parts);
  for (HostedReplica& replica : replicas) {
    absl::Status status = impl->Add(std::move(replica));
    if (!status.ok()) return status;
  }
  impl->Begin();
  return std::unique_ptr<Host>(new Host(std::move(impl)));
}

void Host::Submit(std::vector<Operation> operations) {
  impl_->Submit(std::move(operations));
}
void Host::OnPeerMessages(raft::NodeId from,
                          std::vector<GroupMessage> messages) {
  impl_->OnPeerMessages(from, std::move(messages));
}
void Host::ProposeDirectoryChange(const kv::DirectoryChange& change,
                                  DirectoryDone done) {
  impl_->ProposeDirectoryChange(change, std::move(done));
}
void Host::OnNodeMessage(raft::NodeId from, NodeMessage message) {
  impl_->OnNodeMessage(from, std::move(message));
}
void Host::OnPeerEpoch(raft::NodeId peer, uint64_t map_epoch) {
  impl_->OnPeerEpoch(peer, map_epoch);
}
void Host::OnPeerGone(raft::NodeId peer) { impl_->OnPeerGone(peer); }
void Host::Tick() { impl_->Tick(); }
void Host::CollectStats(absl::AnyInvocable<void(HostStats)> done) {
  impl_->CollectStats(std::move(done));
}
void Host::TransferLeadership(
    raft::GroupId group, raft::NodeId target,
    absl::AnyInvocable<void(absl::StatusOr<raft::NodeId>)> done) {
  impl_->TransferLeadership(group, target, std::move(done));
}
void Host::Check(raft::GroupId group,
                 absl::AnyInvocable<void(absl::StatusOr<AuditResult>)> done) {
  impl_->Check(group, std::move(done));
}
void Host::BeginStop(absl::AnyInvocable<void(int still_led)> done) {
  impl_->BeginStop(std::move(done));
}
void Host::Stop() { impl_->Stop(); }
SnapshotProvider* Host::snapshots() { return impl_->snapshots(); }
void Host::RebuildReplica(raft::GroupId group, std::string why) {
  impl_->RebuildReplica(group, std::move(why));
}
std::shared_ptr<const kv::ClusterMap> Host::map() const { return impl_->map(); }
bool Host::AllGroupsHaveLeader() { return impl_->AllGroupsHaveLeader(); }

void Host::ForEachReplica(absl::FunctionRef<void(const Replica&)> visit) const {
  impl_->ForEachReplica(visit);
}

}  // namespace kv739::server
