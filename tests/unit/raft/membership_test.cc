// Changes of the members: Raft paper section 6, thesis section 4.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "raft/core.h"
#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

AppendEntriesResponse Ack(uint64_t term, uint64_t index) {
  return {Term(term), true, Index(index), {}};
}

Configuration Voters(std::initializer_list<uint64_t> voters,
                     std::initializer_list<uint64_t> learners = {}) {
  return {Nodes(voters), {}, Nodes(learners)};
}
Configuration Joint(std::initializer_list<uint64_t> voters,
                    std::initializer_list<uint64_t> outgoing) {
  return {Nodes(voters), Nodes(outgoing), {}};
}

// Node 1 leads term 1; its no-op, entry 1, is committed.
CoreUnderTest LeaderOf(std::initializer_list<uint64_t> voters) {
  State state;
  state.voters = Nodes(voters);
  CoreUnderTest core(state);
  core.BecomeLeader({2, 3});
  core.AcknowledgeAll({2, 3});
  EXPECT_EQ(core->commit(), Index(1));
  return core;
}

absl::StatusCode Refusal(CoreUnderTest* core, Configuration target) {
  return core->core->ProposeConfiguration(std::move(target)).status().code();
}

// The configurations among the entries that were applied.
std::vector<Configuration> Applied(const CoreUnderTest& core) {
  std::vector<Configuration> found;
  for (const Entry& entry : core.applied) {
    if (entry.kind != EntryKind::kConfiguration) continue;
    found.push_back(*DecodeConfiguration(*entry.data));
  }
  return found;
}

// ---- what may be proposed ----

TEST(Thesis4, OnlyTheLeaderChangesMembers) {
  CoreUnderTest core;
  EXPECT_EQ(Refusal(&core, Voters({1, 2})),
            absl::StatusCode::kFailedPrecondition);
}

// M1: two leaders, each with a change that it alone knows, could otherwise
// commit with majorities that do not meet.
TEST(Thesis41, M1NoChangeBeforeACommitInTheLeadersTerm) {
  CoreUnderTest core;
  core.BecomeLeader();
  EXPECT_EQ(Refusal(&core, Voters({1, 2, 3, 4})),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(core->last_index(), Index(1)) << "nothing is appended";
  core.AcknowledgeAll({2});
  EXPECT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3, 4})).ok());
}

TEST(Thesis41, M1ACommitOfAnEarlierTermIsNotEnough) {
  State state;
  state.log = {1, 1};
  state.hard_state.commit = Index(2);
  CoreUnderTest core(state);
  core.BecomeLeader();
  EXPECT_EQ(core->commit(), Index(2));
  EXPECT_EQ(Refusal(&core, Voters({1, 2, 3, 4})),
            absl::StatusCode::kUnavailable);
}

TEST(Thesis4, OneChangeAtATime) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3}, {4})).ok());
  EXPECT_EQ(Refusal(&core, Voters({1, 2, 3}, {5})), absl::StatusCode::kAborted);
  EXPECT_TRUE(core->Status().changing);
  core.Turn();
  core.AcknowledgeAll({2});
  EXPECT_FALSE(core->Status().changing);
  // All through a joint change as well, between its two entries too.
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3, 4})).ok());
  core.Turn();
  core.Answer(2, Ack(1, 3));
  EXPECT_EQ(Refusal(&core, Voters({1, 2})), absl::StatusCode::kAborted);
  core.Answer(4, Ack(1, 3));
  ASSERT_EQ(core->last_index(), Index(4));
  EXPECT_EQ(Refusal(&core, Voters({1, 2})), absl::StatusCode::kAborted);
  core.Answer(2, Ack(1, 4));
  core.Answer(4, Ack(1, 4));
  EXPECT_FALSE(core->Status().changing);
  EXPECT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3})).ok());
}

TEST(Thesis4, TargetsThatMakeNoSenseAreRefused) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  for (const Configuration& bad :
       {Configuration(), Joint({1, 2}, {1, 2, 3}), Voters({2, 1}),
        Voters({1, 2, 3}, {3}), Voters({0, 1, 2}),
        Voters({1, 2}, {3}) /* a voter at once made learner */}) {
    EXPECT_EQ(Refusal(&core, bad), absl::StatusCode::kInvalidArgument)
        << Describe(bad);
  }
  EXPECT_EQ(core->last_index(), Index(1));
}

TEST(Thesis310, NoChangeWhileLeadershipIsHandedOver) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  core.Propose();
  ASSERT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  EXPECT_EQ(Refusal(&core, Voters({1, 2})), absl::StatusCode::kUnavailable);
}

