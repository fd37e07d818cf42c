#include "tests/support/crash_world.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <variant>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "kv/state_machine.h"

namespace kv739::testing {
namespace {

constexpr int kPatienceTicks = 3000;
constexpr uint32_t kAnswerTicks = 30;
constexpr char kInVain[] = "in vain";

server::HostOptions HostOptionsOf(const CrashWorld::Options& options) {
  server::HostOptions host;
  host.raft.election_timeout_ticks = 10;
  host.raft.heartbeat_ticks = 2;
  host.snapshot.entries = options.snapshot_entries;
  host.snapshot.trailing_entries = options.trailing_entries;
  host.snapshot.min_gap_ms = 0;
  return host;
}

HostCluster::Disks DisksOf(const CrashWorld::Options& options) {
  HostCluster::Disks disks;
  disks.segment_bytes = options.segment_bytes;
  return disks;
}

}  // namespace

class CrashWorld::Inbox : public server::ReplySink {
 public:
  void Deliver(server::Reply reply) override {
    EXPECT_TRUE(replies_.emplace(reply.tag, reply).second)
        << "operation " << reply.tag << " has two answers";
  }
  void Flush() override {}
  std::optional<server::Reply> Take(uint64_t tag) {
    auto found = replies_.find(tag);
    if (found == replies_.end()) return std::nullopt;
    return found->second;
  }

