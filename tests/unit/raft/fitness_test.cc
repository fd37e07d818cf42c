// Replicas that must not lead, because their owners cannot serve.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

// A leader of five whose followers are alive and have everything.
class FitnessTest : public ::testing::Test {
 protected:
  FitnessTest() : core(FiveVoters()) {}

  static CoreUnderTest::State FiveVoters() {
    CoreUnderTest::State state;
    state.voters = Nodes({1, 2, 3, 4, 5});
    return state;
  }
  void Lead() {
    core.BecomeLeader({2, 3});
    core.AcknowledgeAll({2, 3, 4, 5});
  }
  // One tick with the answers of all followers; the targets of TimeoutNow.
  std::vector<NodeId> Tick() {
    std::vector<NodeId> asked;
    for (const Envelope& e : core.Ticks(1)) {
      if (std::holds_alternative<TimeoutNow>(e.message)) asked.push_back(e.to);
    }
    for (uint64_t id = 2; id <= 5 && core->IsLeader(); ++id) {
      core.Receive(id, HeartbeatResponse{core->term(), 0});
    }
    core.Turn();
    return asked;
  }

  CoreUnderTest core;
};

TEST_F(FitnessTest, ReplicasStartFit) {
  EXPECT_TRUE(core->Status().fit);
  core.BecomeLeader({2, 3});
}

TEST_F(FitnessTest, ALeaderHandsOverAtOnce) {
  Lead();
  core->SetFit(false);
  EXPECT_TRUE(core->transferring());
  EXPECT_EQ(Of<TimeoutNow>(core.Turn()).size(), 1u);
  EXPECT_FALSE(core->Status().fit);
  // Whoever was asked campaigns and wins.
  const auto votes = Of<RequestVoteResponse>(core.Answer(
      2, RequestVote{core->term() + 1, At(1, 1), false, /*transfer=*/true}));
  ASSERT_EQ(votes.size(), 1u);
  EXPECT_TRUE(votes[0].granted);
  EXPECT_FALSE(core->IsLeader());
}

TEST_F(FitnessTest, AnotherIsAskedWhenTheTargetDoesNotTakeOver) {
  Lead();
  core->SetFit(false);
  std::vector<NodeId> asked;
  for (const Envelope& e : core.Turn()) {
    if (std::holds_alternative<TimeoutNow>(e.message)) asked.push_back(e.to);
  }
  for (int i = 0; i < 19; ++i) {
    for (NodeId id : Tick()) {
      if (asked.back() != id) asked.push_back(id);
    }
  }
  EXPECT_TRUE(core->IsLeader()) << "not yet two election timeouts";
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_NE(asked[0], asked[1]);
}

TEST_F(FitnessTest, ATargetThatBecomesReachableLaterIsAskedThen) {
  CoreUnderTest alone(FiveVoters());
  alone.BecomeLeader({2, 3});
  alone->SetFit(false);  // 2 and 3 lack the leader's first entry
  EXPECT_TRUE(Of<TimeoutNow>(alone.Turn()).empty());
  EXPECT_FALSE(Of<TimeoutNow>(alone.AcknowledgeAll({2, 3})).empty());
}

TEST_F(FitnessTest, ItStepsDownAfterTwoElectionTimeouts) {
  Lead();
  core->SetFit(false);
  for (int i = 0; i < 19; ++i) Tick();
  EXPECT_TRUE(core->IsLeader());
  Tick();
  EXPECT_FALSE(core->IsLeader());
  EXPECT_FALSE(core->leader());
}

TEST_F(FitnessTest, ALeaderThatIsFitAgainInTimeStays) {
  Lead();
  core->SetFit(false);
  for (int i = 0; i < 15; ++i) Tick();
  core->SetFit(true);
  for (int i = 0; i < 100; ++i) Tick();
  EXPECT_TRUE(core->IsLeader());
  EXPECT_FALSE(core->transferring());
  EXPECT_TRUE(core->Propose({MakePayload("x")}).ok());
  // The next time it has its two timeouts again.
  core->SetFit(false);
  for (int i = 0; i < 19; ++i) Tick();
  EXPECT_TRUE(core->IsLeader());
}

