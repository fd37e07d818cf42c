// Rules of the thesis on reads and on handing leadership over.
#include <gtest/gtest.h>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

void LeadAndCommit(CoreUnderTest* core) {
  core->BecomeLeader();
  core->AcknowledgeAll({2, 3});
}

// Thesis 6.4: "it records its commit index, ... and then issues a new round of
// heartbeats and waits for their acknowledgments from a majority".
TEST(Thesis64, AReadWaitsForARoundOfHeartbeats) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core->ReadIndex(71);
  auto sent = core.Turn();
  ASSERT_EQ(Of<Heartbeat>(sent).size(), 2u);
  EXPECT_TRUE(core.reads.empty());
  core.Answer(3, HeartbeatResponse{Term(1), Of<Heartbeat>(sent)[0].round});
  ASSERT_EQ(core.reads.size(), 1u);
  EXPECT_EQ(core.reads[0].id, 71u);
  EXPECT_EQ(core.reads[0].index, Index(1));
}

TEST(Thesis64, TheReadIndexIsTheCommitIndexWhenTheRoundBegins) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core->ReadIndex(1);
  core.Turn();
  core.Propose();
  core.Turn();
  core.AcknowledgeAll({2});
  EXPECT_EQ(core->commit(), Index(2));
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  ASSERT_EQ(core.reads.size(), 1u);
  EXPECT_EQ(core.reads[0].index, Index(1));
}

TEST(Thesis64, ReadsOfOneTurnShareARound) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  for (ReadId id = 1; id <= 100; ++id) core->ReadIndex(id);
  EXPECT_EQ(Of<Heartbeat>(core.Turn()).size(), 2u);
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  EXPECT_EQ(core.reads.size(), 100u);
}

TEST(Thesis64, ReadsThatComeDuringARoundWaitForTheNext) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core->ReadIndex(1);
  core.Turn();
  core->ReadIndex(2);
  EXPECT_TRUE(core.Turn().empty()) << "one round at a time";
  auto sent = core.Answer(2, HeartbeatResponse{Term(1), 1});
  ASSERT_EQ(core.reads.size(), 1u) << "the old round says nothing of read 2";
  ASSERT_EQ(Of<Heartbeat>(sent).size(), 2u);
  EXPECT_EQ(Of<Heartbeat>(sent)[0].round, 2u);
  core.Answer(3, HeartbeatResponse{Term(1), 1});
  EXPECT_EQ(core.reads.size(), 1u) << "a late answer of the old round";
  core.Answer(3, HeartbeatResponse{Term(1), 2});
  EXPECT_EQ(core.reads.size(), 2u);
}

TEST(Thesis64, ALostRoundIsRepeatedByTheNextHeartbeats) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core->ReadIndex(1);
  core.Turn();
  auto beats = core.Ticks(2);
  ASSERT_EQ(To<Heartbeat>(2, beats).size(), 1u);
  EXPECT_EQ(To<Heartbeat>(2, beats)[0].round, 1u);
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  EXPECT_EQ(core.reads.size(), 1u);
}

TEST(Thesis64, FiveVotersNeedTwoAnswers) {
  State state;
  state.voters = Nodes({1, 2, 3, 4, 5});
  state.learners = Nodes({9});
  CoreUnderTest core(state);
  core.BecomeLeader({2, 3});
  core.AcknowledgeAll({2, 3});
  core->ReadIndex(1);
  core.Turn();
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  core.Answer(9, HeartbeatResponse{Term(1), 1});
  EXPECT_TRUE(core.reads.empty());
  core.Answer(5, HeartbeatResponse{Term(1), 1});
  EXPECT_EQ(core.reads.size(), 1u);
}

