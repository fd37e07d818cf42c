#include "tests/simulation/world.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/describe.h"
#include "server/replica.h"
#include "tests/simulation/sim_clients.h"
#include "tests/simulation/sim_net.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/sim_streams.h"
#include "tests/simulation/world_faults.h"
#include "tests/support/history.h"

namespace kv739::world {
namespace {

constexpr uint64_t kElectionNanos = 500 * kMillisecond;
// Processes that were down start, and connections come up again.
constexpr uint64_t kRecoveryNanos = 2 * kSecond;
constexpr uint64_t kAnswerNanos = 30 * kSecond;
constexpr uint64_t kEqualNanos = 180 * kSecond;
constexpr uint64_t kMaxEvents = 40'000'000;

}  // namespace

World::World(const Options& options)
    : options_(options),
      profile_(DrawProfile(options)),
      journal_(&queue_, options.trace),
      random_(options.seed),
      checks_([this](raft::NodeId id, raft::GroupId group) -> const ShadowLog* {
        const SimServer* server = FindServer(id);
        return server == nullptr ? nullptr : server->DurableLog(group);
      }) {
  const int all = profile_.servers + profile_.later;
  file_.groups_per_five = static_cast<uint32_t>(profile_.groups_per_five);
  net_ = std::make_unique<SimNet>(this, all, profile_.clients);
  streams_ = std::make_unique<SnapshotStreams>(this);
  for (int i = 0; i < all; ++i) {
    const kv::Address address{"sim", static_cast<uint16_t>(5000 + i)};
    if (i < profile_.servers) {
      kv::ServerLine line;
      line.address = address;
      line.metrics_port = static_cast<uint16_t>(9090 + i);
      line.http_port = static_cast<uint16_t>(8080 + i);
      file_.servers.push_back(line);
    }
    servers_.push_back(
        std::make_unique<SimServer>(this, i, address, i >= profile_.servers));
  }
  for (int i = 0; i < profile_.clients; ++i) {
    clients_.push_back(std::make_unique<SimClient>(this, i));
  }
  faults_ = std::make_unique<FaultMaker>(this, random_.Next());
}

World::~World() {
  faults_.reset();
  queue_.Clear();
  clients_.clear();
  servers_.clear();
}

SimServer* World::FindServer(raft::NodeId id) {
  for (const auto& server : servers_) {
    if (server->has_identity() && server->id() == id) return server.get();
  }
  return nullptr;
}

SimServer* World::FindServer(const kv::Address& address) {
  const auto number = static_cast<size_t>(address.port - 5000);
  if (number >= servers_.size()) return nullptr;
  return servers_[number].get();
}

std::shared_ptr<const kv::ClusterMap> World::NewestMap() {
  std::shared_ptr<const kv::ClusterMap> newest;
  for (const auto& server : servers_) {
    if (!server->running()) continue;
    auto map = server->maps()->Get();
    if (newest == nullptr || map->epoch > newest->epoch) newest = map;
  }
  return newest;
}

SimServer* World::LeaderOf(raft::GroupId group) {
  SimServer* leader = nullptr;
  raft::Term term;
  for (const auto& server : servers_) {
    const SeenReplica* seen = server->Seen(group);
    if (seen != nullptr && seen->leader && seen->term > term) {
      leader = server.get();
      term = seen->term;
    }
  }
  return leader;
}

bool World::CanLoseDisk(const SimServer& server) {
  for (const auto& other : servers_) {
    if (other->suspect()) return false;
    if (!other->later() && !other->has_identity()) return false;
  }
  const auto map = NewestMap();
  if (map == nullptr || !server.has_identity()) return false;
  for (const kv::GroupInfo& group : map->groups) {
    const raft::Configuration* now = checks_.configuration(group.id);
    if (group.changing() || now == nullptr || now->joint()) return false;
    size_t others = 0;
    for (raft::NodeId voter : now->voters) {
      const SimServer* holder = FindServer(voter);
      if (holder == nullptr || holder == &server) continue;
      const ShadowLog* log = holder->DurableLog(group.id);
      others +=
          log != nullptr && log->Covers(checks_.committed_position(group.id));
    }
    if (others * 2 <= now->voters.size()) return false;
  }
  return true;
}

// ---- the run ----

void World::Step() {
  Task task = queue_.Take();
  task();
}

void World::RunUntil(uint64_t time) {
  while (!checks_.failed() && !queue_.empty() && queue_.next_time() <= time) {
    if (queue_.events() > kMaxEvents) {
      return checks_.Fail("P9 events without end");
    }
    Step();
  }
  if (!checks_.failed()) queue_.PassTo(time);
}

template <typename F>
bool World::RunUntilTrue(uint64_t nanos, F&& done) {
  const uint64_t end = now() + nanos;
  while (!checks_.failed()) {
    if (done()) return true;
    if (now() >= end) return false;
    RunUntil(now() + 100 * kMillisecond);
  }
  return true;  // another failure is told of
}

Result World::Run() {
  for (const auto& server : servers_) {
    if (!server->later()) server->Start();
  }
  for (const auto& client : clients_) client->Start();
  // So that the cluster forms as a new one.
  RunUntil(3 * kSecond);
  MindOutcasts();
  faults_->Start();
  RunUntil(uint64_t{options_.seconds} * kSecond * 3 / 4);
  if (!checks_.failed()) Calm();
  Finish();
  return result_;
}

// A server that lost its disk and reached nobody when it started takes itself
// for the one of the cluster file. Who knew the old one refuses it.
void World::MindOutcasts() {
  for (const auto& server : servers_) {
    if (!server->running() || server->gone()) continue;
    const bool refused =
        std::any_of(servers_.begin(), servers_.end(), [&](const auto& other) {
          return other != server && other->directory().HasMet(server->id()) &&
                 !other->directory()
                      .CheckPeer(server->id(),
                                 server->directory().identity().incarnation)
                      .ok();
        });
    if (!refused) continue;
    journal_.Note("outcast", server->index());
    server->Crash(true, 0);
    server->Wipe();
    server->Start();
  }
  queue_.Add(now() + 2 * kSecond, [this] { MindOutcasts(); });
}

std::string World::DescribeReplicas() {
  std::string text;
  for (const auto& server : servers_) {
    if (server->host() == nullptr) {
      absl::StrAppend(&text, "\n  server ", server->index(), " does not run");
      continue;
    }
    absl::StrAppend(&text, "\n  server ", server->index(), ", node ",
                    server->id().value(), ", map ", server->maps()->epoch());
    server->host()->ForEachReplica([&](const server::Replica& replica) {
      absl::StrAppend(&text, "\n    group ", replica.group().value(), ": ",
                      raft::Describe(replica.core().Status()), "      ",
                      raft::Describe(replica.core().Status().configuration));
    });
  }
  return text;
}

void World::Calm() {
  journal_.Note("calm");
  calm_ = true;
  faults_->Stop();
  net_->EndFaults();
  for (const auto& server : servers_) {
    server->EndFaults();
    if (!server->later() || server->has_identity()) server->Start();
  }
  if (!RunUntilTrue(kRecoveryNanos + 10 * kElectionNanos,
                    [this] { return AllLed(); })) {
    return checks_.Fail(absl::StrCat(
        "P9 no leader within ten election timeouts", DescribeReplicas()));
  }
  RunUntil(uint64_t{options_.seconds} * kSecond);
  for (const auto& client : clients_) client->Stop();
  auto all = [this](auto&& is) {
    return std::all_of(clients_.begin(), clients_.end(), is);
  };
  if (!RunUntilTrue(kAnswerNanos, [&] {
        return all([](const auto& client) { return client->idle(); });
      })) {
    return checks_.Fail("P9 an operation has no answer");
  }
  for (const auto& client : clients_) client->ReadAll();
  if (!RunUntilTrue(kAnswerNanos, [&] {
        return all([](const auto& client) { return client->has_read_all(); });
      })) {
    return checks_.Fail("P9 a read has no answer in the calm");
  }
  std::string why;
  if (!RunUntilTrue(kEqualNanos, [&] { return AllEqual(&why); })) {
    return checks_.Fail(absl::StrCat("P9 not all are equal: ", why));
  }
  if (!checks_.failed()) CheckHistories();
}

bool World::AllLed() {
  const auto map = NewestMap();
  return map != nullptr && std::all_of(map->groups.begin(), map->groups.end(),
                                       [this](const kv::GroupInfo& group) {
                                         return LeaderOf(group.id) != nullptr;
                                       });
}

bool World::AllEqual(std::string* why) {
  const auto map = NewestMap();
  if (map == nullptr) return false;
  for (const auto& server : servers_) {
    if (!server->running() || map->FindNode(server->id()) == nullptr) continue;
    if (server->maps()->epoch() == map->epoch) continue;
    *why = absl::StrCat("server ", server->index(), " has map ",
                        server->maps()->epoch(), ", newest is ", map->epoch);
    return false;
  }
  for (const kv::GroupInfo& group : map->groups) {
    const std::string name = absl::StrCat("group ", group.id.value(), " ");
    if (group.changing()) {
      *why = absl::StrCat(name, "is changing");
      return false;
    }
    const SimServer* leader = LeaderOf(group.id);
    if (leader == nullptr) {
      *why = absl::StrCat(name, "has no leader");
      return false;
    }
    const raft::Index end = leader->Seen(group.id)->last;
    std::vector<uint64_t> hashes;
    for (raft::NodeId member : group.members) {
      SimServer* server = FindServer(member);
      const SeenReplica* seen =
          server == nullptr ? nullptr : server->Seen(group.id);
      if (seen == nullptr || seen->applied != end) {
        *why = absl::StrCat(name, "member ",
                            server == nullptr ? -1 : server->index(), " is at ",
                            seen == nullptr ? 0 : seen->applied.value(), " of ",
                            end.value());
        return false;
      }
      server->host()->ForEachReplica([&](const server::Replica& replica) {
        if (replica.group() != group.id) return;
        const auto hash = replica.machine().Hash();
        hashes.push_back(hash.ok() ? hash->hash : 0);
      });
    }
    if (std::adjacent_find(hashes.begin(), hashes.end(),
                           std::not_equal_to<>()) != hashes.end()) {
      checks_.Fail(absl::StrCat("P5 ", name, "ends in different states"));
    }
  }
  return true;
}

void World::CheckHistories() {
  std::vector<test::Operation> puts;
  std::map<std::string, std::vector<test::Operation>> appends;
  for (const auto& client : clients_) {
    for (const test::Operation& operation : client->history()) {
      if (operation.key.starts_with("put")) {
        puts.push_back(operation);
      } else {
        appends[operation.key].push_back(operation);
      }
    }
  }
  // The one is exact without a search; the other knows all operations.
  const bool mixed = profile_.delete_percent + profile_.cas_percent > 0;
  auto violation = mixed ? test::CheckMixed(puts, &result_.undecided)
                         : test::CheckPuts(puts);
  if (!violation && !mixed) violation = test::CheckVersions(puts);
  if (violation) return checks_.Fail(absl::StrCat("P7 ", violation->text));
  const auto map = NewestMap();
  for (const auto& [key, operations] : appends) {
    const SimServer* leader = LeaderOf(map->OwnerOf(kv::SlotOf(key)));
    test::Stored final_value;
    const_cast<SimServer*>(leader)->host()->ForEachReplica(
        [&](const server::Replica& replica) {
          if (replica.group() != map->OwnerOf(kv::SlotOf(key))) return;
          const auto value = replica.machine().Get(key);
          if (value.ok() && value->found) final_value = value->value;
        });
    violation = test::CheckAppends(operations, key, final_value);
    if (violation) return checks_.Fail(absl::StrCat("P7 ", violation->text));
  }
}

void World::Finish() {
  result_.failure = checks_.failure();
  result_.profile = profile_.Describe();
  result_.digest = journal_.digest();
  result_.nanos = now();
  result_.events = queue_.events();
  result_.leaders = checks_.leaders();
  result_.hashes = checks_.hashes();
  if (const auto map = NewestMap()) result_.epochs = map->epoch;
  if (!result_.failure.empty()) result_.last = journal_.Last();
}

Result Simulate(const Options& options) { return World(options).Run(); }

}  // namespace kv739::world
