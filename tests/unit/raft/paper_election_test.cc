// Rules of the Raft paper (numbers like 5.2) and thesis (named so) on terms,
// votes and elections: one short test each.
#include <gtest/gtest.h>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

HardState Hard(uint64_t term, uint64_t vote = 0) {
  return {Term(term), NodeId(vote), Index(0)};
}
State InTerm(uint64_t term) {
  State setup;
  setup.hard_state = Hard(term);
  return setup;
}
State WithoutPreVote() {
  State setup;
  setup.options.pre_vote = false;
  return setup;
}

// 5.1: "if one server's current term is smaller than the other's, then it
// updates its current term to the larger value".
TEST(Paper51, ALargerTermIsTakenOver) {
  CoreUnderTest core(InTerm(3));
  core.Answer(2, Heartbeat{Term(5), Index(0), 0});
  EXPECT_EQ(core->term(), Term(5));
  core.Answer(2, AppendEntries{Term(6), {}, Index(0), {}});
  EXPECT_EQ(core->term(), Term(6));
  core.Answer(3, RequestVoteResponse{Term(7), false, false});
  EXPECT_EQ(core->term(), Term(7));
  core.Answer(3, AppendEntriesResponse{Term(8), false, Index(0), {}});
  EXPECT_EQ(core->term(), Term(8));
  core.Answer(3, HeartbeatResponse{Term(9), 0});
  EXPECT_EQ(core->term(), Term(9));
}

// 5.1: "If a candidate or leader discovers that its term is out of date, it
// immediately reverts to follower state."
TEST(Paper51, AnOutdatedLeaderStepsDown) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.Answer(2, AppendEntriesResponse{Term(2), false, Index(0), {}});
  EXPECT_FALSE(core->IsLeader());
  EXPECT_EQ(core->term(), Term(2));
  EXPECT_EQ(core->leader(), NodeId());
}

// 5.1: "If a server receives a request with a stale term number, it rejects
// the request"; the answer carries the newer term.
TEST(Paper51, StaleRequestsAreRefusedWithTheNewerTerm) {
  CoreUnderTest core(InTerm(5));
  auto append = core.Answer(2, AppendEntries{Term(4), {}, Index(0), {}});
  ASSERT_EQ(Of<AppendEntriesResponse>(append).size(), 1u);
  EXPECT_FALSE(Of<AppendEntriesResponse>(append)[0].success);
  EXPECT_EQ(Of<AppendEntriesResponse>(append)[0].term, Term(5));
  auto vote = core.Answer(2, RequestVote{Term(4), At(9, 9), false, false});
  ASSERT_EQ(Of<RequestVoteResponse>(vote).size(), 1u);
  EXPECT_FALSE(Of<RequestVoteResponse>(vote)[0].granted);
  EXPECT_EQ(Of<RequestVoteResponse>(vote)[0].term, Term(5));
  auto beat = core.Answer(2, Heartbeat{Term(4), Index(0), 7});
  ASSERT_EQ(Of<HeartbeatResponse>(beat).size(), 1u);
  EXPECT_EQ(Of<HeartbeatResponse>(beat)[0].term, Term(5));
}

// 5.2: "When servers start up, they begin as followers."
TEST(Paper52, StartsAsFollower) {
  CoreUnderTest core;
  EXPECT_EQ(core->Status().soft.role, Role::kFollower);
  EXPECT_EQ(core->leader(), NodeId());
}

// 5.2: "it increments its current term and transitions to candidate state. It
// then votes for itself and issues RequestVote RPCs in parallel".
TEST(Paper52, AFollowerWithoutALeaderCampaigns) {
  CoreUnderTest core(WithoutPreVote());
  EXPECT_TRUE(core.Ticks(9).empty());
  auto sent = core.Ticks(1);
  EXPECT_EQ(core->term(), Term(1));
  EXPECT_EQ(core->Status().soft.role, Role::kCandidate);
  EXPECT_EQ(core->Status().hard.vote, NodeId(1));
  EXPECT_EQ(To<RequestVote>(2, sent).size(), 1u);
  EXPECT_EQ(To<RequestVote>(3, sent).size(), 1u);
}

// 5.2: "leaders send periodic heartbeats"; they keep followers quiet.
TEST(Paper52, HeartbeatsHoldBackElections) {
  CoreUnderTest core(WithoutPreVote());
  for (int i = 0; i < 10; ++i) {
    core.Ticks(9);
    core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  }
  EXPECT_EQ(core->term(), Term(1));
  EXPECT_EQ(core->leader(), NodeId(2));
}