 private:
  std::map<uint64_t, server::Reply> replies_;
};

CrashWorld::CrashWorld(const Options& options, const Crash& crash)
    : crash_(crash),
      cluster_(options.nodes, HostOptionsOf(options), DisksOf(options)),
      inbox_(std::make_shared<Inbox>()),
      isolated_(options.nodes),
      promises_(options.nodes) {
  cluster_.SetOnDown([this](int node) { OnDown(node); });
  cluster_.SetSendHook(
      [this](int from, int to, const server::GroupMessage& message) {
        OnSend(from, to, message);
      });
  for (int i = 0; i < options.nodes; ++i) {
    if (i == crash_.node) cluster_.steps(i).CrashIn(crash_.step);
    Start(i);
  }
}

bool CrashWorld::failed() const {
  return stuck_ || ::testing::Test::HasFailure();
}

// ---- stopping and starting ----

void CrashWorld::PowerOff(int node) {
  cluster_.PowerOff(node, [this, n = uint64_t{0}]() mutable {
    ++decisions_;
    return (crash_.mask >> (n++ % 64) & 1) != 0;
  });
  seen_.erase(node);
  stats_.erase(node);
  restarts_[node] = now_ + crash_.down_ticks;
}

void CrashWorld::OnDown(int node) {
  crashed_in_ = cluster_.steps(node).crashed_in();
  crashed_ = true;
  PowerOff(node);
  if (!crash_.all) return;
  for (int i = 0; i < cluster_.size(); ++i) {
    if (cluster_.running(i)) PowerOff(i);
  }
}

void CrashWorld::Start(int node) {
  StorageSteps& steps = cluster_.steps(node);
  steps.SetDone([this] {
    ++decisions_;
    return (crash_.mask & 1) != 0;
  });
  const uint64_t before = steps.count();
  bool again = false;
  if (crashed_ && node == crash_.node && crash_.again > 0 && !started_again_) {
    again = started_again_ = true;
    steps.CrashIn(crash_.again);
  }
  if (!cluster_.PowerOn(node)) {
    if (!steps.down()) {
      stuck_ = true;
      return;
    }
    // Stopped while it started.
    OnDown(node);
    return;
  }
  if (crashed_ && node == crash_.node && !again) {
    restart_steps_ = steps.count() - before;
  }
  restarts_.erase(node);
  cluster_.Isolate(node, isolated_[node]);
  CheckRestarted(node);
}

// ---- promises ----

void CrashWorld::OnSend(int from, int to, const server::GroupMessage& sent) {
  if (sent.group != kGroup) return;
  Promises& promises = promises_[from];
  const auto vote = [&](raft::Term term, raft::NodeId candidate) {
    auto [known, first] = promises.votes.emplace(term, candidate);
    EXPECT_EQ(known->second, candidate)
        << "node " << from << " has voted twice in term " << term;
  };
  if (const auto* m = std::get_if<raft::RequestVote>(&sent.message)) {
    if (m->pre_vote) return;
    promises.term = std::max(promises.term, m->term);
    vote(m->term, Id(from));
  } else if (const auto* r =
                 std::get_if<raft::RequestVoteResponse>(&sent.message)) {
    if (r->pre_vote || !r->granted) return;
    promises.term = std::max(promises.term, r->term);
    vote(r->term, Id(to));
  } else if (const auto* a =
                 std::get_if<raft::AppendEntriesResponse>(&sent.message)) {
    if (!a->success) return;
    promises.term = std::max(promises.term, a->term);
    if (a->term > promises.acknowledged.term) {
      promises.acknowledged = {a->term, a->index};
    } else if (a->term == promises.acknowledged.term) {
      promises.acknowledged.index =
          std::max(promises.acknowledged.index, a->index);
    }
  } else if (const auto* e = std::get_if<raft::AppendEntries>(&sent.message)) {
    promises.term = std::max(promises.term, e->term);
  }
}

void CrashWorld::CheckRestarted(int node) {
  stats_.erase(node);
  const server::ReplicaStats* stats = StatsOf(node);
  if (stats == nullptr) return;
  const raft::CoreStatus& core = stats->core;
  const Promises& promises = promises_[node];
  EXPECT_GE(core.hard.term, promises.term) << "node " << node;
  auto vote = promises.votes.find(core.hard.term);
  if (vote != promises.votes.end()) {
    EXPECT_EQ(core.hard.vote, vote->second)
        << "node " << node << " has forgotten its vote in term "
        << core.hard.term;
  }
  // Of a vacant replica the log is gone, and with it only its copy.
  if (core.hard.term == promises.acknowledged.term && core.applied) {
    EXPECT_GE(core.last_index, promises.acknowledged.index)
        << "node " << node << " has lost what it acknowledged";
  }
}

const server::ReplicaStats* CrashWorld::StatsOf(int node) {
  if (!cluster_.running(node)) return nullptr;
  auto known = stats_.find(node);
  if (known == stats_.end()) {
    known = stats_.emplace(node, cluster_.Stats(node)).first;
  }
  for (const server::ReplicaStats& stats : known->second.replicas) {
    if (stats.group == kGroup) return &stats;
  }
  return nullptr;
}

void CrashWorld::Observe() {
  stats_.clear();
  for (int i = 0; i < cluster_.size(); ++i) {
    const server::ReplicaStats* stats = StatsOf(i);
    if (stats == nullptr || !stats->core.applied) {
      // It is no member, or begins again: it has nothing to stand by but votes.
      if (cluster_.running(i)) promises_[i].acknowledged = {};
      seen_.erase(i);
      continue;
    }
    const raft::CoreStatus& core = stats->core;
    if (core.soft.role == raft::Role::kLeader) {
      EXPECT_EQ(leaders_.emplace(core.soft.term, i).first->second, i)
          << "two leaders in term " << core.soft.term;
    }
    auto seen = seen_.find(i);
    if (seen != seen_.end()) {
      EXPECT_GE(core.hard.term, seen->second.hard.term) << i;
      EXPECT_GE(core.commit, seen->second.commit) << i;
      EXPECT_GE(core.applied, seen->second.applied) << i;
    }
    EXPECT_TRUE(stats->fault.empty()) << stats->fault;
    seen_[i] = core;
    committed_ = std::max(committed_, core.commit);
  }
}

// ---- time ----

void CrashWorld::Tick(int count) {
  for (int i = 0; i < count && !failed(); ++i) {
    ++now_;
    const std::map<int, uint64_t> restarts = restarts_;
    for (const auto& [node, at] : restarts) {
      if (now_ > at) Start(node);
    }
    cluster_.Tick();
    Observe();
  }
}

std::string CrashWorld::Describe() {
  std::string text;
  for (int i = 0; i < cluster_.size(); ++i) {
    absl::StrAppend(&text, "node ", i, isolated_[i] ? " isolated" : "");
    const server::ReplicaStats* stats = StatsOf(i);
    if (stats == nullptr) {
      absl::StrAppend(&text, cluster_.running(i) ? " has no replica" : " down",
                      "\n");
      continue;
    }
    const raft::CoreStatus& core = stats->core;
    absl::StrAppend(
        &text, core.soft.role == raft::Role::kLeader ? " leads" : "", " term ",
        core.hard.term.value(), " log ", core.first_index.value(), "..",
        core.last_index.value(), " durable ", core.durable.value(), " commit ",
        core.commit.value(), " applied ", core.applied.value(), " map ",
        cluster_.host(i)->map()->epoch,
        core.configuration.joint() ? " joint" : "", " ",
        stats->keeper.Describe(), "\n");
    for (const raft::PeerProgress& peer : core.peers) {
      absl::StrAppend(&text, "  node ", cluster_.NodeOf(peer.id), " match ",
                      peer.match.value(), peer.learner ? " learner" : "",
                      peer.recently_active ? "" : " silent",
                      peer.needs_snapshot ? " needs a snapshot" : "", "\n");
    }
  }
  return text;
}

void CrashWorld::TickUntil(const char* what,
                           const std::function<bool()>& holds) {
  for (int i = 0; i < kPatienceTicks; ++i) {
    if (failed() || holds()) return;
    Tick();
  }
  stuck_ = true;
  ADD_FAILURE() << "waited in vain: " << what << "\n" << Describe();
}

int CrashWorld::Leader() {
  int leader = -1;
  raft::Term term;
  for (int i = 0; i < cluster_.size(); ++i) {
    const server::ReplicaStats* stats = StatsOf(i);
    if (stats == nullptr || isolated_[i]) continue;
    if (stats->core.soft.role == raft::Role::kLeader &&
        stats->core.soft.term > term) {
      leader = i;
      term = stats->core.soft.term;
    }
  }
  return leader;
}

int CrashWorld::ElectLeader() {
  TickUntil("a leader", [this] { return Leader() >= 0; });
  return std::max(Leader(), 0);
}

int CrashWorld::Follower() {
  const int leader = ElectLeader();
  for (int i = 0; i < cluster_.size(); ++i) {
    const server::ReplicaStats* stats = StatsOf(i);
    if (i != leader && stats != nullptr &&
        stats->core.configuration.IsVoter(Id(i))) {
      return i;
    }
  }
  // It has crashed: the next one that is up.
  return (leader + 1) % cluster_.size();
}

void CrashWorld::Isolate(int node, bool isolated) {
  isolated_[node] = isolated;
  cluster_.Isolate(node, isolated);
}

raft::Index CrashWorld::SnapshotIndex(int node) {
  const server::ReplicaStats* stats = StatsOf(node);
  return stats == nullptr ? raft::Index() : stats->core.first_index;
}

raft::Index CrashWorld::Applied(int node) {
  const server::ReplicaStats* stats = StatsOf(node);
  return stats == nullptr ? raft::Index() : stats->core.applied;
}

uint64_t CrashWorld::Installs(int node) {
  const server::ReplicaStats* stats = StatsOf(node);
  return stats == nullptr ? 0 : stats->received.done;
}

// ---- clients ----

std::optional<server::Reply> CrashWorld::Try(server::Operation operation) {
  const int leader = ElectLeader();
  if (failed()) return server::Reply();
  operation.tag = next_tag_++;
  operation.sink = inbox_;
  const uint64_t tag = operation.tag;
  cluster_.Submit(leader, std::move(operation));
  stats_.clear();
  for (uint32_t i = 0; i < kAnswerTicks; ++i) {
    if (auto reply = inbox_->Take(tag)) return reply;
    Tick();
  }
  return std::nullopt;
}

server::Reply CrashWorld::Ask(server::Operation operation) {
  for (int i = 0; i < kPatienceTicks / 10; ++i) {
    std::optional<server::Reply> reply = Try(operation);
    if (failed()) return server::Reply();
    if (reply.has_value()) {
      switch (reply->code) {
        case server::ReplyCode::kNotLeader:
        case server::ReplyCode::kUnavailable:
        case server::ReplyCode::kUnknown:
        case server::ReplyCode::kWrongGroup:
          break;
        default:
          EXPECT_EQ(reply->code, server::ReplyCode::kOk) << reply->message;
          return *reply;
      }
    }
    Tick();
  }
  stuck_ = true;
  ADD_FAILURE() << "an operation is never answered";
  return server::Reply();
}

void CrashWorld::Write(const std::string& key, const std::string& text) {
  if (failed()) return;
  if (session_ == 0) {
    server::Operation open;
    open.kind = server::OpKind::kOpenSession;
    open.group = kGroup;
    session_ = Ask(open).session;
  }
  server::Operation write;
  write.kind = server::OpKind::kAppend;
  write.key = key;
  write.value = text;
  write.session = session_;
  write.sequence = ++sequence_;
  write.floor = sequence_;
  const server::Reply reply = Ask(write);
  if (failed()) return;
  EXPECT_GT(reply.version, last_version_);
  EXPECT_EQ(reply.found, expected_.contains(key)) << key;
  expected_[key] += text;
  last_write_ = write;
  last_version_ = reply.version;
}

void CrashWorld::WriteInVain(int node, int count) {
  if (failed() || !cluster_.running(node)) return;
  for (int i = 0; i < count && cluster_.running(node); ++i) {
    server::Operation put;
    put.kind = server::OpKind::kPut;
    put.key = kInVain;
    put.value = "x";
    put.tag = next_tag_++;
    put.sink = inbox_;
    cluster_.Submit(node, std::move(put));
  }
  stats_.clear();
}

void CrashWorld::Replace(int gone, int comes) {
  const auto settled = [&](int node) {
    const auto map = cluster_.host(node)->map();
    const kv::GroupInfo* group = map->FindGroup(kGroup);
    return !group->changing() && !group->Concerns(Id(gone)) &&
           group->Concerns(Id(comes));
  };
  TickUntil("a new member", [&] {
    const int leader = Leader();
    if (leader < 0) return false;
    if (settled(leader)) return true;
    const auto map = cluster_.host(leader)->map();
    kv::SetTarget change;
    change.group.group = kGroup;
    change.group.expected = map->FindGroup(kGroup)->target;
    change.group.target = change.group.expected;
    std::erase(change.group.target, Id(gone));
    if (std::find(change.group.target.begin(), change.group.target.end(),
                  Id(comes)) == change.group.target.end()) {
      change.group.target.push_back(Id(comes));
    }
    std::sort(change.group.target.begin(), change.group.target.end());
    if (change.group.target != change.group.expected) {
      cluster_.host(leader)->ProposeDirectoryChange(change, [](auto) {});
      cluster_.Settle();
      stats_.clear();
    }
    return false;
  });
}

// ---- the end ----

bool CrashWorld::Settled() {
  const int leader = Leader();
  if (leader < 0 || !restarts_.empty()) return false;
  const raft::CoreStatus core = StatsOf(leader)->core;
  if (core.changing || core.applied != core.last_index ||
      core.commit < committed_) {
    return false;
  }
  for (int i = 0; i < cluster_.size(); ++i) {
    const server::ReplicaStats* stats = StatsOf(i);
    if (!core.configuration.Contains(Id(i))) {
      // Who is no member has nothing of the group, in the end.
      if (stats != nullptr) return false;
      if (kv::StateMachine::Open(cluster_.engine(i), kGroup).ok()) return false;
      continue;
    }
    if (stats == nullptr || stats->core.applied != core.last_index ||
        stats->core.last_index != core.last_index ||
        stats->core.commit != core.commit) {
      return false;
    }
  }
  return true;
}

void CrashWorld::CheckConfiguration(int node) {
  const raft::CoreStatus core = StatsOf(node)->core;
  auto machine = kv::StateMachine::Open(cluster_.engine(node), kGroup);
  ASSERT_TRUE(machine.ok()) << machine.status();
  raft::Configuration last = (*machine)->configuration();
  raft::Index next = core.first_index;
  while (next <= core.last_index) {
    auto entries =
        cluster_.wal(node)->Read(kGroup, next, core.last_index, 1 << 20);
    ASSERT_TRUE(entries.ok()) << entries.status();
    for (const raft::Entry& entry : *entries) {
      if (entry.kind == raft::EntryKind::kConfiguration) {
        auto decoded = raft::DecodeConfiguration(*entry.data);
        ASSERT_TRUE(decoded.ok());
        last = *decoded;
      }
    }
    next = entries->back().index + 1;
  }
  EXPECT_EQ(core.configuration, last) << "node " << node;
}

void CrashWorld::CheckAll() {
  for (int i = 0; i < cluster_.size(); ++i) Isolate(i, false);
  TickUntil("all replicas equal", [this] { return Settled(); });
  if (failed()) return;
  uint64_t sessions = 0;
  for (int i = 0; i < cluster_.size(); ++i) {
    const server::ReplicaStats* stats = StatsOf(i);
    if (stats == nullptr) continue;
    const auto hash = cluster_.Hash(i, kGroup);
    EXPECT_EQ(hash.index, stats->core.applied);
    EXPECT_EQ(hashes_.emplace(hash.index, hash.hash).first->second, hash.hash)
        << "node " << i << " differs at " << hash.index;
    if (sessions == 0) sessions = stats->sessions;
    EXPECT_EQ(stats->sessions, sessions);
    CheckConfiguration(i);
  }
  EXPECT_TRUE(session_ == 0 || sessions > 0);
  for (const auto& [key, value] : expected_) {
    server::Operation get;
    get.kind = server::OpKind::kGet;
    get.key = key;
    const server::Reply reply = Ask(get);
    if (failed()) return;
    EXPECT_EQ(reply.value, value) << key;
  }
  server::Operation get;
  get.kind = server::OpKind::kGet;
  get.key = kInVain;
  EXPECT_FALSE(Ask(get).found);
  if (sequence_ == 0 || failed()) return;
  const server::Reply reply = Ask(last_write_);
  EXPECT_EQ(reply.version, last_version_) << "a repeated write was done again";
}

void CrashWorld::Finish() {
  if (failed()) return;
  CheckAll();
  if (failed()) return;
  for (int i = 0; i < cluster_.size(); ++i) {
    if (cluster_.running(i)) PowerOff(i);
  }
  CheckAll();
}

}  // namespace kv739::testing