// ---- learners ----

TEST(Thesis421, LearnersComeAndGoWithOneEntry) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  auto at = core->ProposeConfiguration(Voters({1, 2, 3}, {4}));
  ASSERT_TRUE(at.ok());
  EXPECT_EQ(*at, At(1, 2));
  EXPECT_EQ(core->Status().configuration, Voters({1, 2, 3}, {4}))
      << "in force from now on";
  auto sent = core.Turn();
  // A new member starts with a probe at the end of the log.
  auto appends = To<AppendEntries>(4, sent);
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(1, 2));
  core.Answer(4, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(1)) << "a learner does not count";
  core.Answer(2, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(2));
  EXPECT_EQ(core->last_index(), Index(2)) << "no second entry";

  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3})).ok());
  EXPECT_TRUE(To<AppendEntries>(4, core.Turn()).empty());
  EXPECT_EQ(core->Status().peers.size(), 2u);
}

TEST(Thesis421, ANewMemberGetsTheWholeLog) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  for (int i = 0; i < 3; ++i) core.Propose();
  core.Turn();
  core.AcknowledgeAll({2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3}, {4})).ok());
  core.Turn();
  auto appends = To<AppendEntries>(
      4, core.Answer(4, AppendEntriesResponse{Term(1), false, Index(5), {}}));
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, LogPosition());
  EXPECT_EQ(appends[0].entries.size(), 5u);
}

TEST(Thesis421, AMemberThatComesBackStartsAnew) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3}, {4})).ok());
  core.Turn();
  core.AcknowledgeAll({2, 4});
  ASSERT_EQ(core->Status().peers[2].match, Index(2));
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3})).ok());
  core.Turn();
  core.AcknowledgeAll({2});
  const uint64_t dropped = core->dropped();
  core.Answer(4, Ack(1, 2));
  EXPECT_EQ(core->dropped(), dropped + 1) << "of no member";
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3}, {4})).ok());
  core.Turn();
  EXPECT_EQ(core->Status().peers[2].match, Index(0));
}

// M7: who votes is known to the candidate, not to the voter.
TEST(Thesis421, M7ALearnerAnswersVotes) {
  State state;
  state.voters = Nodes({2, 3});
  state.learners = Nodes({1});
  CoreUnderTest core(state);
  auto sent = core.Answer(2, RequestVote{Term(3), {}, false, false});
  auto votes = Of<RequestVoteResponse>(sent);
  ASSERT_EQ(votes.size(), 1u);
  EXPECT_TRUE(votes[0].granted);
  EXPECT_TRUE(core.Ticks(100).empty()) << "but does not campaign";
}

// S2: a snapshot of another history takes the configurations of the log along.
TEST(Paper7, S2AConfigurationOfAReplacedLogIsGone) {
  InitialState state;
  state.snapshot.configuration = Voters({1, 2, 3});
  state.hard_state.term = Term(1);
  state.terms = {{Index(1), Term(1)}};
  state.last_index = Index(3);
  state.entries = {Command(1, 1), Command(1, 2), Config(1, 3, Voters({1, 2}))};
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  EXPECT_EQ(core->Status().configuration, Voters({1, 2}));
  const SnapshotMeta meta{At(2, 2), Voters({1, 2, 3, 4})};
  core.Answer(2, InstallSnapshot{Term(2), meta});
  core->SnapshotInstalled(meta);
  EXPECT_EQ(core->Status().configuration, meta.configuration);
}

// M6, S5: who left and came back has forgotten what it acknowledged, and must
// not be filled with a state from before it came back.
TEST(Thesis421, M6AMemberThatCameBackNeedsASnapshotFromAfterThat) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  EXPECT_EQ(core->MemberSince(NodeId(3)), Index(0));
  for (const Configuration& next : {Voters({1, 2}), Voters({1, 2}, {3})}) {
    ASSERT_TRUE(core->ProposeConfiguration(next).ok());
    for (int i = 0; i < 3; ++i) {
      core.Turn();
      core.AcknowledgeAll({2, 3});
    }
  }
  EXPECT_EQ(core->Status().configuration, Voters({1, 2}, {3}));
  EXPECT_EQ(core->MemberSince(NodeId(3)), core->last_index());
  EXPECT_EQ(core->MemberSince(NodeId(2)), Index(0));
}

