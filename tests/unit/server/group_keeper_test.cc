// What the leader of a group does towards the members that the map wants.
#include "server/group_keeper.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kv739::server {
namespace {

using raft::Configuration;
using raft::Index;
using raft::NodeId;
using raft::Term;
using NodeIds = std::vector<NodeId>;

NodeIds Ids(std::initializer_list<uint64_t> ids) {
  NodeIds nodes;
  for (uint64_t id : ids) nodes.push_back(NodeId(id));
  return nodes;
}

constexpr uint64_t kReplaceAfter = 3000;
constexpr uint64_t kCandidateTimeout = 1000;
constexpr uint64_t kRepeat = 50;

KeeperOptions TestOptions() {
  KeeperOptions options;
  options.replace_after_ticks = kReplaceAfter;
  options.candidate_timeout_ticks = kCandidateTimeout;
  options.repeat_ticks = kRepeat;
  return options;
}

// Node 1 leads 1, 2, 3 in term 4; all have everything up to index 10,000.
class KeeperTest : public ::testing::Test {
 protected:
  KeeperTest() : keeper(TestOptions()) {
    group.id = raft::GroupId(7);
    group.members = group.target = Ids({1, 2, 3});
    core.soft = {raft::Role::kLeader, Term(4), NodeId(1)};
    core.last_index = core.commit = core.applied = Index(10000);
    core.configuration.voters = Ids({1, 2, 3});
    Peers();
  }

  // A peer for every other member, alive and with everything, unless known.
  void Peers() {
    std::vector<raft::PeerProgress> peers;
    for (NodeId id : core.configuration.Members()) {
      if (id == NodeId(1)) continue;
      raft::PeerProgress fresh;
      fresh.id = id;
      fresh.match = core.last_index;
      fresh.recently_active = true;
      for (const auto& known : core.peers) {
        if (known.id == id) fresh = known;
      }
      fresh.learner = core.configuration.IsLearner(id);
      peers.push_back(fresh);
    }
    core.peers = std::move(peers);
  }
  raft::PeerProgress& Peer(uint64_t id) {
    for (auto& peer : core.peers) {
      if (peer.id == NodeId(id)) return peer;
    }
    ADD_FAILURE() << "no peer " << id;
    return core.peers.front();
  }
  void Silence(uint64_t id, uint64_t ticks) {
    Peer(id).silent_ticks = ticks;
    Peer(id).recently_active = ticks < 25;
  }
  KeeperAction Decide() {
    now += 1;
    return keeper.Decide({NodeId(1), core, group, spares, now});
  }
  void ExpectNothing(KeeperState state) {
    const KeeperAction action = Decide();
    EXPECT_TRUE(std::holds_alternative<std::monostate>(action));
    EXPECT_EQ(KeeperStateName(keeper.status().state), KeeperStateName(state));
  }
  void ExpectProposal(const Configuration& expected) {
    const KeeperAction action = Decide();
    const auto* proposed = std::get_if<Configuration>(&action);
    ASSERT_NE(proposed, nullptr);
    EXPECT_EQ(*proposed, expected);
  }
  void ExpectTarget(const NodeIds& expected, bool automatic) {
    const KeeperAction action = Decide();
    const auto* change = std::get_if<kv::DirectoryChange>(&action);
    ASSERT_NE(change, nullptr) << keeper.status().Describe();
    const auto* target = std::get_if<kv::SetTarget>(change);
    ASSERT_NE(target, nullptr);
    EXPECT_EQ(target->group.group, group.id);
    EXPECT_EQ(target->group.expected, group.target);
    EXPECT_EQ(target->group.target, expected);
    EXPECT_EQ(target->automatic, automatic);
  }
  void ExpectReport(const NodeIds& members) {
    const KeeperAction action = Decide();
    const auto* change = std::get_if<kv::DirectoryChange>(&action);
    ASSERT_NE(change, nullptr);
    const auto* settled = std::get_if<kv::GroupSettled>(change);
    ASSERT_NE(settled, nullptr);
    EXPECT_EQ(settled->group, group.id);
    EXPECT_EQ(settled->members, members);
    EXPECT_EQ(settled->index, core.commit);
  }