// Thesis 6.4: "if the leader has not yet marked an entry from its current term
// committed, it waits until it has done so".
TEST(Thesis64, ANewLeaderHoldsReadsUntilItsTermHasCommitted) {
  State state;
  state.log = {1, 1};
  CoreUnderTest core(state);
  core.BecomeLeader();
  core->ReadIndex(1);
  EXPECT_TRUE(Of<Heartbeat>(core.Turn()).empty());
  auto sent = core.AcknowledgeAll({2});
  ASSERT_EQ(Of<Heartbeat>(sent).size(), 2u);
  core.Answer(2, HeartbeatResponse{core->term(), 1});
  ASSERT_EQ(core.reads.size(), 1u);
  EXPECT_EQ(core.reads[0].index, Index(3));
}

TEST(Thesis64, AloneItAnswersAtOnceAfterItsNoop) {
  State state;
  state.voters = Nodes({1});
  CoreUnderTest core(state);
  core.BecomeLeader({});
  core->ReadIndex(5);
  core.Turn();
  ASSERT_EQ(core.reads.size(), 1u);
  EXPECT_EQ(core.reads[0].index, Index(1));
}

TEST(Thesis64, ReadsFailWithLeadership) {
  CoreUnderTest core;
  core->ReadIndex(1);
  core.Turn();
  EXPECT_EQ(core.failed_reads, (std::vector<ReadId>{1})) << "no leader";
  LeadAndCommit(&core);
  core->ReadIndex(2);
  core.Turn();
  core->ReadIndex(3);
  core.Answer(2, AppendEntriesResponse{Term(9), false, Index(0), {}});
  EXPECT_EQ(core.failed_reads, (std::vector<ReadId>{1, 2, 3}));
  EXPECT_TRUE(core.reads.empty());
}

TEST(Thesis64, AnAnswerOfAnEarlierTermConfirmsNothing) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core->ReadIndex(1);
  core.Turn();
  core.Answer(2, AppendEntriesResponse{Term(2), false, Index(0), {}});
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  core->ReadIndex(2);
  core.Turn();
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  core.Answer(3, HeartbeatResponse{Term(1), 1});
  EXPECT_TRUE(core.reads.empty());
}

TEST(Thesis64, PendingReadsAreBounded) {
  State state;
  state.options.max_pending_reads = 2;
  CoreUnderTest core(state);
  LeadAndCommit(&core);
  for (ReadId id = 1; id <= 3; ++id) core->ReadIndex(id);
  core.Turn();
  EXPECT_EQ(core.failed_reads, (std::vector<ReadId>{3}));
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  core->ReadIndex(4);
  core.Turn();
  EXPECT_EQ(core.failed_reads.size(), 1u) << "there is room again";
}

// Rounds that go to a majority only (Options::read_rounds_to_majority).
class MajorityRounds : public testing::Test {
 protected:
  static State Five() {
    State state;
    state.voters = Nodes({1, 2, 3, 4, 5});
    state.options.read_rounds_to_majority = true;
    return state;
  }
  // One read; who was asked, and the number of its round.
  std::vector<uint64_t> Ask(ReadId id) {
    core_->ReadIndex(id);
    return Asked(core_.Turn());
  }
  std::vector<uint64_t> Asked(const std::vector<Envelope>& sent) {
    std::vector<uint64_t> asked;
    for (const Envelope& e : sent) {
      if (!std::holds_alternative<Heartbeat>(e.message)) continue;
      asked.push_back(e.to.value());
      round_ = std::get<Heartbeat>(e.message).round;
    }
    return asked;
  }
  void AnswerRound(std::initializer_list<uint64_t> from) {
    for (uint64_t id : from) {
      core_.Answer(id, HeartbeatResponse{core_->term(), round_});
    }
  }
  using Ids = std::vector<uint64_t>;

  void SetUp() override {
    core_.BecomeLeader({2, 3});
    core_.AcknowledgeAll({2, 3});
  }
  CoreUnderTest core_{Five()};
  uint64_t round_ = 0;
};