// M7: a promotion is in the log alone, and so is found after a restart.
TEST(Thesis421, M7APromotionSurvivesARestartAndASnapshot) {
  InitialState state;
  state.snapshot.configuration = Voters({1, 2, 3}, {4});
  state.hard_state.term = Term(1);
  state.terms = {{Index(1), Term(1)}};
  state.last_index = Index(3);
  const Configuration promoted = Voters({1, 2, 3, 4});
  Configuration joint = promoted;
  joint.outgoing = Nodes({1, 2, 3});
  state.entries = {Command(1, 1), Config(1, 2, joint), Config(1, 3, promoted)};
  state.hard_state.commit = Index(3);
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  EXPECT_EQ(core->Status().configuration, promoted);
  EXPECT_FALSE(core->Status().changing);
  core.Turn();
  core->Compact(Index(3));
  EXPECT_EQ(core->Status().configuration, promoted);
  core.Answer(2, AppendEntries{Term(1), At(1, 3), Index(3), {Command(1, 4)}});
  core.Answer(3, AppendEntries{Term(2), At(1, 3), Index(3), {Command(2, 4)}});
  EXPECT_EQ(core->Status().configuration, promoted);
}

// ---- joint consensus ----

TEST(Paper6, AChangeOfVotersGoesThroughAJointConfiguration) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  auto at = core->ProposeConfiguration(Voters({1, 4, 5}));
  ASSERT_TRUE(at.ok());
  EXPECT_EQ(*at, At(1, 2));
  EXPECT_EQ(core->Status().configuration, Joint({1, 4, 5}, {1, 2, 3}));
  core.Turn();
  core.Answer(4, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(1)) << "a majority of the new one alone";
  core.Answer(5, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(1)) << "of the union, but not of the old one";
  core.Answer(2, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(2));
  EXPECT_EQ(core->Status().configuration, Voters({1, 4, 5}));
  EXPECT_TRUE(core->Status().changing) << "not committed";
  core.Answer(2, Ack(1, 3));
  core.Answer(3, Ack(1, 3));
  EXPECT_EQ(core->commit(), Index(2)) << "those are gone";
  core.Answer(4, Ack(1, 3));
  EXPECT_EQ(core->commit(), Index(3));
  EXPECT_FALSE(core->Status().changing);
  EXPECT_EQ(Applied(core),
            (std::vector<Configuration>{Joint({1, 4, 5}, {1, 2, 3}),
                                        Voters({1, 4, 5})}));
}

TEST(Paper6, LearnersStayThroughAJointChange) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2}, {7})).ok());
  core.Turn();
  core.AcknowledgeAll({2});
  EXPECT_EQ(core->Status().configuration, Voters({1, 2}, {7}));
}

TEST(Paper6, AGroupOfOneGrowsAndShrinksAgain) {
  State state;
  state.voters = Nodes({1});
  CoreUnderTest core(state);
  core.BecomeLeader({});
  core.Turn();
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2})).ok());
  core.Turn();
  EXPECT_EQ(core->commit(), Index(1));
  core.Answer(2, Ack(1, 2));
  core.Answer(2, Ack(1, 3));
  EXPECT_EQ(core->commit(), Index(3));
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1})).ok());
  core.Turn();
  EXPECT_EQ(core->commit(), Index(3)) << "2 has to agree to its removal";
  core.Answer(2, Ack(1, 4));
  core.Turn();
  EXPECT_EQ(core->commit(), Index(5)) << "and is then not asked any more";
}

TEST(Paper6, AnElectionNeedsBothMajorities) {
  State state;
  state.voters = Nodes({1, 4, 5});
  state.outgoing = Nodes({1, 2, 3});
  CoreUnderTest core(state);
  core.Ticks(10);
  for (uint64_t id : {2, 3, 4}) {
    core.Answer(id, RequestVoteResponse{Term(1), true, true});
  }
  core.Answer(4, RequestVoteResponse{Term(1), false, true});
  core.Answer(5, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader());
  core.Answer(2, RequestVoteResponse{Term(1), false, true});
  EXPECT_TRUE(core->IsLeader());
}