TEST_F(FitnessTest, AFollowerDoesNotCampaign) {
  core->SetFit(false);
  EXPECT_TRUE(core.Ticks(100).empty());
  EXPECT_EQ(core->term(), Term(0));
  core->SetFit(true);
  EXPECT_FALSE(Of<RequestVote>(core.Ticks(20)).empty());
}

TEST_F(FitnessTest, AFollowerIgnoresTimeoutNow) {
  core.Answer(2, Heartbeat{Term(3), Index(0), 0});
  core->SetFit(false);
  EXPECT_TRUE(core.Answer(2, TimeoutNow{Term(3)}).empty());
  EXPECT_EQ(core->term(), Term(3));
  EXPECT_EQ(core->leader(), NodeId(2));
  EXPECT_EQ(core->dropped(), 0u) << "the leader could not know";
}

TEST_F(FitnessTest, VotesOnTheirWayDoNotMakeItALeader) {
  for (bool pre_vote : {true, false}) {
    CoreUnderTest candidate(FiveVoters());
    candidate.Ticks(10);
    const Term next = candidate->term() + 1;
    if (!pre_vote) {
      candidate.Receive(2, RequestVoteResponse{next, true, true});
      candidate.Answer(3, RequestVoteResponse{next, true, true});
      ASSERT_EQ(candidate->term(), next);
    }
    candidate->SetFit(false);
    candidate.Answer(2, RequestVoteResponse{next, pre_vote, true});
    candidate.Answer(3, RequestVoteResponse{next, pre_vote, true});
    candidate.Answer(4, RequestVoteResponse{next, pre_vote, true});
    EXPECT_EQ(candidate->Status().soft.role, Role::kFollower);
    EXPECT_EQ(candidate->term(), pre_vote ? Term(0) : Term(1));
  }
}

TEST_F(FitnessTest, AnUnfitFollowerVotesAndStores) {
  core->SetFit(false);
  auto votes = Of<RequestVoteResponse>(
      core.Answer(2, RequestVote{Term(1), {}, false, false}));
  ASSERT_EQ(votes.size(), 1u);
  EXPECT_TRUE(votes[0].granted);
  auto acks = Of<AppendEntriesResponse>(
      core.Answer(2, AppendEntries{Term(1), {}, Index(1), {Command(1, 1)}}));
  ASSERT_EQ(acks.size(), 1u);
  EXPECT_TRUE(acks[0].success);
  EXPECT_EQ(core.applied.size(), 1u);
}

TEST_F(FitnessTest, TheOnlyVoterLeadsAllTheSame) {
  CoreUnderTest::State state;
  state.voters = Nodes({1});
  CoreUnderTest alone(state);
  alone->SetFit(false);
  alone.Ticks(20);
  EXPECT_TRUE(alone->IsLeader());
  alone.Ticks(100);
  EXPECT_TRUE(alone->IsLeader());
}

TEST_F(FitnessTest, TheOnlyVoterHandsOverOnceThereAreOthers) {
  CoreUnderTest::State state;
  state.voters = Nodes({1});
  CoreUnderTest alone(state);
  alone->SetFit(false);
  alone.Ticks(20);
  ASSERT_TRUE(alone->IsLeader());
  ASSERT_TRUE(alone->ProposeConfiguration({Nodes({1, 2}), {}, {}}).ok());
  alone.Turn();
  alone.AcknowledgeAll({2});
  alone.AcknowledgeAll({2});
  auto sent = alone.Ticks(1);
  for (Envelope& e : alone.AcknowledgeAll({2})) sent.push_back(std::move(e));
  EXPECT_FALSE(To<TimeoutNow>(2, sent).empty());
}

}  // namespace
}  // namespace kv739::raft