  GroupKeeper keeper;
  raft::CoreStatus core;
  kv::GroupInfo group;
  std::vector<SpareNode> spares;
  uint64_t now = 5000;
};

// ---- the way to a target ----

TEST_F(KeeperTest, ASettledGroupIsLeftAlone) {
  for (int i = 0; i < 1000; ++i) ExpectNothing(KeeperState::kSettled);
  EXPECT_EQ(keeper.status().Describe(), "");
}

TEST_F(KeeperTest, AllThatAreMissingBecomeLearnersInOneChange) {
  group.target = Ids({1, 2, 3, 4, 5});
  ExpectProposal({Ids({1, 2, 3}), {}, Ids({4, 5})});
}

TEST_F(KeeperTest, AProposalThatWasRefusedComesAgain) {
  group.target = Ids({1, 2, 3, 4});
  ExpectProposal({Ids({1, 2, 3}), {}, Ids({4})});
  ExpectProposal({Ids({1, 2, 3}), {}, Ids({4})});
}

TEST_F(KeeperTest, NothingIsBegunWhileAChangeIsUnderWay) {
  group.target = Ids({1, 2, 3, 4});
  core.changing = true;
  ExpectNothing(KeeperState::kChangingLearners);
  core.configuration.outgoing = Ids({1, 2, 3});
  ExpectNothing(KeeperState::kChangingVoters);
}

TEST_F(KeeperTest, LearnersThatAreBehindAreWaitedFor) {
  group.target = Ids({1, 2, 4});
  core.configuration.learners = Ids({4});
  Peers();
  Peer(4).match = Index(5000);
  ExpectNothing(KeeperState::kCatchingUp);
  EXPECT_EQ(keeper.status().node, NodeId(4));
  EXPECT_EQ(keeper.status().Describe(), "waiting for 4 to catch up: 50 %");
  Peer(4).match = Index(8999);
  ExpectNothing(KeeperState::kCatchingUp);
  Peer(4).match = Index(9000);
  ExpectProposal({Ids({1, 2, 4}), {}, {}});
}

TEST_F(KeeperTest, ALearnerThatNeedsASnapshotIsWaitedForHoweverShortTheLog) {
  group.target = Ids({1, 2, 4});
  core.last_index = core.commit = Index(20);
  core.configuration.learners = Ids({4});
  Peers();
  Peer(4).match = Index(0);
  Peer(4).needs_snapshot = true;
  ExpectNothing(KeeperState::kCatchingUp);
  EXPECT_EQ(keeper.status().Describe(),
            "waiting for 4 to catch up: it gets a snapshot");
  Peer(4).needs_snapshot = false;  // begun, and nothing known of it yet
  ExpectNothing(KeeperState::kCatchingUp);
  Peer(4).match = Index(2);
  ExpectProposal({Ids({1, 2, 4}), {}, {}});
}

// Thesis section 4.2.1: under a load that never lets it lack less than the
// bound, a learner that keeps the pace has caught up.
TEST_F(KeeperTest, ALearnerThatKeepsThePaceOfAHeavyLoadHasCaughtUp) {
  group.target = Ids({1, 2, 4});
  core.configuration.learners = Ids({4});
  Peers();
  Peer(4).match = Index(1);
  uint64_t calls = 0;
  for (;; ++calls) {
    ASSERT_LT(calls, 20u);
    const KeeperAction action = Decide();
    if (std::holds_alternative<Configuration>(action)) break;
    now += 4;
    core.last_index = core.last_index + 5000;
    Peer(4).match = core.last_index - 5000;
  }
  EXPECT_GE(calls, 1u);
}

TEST_F(KeeperTest, ALearnerThatFallsBackHasNotCaughtUp) {
  group.target = Ids({1, 2, 4});
  core.configuration.learners = Ids({4});
  Peers();
  Peer(4).match = Index(1);
  for (int i = 0; i < 100; ++i) {
    ExpectNothing(KeeperState::kCatchingUp);
    now += 4;
    core.last_index = core.last_index + 5000;
    Peer(4).match = Peer(4).match + 1000;
  }
}

TEST_F(KeeperTest, OneOfSeveralLearnersThatIsDeadIsWaitedFor) {
  group.target = Ids({1, 2, 4, 5});
  core.configuration.learners = Ids({4, 5});
  Peers();
  Silence(5, 100 * kCandidateTimeout);
  spares = {{NodeId(6), true}};
  ExpectNothing(KeeperState::kCatchingUp);
  EXPECT_EQ(keeper.status().Describe(), "waiting for 5, which does not answer");
}

TEST_F(KeeperTest, TheVotersChangeOnlyWithALiveMajorityOfTheNewOnes) {
  core.configuration.voters = group.members = Ids({1, 2, 3, 4, 5});
  group.target = Ids({2, 3, 4});
  core.peers.clear();
  Peers();
  Silence(2, 100);
  Silence(3, 100);
  ExpectNothing(KeeperState::kWaitingForMajority);
  Silence(3, 1);
  ExpectProposal({Ids({2, 3, 4}), {}, {}});
}

TEST_F(KeeperTest, ANewLeaderBelievesInALiveMajorityOnlyWhenItHasHeardOfIt) {
  core.configuration.voters = group.members = Ids({1, 2, 3, 4, 5});
  group.target = Ids({2, 3, 4});
  core.peers.clear();
  Peers();
  for (auto& peer : core.peers) peer.match = Index(0);
  ExpectNothing(KeeperState::kWaitingForMajority);
}

TEST_F(KeeperTest, TheLeaderCountsItselfWhereItStays) {
  core.configuration.voters = group.members = Ids({1, 2, 3, 4, 5});
  group.target = Ids({1, 2, 3});
  core.peers.clear();
  Peers();
  Silence(2, 100);
  ExpectProposal({Ids({1, 2, 3}), {}, {}});
}

TEST_F(KeeperTest, LearnersThatTheTargetDoesNotHaveGo) {
  core.configuration.learners = Ids({4, 5});
  Peers();
  ExpectProposal({Ids({1, 2, 3}), {}, {}});
}

TEST_F(KeeperTest, LearnersComeAndGoInOneChange) {
  group.target = Ids({1, 2, 6});
  core.configuration.learners = Ids({4, 5});
  Peers();
  ExpectProposal({Ids({1, 2, 3}), {}, Ids({6})});
}

TEST_F(KeeperTest, AGroupShrinksWithoutLearners) {
  core.configuration.voters = group.members = Ids({1, 2, 3, 4, 5});
  group.target = Ids({1, 2, 3, 4});
  core.peers.clear();
  Peers();
  ExpectProposal({Ids({1, 2, 3, 4}), {}, {}});
}

TEST_F(KeeperTest, ALeaderThatHandsOverOrMustNotLeadBeginsNothing) {
  group.target = Ids({1, 2, 4});
  core.transferring = true;
  ExpectNothing(KeeperState::kHeldUp);
  core.transferring = false;
  core.fit = false;
  ExpectNothing(KeeperState::kHeldUp);
}

// ---- reports ----

TEST_F(KeeperTest, WhatTheVotersAreIsReportedUntilTheMapShowsIt) {
  core.configuration.voters = Ids({1, 2, 4});
  group.target = Ids({1, 2, 4});
  Peers();
  ExpectReport(Ids({1, 2, 4}));
  for (uint64_t i = 1; i < kRepeat; ++i) {
    ExpectNothing(KeeperState::kReporting);
  }
  core.commit = Index(10020);
  ExpectReport(Ids({1, 2, 4}));
  group.members = Ids({1, 2, 4});
  group.settled = Index(10020);
  ExpectNothing(KeeperState::kSettled);
}

TEST_F(KeeperTest, ANewLeaderReportsAtOnce) {
  core.configuration.voters = group.target = Ids({1, 2, 4});
  Peers();
  ExpectReport(Ids({1, 2, 4}));
  core.soft.term = Term(6);
  ExpectReport(Ids({1, 2, 4}));
}

// An old map would otherwise have the group undo what it just did.
TEST_F(KeeperTest, WithAMapThatIsBehindItOnlyReports) {
  core.configuration.voters = Ids({1, 2, 4});
  Peers();
  Silence(4, 2 * kReplaceAfter);
  spares = {{NodeId(6), true}};
  ExpectReport(Ids({1, 2, 4}));
  ExpectNothing(KeeperState::kReporting);
}

TEST_F(KeeperTest, ALeaderThatIsBehindTheMapDoesNothing) {
  group.members = group.target = Ids({1, 2, 4});
  group.settled = Index(10001);
  ExpectNothing(KeeperState::kHeldUp);
}

// ---- replacing who is away ----

TEST_F(KeeperTest, AVoterThatIsAwayForTooLongIsReplacedByASpare) {
  spares = {{NodeId(4), true}};
  Silence(3, kReplaceAfter - 1);
  ExpectNothing(KeeperState::kSettled);
  Silence(3, kReplaceAfter);
  ExpectTarget(Ids({1, 2, 4}), /*automatic=*/true);
  EXPECT_EQ(keeper.status().node, NodeId(3));
  for (uint64_t i = 1; i < kRepeat; ++i) {
    ExpectNothing(KeeperState::kAskingForTarget);
  }
  ExpectTarget(Ids({1, 2, 4}), /*automatic=*/true);
}

TEST_F(KeeperTest, NobodyIsReplacedWhenThatIsSwitchedOff) {
  KeeperOptions options = TestOptions();
  options.replace_after_ticks = 0;
  GroupKeeper never(options);
  spares = {{NodeId(4), true}};
  Silence(3, 1000000);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(
      never.Decide({NodeId(1), core, group, spares, ++now})));
}

