// Groups that rest, in whole hosts: what makes them, what wakes them, and that
// nothing is missed meanwhile.
#include <gtest/gtest.h>

#include <algorithm>

#include "kv/directory.h"
#include "server/host.h"
#include "tests/support/host_cluster.h"

namespace kv739::server {
namespace {

using testing::HostCluster;

constexpr raft::GroupId kGroup{0};
constexpr int kQuiet = 40;     // ticks
constexpr int kElection = 50;  // the longest election timeout, in ticks

HostOptions Options() {
  HostOptions options;
  options.raft.quiesce_after_ticks = kQuiet;
  return options;
}

Operation Op(OpKind kind, const std::string& key, const std::string& value) {
  Operation operation;
  operation.kind = kind;
  operation.key = key;
  operation.value = value;
  return operation;
}
Operation Put(const std::string& key, const std::string& value) {
  return Op(OpKind::kPut, key, value);
}
Operation Get(const std::string& key) { return Op(OpKind::kGet, key, ""); }

class QuietHostTest : public ::testing::Test {
 protected:
  explicit QuietHostTest(HostOptions options = Options())
      : cluster_(5, options) {
    cluster_.SetSendHook([this](int, int, const GroupMessage&) { ++sent_; });
    leader_ = cluster_.ElectLeader(kGroup);
    // The servers' files become the directory, and the keeper settles.
    EXPECT_EQ(cluster_.Call(Put("a", "1")).code, ReplyCode::kOk);
    cluster_.Tick(20);
    Rest();
  }

  bool Quiet(int node) { return cluster_.Stats(node).replicas[0].resting; }
  bool AllQuiet() {
    for (int i = 0; i < cluster_.size(); ++i) {
      if (cluster_.running(i) && !Quiet(i)) return false;
    }
    return true;
  }
  void Rest() {
    for (int i = 0; i < 5 * kQuiet && !AllQuiet(); ++i) cluster_.Tick();
    ASSERT_TRUE(AllQuiet());
    leader_ = cluster_.ElectLeader(kGroup);
  }
  uint64_t Term(int node) {
    return cluster_.Stats(node).replicas[0].core.hard.term.value();
  }
  raft::Index Applied(int node) {
    return cluster_.Stats(node).replicas[0].core.applied;
  }