// M5: a leader that finds a joint configuration in its log does not know that
// it is committed; the final one has to wait until it is.
TEST(Paper6, M5TheJointStateIsNotLeftBeforeItIsCommitted) {
  InitialState state;
  state.snapshot.configuration = Voters({1, 2, 3});
  state.hard_state.term = Term(1);
  state.terms = {{Index(1), Term(1)}};
  state.last_index = Index(1);
  state.entries = {Config(1, 1, Joint({1, 4, 5}, {1, 2, 3}))};
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  core.BecomeLeader({2, 4});
  EXPECT_EQ(core->last_index(), Index(2)) << "its no-op, and nothing else";
  core.Answer(4, Ack(2, 2));
  core.Answer(5, Ack(2, 2));
  EXPECT_EQ(core->last_index(), Index(2));
  core.Ticks(4);
  EXPECT_EQ(core->last_index(), Index(2));
  core.Answer(3, Ack(2, 2));
  EXPECT_EQ(core->commit(), Index(2));
  EXPECT_EQ(core->last_index(), Index(3));
  EXPECT_EQ(core->Status().configuration, Voters({1, 4, 5}));
}

// M4: whoever leads when the joint entry is committed goes on, though another
// began it, and though it was committed before it led.
TEST(Paper6, M4ALaterLeaderLeavesTheJointState) {
  InitialState state;
  state.snapshot.configuration = Voters({1, 2, 3});
  state.hard_state = {Term(1), NodeId(0), Index(1)};
  state.applied = Index(1);
  state.applied_configuration = Joint({1, 4, 5}, {1, 2, 3});
  state.terms = {{Index(1), Term(1)}};
  state.last_index = Index(1);
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  core.BecomeLeader({2, 4});
  EXPECT_TRUE(core->Status().changing);
  core.AcknowledgeAll({2, 4});
  EXPECT_EQ(core->last_index(), Index(3));
  EXPECT_EQ(core->Status().configuration, Voters({1, 4, 5}));
}

TEST(Paper6, M4ALeaderOfTheOutgoingHalfVotesAndFinishes) {
  InitialState state;
  state.snapshot.configuration = Joint({2, 3, 4}, {1, 2, 3});
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  core.BecomeLeader({2, 3});  // its own vote is the third of no half
  core.AcknowledgeAll({2, 3});
  EXPECT_EQ(core->Status().configuration, Voters({2, 3, 4}));
  EXPECT_TRUE(core->IsLeader());
}

// M4: its removal may yet be undone, and its log may be the only one to win.
TEST(Thesis422, M4AnUncommittedRemovalDoesNotKeepFromCampaigning) {
  InitialState state;
  state.snapshot.configuration = Joint({2, 3, 4}, {1, 2, 3});
  state.hard_state.term = Term(1);
  state.terms = {{Index(1), Term(1)}};
  state.last_index = Index(1);
  state.entries = {Config(1, 1, Voters({2, 3, 4}))};
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  core.Ticks(10);
  EXPECT_EQ(core->Status().soft.role, Role::kCandidate);
  core.Answer(2, RequestVoteResponse{Term(2), true, true});
  core.Answer(3, RequestVoteResponse{Term(2), true, true});
  core.Answer(2, RequestVoteResponse{Term(2), false, true});
  EXPECT_FALSE(core->IsLeader()) << "its own vote does not count";
  core.Answer(4, RequestVoteResponse{Term(2), false, true});
  EXPECT_TRUE(core->IsLeader());
}

// ---- a leader that leaves ----

// Node 1, which leads 1 2 3, has appended {2, 3, 4}.
CoreUnderTest LeavingLeader() {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  EXPECT_TRUE(core->ProposeConfiguration(Voters({2, 3, 4})).ok());
  core.Turn();
  core.Answer(2, Ack(1, 2));
  core.Answer(3, Ack(1, 2));
  EXPECT_EQ(core->last_index(), Index(3));
  EXPECT_EQ(core->Status().configuration, Voters({2, 3, 4}));
  return core;
}

// M2.
TEST(Paper6, M2ALeaderThatLeavesDoesNotCountItself) {
  CoreUnderTest core = LeavingLeader();
  core.Answer(2, Ack(1, 3));
  EXPECT_EQ(core->commit(), Index(2)) << "1 and 2 are no majority of 2 3 4";
  core.Answer(4, Ack(1, 3));
  EXPECT_EQ(core->commit(), Index(3));
}

TEST(Paper6, M2NorForReadsNorForItsLeadership) {
  CoreUnderTest core = LeavingLeader();
  core->ReadIndex(7);
  auto beats = To<Heartbeat>(2, core.Turn());
  ASSERT_EQ(beats.size(), 1u);
  core.Answer(2, HeartbeatResponse{Term(1), beats[0].round});
  EXPECT_TRUE(core.reads.empty());
  core.Answer(4, HeartbeatResponse{Term(1), beats[0].round});
  EXPECT_EQ(core.reads.size(), 1u);
  for (int i = 0; i < 12 && core->IsLeader(); ++i) {
    core.Ticks(1);
    core.Answer(2, HeartbeatResponse{Term(1), 0});
  }
  EXPECT_FALSE(core->IsLeader()) << "only one of three was heard";
}