TEST_F(KeeperTest, WithoutASpareItSaysSo) {
  Silence(3, kReplaceAfter);
  ExpectNothing(KeeperState::kNoSpare);
  EXPECT_EQ(keeper.status().node, NodeId(3));
  spares = {{NodeId(4), false}};
  ExpectNothing(KeeperState::kNoSpare);
  spares = {{NodeId(4), false}, {NodeId(5), true}};
  ExpectTarget(Ids({1, 2, 5}), true);
}

TEST_F(KeeperTest, OneAtATimeTheLongestAwayFirst) {
  core.configuration.voters = group.members = group.target =
      Ids({1, 2, 3, 4, 5});
  core.peers.clear();
  Peers();
  Silence(3, kReplaceAfter + 5);
  Silence(5, kReplaceAfter + 9);
  spares = {{NodeId(8), true}};
  ExpectTarget(Ids({1, 2, 3, 4, 8}), true);
}

TEST_F(KeeperTest, GroupsChooseDifferentSpares) {
  for (uint64_t id = 11; id <= 30; ++id) spares.push_back({NodeId(id), true});
  Silence(3, kReplaceAfter);
  std::set<NodeId> chosen;
  for (uint64_t g = 1; g <= 20; ++g) {
    group.id = raft::GroupId(g);
    GroupKeeper fresh(TestOptions());
    const KeeperAction action =
        fresh.Decide({NodeId(1), core, group, spares, ++now});
    const auto& change = std::get<kv::DirectoryChange>(action);
    chosen.insert(std::get<kv::SetTarget>(change).group.target.back());
  }
  EXPECT_GT(chosen.size(), 8u);
}