// 5.2: "Raft uses randomized election timeouts".
TEST(Paper52, TimeoutsComeFromTheGivenRandomness) {
  CoreUnderTest core;
  core.random.value = 7;
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});  // draws anew
  EXPECT_TRUE(core.Ticks(16).empty());
  EXPECT_FALSE(core.Ticks(1).empty());
}

// 5.2: "A candidate wins an election if it receives votes from a majority".
TEST(Paper52, AMajorityOfVotesWins) {
  State setup = WithoutPreVote();
  setup.voters = Nodes({1, 2, 3, 4, 5});
  CoreUnderTest core(setup);
  core.Ticks(10);
  core.Answer(2, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader());
  core.Answer(2, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader()) << "the same vote twice is one vote";
  core.Answer(9, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader()) << "9 is no member";
  core.Answer(3, RequestVoteResponse{Term(1), false, true});
  EXPECT_TRUE(core->IsLeader());
}

TEST(Paper52, AMajorityOfRefusalsLoses) {
  CoreUnderTest core(WithoutPreVote());
  core.Ticks(10);
  core.Answer(2, RequestVoteResponse{Term(1), false, false});
  core.Answer(3, RequestVoteResponse{Term(1), false, false});
  EXPECT_EQ(core->Status().soft.role, Role::kFollower);
  EXPECT_EQ(core->term(), Term(1));
}

// 5.2: "each server will vote for at most one candidate in a given term, on a
// first-come-first-served basis".
TEST(Paper52, OneVoteForEachTerm) {
  CoreUnderTest core(InTerm(1));
  const RequestVote ask{Term(2), {}, false, false};
  EXPECT_TRUE(Of<RequestVoteResponse>(core.Answer(2, ask))[0].granted);
  EXPECT_FALSE(Of<RequestVoteResponse>(core.Answer(3, ask))[0].granted);
  EXPECT_TRUE(Of<RequestVoteResponse>(core.Answer(2, ask))[0].granted)
      << "the answer may have been lost";
}

TEST(Paper52, TheVoteSurvivesARestart) {
  State setup;
  setup.hard_state = Hard(2, 3);
  CoreUnderTest core(setup);
  const RequestVote ask{Term(2), {}, false, false};
  EXPECT_FALSE(Of<RequestVoteResponse>(core.Answer(2, ask))[0].granted);
  EXPECT_TRUE(Of<RequestVoteResponse>(core.Answer(3, ask))[0].granted);
}

// Figure 2, "persistent state ... updated on stable storage before responding".
TEST(Paper52, AVoteLeavesOnlyAfterItIsDurable) {
  CoreUnderTest core;
  core.Receive(2, RequestVote{Term(1), {}, false, false});
  const Ready ready = core->TakeReady();
  EXPECT_TRUE(ready.send_now.empty());
  EXPECT_EQ(ready.send_after_persist.size(), 1u);
  ASSERT_TRUE(ready.persist.hard_state.has_value());
  EXPECT_EQ(ready.persist.hard_state->vote, NodeId(2));
  EXPECT_EQ(ready.persist.hard_state->term, Term(1));
}

TEST(Paper52, ACandidateAsksOnlyAfterItsOwnVoteIsDurable) {
  CoreUnderTest core(WithoutPreVote());
  for (int i = 0; i < 10; ++i) core->Tick();
  const Ready ready = core->TakeReady();
  EXPECT_TRUE(ready.send_now.empty());
  EXPECT_EQ(ready.send_after_persist.size(), 2u);
  ASSERT_TRUE(ready.persist.hard_state.has_value());
  EXPECT_EQ(ready.persist.hard_state->vote, NodeId(1));
}

TEST(Paper52, TheOwnVoteCountsOnlyOnceDurable) {
  CoreUnderTest core(WithoutPreVote());
  for (int i = 0; i < 10; ++i) core->Tick();
  const Ready ready = core->TakeReady();
  core.Receive(2, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader());
  core->Persisted(ready.persist.position);
  EXPECT_TRUE(core->IsLeader());
}

TEST(Paper52, AloneItLeadsOnceItsVoteIsDurable) {
  State setup;
  setup.voters = Nodes({1});
  CoreUnderTest core(setup);
  for (int i = 0; i < 10; ++i) core->Tick();
  EXPECT_FALSE(core->IsLeader());
  core.Turn();
  EXPECT_TRUE(core->IsLeader());
  EXPECT_EQ(core->commit(), Index(1));
}