// Section 6: "the leader steps down once it has committed the C_new log entry".
TEST(Paper6, ALeaderThatLeavesHandsOverAndStepsDown) {
  CoreUnderTest core = LeavingLeader();
  core.Answer(2, Ack(1, 3));
  auto sent = core.Answer(3, Ack(1, 3));
  EXPECT_EQ(core->commit(), Index(3));
  ASSERT_FALSE(Of<TimeoutNow>(sent).empty());
  EXPECT_FALSE(To<TimeoutNow>(2, sent).empty()) << "has all, is first";
  EXPECT_EQ(core->Propose({MakePayload("x")}).status().code(),
            absl::StatusCode::kUnavailable);
  core.Answer(2, HeartbeatResponse{Term(2), 0});
  EXPECT_FALSE(core->IsLeader());
  EXPECT_TRUE(core.Ticks(200).empty()) << "and does not come back";
  EXPECT_EQ(core->term(), Term(2));
}

TEST(Paper6, ALeaderThatCannotHandOverStepsDownAllTheSame) {
  CoreUnderTest core = LeavingLeader();
  core.Answer(2, Ack(1, 3));
  core.Answer(3, Ack(1, 3));
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(core->IsLeader()) << "an election timeout for the target";
    for (uint64_t id : {2, 3, 4}) {
      core.Answer(id, HeartbeatResponse{Term(1), 0});
    }
    core.Ticks(1);
  }
  EXPECT_FALSE(core->IsLeader());
}

TEST(Paper6, TheBestTargetIsOneThatStays) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  core.Propose();
  core.Turn();
  core.Answer(3, Ack(1, 2));
  EXPECT_EQ(core->BestTransferTarget(), NodeId(3));
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 4})).ok());
  EXPECT_EQ(core->BestTransferTarget(), NodeId(2));
}

TEST(Paper6, ATransferToAMemberThatLeavesEnds) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 4})).ok());
  core.Turn();
  ASSERT_TRUE(core->TransferLeadership(NodeId(3)).ok());
  core.Answer(2, Ack(1, 2));
  auto sent = core.Answer(4, Ack(1, 2));
  EXPECT_EQ(core->Status().configuration, Voters({1, 2, 4}));
  EXPECT_FALSE(core->transferring());
  EXPECT_TRUE(Of<TimeoutNow>(sent).empty());
}

// ---- a server that was removed ----

TEST(Thesis423, ARemovedServerDoesNotDepose) {
  CoreUnderTest core;
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  for (uint64_t term = 2; term < 9; ++term) {
    EXPECT_TRUE(core.Answer(9, RequestVote{Term(term), At(1, 99), false, false})
                    .empty());
    core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  }
  EXPECT_EQ(core->term(), Term(1));
  EXPECT_EQ(core->leader(), NodeId(2));
}

TEST(Thesis423, WhoIsInNoConfigurationNeverCampaigns) {
  State state;
  state.voters = Nodes({2, 3});
  CoreUnderTest core(state);
  EXPECT_TRUE(core.Ticks(500).empty());
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  EXPECT_TRUE(core.Answer(2, TimeoutNow{Term(1)}).empty());
  EXPECT_EQ(core->term(), Term(1));
}

TEST(Paper6, M3ACutOffJointConfigurationNoLongerCounts) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 4, 5})).ok());
  core.Turn();
  core.Answer(2, AppendEntries{Term(2), At(1, 1), Index(1), {Command(2, 2)}});
  EXPECT_EQ(core->Status().configuration, Voters({1, 2, 3}));
  EXPECT_TRUE(core->Status().peers.empty());
}

TEST(Paper6, CompactionKeepsTheJointConfiguration) {
  CoreUnderTest core = LeaderOf({1, 2, 3});
  ASSERT_TRUE(core->ProposeConfiguration(Voters({1, 2, 3, 4})).ok());
  core.Propose();
  core.Turn();
  core.Answer(2, Ack(1, 3));
  core->Compact(Index(1));
  EXPECT_TRUE(core->Status().configuration.joint());
  core.Answer(3, Ack(1, 3));  // 1 2 3 are a majority of 1 2 3 4 too
  EXPECT_EQ(core->commit(), Index(3));
  core->Compact(Index(3));
  EXPECT_EQ(core->Status().configuration, Voters({1, 2, 3, 4}));
}

}  // namespace
}  // namespace kv739::raft