// Groups 7, 8 and 9 on nodes 1 to 5, of which 5 is away; node 1 leads them all.
class SiblingsTest : public KeeperTest {
 protected:
  SiblingsTest() {
    group.members = group.target = Ids({1, 2, 3, 4, 5});
    core.configuration.voters = group.members;
    core.peers.clear();
    Peers();
    Silence(5, kReplaceAfter);
    kv::GroupInfo other = group;
    other.id = raft::GroupId(3);
    other.members = other.target = Ids({21, 22, 23, 24, 25});
    groups.push_back(other);
    for (uint64_t id : {7, 8, 9}) {
      group.id = raft::GroupId(id);
      groups.push_back(group);
    }
  }
  kv::GroupInfo& Group(uint64_t id) {
    return *std::find_if(
        groups.begin(), groups.end(),
        [&](const kv::GroupInfo& g) { return g.id == raft::GroupId(id); });
  }
  // Whom a leader of the group puts in the place of 5; 0: nobody.
  NodeId Choice(uint64_t id) {
    GroupKeeper fresh(TestOptions());
    const KeeperAction action = fresh.Decide(
        {NodeId(1), core, Group(id), spares, ++now, absl::MakeSpan(groups)});
    const auto* change = std::get_if<kv::DirectoryChange>(&action);
    if (change == nullptr) return NodeId();
    NodeIds target = std::get<kv::SetTarget>(*change).group.target;
    EXPECT_EQ(target.size(), 5u);
    for (uint64_t kept : {1, 2, 3, 4}) std::erase(target, NodeId(kept));
    return target.size() == 1 ? target[0] : NodeId();
  }

  std::vector<kv::GroupInfo> groups;
};

TEST_F(SiblingsTest, ThatChooseAtOnceChooseTheSame) {
  for (uint64_t id = 31; id <= 50; ++id) spares.push_back({NodeId(id), true});
  const NodeId first = Choice(7);
  EXPECT_TRUE(bool(first));
  EXPECT_EQ(Choice(8), first);
  EXPECT_EQ(Choice(9), first);
  // Another five takes others, or they would all want one.
  std::set<NodeId> chosen;
  for (uint64_t id = 100; id < 120; ++id) {
    Group(7).id = raft::GroupId(id);
    chosen.insert(Choice(id));
    Group(id).id = raft::GroupId(7);
  }
  EXPECT_GT(chosen.size(), 8u);
}