TEST_F(MajorityRounds, TheFirstGoesToAllAndTheNextToThoseWhoAnswered) {
  EXPECT_EQ(Ask(1), (Ids{2, 3, 4, 5}));
  AnswerRound({3, 5});
  ASSERT_EQ(core_.reads.size(), 1u);
  EXPECT_EQ(Ask(2), (Ids{3, 5}));
  AnswerRound({3});
  EXPECT_EQ(core_.reads.size(), 1u) << "two of five are no majority";
  AnswerRound({5});
  EXPECT_EQ(core_.reads.size(), 2u);
}

TEST_F(MajorityRounds, AfterATickWithoutAnswersAllAreAsked) {
  Ask(1);
  AnswerRound({3, 5});
  EXPECT_EQ(Ask(2), (Ids{3, 5}));
  AnswerRound({3});  // 5 is gone
  EXPECT_EQ(Asked(core_.Ticks(1)), (Ids{2, 3, 4, 5}));
  EXPECT_EQ(core_.reads.size(), 1u);
  AnswerRound({2});
  EXPECT_EQ(core_.reads.size(), 2u);
  EXPECT_EQ(Ask(3), (Ids{2, 3})) << "not the one that is gone";
  AnswerRound({2, 3});
  EXPECT_EQ(core_.reads.size(), 3u);
}

// Those who did answer may have been asked too early: nothing is confirmed by
// a majority of the old members alone.
TEST_F(MajorityRounds, WhileMembersChangeAllAreAsked) {
  Ask(1);
  AnswerRound({3, 5});
  Configuration target;
  target.voters = Nodes({1, 2, 3, 4, 6});
  ASSERT_TRUE(core_->ProposeConfiguration(target).ok());
  core_.Turn();
  EXPECT_EQ(Ask(2), (Ids{2, 3, 4, 5, 6}));
  AnswerRound({3, 5});
  EXPECT_EQ(core_.reads.size(), 1u);
  AnswerRound({4});
  EXPECT_EQ(core_.reads.size(), 2u);
}

TEST_F(MajorityRounds, AConfirmedRoundIsNotRepeated) {
  Ask(1);
  AnswerRound({3, 5});
  Ask(2);
  AnswerRound({3, 5});
  EXPECT_EQ(Asked(core_.Ticks(1)), Ids());
}

// Thesis 3.10: "The prior leader sends a TimeoutNow request to the target
// server", once "the target's log is as up-to-date".
TEST(Thesis310, ACaughtUpTargetIsToldAtOnce) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  EXPECT_TRUE(core->TransferLeadership(NodeId(3)).ok());
  auto sent = core.Turn();
  EXPECT_EQ(To<TimeoutNow>(3, sent).size(), 1u);
  EXPECT_TRUE(core->Status().transferring);
}

TEST(Thesis310, ATargetThatIsBehindIsBroughtUpFirst) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core.Propose();
  EXPECT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  EXPECT_TRUE(Of<TimeoutNow>(core.Turn()).empty());
  auto sent = core.AcknowledgeAll({2});
  EXPECT_EQ(To<TimeoutNow>(2, sent).size(), 1u);
}

TEST(Thesis310, ProposalsWaitAndReadsGoOn) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  ASSERT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  EXPECT_EQ(core->Propose({MakePayload("x")}).status().code(),
            absl::StatusCode::kUnavailable);
  core->ReadIndex(1);
  core.Turn();
  core.Answer(2, HeartbeatResponse{Term(1), 1});
  EXPECT_EQ(core.reads.size(), 1u);
}

// Thesis 3.10: "If leadership transfer does not complete after about an
// election timeout, the prior leader aborts the transfer".
TEST(Thesis310, ItIsGivenUpAfterAnElectionTimeout) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  ASSERT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(core->Status().transferring);
    core.Ticks(1);
    core.Answer(3, HeartbeatResponse{Term(1), 0});
  }
  EXPECT_FALSE(core->Status().transferring);
  EXPECT_TRUE(core->Propose({MakePayload("x")}).ok());
}