// 5.2: a candidate that hears from a leader of its term "recognizes the leader
// as legitimate and returns to follower state".
TEST(Paper52, ACandidateYieldsToTheLeaderOfItsTerm) {
  CoreUnderTest core(WithoutPreVote());
  core.Ticks(10);
  core.Answer(3, AppendEntries{Term(1), {}, Index(0), {}});
  EXPECT_EQ(core->Status().soft.role, Role::kFollower);
  EXPECT_EQ(core->leader(), NodeId(3));
  EXPECT_EQ(core->Status().hard.vote, NodeId(1)) << "the vote stays given";
}

TEST(Paper52, ACandidateIgnoresALeaderOfAnOlderTerm) {
  State setup = WithoutPreVote();
  setup.hard_state = Hard(4);
  CoreUnderTest core(setup);
  core.Ticks(10);
  core.Answer(3, AppendEntries{Term(4), {}, Index(0), {}});
  EXPECT_EQ(core->Status().soft.role, Role::kCandidate);
}

// 5.2: split votes: "each candidate will time out and start a new election by
// incrementing its term".
TEST(Paper52, ACandidateThatTimesOutTriesAgain) {
  CoreUnderTest core(WithoutPreVote());
  core.Ticks(20);
  EXPECT_EQ(core->term(), Term(2));
  core.Answer(2, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader()) << "a vote of the term before";
}

TEST(Paper52, TwoLeadersInATermCannotBeAndAreNotBelieved) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.Answer(2, AppendEntries{Term(1), {}, Index(0), {}});
  EXPECT_TRUE(core->IsLeader());
  EXPECT_EQ(core->dropped(), 1u);
}

// 5.4.1: "the voter denies its vote if its own log is more up-to-date".
TEST(Paper541, VotesOnlyForLogsAtLeastAsComplete) {
  struct Case {
    LogPosition candidate;
    bool granted;
  };
  // The voter's log ends at 2/3.
  const Case cases[] = {{At(2, 3), true},  {At(2, 4), true},  {At(3, 1), true},
                        {At(2, 2), false}, {At(1, 9), false}, {{}, false}};
  for (const Case& c : cases) {
    State setup;
    setup.log = {1, 2, 2};
    CoreUnderTest core(setup);
    auto sent = core.Answer(2, RequestVote{Term(5), c.candidate, false, false});
    EXPECT_EQ(Of<RequestVoteResponse>(sent)[0].granted, c.granted)
        << Describe(c.candidate);
    EXPECT_EQ(core->term(), Term(5)) << "the term is taken over all the same";
  }
}

// Thesis 9.6: "a candidate only increments its term if it first learns from a
// majority of the cluster that they would be willing to grant their votes".
TEST(Thesis96, PreVoteChangesNoTerm) {
  CoreUnderTest core(InTerm(4));
  auto sent = core.Ticks(10);
  EXPECT_EQ(core->term(), Term(4));
  ASSERT_EQ(Of<RequestVote>(sent).size(), 2u);
  EXPECT_TRUE(Of<RequestVote>(sent)[0].pre_vote);
  EXPECT_EQ(Of<RequestVote>(sent)[0].term, Term(5));
  core.Ticks(100);
  EXPECT_EQ(core->term(), Term(4)) << "cut off, it waits";
}

TEST(Thesis96, AMajorityOfPreVotesBeginsTheElection) {
  CoreUnderTest core;
  core.Ticks(10);
  auto sent = core.Answer(2, RequestVoteResponse{Term(1), true, true});
  EXPECT_EQ(core->term(), Term(1));
  ASSERT_EQ(Of<RequestVote>(sent).size(), 2u);
  EXPECT_FALSE(Of<RequestVote>(sent)[0].pre_vote);
}

TEST(Thesis96, PreVotesDoNotCountAsVotes) {
  CoreUnderTest core;
  core.Ticks(10);
  core.Answer(2, RequestVoteResponse{Term(1), true, true});
  core.Answer(3, RequestVoteResponse{Term(1), true, true});
  EXPECT_FALSE(core->IsLeader());
}