TEST_F(SiblingsTest, OneThatChoosesLaterFollowsTheFirst) {
  for (uint64_t id = 31; id <= 50; ++id) {
    SCOPED_TRACE(id);
    // On the way, and done.
    for (bool settled : {false, true}) {
      Group(9).target = Ids({1, 2, 3, 4, id});
      Group(9).members = settled ? Group(9).target : Ids({1, 2, 3, 4, 5});
      spares = {{NodeId(30), true}, {NodeId(id), true, 1}, {NodeId(60), true}};
      EXPECT_EQ(Choice(7), NodeId(id));
      EXPECT_EQ(Choice(8), NodeId(id));
      // Not there, or with no place left.
      spares[1].connected = false;
      EXPECT_NE(Choice(7), NodeId(id));
      spares = {{NodeId(30), true}};
      EXPECT_EQ(Choice(7), NodeId(30));
    }
  }
}

TEST_F(SiblingsTest, AnotherOnesPlaceIsNoExample) {
  // 8 has put 31 in the place of 4, and 3 is of another five.
  Group(8).target = Ids({1, 2, 3, 5, 31});
  Group(3).target = Ids({21, 22, 23, 24, 32});
  spares = {{NodeId(31), true, 1}, {NodeId(32), true, 1}, {NodeId(33), true}};
  EXPECT_EQ(Choice(7), NodeId(33));
}

TEST_F(SiblingsTest, ASpareComesFirstAndThenWhoHasTheFewestPlaces) {
  spares = {{NodeId(31), true, 2}, {NodeId(32), true, 1}, {NodeId(33), true}};
  EXPECT_EQ(Choice(7), NodeId(33));
  spares[2].connected = false;
  EXPECT_EQ(Choice(7), NodeId(32));
  spares.pop_back();
  spares.erase(spares.begin() + 1);
  EXPECT_EQ(Choice(7), NodeId(31));
  // Members of the group may have places left, and are none for it.
  spares = {{NodeId(2), true, 1}, {NodeId(3), true, 2}};
  EXPECT_EQ(Choice(7), NodeId());
}

// The candidate that siblings took is silent here too: they go on together.
TEST_F(SiblingsTest, ASilentCandidateIsGivenUpForTheOneThatASiblingTook) {
  for (uint64_t id : {7, 8, 9}) {
    Group(id).target = Ids({1, 2, 3, 4, 31});
    Group(id).automatic = true;
  }
  Group(8).target = Ids({1, 2, 3, 4, 32});
  core.configuration.learners = Ids({31});
  Peers();
  Peer(31).match = Index(0);
  Silence(31, kCandidateTimeout);
  spares = {{NodeId(33), true}, {NodeId(32), true, 1}, {NodeId(34), true}};
  EXPECT_EQ(Choice(7), NodeId(32));
}

TEST_F(KeeperTest, NobodyIsReplacedWhileTheGroupChanges) {
  spares = {{NodeId(4), true}};
  group.target = Ids({1, 2, 3, 5});
  core.configuration.learners = Ids({5});
  Peers();
  Peer(5).match = Index(0);
  Silence(3, 2 * kReplaceAfter);
  ExpectNothing(KeeperState::kCatchingUp);
}

class ReplacementTest : public KeeperTest {
 protected:
  // 3 is away, 4 is to take its place and is a learner by now.
  ReplacementTest() {
    group.target = Ids({1, 2, 4});
    group.automatic = true;
    core.configuration.learners = Ids({4});
    Peers();
    Silence(3, kReplaceAfter + 100);
    Peer(4).match = Index(5000);
  }
};

TEST_F(ReplacementTest, WhoIsBackInTimeKeepsItsPlace) {
  ExpectNothing(KeeperState::kCatchingUp);
  Silence(3, 3);
  ExpectTarget(Ids({1, 2, 3}), /*automatic=*/false);
  // Then the learner goes.
  group.target = Ids({1, 2, 3});
  group.automatic = false;
  ExpectProposal({Ids({1, 2, 3}), {}, {}});
}