TEST(Thesis310, TheFlagEndsWithLeadership) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  ASSERT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  core.Answer(3, AppendEntriesResponse{Term(2), false, Index(0), {}});
  core.BecomeLeader();
  EXPECT_TRUE(core->Propose({MakePayload("x")}).ok());
}

TEST(Thesis310, ALostTimeoutNowIsRepeated) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  ASSERT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  core.Turn();
  EXPECT_EQ(To<TimeoutNow>(2, core.Ticks(2)).size(), 1u);
}

TEST(Thesis310, TheTargetCampaignsAtOnceAndForAllToHear) {
  CoreUnderTest core;
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  auto sent = core.Answer(2, TimeoutNow{Term(1)});
  ASSERT_EQ(Of<RequestVote>(sent).size(), 2u);
  EXPECT_FALSE(Of<RequestVote>(sent)[0].pre_vote);
  EXPECT_TRUE(Of<RequestVote>(sent)[0].transfer);
  EXPECT_EQ(core->term(), Term(2));
}

TEST(Thesis310, TransferVotesAreNotHeldBackForTheLeadersSake) {
  CoreUnderTest core;
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  auto sent = core.Answer(3, RequestVote{Term(2), {}, false, true});
  ASSERT_EQ(Of<RequestVoteResponse>(sent).size(), 1u);
  EXPECT_TRUE(Of<RequestVoteResponse>(sent)[0].granted);
}

TEST(Thesis310, OnlyTheLeaderMaySayTimeoutNow) {
  CoreUnderTest core;
  core.Answer(2, Heartbeat{Term(3), Index(0), 0});
  EXPECT_TRUE(core.Answer(3, TimeoutNow{Term(3)}).empty());
  EXPECT_TRUE(core.Answer(2, TimeoutNow{Term(2)}).empty());
  EXPECT_EQ(core->term(), Term(3));
}

TEST(Thesis310, ALearnerDoesNotObeyTimeoutNow) {
  State state;
  state.voters = Nodes({2, 3});
  state.learners = Nodes({1});
  CoreUnderTest core(state);
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  EXPECT_TRUE(core.Answer(2, TimeoutNow{Term(1)}).empty());
}

TEST(Thesis310, UnfitTargetsAreRefused) {
  State state;
  state.learners = Nodes({9});
  CoreUnderTest core(state);
  EXPECT_EQ(core->TransferLeadership(NodeId(2)).code(),
            absl::StatusCode::kFailedPrecondition);
  LeadAndCommit(&core);
  EXPECT_EQ(core->TransferLeadership(NodeId(9)).code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(core->TransferLeadership(NodeId(7)).code(),
            absl::StatusCode::kNotFound);
  EXPECT_TRUE(core->TransferLeadership(NodeId(1)).ok());
  EXPECT_FALSE(core->Status().transferring);
  for (int i = 0; i < 10; ++i) {  // 2 falls silent
    core.Ticks(1);
    core.Answer(3, HeartbeatResponse{Term(1), 0});
  }
  EXPECT_EQ(core->TransferLeadership(NodeId(2)).code(),
            absl::StatusCode::kUnavailable);
}

TEST(Thesis310, TheBestTargetHasTheMostOfTheLog) {
  State state;
  state.voters = Nodes({1, 2, 3, 4});
  state.learners = Nodes({9});
  CoreUnderTest core(state);
  EXPECT_EQ(core->BestTransferTarget(), NodeId());
  core.BecomeLeader({2, 3});
  core.Propose();
  core.Turn();
  core.Answer(2, AppendEntriesResponse{Term(1), true, Index(1), {}});
  core.Answer(4, AppendEntriesResponse{Term(1), true, Index(2), {}});
  core.Answer(9, AppendEntriesResponse{Term(1), true, Index(2), {}});
  EXPECT_EQ(core->BestTransferTarget(), NodeId(4));
}

}  // namespace
}  // namespace kv739::raft
