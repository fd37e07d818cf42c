#include "tests/simulation/sim_server.h"

#include <algorithm>

#include "server/replica.h"
#include "tests/simulation/sim_clients.h"
#include "tests/simulation/sim_damage.h"
#include "tests/simulation/sim_joining.h"
#include "tests/simulation/sim_process.h"
#include "tests/simulation/sim_streams.h"
#include "tests/simulation/world.h"

namespace kv739::world {

SimServer::SimServer(World* world, int index, kv::Address address, bool later)
    : world_(world),
      index_(index),
      address_(std::move(address)),
      later_(later),
      clock_(&world->queue()),
      upgraded_(!world->profile().has(Fault::kOldFormat)),
      disk_(std::make_unique<Disk>(world->profile().direct,
                                   world->random().Next())) {
  if (world->profile().has(Fault::kClockRate)) {
    clock_.SetRate(world->random().Between(900, 1100));
  }
  WatchDisk();
}

// Faults that the file system asks for.
void SimServer::WatchDisk() {
  const Profile& p = world_->profile();
  if (!p.has(Fault::kReadError) && !p.has(Fault::kSyncFailure)) return;
  disk_->files.SetFaults([this](const wal::DiskCall& call) {
    wal::DiskFault fault;
    if (call.op == wal::DiskOp::kRead) {
      if (world_->now() < unreadable_until_)
        fault.kind = wal::DiskFault::kError;
      return fault;
    }
    const bool syncs =
        call.op == wal::DiskOp::kSync ||
        (call.op == wal::DiskOp::kWrite && world_->profile().direct);
    if (!syncs || !sync_fails_) return fault;
    sync_fails_ = false;
    fault.kind = wal::DiskFault::kSyncFails;
    fault.survives = [this] { return world_->random().Chance(1, 2); };
    return fault;
  });
}

SimServer::~SimServer() { EndProcess(); }

SimServer::Process::~Process() {
  // The host calls the others while it goes.
  host.reset();
  jobs.reset();
  log.reset();
}

const ShadowLog* SimServer::DurableLog(raft::GroupId group) const {
  const auto it = disk_->durable.find(group);
  return it == disk_->durable.end() ? nullptr : &it->second;
}

const SeenReplica* SimServer::Seen(raft::GroupId group) const {
  if (!running()) return nullptr;
  const auto it = process_->seen.find(group);
  return it == process_->seen.end() ? nullptr : &it->second;
}

void SimServer::Note(const char* what, uint64_t a, uint64_t b) {
  world_->journal().Note(what, index_, a, b);
}

// ---- steps ----

void SimServer::After(uint64_t delay, Task task) {
  world_->queue().Add(world_->now() + delay,
                      [this, life = life_, task = std::move(task)]() mutable {
                        Run(life, std::move(task));
                      });
}

void SimServer::Deliver(Task task, bool of_client) {
  if (running()) Run(life_, std::move(task), of_client);
}

void SimServer::Run(uint64_t life, Task task, bool of_client) {
  if (life != life_) return;
  if (paused_) {
    deferred_.push_back({std::move(task), of_client});
    return;
  }
  task();
  FinishStep();
}

void SimServer::FinishStep() {
  if (doomed_) {
    Crash(doom_power_loss_,
          world_->random().Between(200, 3'000) * kMillisecond);
    return;
  }
  if (!running()) return;
  Look();
  Send();
}

void SimServer::Look() {
  const auto map = process_->maps->Get();
  if (map->epoch != process_->epoch) {
    Note("map", map->epoch);
    world_->checks().OnMap(id(), *map, &process_->epoch);
  }
  size_t replicas = 0;
  process_->host->ForEachReplica([&](const server::Replica& replica) {
    ++replicas;
    const raft::GroupId group = replica.group();
    SeenReplica& seen = process_->seen[group];
    if (!Checks::Changed(replica.core(), seen)) return;
    if (seen.term != replica.core().term() ||
        seen.leader != replica.core().IsLeader()) {
      Note(replica.core().IsLeader() ? "leads" : "term", group.value(),
           replica.core().term().value());
    }
    if (seen.applied != replica.applied()) {
      Note("applied", group.value(), replica.applied().value());
    }
    world_->checks().Look(id(), group, replica.core(), replica.machine(),
                          written_[group], !process_->log->busy(), &seen);
  });
  if (replicas == process_->seen.size()) return;
  // One that has gone may come again, as a new one.
  std::erase_if(process_->seen, [&](const auto& item) {
    bool there = false;
    process_->host->ForEachReplica([&](const server::Replica& replica) {
      there = there || replica.group() == item.first;
    });
    if (!there) Note("retired", item.first.value());
    return !there;
  });
}

void SimServer::Send() {
  if (!outbox_.empty()) {
    std::vector<std::pair<raft::NodeId, PeerBatch>> outbox;
    outbox.swap(outbox_);
    std::stable_sort(
        outbox.begin(), outbox.end(),
        [](const auto& a, const auto& b) { return a.first < b.first; });
    for (auto& [to, batch] : outbox) {
      world_->net().Send(index_, to, std::move(batch));
    }
  }
  if (replies_.empty()) return;
  std::vector<Reply> replies;
  replies.swap(replies_);
  std::stable_sort(
      replies.begin(), replies.end(), [](const Reply& a, const Reply& b) {
        return a.to.client != b.to.client ? a.to.client < b.to.client
                                          : a.answer.tag < b.answer.tag;
      });
  const uint64_t epoch = process_->maps->epoch();
  for (size_t i = 0; i < replies.size();) {
    const AnswerTo to = replies[i].to;
    std::vector<client::Answer> answers;
    for (; i < replies.size() && replies[i].to == to; ++i) {
      answers.push_back(std::move(replies[i].answer));
    }
    world_->clients()[to.client]->Answered(index_, to, std::move(answers),
                                           epoch);
  }
}

void SimServer::Answer(const AnswerTo& to, client::Answer answer) {
  replies_.push_back({to, std::move(answer)});
}

// ---- its course ----

void SimServer::Start(bool join) {
  if (state_ != State::kDown || gone_) return;
  join_ = join_ || join;
  state_ = State::kStarting;
  ++life_;
  injected_ = false;
  disk_->files.FailAt(0);
  sync_fails_ = false;
  if (!upgraded_ && disk_->directory.initialized()) {
    upgraded_ = world_->calm() || world_->random().Chance(1, 2);
    if (upgraded_) Note("upgraded");
  }
  Note("start");
  if (!world_->calm() && world_->profile().has(Fault::kSyncFailure) &&
      world_->random().Chance(1, 10)) {
    FailWrite();
  }
  After(world_->random().Between(20, 300) * kMillisecond,
        [this] { Joining::Begin(this); });
}

void SimServer::StartAfter(uint64_t down) {
  world_->queue().Add(world_->now() + down, [this, life = life_] {
    if (life == life_) Start();
  });
}

void SimServer::Doom(bool power_loss) {
  if (doomed_) return;
  doomed_ = true;
  doom_power_loss_ = power_loss;
  // Nothing that it still does reaches the disk.
  disk_->store.Kill();
  disk_->files.CrashAt(disk_->files.operations() + 1);
}

void SimServer::EndProcess() {
  if (process_ != nullptr) world_->streams().ServerDown(index_);
  process_.reset();
  // After it: what the host still asks for while it goes never happens.
  ++life_;
  paused_ = doomed_ = false;
  deferred_.clear();
  outbox_.clear();
  replies_.clear();
}

void SimServer::Crash(bool power_loss, uint64_t down) {
  if (state_ == State::kDown) return;
  Note(power_loss ? "power loss" : "crash");
  ++world_->result().crashes;
  sim::SimRandom& random = world_->random();
  if (process_ != nullptr && process_->log != nullptr && !doomed_ &&
      random.Chance(1, 2)) {
    disk_->files.CrashAt(disk_->files.operations() + random.Between(1, 4));
    disk_->under_way = process_->log->WriteInVain();
  }
  EndProcess();
  disk_->store.Crash();
  const uint64_t survives = random.Below(5) * 25;  // percent
  if (power_loss) {
    // Of a sector, too, only the beginning may get there; but the header of a
    // segment, which is shorter, arrives as a whole (docs/wal_format.md).
    constexpr uint64_t kLeast = 64;
    const bool torn = random.Chance(1, 2);
    disk_->files.PowerLoss(
        [&] { return random.Below(100) < survives; },
        [&] {
          return torn ? kLeast + random.Below(2 * wal::kSectorBytes)
                      : ~uint64_t{0};
        });
  } else {
    disk_->files.Restart();
    // Direct writes leave nothing in caches that is not on the disk.
    if (world_->profile().direct) disk_->files.DropCaches();
  }
  state_ = State::kDown;
  world_->net().ServerDown(index_, power_loss);
  for (const auto& client : world_->clients()) {
    client->ServerDown(index_, power_loss);
  }
  if (down > 0) StartAfter(down);
}

void SimServer::Restart(uint64_t down) {
  if (state_ != State::kRunning || paused_) return;
  state_ = State::kStopping;
  Note("stopping");
  After(0, [this, down] {
    host()->BeginStop([this, down, life = life_](int) {
      // From within the host: it must not go now.
      world_->queue().Add(world_->now() + kMillisecond, [this, life, down] {
        if (life == life_) StopInOrder(down);
      });
    });
  });
  After(5 * kSecond, [this, down] {
    world_->queue().Add(world_->now(), [this, life = life_, down] {
      if (life == life_) StopInOrder(down);
    });
  });
}

void SimServer::StopInOrder(uint64_t down) {
  Deliver([this] { host()->Stop(); });
  if (state_ == State::kDown) return;
  Note("stopped");
  disk_->store.Flush().IgnoreError();
  EndProcess();
  disk_->store.Crash();
  disk_->files.Restart();
  state_ = State::kDown;
  world_->net().ServerDown(index_, false);
  for (const auto& client : world_->clients()) {
    client->ServerDown(index_, false);
  }
  if (down > 0) StartAfter(down);
}

void SimServer::Pause(uint64_t nanos) {
  if (!running() || paused_) return;
  Note("pause", nanos / kMillisecond);
  paused_ = true;
  world_->queue().Add(world_->now() + nanos, [this, life = life_] {
    if (life == life_) Resume();
  });
}

void SimServer::Resume() {
  if (!paused_) return;
  Note("resume");
  paused_ = false;
  std::vector<Deferred> deferred;
  deferred.swap(deferred_);
  // What waits on different connections is read in any order.
  if (world_->random().Chance(1, 2)) {
    std::stable_partition(deferred.begin(), deferred.end(),
                          [](const Deferred& d) { return d.of_client; });
  }
  const uint64_t life = life_;
  for (Deferred& d : deferred) Run(life, std::move(d.task), d.of_client);
}

void SimServer::Wipe() {
  Note("wipe");
  EndProcess();
  // Acknowledgements of it may be on their way.
  world_->checks().OnDiskLost(id(), disk_->durable);
  disk_ =
      std::make_unique<Disk>(world_->profile().direct, world_->random().Next());
  suspect_ = gone_ = full_ = sync_fails_ = false;
  unreadable_until_ = 0;
  stalled_until_ = 0;
}

// ---- faults ----

void SimServer::DieInWrite(uint64_t steps) {
  if (!running()) return;
  Note("to die in a write", steps);
  if (world_->random().Chance(1, 3)) {
    disk_->store.DieAt(1 + steps / 4, world_->random().Chance(1, 2),
                       [this] { Doom(true); });
  } else {
    disk_->files.CrashAt(disk_->files.operations() + steps);
  }
}

void SimServer::FailWrite() {
  if (state_ == State::kDown) return;
  Note("to fail in a write");
  injected_ = true;
  if (world_->random().Chance(1, 2)) {
    sync_fails_ = true;
    return;
  }
  disk_->files.FailAt(disk_->files.operations() +
                      world_->random().Between(1, 3));
}

void SimServer::FailReads(uint64_t nanos) {
  Note("reads fail", nanos / kMillisecond);
  injected_ = true;
  unreadable_until_ = world_->now() + nanos;
}

void SimServer::StallDisk(uint64_t nanos) {
  Note("disk stalls", nanos / kMillisecond);
  stalled_until_ = world_->now() + nanos;
}

void SimServer::StallStore(uint64_t nanos) {
  if (!running()) return;
  Note("store stalls", nanos / kMillisecond);
  disk_->store.Stall(true);
  After(nanos, [this] { disk_->store.Stall(false); });
}

void SimServer::FillDisk(uint64_t nanos, bool really) {
  Note("disk is full", nanos / kMillisecond, really ? 1 : 0);
  full_ = true;
  if (really) {
    disk_->files.SetCapacity(1, world_->random().Chance(1, 2));
    injected_ = true;
  }
  world_->queue().Add(world_->now() + nanos, [this, disk = disk_.get()] {
    if (disk != disk_.get()) return;
    full_ = false;
    disk_->files.SetCapacity(~uint64_t{0});
  });
}

void SimServer::FlushStore() {
  if (running() && !paused_) disk_->store.Flush().IgnoreError();
}

bool SimServer::FlipBit() {
  if (!world::FlipBit(&disk_->files, &world_->random())) return false;
  suspect_ = true;
  Note("bit flipped");
  return true;
}

bool SimServer::MisdirectWrite() {
  if (!Misdirect(&disk_->files, &world_->random())) return false;
  suspect_ = true;
  Note("write misdirected");
  return true;
}

void SimServer::EndFaults() {
  disk_->files.CrashAt(0);
  disk_->files.FailAt(0);
  disk_->files.SetCapacity(~uint64_t{0});
  disk_->store.DieAt(0, false, nullptr);
  disk_->store.Stall(false);
  full_ = false;
  sync_fails_ = false;
  unreadable_until_ = 0;
  if (std::exchange(stalled_until_, 0) > world_->now() && process_ != nullptr &&
      process_->log != nullptr) {
    process_->log->StallEnds();
  }
  Resume();
}

uint64_t SimServer::WriteNanos() {
  const uint64_t nanos = world_->random().Between(200, 3'000) * kMicrosecond;
  const uint64_t stalled =
      stalled_until_ > world_->now() ? stalled_until_ - world_->now() : 0;
  return std::max(nanos, stalled);
}

}  // namespace kv739::world