TEST_F(ReplacementTest, ANewLeaderTakesNobodyForBackThatItHasNotHeardOf) {
  core.soft.term = Term(5);
  Silence(3, 3);
  Peer(3).match = Index(0);
  ExpectNothing(KeeperState::kCatchingUp);
}

TEST_F(ReplacementTest, OnceTheVotersChangeItIsTooLate) {
  core.configuration = {Ids({1, 2, 4}), Ids({1, 2, 3}), {}};
  core.changing = true;
  Silence(3, 3);
  ExpectNothing(KeeperState::kChangingVoters);
}

TEST_F(ReplacementTest, AReplacementThatAnOperatorAskedForIsNotTakenBack) {
  group.automatic = false;
  Silence(3, 3);
  ExpectNothing(KeeperState::kCatchingUp);
}

TEST_F(ReplacementTest, ASilentCandidateIsGivenUpForAnother) {
  spares = {{NodeId(5), true}};
  Silence(4, kCandidateTimeout - 1);
  ExpectNothing(KeeperState::kCatchingUp);
  Silence(4, kCandidateTimeout);
  ExpectTarget(Ids({1, 2, 5}), /*automatic=*/true);
  // The map follows; the learners do too.
  group.target = Ids({1, 2, 5});
  ExpectProposal({Ids({1, 2, 3}), {}, Ids({5})});
}

TEST_F(ReplacementTest, OneThatWasGivenUpIsNotChosenAgainSoon) {
  spares = {{NodeId(5), true}};
  Silence(4, kCandidateTimeout);
  ExpectTarget(Ids({1, 2, 5}), true);
  group.target = Ids({1, 2, 5});
  core.configuration.learners = Ids({5});
  Peers();
  Silence(5, kCandidateTimeout);
  spares = {{NodeId(4), true}};  // connected, and yet it said nothing
  ExpectNothing(KeeperState::kCatchingUp);
  now += 10 * kCandidateTimeout;
  ExpectTarget(Ids({1, 2, 4}), true);
}

TEST_F(ReplacementTest, WithoutAnotherSpareASilentCandidateIsWaitedFor) {
  Silence(4, 50 * kCandidateTimeout);
  ExpectNothing(KeeperState::kCatchingUp);
  EXPECT_TRUE(keeper.status().silent);
}

TEST_F(ReplacementTest, AMixtureWithSomebodyElsesChangeIsNotTakenBack) {
  group.target = Ids({1, 2, 4, 5});
  core.configuration.learners = Ids({4, 5});
  Peers();
  Silence(3, 3);
  ExpectNothing(KeeperState::kCatchingUp);
}

// ---- a model of all of it together ----

// A group, the directory and the ways between them, all of it unreliable: nodes
// die and return, leaders change and forget, maps come late, changes get lost.
class Model {
 public:
  explicit Model(uint64_t seed) : random_(seed) {
    const uint64_t voters = Chance(2) ? 3 : 5;
    for (uint64_t id = 1; id <= voters + 3; ++id) {
      const NodeId node(id);
      nodes_[node];
      if (id <= voters) config_.voters.push_back(node);
    }
    for (NodeId id : config_.voters) nodes_[id].match = last_;
    group_.id = raft::GroupId(seed % 5);
    group_.members = group_.target = config_.voters;
    seen_ = group_;
    Elect();
  }

  void RunWithFaults(int steps) {
    for (int i = 0; i < steps && failure_.empty(); ++i) {
      Fault();
      Step();
    }
  }
  // Everybody who is wanted lives again; true when the group gets there.
  bool Settles() {
    for (auto& [id, node] : nodes_) node.alive = true;
    lossy_ = false;
    for (int i = 0; i < 4000 && failure_.empty(); ++i) {
      Step();
      if (group_.target == group_.members && config_.voters == group_.target &&
          config_.learners.empty() && !changing()) {
        ++settled_;
        if (settled_ > 300) return true;  // and it stays
      } else {
        settled_ = 0;
      }
    }
    return false;
  }

  const std::string& failure() const { return failure_; }
  std::string Describe() const {
    auto join = [](const NodeIds& ids) {
      return absl::StrJoin(ids, " ", [](std::string* out, NodeId id) {
        absl::StrAppend(out, id.value());
      });
    };
    return absl::StrCat(
        "voters ", join(config_.voters), " outgoing ", join(config_.outgoing),
        " learners ", join(config_.learners), " members ", join(group_.members),
        " target ", join(group_.target), " leader ", leader_.value(), " ",
        nodes_.at(leader_).keeper.status().Describe());
  }