TEST(Thesis96, GivingAPreVotePromisesNothing) {
  CoreUnderTest core(InTerm(3));
  for (uint64_t from : {2, 3}) {
    auto sent = core.Answer(from, RequestVote{Term(4), {}, true, false});
    ASSERT_EQ(Of<RequestVoteResponse>(sent).size(), 1u);
    EXPECT_TRUE(Of<RequestVoteResponse>(sent)[0].granted);
    EXPECT_EQ(Of<RequestVoteResponse>(sent)[0].term, Term(4));
  }
  EXPECT_EQ(core->term(), Term(3));
  EXPECT_EQ(core->Status().hard.vote, NodeId());
}

// A stand-off of a long old log and a short newer term must end: the refusal
// spreads the newer term.
TEST(Thesis96, ARefusedPreVoteSpreadsTheNewerTerm) {
  State setup;
  setup.hard_state = Hard(7);
  CoreUnderTest behind(setup);
  auto sent = behind.Answer(2, RequestVote{Term(3), At(2, 50), true, false});
  ASSERT_EQ(Of<RequestVoteResponse>(sent).size(), 1u);
  EXPECT_FALSE(Of<RequestVoteResponse>(sent)[0].granted);
  EXPECT_EQ(Of<RequestVoteResponse>(sent)[0].term, Term(7));

  CoreUnderTest ahead(InTerm(2));
  ahead.Ticks(10);
  ahead.Answer(2, RequestVoteResponse{Term(7), true, false});
  EXPECT_EQ(ahead->term(), Term(7));
}

// Thesis 6.2: "a leader steps down if an election timeout elapses without a
// successful round of heartbeats to a majority".
TEST(Thesis62, ALeaderWithoutAQuorumStepsDown) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.Ticks(9);
  EXPECT_TRUE(core->IsLeader());
  core.Ticks(1);
  EXPECT_FALSE(core->IsLeader());
  EXPECT_EQ(core->term(), Term(1));
}

TEST(Thesis62, ALeaderThatHearsFromAQuorumStays) {
  CoreUnderTest core;
  core.BecomeLeader();
  for (int i = 0; i < 10; ++i) {
    core.Ticks(9);
    core.Answer(3, HeartbeatResponse{Term(1), 0});
  }
  EXPECT_TRUE(core->IsLeader());
}

TEST(Thesis62, LearnersDoNotKeepALeader) {
  State setup;
  setup.learners = Nodes({8, 9});
  CoreUnderTest core(setup);
  core.BecomeLeader();
  for (int i = 0; i < 10; ++i) {
    core.Ticks(1);
    core.Answer(8, HeartbeatResponse{Term(1), 0});
    core.Answer(9, HeartbeatResponse{Term(1), 0});
  }
  EXPECT_FALSE(core->IsLeader());
}

// Thesis 4.2.3: "if a server receives a RequestVote request within the minimum
// election timeout of hearing from a current leader, it does not update its
// term or grant its vote".
TEST(Thesis423, WhoHearsFromALeaderIgnoresCandidates) {
  for (bool pre_vote : {false, true}) {
    CoreUnderTest core;
    core.Answer(2, Heartbeat{Term(1), Index(0), 0});
    core.Ticks(9);
    EXPECT_TRUE(
        core.Answer(3, RequestVote{Term(9), {}, pre_vote, false}).empty());
    EXPECT_EQ(core->term(), Term(1));
  }
}

TEST(Thesis423, ALeaderIgnoresCandidatesToo) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.Answer(3, RequestVote{Term(9), At(9, 9), false, false});
  EXPECT_TRUE(core->IsLeader());
}

TEST(Thesis423, AfterTheTimeoutItVotes) {
  CoreUnderTest core;
  core.random.value = 9;
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  core.Ticks(10);
  auto sent = core.Answer(3, RequestVote{Term(2), {}, false, false});
  ASSERT_EQ(Of<RequestVoteResponse>(sent).size(), 1u);
  EXPECT_TRUE(Of<RequestVoteResponse>(sent)[0].granted);
}

// A follower of node 2.
CoreUnderTest FollowerOfTwo() {
  CoreUnderTest core;
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  EXPECT_EQ(core->leader(), NodeId(2));
  return core;
}

TEST(PeerGone, AFollowerAsksSoonWhenItsLeaderIsGone) {
  CoreUnderTest core = FollowerOfTwo();
  core.random.value = 3;
  core->PeerGone(NodeId(2));
  EXPECT_TRUE(Of<RequestVote>(core.Ticks(3)).empty());
  const auto asked = Of<RequestVote>(core.Ticks(1));
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_TRUE(asked[0].pre_vote);
  EXPECT_EQ(core->term(), Term(1));
}

