// Who takes the place of a voter that is away for too long.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/group_keeper.h"
#include "tests/unit/server/keeper_fixture.h"

namespace kv739::server {
namespace {

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

}  // namespace
}  // namespace kv739::server