  int changes = 0;   // of voters
  int replaced = 0;  // automatically
  int taken_back = 0;
  int given_up = 0;

 private:
  struct Node {
    bool alive = true;
    Index match;
    uint64_t heard = 0;     // by the leader, or when that began
    bool heard_of = false;  // by this leader
    GroupKeeper keeper{Options()};
  };
  static KeeperOptions Options() {
    KeeperOptions options;
    options.replace_after_ticks = 60;
    options.candidate_timeout_ticks = 30;
    options.repeat_ticks = 5;
    options.caught_up_entries = 10;
    options.round_ticks = 5;
    return options;
  }

  uint64_t Below(uint64_t n) { return random_() % n; }
  bool Chance(uint64_t n) { return Below(n) == 0; }
  bool changing() const { return config_.joint() || uncommitted_; }
  void Fail(const std::string& what) {
    if (failure_.empty()) failure_ = absl::StrCat(what, ": ", Describe());
  }

  bool MajorityLives(const NodeIds& nodes) const {
    size_t alive = 0;
    for (NodeId id : nodes) alive += nodes_.at(id).alive ? 1 : 0;
    return alive * 2 > nodes.size();
  }
  bool CanCommit() const {
    return MajorityLives(config_.voters) &&
           (!config_.joint() || MajorityLives(config_.outgoing));
  }

  void Elect() {
    leader_ = NodeId();
    if (!CanCommit()) return;
    NodeIds fit;
    for (NodeId id : config_.voters) {
      if (nodes_[id].alive && nodes_[id].match + 20 >= last_) fit.push_back(id);
    }
    if (fit.empty()) return;
    leader_ = fit[Below(fit.size())];
    ++term_;
    for (auto& [id, node] : nodes_) {
      node.heard = now_;
      node.heard_of = false;
    }
    nodes_[leader_].match = last_;
    if (Chance(2))
      nodes_[leader_].keeper = GroupKeeper(Options());  // restarted
  }

  void Fault() {
    lossy_ = true;
    if (Chance(60)) {
      auto it = std::next(nodes_.begin(),
                          static_cast<ptrdiff_t>(Below(nodes_.size())));
      it->second.alive = !it->second.alive;
    }
    if (Chance(100)) Elect();
    if (Chance(300) && nodes_.size() < 20) nodes_[NodeId(nodes_.size() + 1)];
    if (Chance(300)) OperatorAsks();
  }

  void OperatorAsks() {
    NodeIds target;
    for (const auto& [id, node] : nodes_) {
      if (Chance(2) && target.size() < 5) target.push_back(id);
    }
    if (target.size() >= 3) {
      group_.target = target;
      group_.automatic = false;
    }
  }

  void Step() {
    ++now_;
    if (!leader_ || !nodes_[leader_].alive || !CanCommit()) Elect();
    if (!lossy_ || Chance(3)) seen_ = group_;
    if (!leader_) return;
    for (NodeId id : config_.Members()) {
      Node& node = nodes_[id];
      if (!node.alive) continue;
      node.heard = now_;
      if (id == leader_ || Chance(3)) {
        const uint64_t lacks = last_ - node.match;
        node.match = node.match + std::min<uint64_t>(lacks, 1 + Below(200));
        node.heard_of = true;
      }
    }
    last_ = last_ + Below(3);
    nodes_[leader_].match = last_;
    Commit();
    Ask();
  }

  void Commit() {
    if (!changing() || !CanCommit() || Chance(2)) return;
    commit_ = last_;
    uncommitted_ = config_.joint();  // then the final one is
    config_.outgoing.clear();
    if (uncommitted_ || config_.IsVoter(leader_)) return;
    Elect();
  }

  raft::CoreStatus Status() {
    raft::CoreStatus core;
    core.soft = {raft::Role::kLeader, Term(term_), leader_};
    core.last_index = last_;
    core.commit = core.applied = changing() ? commit_ : last_;
    commit_ = core.commit;
    core.configuration = config_;
    core.changing = changing();
    for (NodeId id : config_.Members()) {
      if (id == leader_) continue;
      const Node& node = nodes_[id];
      raft::PeerProgress peer;
      peer.id = id;
      peer.match = node.heard_of ? node.match : Index();
      peer.silent_ticks = now_ - node.heard;
      peer.recently_active = peer.silent_ticks < 5;
      core.peers.push_back(peer);
    }
    return core;
  }