// Votes that were split are asked for again soon, but not for ever.
TEST(PeerGone, AnAttemptThatLeadsToNothingIsRepeatedSoon) {
  State setup;
  setup.options.gone_timeout_ticks = 4;
  CoreUnderTest core(setup);
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  core->PeerGone(NodeId(2));
  EXPECT_EQ(Of<RequestVote>(core.Ticks(1)).size(), 2u);
  EXPECT_TRUE(core.Ticks(3).empty());
  EXPECT_EQ(Of<RequestVote>(core.Ticks(1)).size(), 2u);
  core.Ticks(8);
  EXPECT_TRUE(core.Ticks(core.options.election_timeout_ticks - 1).empty());
  EXPECT_EQ(Of<RequestVote>(core.Ticks(1)).size(), 2u);
}

TEST(PeerGone, NobodyElseMatters) {
  CoreUnderTest core = FollowerOfTwo();
  core->PeerGone(NodeId(3));
  core->PeerGone(NodeId());
  EXPECT_TRUE(core.Ticks(core.options.election_timeout_ticks - 1).empty());
}

TEST(PeerGone, ALeaderThatIsHeardOfAgainHasItsWholeTime) {
  CoreUnderTest core = FollowerOfTwo();
  core->PeerGone(NodeId(2));
  core.Answer(2, Heartbeat{Term(1), Index(0), 0});
  EXPECT_TRUE(core.Ticks(core.options.election_timeout_ticks - 1).empty());
  EXPECT_EQ(Of<RequestVote>(core.Ticks(1)).size(), 2u);
}

TEST(PeerGone, TheTimeoutIsNeverLongerForIt) {
  CoreUnderTest core = FollowerOfTwo();
  core.Ticks(core.options.election_timeout_ticks - 2);
  core.random.value = 9;
  core->PeerGone(NodeId(2));
  EXPECT_EQ(Of<RequestVote>(core.Ticks(2)).size(), 2u);
}

// What makes it harmless that a connection breaks.
TEST(PeerGone, OnlyWhoLostTheLeaderTooHelpsToDeposeIt) {
  const RequestVote asks{Term(2), {}, true, false};
  CoreUnderTest core = FollowerOfTwo();
  EXPECT_TRUE(core.Answer(3, asks).empty());
  core->PeerGone(NodeId(2));
  const auto sent = Of<RequestVoteResponse>(core.Answer(3, asks));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_TRUE(sent[0].granted);
}

// Thesis 4.2.1: learners do not campaign; but they answer votes, for they may
// be voters for the others already.
TEST(Thesis421, ALearnerNeverCampaignsAndAnswersVotes) {
  State setup;
  setup.voters = Nodes({2, 3});
  setup.learners = Nodes({1});
  CoreUnderTest core(setup);
  EXPECT_TRUE(core.Ticks(100).empty());
  auto sent = core.Answer(2, RequestVote{Term(1), {}, false, false});
  ASSERT_EQ(Of<RequestVoteResponse>(sent).size(), 1u);
  EXPECT_TRUE(Of<RequestVoteResponse>(sent)[0].granted);
}

TEST(Thesis421, ANodeOutsideTheConfigurationNeverCampaigns) {
  State setup;
  setup.voters = Nodes({2, 3});
  CoreUnderTest core(setup);
  EXPECT_TRUE(core.Ticks(100).empty());
  EXPECT_EQ(core->term(), Term(0));
}

// Section 6: joint consensus needs both majorities.
TEST(Paper6, AJointElectionNeedsBothMajorities) {
  InitialState state;
  state.snapshot.configuration = {Nodes({1, 2, 3}), Nodes({1, 4, 5}), {}};
  Options options = CoreUnderTest::DefaultOptions();
  options.pre_vote = false;
  CoreUnderTest core(options, state);
  auto sent = core.Ticks(10);
  EXPECT_EQ(Of<RequestVote>(sent).size(), 4u);
  core.Answer(2, RequestVoteResponse{Term(1), false, true});
  core.Answer(3, RequestVoteResponse{Term(1), false, true});
  EXPECT_FALSE(core->IsLeader());
  core.Answer(5, RequestVoteResponse{Term(1), false, true});
  EXPECT_TRUE(core->IsLeader());
}

}  // namespace
}  // namespace kv739::raft