  HostCluster cluster_;
  int leader_ = -1;
  uint64_t sent_ = 0;  // messages of groups
};

TEST_F(QuietHostTest, AQuietGroupSendsNothingAndKeepsItsLeader) {
  const uint64_t term = Term(leader_);
  sent_ = 0;
  cluster_.Tick(1000);
  EXPECT_EQ(sent_, 0u);
  EXPECT_TRUE(AllQuiet());
  EXPECT_EQ(cluster_.ElectLeader(kGroup), leader_);
  EXPECT_EQ(Term(leader_), term);
}

TEST_F(QuietHostTest, WritesAndReadsAreServedAtOnce) {
  cluster_.Tick(500);
  // Without a tick in between.
  Operation put = Put("b", "2");
  put.tag = 1;
  cluster_.Submit(leader_, put);
  ASSERT_TRUE(cluster_.answers()->Has(1));
  EXPECT_EQ(cluster_.answers()->Of(1).code, ReplyCode::kOk);
  cluster_.Tick(3);
  EXPECT_FALSE(Quiet(leader_));
  Rest();
  Operation get = Get("b");
  get.tag = 2;
  cluster_.Submit(leader_, get);
  ASSERT_TRUE(cluster_.answers()->Has(2));
  EXPECT_EQ(cluster_.answers()->Of(2).value, "2");
  Rest();
}

TEST_F(QuietHostTest, AFollowerNamesTheLeaderAndGoesOnResting) {
  const int follower = (leader_ + 1) % 5;
  sent_ = 0;
  Operation put = Put("b", "2");
  put.tag = 1;
  cluster_.Submit(follower, put);
  EXPECT_EQ(cluster_.answers()->Of(1).code, ReplyCode::kNotLeader);
  EXPECT_FALSE(cluster_.answers()->Of(1).leader.empty());
  cluster_.Tick(5);
  EXPECT_TRUE(AllQuiet());
  EXPECT_EQ(sent_, 0u);
}

TEST_F(QuietHostTest, ALeaderThatFallsSilentIsReplaced) {
  const int old = leader_;
  cluster_.Isolate(old, true);
  // An election timeout until it counts as silent, and a short one then.
  cluster_.Tick(kElection + 10);
  EXPECT_NE(cluster_.ElectLeader(kGroup), old);
  EXPECT_EQ(cluster_.Call(Put("b", "2")).code, ReplyCode::kOk);
  // It is led by the other one when it is back.
  cluster_.Isolate(old, false);
  Rest();
  EXPECT_EQ(Applied(old), Applied(leader_));
}

TEST_F(QuietHostTest, ALeaderWhoseConnectionEndsIsReplacedSooner) {
  const int old = leader_;
  const raft::NodeId id = cluster_.map().nodes[old].id;
  cluster_.Crash(old);
  for (int i = 0; i < 5; ++i) {
    if (i != old) cluster_.host(i)->OnPeerGone(id);
  }
  cluster_.Tick(25);
  int leaders = 0;
  for (int i = 0; i < 5; ++i) {
    if (i == old) continue;
    leaders +=
        cluster_.Stats(i).replicas[0].core.soft.role == raft::Role::kLeader;
  }
  EXPECT_EQ(leaders, 1);
  EXPECT_EQ(cluster_.Call(Put("b", "2")).code, ReplyCode::kOk);
}

TEST_F(QuietHostTest, AGroupWithADeadMemberIsAwake) {
  const int follower = (leader_ + 1) % 5;
  cluster_.Crash(follower);
  cluster_.Tick(kElection);
  EXPECT_FALSE(Quiet(leader_));
  cluster_.Tick(10 * kQuiet);
  EXPECT_FALSE(Quiet(leader_));
  EXPECT_EQ(cluster_.ElectLeader(kGroup), leader_);
  // The leader tells the keeper how long it is away.
  const auto& peers = cluster_.Stats(leader_).replicas[0].core.peers;
  const raft::NodeId id = cluster_.map().nodes[follower].id;
  const auto peer = std::find_if(peers.begin(), peers.end(),
                                 [&](const auto& p) { return p.id == id; });
  ASSERT_NE(peer, peers.end());
  EXPECT_GT(peer->silent_ticks, 9u * kQuiet);
  cluster_.Restart(follower);
  Rest();
  EXPECT_EQ(Applied(follower), Applied(leader_));
}

// So quickly that nobody missed it.
TEST_F(QuietHostTest, AFollowerThatRestartsHearsOfItsLeader) {
  const int follower = (leader_ + 1) % 5;
  const uint64_t term = Term(leader_);
  cluster_.Crash(follower);
  cluster_.Restart(follower);
  EXPECT_FALSE(cluster_.host(follower)->AllGroupsHaveLeader());
  cluster_.Tick(15);  // a pulse tells that it is another process
  EXPECT_TRUE(cluster_.host(follower)->AllGroupsHaveLeader());
  EXPECT_EQ(Term(leader_), term);
  Rest();
}

TEST_F(QuietHostTest, ALeaderThatRestartsDoesNotLeaveTheOthersAsleep) {
  const int old = leader_;
  cluster_.Crash(old);
  cluster_.Restart(old);
  cluster_.Tick(2 * kElection);
  EXPECT_EQ(cluster_.Call(Put("b", "2")).code, ReplyCode::kOk);
  Rest();
}

TEST_F(QuietHostTest, AllThatRestartFindALeader) {
  for (int i = 0; i < 5; ++i) cluster_.Crash(i);
  for (int i = 0; i < 5; ++i) cluster_.Restart(i);
  EXPECT_EQ(cluster_.Call(Put("b", "2")).code, ReplyCode::kOk);
  Rest();
}

TEST_F(QuietHostTest, LeadershipIsHandedOver) {
  const int to = (leader_ + 2) % 5;
  absl::StatusOr<raft::NodeId> result = absl::UnknownError("no answer");
  cluster_.host(leader_)->TransferLeadership(
      kGroup, cluster_.map().nodes[to].id,
      [&](absl::StatusOr<raft::NodeId> r) { result = r; });
  cluster_.Tick(5);
  ASSERT_TRUE(result.ok()) << result.status();
  Rest();
  EXPECT_EQ(leader_, to);
}

TEST_F(QuietHostTest, AStoppingHostHandsOver) {
  const int old = leader_;
  int still_led = -1;
  cluster_.host(old)->BeginStop([&](int n) { still_led = n; });
  cluster_.Tick(5);
  EXPECT_EQ(still_led, 0);
}

TEST_F(QuietHostTest, AMapWithOtherMembersWakesTheGroup) {
  // Four of five are to stay.
  kv::SetTarget change;
  change.group.group = kGroup;
  const auto map = cluster_.host(leader_)->map();
  const kv::GroupInfo* group = map->FindGroup(kGroup);
  change.group.expected = group->target;
  const raft::NodeId gone = cluster_.map().nodes[(leader_ + 1) % 5].id;
  for (raft::NodeId id : group->target) {
    if (id != gone) change.group.target.push_back(id);
  }
  absl::Status status = absl::UnknownError("no answer");
  cluster_.host(leader_)->ProposeDirectoryChange(
      change, [&](auto answer) { status = answer.status; });
  cluster_.Tick(100);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(
      cluster_.Stats(leader_).replicas[0].core.configuration.voters.size(), 4u);
}

TEST_F(QuietHostTest, AnAuditIsDoneAndTheGroupRestsAgain) {
  absl::StatusOr<AuditResult> result = absl::UnknownError("no answer");
  cluster_.host(leader_)->Check(kGroup, [&](auto r) { result = std::move(r); });
  cluster_.Tick(20);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->Clean());
  EXPECT_EQ(result->replicas.size(), 5u);
  Rest();
}

// Time goes on for those that rest.
class QuietAuditTest : public QuietHostTest {
 protected:
  QuietAuditTest() : QuietHostTest(WithAudits()) {}
  static HostOptions WithAudits() {
    HostOptions options = Options();
    options.audit.interval_ticks = 1500;
    return options;
  }
};
TEST_F(QuietAuditTest, AuditsComeAtTheirTime) {
  const uint64_t before = cluster_.Stats(leader_).replicas[0].audits;
  cluster_.Tick(2 * 1500 + 200);
  const uint64_t audits = cluster_.Stats(leader_).replicas[0].audits - before;
  EXPECT_GE(audits, 1u);
  EXPECT_LE(audits, 3u);
}

// What is applied becomes durable after a minute without more.
TEST_F(QuietHostTest, AnIdleGroupIsMadeDurable) {
  cluster_.Tick(61 * 50);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(cluster_.Stats(i).replicas[0].snapshot_index, Applied(i));
  }
  EXPECT_TRUE(AllQuiet());
}

TEST(MixedHostTest, GroupsOfServersThatDoNotKnowOfItStayAwake) {
  HostOptions options;  // quiesce_after_ticks is 0
  HostCluster cluster(5, options);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(1000);
  EXPECT_FALSE(cluster.Stats(leader).replicas[0].core.quiet);
  EXPECT_EQ(cluster.ElectLeader(kGroup), leader);
}

}  // namespace
}  // namespace kv739::server
