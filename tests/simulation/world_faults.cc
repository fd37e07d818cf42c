#include "tests/simulation/world_faults.h"

#include <algorithm>

#include "server/member_changes.h"
#include "tests/simulation/sim_clients.h"
#include "tests/simulation/sim_net.h"
#include "tests/simulation/world.h"

namespace kv739::world {

void FaultMaker::Start() {
  for (size_t i = 0; i < kFaults; ++i) {
    const auto fault = static_cast<Fault>(i);
    if (world_->profile().has(fault) && world_->profile().every_ms[i] > 0) {
      Later(fault);
    }
  }
  FlushStores();
}

void FaultMaker::Later(Fault fault) {
  const uint64_t mean = world_->profile().every_ms[static_cast<size_t>(fault)];
  world_->queue().Add(world_->now() + Between(mean / 4 + 1, mean * 7 / 4 + 2),
                      [this, fault] {
                        if (stopped_) return;
                        ++world_->result().faults;
                        Make(fault);
                        Later(fault);
                      });
}

SimServer* FaultMaker::AnyServer() {
  const auto& servers = world_->servers();
  return servers[random_.Below(servers.size())].get();
}

SimServer* FaultMaker::AnyRunning() {
  std::vector<SimServer*> running;
  for (const auto& server : world_->servers()) {
    if (server->running()) running.push_back(server.get());
  }
  return running.empty() ? nullptr : running[random_.Below(running.size())];
}

uint64_t FaultMaker::DownTime() {
  return random_.Chance(1, 8) ? Between(5'000, 20'000) : Between(100, 4'000);
}

void FaultMaker::Make(Fault fault) {
  SimServer* const any = AnyRunning();
  switch (fault) {
    case Fault::kPartition:
      return Partition();
    case Fault::kOneWay:
      return OneWay();
    case Fault::kShape:
      return Shape();
    case Fault::kSlowLink:
      return SlowLink();
    case Fault::kBreak:
      return Break();
    case Fault::kKillAll:
      return KillAll();
    case Fault::kWipe:
      return Wipe();
    case Fault::kMembers:
      return ChangeMembers();
    case Fault::kTransfer:
      return Transfer();
    case Fault::kAudit:
      return Check();
    case Fault::kClientCrash:
      return world_->clients()[random_.Below(world_->clients().size())]
          ->Crash();
    default:
      break;
  }
  if (any == nullptr) return;
  switch (fault) {
    case Fault::kKill:
      return any->Crash(false, DownTime());
    case Fault::kPowerLoss:
      return any->Crash(true, DownTime());
    case Fault::kStep:
      return any->DieInWrite(random_.Between(1, 12));
    case Fault::kPause:
      return any->Pause(Between(200, 6'000));
    case Fault::kRestart:
      return any->Restart(Between(100, 2'000));
    case Fault::kFlip:
      if (world_->CanLoseDisk(*any)) any->FlipBit();
      return;
    case Fault::kMisdirect:
      if (world_->CanLoseDisk(*any)) any->MisdirectWrite();
      return;
    case Fault::kSyncFailure:
      return any->FailWrite();
    case Fault::kReadError:
      return any->FailReads(Between(50, 4'000));
    case Fault::kFullDisk:
      return any->FillDisk(Between(500, 6'000), random_.Chance(1, 3));
    case Fault::kStall:
      return any->StallDisk(Between(100, 10'000));
    case Fault::kStoreStall:
      return any->StallStore(Between(50, 2'000));
    case Fault::kWallStep: {
      const auto ms = static_cast<int64_t>(random_.Below(4 * 3'600'000));
      any->clock().StepWall(random_.Chance(1, 2) ? ms : -ms);
      return;
    }
    default:
      return;
  }
}

// RocksDB writes out a full buffer whenever it likes.
void FaultMaker::FlushStores() {
  world_->queue().Add(world_->now() + Between(200, 3'000), [this] {
    if (stopped_) return;
    AnyServer()->FlushStore();
    FlushStores();
  });
}

// ---- network ----

void FaultMaker::Cut(std::vector<std::pair<int, int>> directions) {
  for (auto [from, to] : directions) world_->net().Block(from, to, true);
  world_->queue().Add(world_->now() + Between(300, 9'000),
                      [this, directions = std::move(directions)] {
                        if (stopped_) return;
                        world_->journal().Note("healed");
                        for (auto [from, to] : directions) {
                          world_->net().Block(from, to, false);
                        }
                      });
}

void FaultMaker::Partition() {
  const auto servers = static_cast<int>(world_->servers().size());
  const auto clients = static_cast<int>(world_->clients().size());
  std::vector<bool> side;
  uint64_t mask = 0;
  for (int i = 0; i < servers + clients; ++i) {
    side.push_back(random_.Chance(1, 2));
    if (side.back()) mask |= uint64_t{1} << i;
  }
  world_->journal().Note("partition", mask);
  std::vector<std::pair<int, int>> cut;
  for (int a = 0; a < servers + clients; ++a) {
    for (int b = 0; b < servers + clients; ++b) {
      if (side[a] != side[b]) cut.emplace_back(a, b);
    }
  }
  Cut(std::move(cut));
}

void FaultMaker::OneWay() {
  const auto servers = static_cast<int>(world_->servers().size());
  const int victim = AnyServer()->index();
  const bool deaf = random_.Chance(1, 2);
  const uint64_t share = random_.Between(1, 4);
  world_->journal().Note("one way", victim, deaf ? 1 : 0, share);
  std::vector<std::pair<int, int>> cut;
  for (int other = 0; other < servers; ++other) {
    if (other == victim || !random_.Chance(share, 4)) continue;
    cut.push_back(deaf ? std::pair(other, victim) : std::pair(victim, other));
  }
  Cut(std::move(cut));
}

// The partial partitions under which many have stopped or gone wrong.
void FaultMaker::Shape() {
  const auto servers = static_cast<int>(world_->servers().size());
  std::vector<int> order;
  for (int i = 0; i < servers; ++i) order.push_back(i);
  for (int i = servers - 1; i > 0; --i) {
    std::swap(order[i], order[random_.Below(i + 1)]);
  }
  const uint64_t shape = random_.Below(4);
  world_->journal().Note("shape", shape, order[0]);
  auto linked = [&](int i, int j) {
    if (i > j) std::swap(i, j);
    switch (shape) {
      case 0:  // chain
        return j - i == 1;
      case 1:  // quorum loss: everybody sees the first one only
        return i == 0;
      case 2:  // constrained election: so, and the last one sees nobody
        return i == 0 && j != servers - 1;
      default:  // bridge: two halves that meet in the first one
        return i == 0 || (i % 2) == (j % 2);
    }
  };
  std::vector<std::pair<int, int>> cut;
  for (int i = 0; i < servers; ++i) {
    for (int j = 0; j < servers; ++j) {
      if (i != j && !linked(i, j)) cut.emplace_back(order[i], order[j]);
    }
  }
  Cut(std::move(cut));
}

void FaultMaker::SlowLink() {
  const int a = AnyServer()->index();
  const int b = AnyServer()->index();
  if (a == b) return;
  world_->journal().Note("slow link", a, b);
  world_->net().Slow(a, b, Between(20, 1'000));
  world_->queue().Add(world_->now() + Between(500, 6'000),
                      [this, a, b] { world_->net().Slow(a, b, 0); });
}

void FaultMaker::Break() {
  const int a = AnyServer()->index();
  const int b = AnyServer()->index();
  if (a != b) world_->net().Break(a, b);
}

// ---- processes ----

void FaultMaker::KillAll() {
  const bool power = random_.Chance(1, 2);
  for (const auto& server : world_->servers()) {
    server->Crash(power, Between(100, 3'000));
  }
}

void FaultMaker::Wipe() {
  SimServer* const server = AnyServer();
  if (server->state() == SimServer::State::kStarting ||
      !world_->CanLoseDisk(*server)) {
    return;
  }
  server->Crash(true, 0);
  server->Wipe();
  world_->queue().Add(world_->now() + Between(200, 4'000),
                      [server] { server->Start(); });
}

// ---- what operators ask for ----

void FaultMaker::ChangeMembers() {
  // A server that has left, or was never there, joins.
  for (const auto& server : world_->servers()) {
    if (server->state() != SimServer::State::kDown ||
        (!server->gone() && server->has_identity())) {
      continue;
    }
    if (!server->gone() && !server->later()) continue;
    if (!random_.Chance(1, 2)) continue;
    if (server->gone()) server->Wipe();
    return server->Start(true);
  }
  SimServer* const server = AnyRunning();
  const auto map = world_->NewestMap();
  if (server == nullptr || map == nullptr) return;
  SimServer* leader = world_->LeaderOf(kv::kDirectoryGroup);
  if (leader == nullptr || leader->paused()) leader = server;
  const kv::GroupInfo& group = map->groups[random_.Below(map->groups.size())];
  server::MemberPlan plan;
  server::IsThere is_there = [this, leader](raft::NodeId id) {
    return id == leader->id() || world_->net().Connected(leader->index(), id);
  };
  // With one disk damaged and nobody knowing, a group that is made smaller may
  // be left with too few.
  for (const auto& other : world_->servers()) {
    if (other->suspect()) return;
  }
  std::vector<raft::NodeId> spares;
  for (const kv::Candidate& candidate : map->Candidates()) {
    if (!group.Concerns(candidate.id)) spares.push_back(candidate.id);
  }
  if (random_.Chance(1, 3) || spares.empty()) {
    world_->journal().Note("operator removes", server->index());
    plan = [name = server->address().ToString(),
            is_there](const kv::ClusterMap& now) {
      auto removal = server::PlanRemoval(now, name, is_there);
      if (!removal.ok()) {
        return absl::StatusOr<kv::DirectoryChange>(removal.status());
      }
      return absl::StatusOr<kv::DirectoryChange>(*std::move(removal));
    };
  } else {
    // Another one in the place of a member.
    std::vector<std::string> names;
    const size_t out = random_.Below(group.target.size());
    for (size_t i = 0; i < group.target.size(); ++i) {
      const raft::NodeId id =
          i == out ? spares[random_.Below(spares.size())] : group.target[i];
      if (const kv::NodeInfo* node = map->FindNode(id)) {
        names.push_back(node->address.ToString());
      }
    }
    world_->journal().Note("operator sets", group.id.value());
    plan = [names, id = group.id, is_there](const kv::ClusterMap& now) {
      auto target = server::PlanMembers(now, id, names, {}, is_there);
      if (!target.ok()) {
        return absl::StatusOr<kv::DirectoryChange>(target.status());
      }
      return absl::StatusOr<kv::DirectoryChange>(*std::move(target));
    };
  }
  server::DirectoryParts parts;
  parts.is_there = is_there;
  parts.propose = [leader](const kv::DirectoryChange& change,
                           server::DirectoryDone done) {
    leader->host()->ProposeDirectoryChange(change, std::move(done));
  };
  World* const world = world_;
  leader->Deliver([leader, world, parts, plan = std::move(plan)]() mutable {
    server::ChangeMembers(leader->host(), parts, std::move(plan),
                          [world](server::DirectoryAnswer answer) {
                            world->journal().Note(
                                "change answered",
                                static_cast<uint64_t>(answer.status.code()));
                          });
  });
}

void FaultMaker::Transfer() {
  const auto map = world_->NewestMap();
  if (map == nullptr) return;
  const kv::GroupInfo& group = map->groups[random_.Below(map->groups.size())];
  SimServer* const leader = world_->LeaderOf(group.id);
  if (leader == nullptr) return;
  raft::NodeId target;
  if (random_.Chance(1, 2)) {
    target = group.members[random_.Below(group.members.size())];
  }
  world_->journal().Note("transfer", leader->index(), group.id.value());
  leader->Deliver([leader, id = group.id, target] {
    leader->host()->TransferLeadership(id, target,
                                       [](absl::StatusOr<raft::NodeId>) {});
  });
}

void FaultMaker::Check() {
  const auto map = world_->NewestMap();
  if (map == nullptr) return;
  const kv::GroupInfo& group = map->groups[random_.Below(map->groups.size())];
  SimServer* const leader = world_->LeaderOf(group.id);
  if (leader == nullptr) return;
  leader->Deliver([leader, id = group.id] {
    leader->host()->Check(id, [](absl::StatusOr<server::AuditResult>) {});
  });
}

}  // namespace kv739::world
