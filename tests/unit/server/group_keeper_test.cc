// What the leader of a group does towards the members that the map wants.
#include "server/group_keeper.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tests/unit/server/keeper_fixture.h"

namespace kv739::server {
namespace {

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

// ---- nodes that were withdrawn ----

TEST_F(KeeperTest, AConfigurationThatTheMapMayLackIsReportedBeforeAChange) {
  core.configuration.learners = Ids({4});
  core.configuration_index = Index(9000);
  core.first_index = Index(8000);
  Peers();
  group.target = Ids({1, 2, 4});
  group.settled = Index(8999);
  ExpectReport(Ids({1, 2, 3}));
  ExpectNothing(KeeperState::kReporting);
  group.settled = Index(9000);
  ExpectProposal({Ids({1, 2, 4}), {}, {}});
}

TEST_F(KeeperTest, AGroupAtRestHasNothingToReport) {
  core.configuration_index = Index(9000);  // of a log that was cut
  core.first_index = Index(9001);
  ExpectNothing(KeeperState::kSettled);
}

TEST_F(KeeperTest, WhoWasWithdrawnIsLetGoByANewConfiguration) {
  core.configuration_index = Index(9000);
  core.first_index = Index(8000);
  group.settled = Index(9000);
  group.withdrawn = Ids({4});
  group.withdrawn_at = 33;
  ExpectProposal({Ids({1, 2, 3}), {}, {}});  // the same
  core.configuration_index = core.commit = Index(10001);
  ExpectReport(Ids({1, 2, 3}), 33);
  ExpectNothing(KeeperState::kReporting);
  now += kRepeat;
  ExpectReport(Ids({1, 2, 3}), 33);
}

TEST_F(KeeperTest, WhoWasWithdrawnAndIsALearnerIsTakenOutFirst) {
  core.configuration.learners = Ids({4});
  core.configuration_index = Index(9000);
  core.first_index = Index(8000);
  Peers();
  group.settled = Index(8000);
  group.withdrawn = Ids({4});
  group.withdrawn_at = 33;
  ExpectReport(Ids({1, 2, 3}));  // it is in it
  group.settled = Index(9000);
  ExpectProposal({Ids({1, 2, 3}), {}, {}});
  core.configuration.learners = {};
  core.configuration_index = core.commit = Index(10001);
  Peers();
  ExpectReport(Ids({1, 2, 3}), 33);
}

TEST_F(KeeperTest, NobodyIsLetGoByAConfigurationOfUnknownAge) {
  core.configuration_index = Index(9000);  // where the log begins
  core.first_index = Index(9001);
  group.settled = Index(8000);
  group.withdrawn = Ids({4});
  group.withdrawn_at = 33;
  ExpectReport(Ids({1, 2, 3}));
  group.settled = core.commit;
  ExpectProposal({Ids({1, 2, 3}), {}, {}});
}

}  // namespace
}  // namespace kv739::server