  void Ask() {
    if (!leader_) return;
    const raft::CoreStatus core = Status();
    std::vector<SpareNode> spares;
    for (const auto& [id, node] : nodes_) {
      // The stream may be up where the replica does not answer, for a while.
      if (!group_.Concerns(id)) spares.push_back({id, node.alive || Chance(9)});
    }
    const KeeperAction action =
        nodes_[leader_].keeper.Decide({leader_, core, seen_, spares, now_});
    if (const auto* target = std::get_if<Configuration>(&action)) {
      Propose(*target);
    } else if (const auto* change = std::get_if<kv::DirectoryChange>(&action)) {
      if (!lossy_ || Chance(2)) Change(*change);
    }
  }

  void Propose(const Configuration& target) {
    if (!target.Validate().ok() || target.joint()) return Fail("not valid");
    if (changing()) return Fail("a change during another");
    for (NodeId id : target.learners) {
      if (config_.IsVoter(id)) return Fail("a voter becomes a learner");
    }
    if (target == config_) return Fail("a change to the same");
    if (target.voters != config_.voters) {
      ++changes;
      if (target.voters != seen_.target) return Fail("not what is wanted");
      if (!target.learners.empty()) return Fail("with learners");
      if (!MajorityLives(target.voters)) return Fail("it would stop the group");
      for (NodeId id : target.voters) {
        if (!config_.Contains(id)) return Fail("a voter from nowhere");
        if (config_.IsLearner(id) && nodes_[id].match + 200 < last_) {
          return Fail("a voter that has not caught up");
        }
      }
    }
    const NodeIds before = config_.voters;
    for (NodeId id : target.learners) {
      if (!config_.Contains(id)) {
        nodes_[id].match = Index();
        nodes_[id].heard = now_;
        nodes_[id].heard_of = false;
      }
    }
    config_ = target;
    if (target.voters != before) config_.outgoing = before;
    uncommitted_ = true;
  }

  void Change(const kv::DirectoryChange& change) {
    if (const auto* settled = std::get_if<kv::GroupSettled>(&change)) {
      if (settled->index <= group_.settled) return;
      group_.members = settled->members;
      group_.settled = settled->index;
      if (!group_.changing()) group_.automatic = false;
      return;
    }
    const auto& set = std::get<kv::SetTarget>(change);
    if (set.group.target.size() != set.group.expected.size()) {
      return Fail("another size");
    }
    if (set.group.expected != group_.target) return;
    if (set.automatic) {
      NodeIds gone;
      std::set_difference(group_.members.begin(), group_.members.end(),
                          set.group.target.begin(), set.group.target.end(),
                          std::back_inserter(gone));
      if (gone.size() != 1) return Fail("more than one at a time");
      ++(group_.automatic ? given_up : replaced);
    } else {
      if (!group_.automatic) return Fail("an operator's wish is taken back");
      ++taken_back;
    }
    group_.target = set.group.target;
    group_.automatic = set.automatic && group_.changing();
  }

  std::mt19937_64 random_;
  std::map<NodeId, Node> nodes_;
  Configuration config_;
  bool uncommitted_ = false;
  Index last_{1000};
  Index commit_{1000};
  NodeId leader_;
  uint64_t term_ = 0;
  uint64_t now_ = 0;
  kv::GroupInfo group_;  // the directory's
  kv::GroupInfo seen_;   // the newest map that the leader has
  bool lossy_ = false;
  int settled_ = 0;
  std::string failure_;
};

TEST(KeeperModel, TheGroupAlwaysGetsToItsTarget) {
  int changes = 0, replaced = 0, taken_back = 0, given_up = 0;
  for (uint64_t seed = 1; seed <= 2000; ++seed) {
    Model model(seed);
    model.RunWithFaults(2000);
    ASSERT_EQ(model.failure(), "") << "seed " << seed;
    ASSERT_TRUE(model.Settles()) << "seed " << seed << " " << model.Describe();
    ASSERT_EQ(model.failure(), "") << "seed " << seed;
    changes += model.changes;
    replaced += model.replaced;
    taken_back += model.taken_back;
    given_up += model.given_up;
  }
  // The runs did what they are for.
  EXPECT_GT(changes, 2000);
  EXPECT_GT(replaced, 1000);
  EXPECT_GT(taken_back, 200);
  EXPECT_GT(given_up, 200);
}

}  // namespace
}  // namespace kv739::server
