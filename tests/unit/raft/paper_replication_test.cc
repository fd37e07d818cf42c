// Rules of the Raft paper and thesis on log replication and commitment.
#include <gtest/gtest.h>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

State WithLog(std::vector<uint64_t> log) {
  State state;
  state.log = std::move(log);
  return state;
}

AppendEntriesResponse Ack(uint64_t term, uint64_t index) {
  return {Term(term), true, Index(index), {}};
}
AppendEntriesResponse Refusal(uint64_t term, uint64_t previous,
                              LogPosition hint) {
  return {Term(term), false, Index(previous), hint};
}

std::vector<uint64_t> Terms(const CoreUnderTest& core, uint64_t last) {
  // Asked for through the messages of a would-be leader would be long-winded;
  // the entries that were written tell as well.
  std::vector<uint64_t> terms;
  for (const Entry& entry : core.applied) {
    if (entry.index <= Index(last)) terms.push_back(entry.term.value());
  }
  return terms;
}

// 5.3: "The leader appends the command to its log as a new entry, then issues
// AppendEntries RPCs in parallel".
TEST(Paper53, ProposalsGoToAllFollowersInOneMessage) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  auto position =
      core->Propose({MakePayload("a"), MakePayload("b"), MakePayload("c")});
  ASSERT_TRUE(position.ok());
  EXPECT_EQ(*position, At(1, 2));
  core.Propose("d");
  auto sent = core.Turn();
  for (uint64_t to : {2, 3}) {
    auto appends = To<AppendEntries>(to, sent);
    ASSERT_EQ(appends.size(), 1u);
    EXPECT_EQ(appends[0].previous, At(1, 1));
    ASSERT_EQ(appends[0].entries.size(), 4u);
    EXPECT_EQ(*appends[0].entries[3].data, "d");
  }
}

// Thesis 10.2.1: the leader writes its disk in parallel with its followers.
TEST(Thesis1021, EntriesLeaveBeforeTheyAreDurableHere) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  core.Propose();
  Ready ready = core->TakeReady();
  EXPECT_EQ(Of<AppendEntries>(ready.send_now).size(), 2u);
  EXPECT_EQ(ready.persist.entries.size(), 1u);
}

TEST(Thesis1021, TheOwnCopyCountsOnlyOnceDurable) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  core.Propose();
  Ready ready = core->TakeReady();
  core.Receive(2, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(1)) << "one of three";
  core->Persisted(ready.persist.position);
  EXPECT_EQ(core->commit(), Index(2));
}

TEST(Thesis1021, FollowersCanCommitWithoutTheLeadersDisk) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  core.Propose();
  Ready ready = core->TakeReady();
  core.Receive(2, Ack(1, 2));
  core.Receive(3, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(2));
  EXPECT_TRUE(core->TakeReady().committed.empty())
      << "not applied before it is durable here: a crash would lose it";
  core->Persisted(ready.persist.position);
  EXPECT_EQ(core->TakeReady().committed.size(), 1u);
}

// 5.3: "A log entry is committed once the leader that created the entry has
// replicated it on a majority of the servers".
TEST(Paper53, CommitsWithAMajority) {
  State state;
  state.voters = Nodes({1, 2, 3, 4, 5});
  CoreUnderTest core(state);
  core.BecomeLeader({2, 3});
  core.AcknowledgeAll({2, 3, 4, 5});
  core.Propose();
  core.Turn();
  core.Answer(2, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(1));
  core.Answer(2, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(1));
  core.Answer(4, Ack(1, 2));
  EXPECT_EQ(core->commit(), Index(2));
}

TEST(Paper53, LearnersDoNotCountForCommit) {
  State state;
  state.learners = Nodes({8, 9});
  CoreUnderTest core(state);
  core.BecomeLeader();
  core.Answer(8, Ack(1, 1));
  core.Answer(9, Ack(1, 1));
  EXPECT_EQ(core->commit(), Index(0));
  core.Answer(3, Ack(1, 1));
  EXPECT_EQ(core->commit(), Index(1));
}

// Section 6: joint consensus needs both majorities for commitment too.
TEST(Paper6, AJointCommitNeedsBothMajorities) {
  InitialState state;
  state.snapshot.configuration = {Nodes({1, 2, 3}), Nodes({1, 4, 5}), {}};
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  core.BecomeLeader({2, 4});
  core.Answer(2, Ack(1, 1));
  core.Answer(3, Ack(1, 1));
  EXPECT_EQ(core->commit(), Index(0));
  core.Answer(5, Ack(1, 1));
  EXPECT_EQ(core->commit(), Index(1));
}

// 5.3: "The leader keeps track of the highest index it knows to be committed,
// and it includes that index in future AppendEntries RPCs".
TEST(Paper53, TheCommitIndexTravelsWithAppendsAndHeartbeats) {
  CoreUnderTest core;
  core.BecomeLeader();
  auto after = core.Answer(2, Ack(1, 1));
  EXPECT_TRUE(after.empty()) << "a commit alone is worth no message";
  core.Answer(3, Ack(1, 1));
  auto beats = core.Ticks(2);
  ASSERT_EQ(To<Heartbeat>(2, beats).size(), 1u);
  EXPECT_EQ(To<Heartbeat>(2, beats)[0].commit, Index(1));
  core.Propose();
  auto sent = core.Turn();
  ASSERT_EQ(To<AppendEntries>(3, sent).size(), 1u);
  EXPECT_EQ(To<AppendEntries>(3, sent)[0].commit, Index(1));
}

TEST(Paper53, AHeartbeatPromisesNoMoreThanTheFollowerHas) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.Answer(2, Ack(1, 1));
  auto beats = core.Ticks(2);
  EXPECT_EQ(To<Heartbeat>(3, beats)[0].commit, Index(0));
}

// 5.3: "If a follower does not find an entry in its log with the same index
// and term, then it refuses the new entries."
TEST(Paper53, AFollowerChecksThePreviousEntry) {
  struct Case {
    LogPosition previous;
    bool success;
  };
  const Case cases[] = {{At(2, 3), true},
                        {At(1, 1), true},
                        {{}, true},
                        {At(3, 3), false},
                        {At(2, 4), false}};
  for (const Case& c : cases) {
    CoreUnderTest core(WithLog({1, 2, 2}));
    auto sent =
        core.Answer(2, AppendEntries{Term(3), c.previous, Index(0), {}});
    auto answer = Of<AppendEntriesResponse>(sent);
    ASSERT_EQ(answer.size(), 1u);
    EXPECT_EQ(answer[0].success, c.success) << Describe(c.previous);
    EXPECT_EQ(answer[0].index, c.previous.index);
  }
}

// 5.3: "conflicting entries in follower logs will be overwritten", and only
// those.
TEST(Paper53, OnlyAConflictTruncates) {
  CoreUnderTest core(WithLog({1, 2, 2, 2}));
  core.Answer(2, AppendEntries{Term(3), At(1, 1), Index(0), {Command(2, 2)}});
  EXPECT_EQ(core->last_index(), Index(4)) << "an old message that matches";
  core.Answer(2, AppendEntries{Term(3), At(2, 2), Index(0), {Command(3, 3)}});
  EXPECT_EQ(core->last_index(), Index(3));
}

TEST(Paper53, ConflictingEntriesAreRewrittenOnDisk) {
  CoreUnderTest core(WithLog({1, 2, 2}));
  core.Receive(
      2, AppendEntries{
             Term(3), At(1, 1), Index(3), {Command(3, 2), Command(3, 3)}});
  Ready ready = core->TakeReady();
  ASSERT_EQ(ready.persist.entries.size(), 2u);
  EXPECT_EQ(ready.persist.entries[0].index, Index(2));
  EXPECT_EQ(ready.persist.position.last, At(3, 3));
  EXPECT_TRUE(ready.committed.empty() ||
              ready.committed.back().index == Index(1));
  core->Persisted(ready.persist.position);
  core.Turn();
  EXPECT_EQ(Terms(core, 3), (std::vector<uint64_t>{3, 3}));
}

// Figure 2: acknowledged after it is on disk, and not before.
TEST(Paper53, AnAcknowledgementWaitsForTheDisk) {
  CoreUnderTest core;
  core.Receive(2, AppendEntries{Term(1), {}, Index(0), {Command(1, 1)}});
  Ready ready = core->TakeReady();
  EXPECT_TRUE(Of<AppendEntriesResponse>(ready.send_now).empty());
  ASSERT_EQ(Of<AppendEntriesResponse>(ready.send_after_persist).size(), 1u);
  // Repeated while the write is under way: still not at once.
  core.Receive(2, AppendEntries{Term(1), {}, Index(0), {Command(1, 1)}});
  ready = core->TakeReady();
  EXPECT_TRUE(Of<AppendEntriesResponse>(ready.send_now).empty());
  EXPECT_EQ(Of<AppendEntriesResponse>(ready.send_after_persist).size(), 1u);
}

TEST(Paper53, AnAcknowledgementClaimsWhatItsRequestCovered) {
  CoreUnderTest core(WithLog({1, 1, 1, 1}));
  auto sent = core.Answer(
      2, AppendEntries{Term(2), At(1, 1), Index(0), {Command(1, 2)}});
  ASSERT_EQ(Of<AppendEntriesResponse>(sent).size(), 1u);
  EXPECT_EQ(Of<AppendEntriesResponse>(sent)[0].index, Index(2));
}

// Figure 2: "set commitIndex = min(leaderCommit, index of last new entry)".
TEST(Paper53, AFollowerCommitsOnlyWhatTheMessageCovers) {
  CoreUnderTest core(WithLog({1, 1, 1, 1}));
  core.Answer(2, AppendEntries{Term(2), At(1, 1), Index(4), {Command(1, 2)}});
  EXPECT_EQ(core->commit(), Index(2));
  core.Answer(2, AppendEntries{Term(2), At(1, 3), Index(3), {}});
  EXPECT_EQ(core->commit(), Index(3));
}

TEST(Paper53, TheCommitIndexNeverFalls) {
  CoreUnderTest core(WithLog({1, 1, 1}));
  core.Answer(2, AppendEntries{Term(2), At(1, 3), Index(3), {}});
  core.Answer(2, AppendEntries{Term(2), At(1, 2), Index(1), {}});
  core.Answer(2, Heartbeat{Term(2), Index(1), 0});
  EXPECT_EQ(core->commit(), Index(3));
}

TEST(Paper53, CommittedEntriesAreNeverReplaced) {
  CoreUnderTest core(WithLog({1, 1, 1}));
  core.Answer(2, AppendEntries{Term(2), At(1, 3), Index(3), {}});
  auto sent = core.Answer(
      2, AppendEntries{Term(2), At(1, 1), Index(0), {Command(2, 2)}});
  EXPECT_TRUE(sent.empty());
  EXPECT_EQ(core->dropped(), 1u);
  EXPECT_EQ(core->last_index(), Index(3));
}

TEST(Paper53, NonsenseIsDroppedAndCounted) {
  CoreUnderTest core;
  auto null = Command(1, 1);
  null.data = nullptr;
  auto kind = Command(1, 1);
  kind.kind = static_cast<EntryKind>(77);
  auto config = Command(1, 1);
  config.kind = EntryKind::kConfiguration;  // its data does not decode
  const std::vector<Entry> bad[] = {
      {Command(1, 2)},                 // not behind the previous one
      {Command(1, 1), Command(1, 3)},  // a gap
      {Command(2, 1)},                 // of a term to come
      {Command(0, 1)},                 // of no term
      {Command(1, 1), Command(0, 2)},  // a term that falls
      {null},                          // without data
      {kind},
      {config},
  };
  uint64_t count = 0;
  for (const auto& entries : bad) {
    EXPECT_TRUE(
        core.Answer(2, AppendEntries{Term(1), {}, Index(0), entries}).empty());
    EXPECT_EQ(core->dropped(), ++count);
  }
  core.Answer(2, AppendEntries{Term(1), At(0, 3), Index(0), {}});
  EXPECT_EQ(core->dropped(), ++count);
  core.Answer(1, Heartbeat{Term(1), Index(0), 0});
  EXPECT_EQ(core->dropped(), ++count) << "from itself";
  core->Step({NodeId(2), NodeId(3), Heartbeat{Term(1), Index(0), 0}});
  EXPECT_EQ(core->dropped(), ++count) << "for another";
  core.Answer(2, Heartbeat{Term(0), Index(0), 0});
  EXPECT_EQ(core->dropped(), ++count) << "term 0";
  core.Answer(2, Heartbeat{Term(1), Index(9), 0});
  EXPECT_EQ(core->dropped(), ++count) << "a commit beyond its log";
  EXPECT_EQ(core->commit(), Index(0));
  EXPECT_EQ(core->last_index(), Index(0));
  core.BecomeLeader();
  core.Answer(2, Ack(core->term().value(), 99));
  EXPECT_EQ(core->dropped(), ++count) << "acknowledges what is not there";
  core.Answer(7, Ack(core->term().value(), 1));
  EXPECT_EQ(core->dropped(), ++count) << "from no member";
  core.Answer(2, HeartbeatResponse{core->term(), 5});
  EXPECT_EQ(core->dropped(), ++count) << "a round that was never begun";
}

// 5.3: "the leader decrements nextIndex and retries", with the optimization
// that goes back by terms.
TEST(Paper53, RefusalsGoBackByTerms) {
  CoreUnderTest core(WithLog({1, 1, 1, 4, 4, 5, 5, 6, 6}));
  core.BecomeLeader();  // term 7, no-op at 10
  // The follower has 1 1 1 4 4 4 4 4 4 4: its last entries of term 4 cannot
  // be ours beyond 5.
  auto sent = core.Answer(2, Refusal(7, 9, At(4, 8)));
  auto appends = To<AppendEntries>(2, sent);
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(4, 5));
  EXPECT_EQ(appends[0].entries.size(), 5u);
}

TEST(Paper53, AFollowersHintSkipsNewerTermsOfItsOwn) {
  // Paper figure 7 (f): the leader's log is 1 1 1 4 4 5 5 6 6 6.
  CoreUnderTest core(WithLog({1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3}));
  auto sent = core.Answer(
      2, AppendEntries{Term(8), At(6, 10), Index(0), {Command(8, 11)}});
  auto answer = Of<AppendEntriesResponse>(sent);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].index, Index(10));
  EXPECT_EQ(answer[0].hint, At(3, 9));
  sent = core.Answer(2, AppendEntries{Term(8), At(1, 3), Index(0), {}});
  EXPECT_TRUE(Of<AppendEntriesResponse>(sent)[0].success);
}

// Figure 7: a leader brings every kind of follower into line, in few steps.
TEST(Paper53, Figure7AllFollowersBecomeLikeTheLeader) {
  const std::vector<uint64_t> leader_log = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6};
  const std::vector<std::vector<uint64_t>> followers = {
      {1, 1, 1, 4, 4, 5, 5, 6, 6},           // a
      {1, 1, 1, 4},                          // b
      {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6},     // c
      {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7},  // d
      {1, 1, 1, 4, 4, 4, 4},                 // e
      {1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3},     // f
  };
  for (size_t i = 0; i < followers.size(); ++i) {
    State leader_state = WithLog(leader_log);
    leader_state.hard_state.term = Term(7);
    CoreUnderTest leader(leader_state);
    State follower_state = WithLog(followers[i]);
    follower_state.options.self = NodeId(2);
    CoreUnderTest follower(follower_state);
    auto sent = leader.BecomeLeader({3});
    int messages = 0;
    while (!sent.empty()) {
      std::vector<Envelope> back;
      for (const Envelope& e : sent) {
        if (e.to != NodeId(2)) continue;
        ++messages;
        follower->Step(e);
        for (Envelope& b : follower.Turn()) back.push_back(std::move(b));
      }
      for (const Envelope& e : back) leader->Step(e);
      sent = leader.Turn();
    }
    EXPECT_EQ(leader->Status().peers[0].match, Index(11)) << "case " << i;
    EXPECT_EQ(follower->last_index(), Index(11)) << "case " << i;
    EXPECT_LE(messages, 3) << "case " << i;
    follower.Answer(1, Heartbeat{Term(8), Index(11), 0});
    std::vector<uint64_t> expected = leader_log;
    expected.push_back(8);
    EXPECT_EQ(Terms(follower, 11), expected) << "case " << i;
  }
}

// 5.4.2, figure 8: "Raft never commits log entries from previous terms by
// counting replicas".
TEST(Paper542, Figure8OldEntriesAreNotCommittedByCounting) {
  State state = WithLog({1, 2});
  state.voters = Nodes({1, 2, 3, 4, 5});
  state.hard_state.term = Term(3);
  CoreUnderTest core(state);
  core.BecomeLeader({2, 3});  // term 4; its no-op is entry 3
  core.Answer(2, Ack(4, 2));
  core.Answer(3, Ack(4, 2));
  EXPECT_EQ(core->commit(), Index(0)) << "(c): 2/2 is on a majority";
  core.Answer(2, Ack(4, 3));
  core.Answer(3, Ack(4, 3));
  EXPECT_EQ(core->commit(), Index(3)) << "(e): with an entry of its own term";
}

// Thesis 6.4: "a no-op entry into the log at the start of its term".
TEST(Thesis64, ANewLeaderAppendsANoop) {
  CoreUnderTest core(WithLog({1, 1}));
  auto sent = core.BecomeLeader();
  auto appends = To<AppendEntries>(2, sent);
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(1, 2));
  ASSERT_EQ(appends[0].entries.size(), 1u);
  EXPECT_EQ(appends[0].entries[0].kind, EntryKind::kNoop);
  EXPECT_EQ(appends[0].entries[0].term, core->term());
}

// 5.3: late and repeated messages leave everything as it is.
TEST(Paper53, OldAnswersMoveNothing) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  for (int i = 0; i < 3; ++i) core.Propose();
  core.Turn();
  core.Answer(2, Ack(1, 4));
  const std::string before = Describe(core->Status());
  core.Answer(2, Ack(1, 2));
  core.Answer(2, Ack(1, 4));
  core.Answer(2, Refusal(1, 1, {}));
  core.Answer(2, Refusal(1, 3, At(1, 2)));
  EXPECT_EQ(Describe(core->Status()), before);
}

// Its disk has lost what it had acknowledged, by whatever way.
TEST(Paper53, AFollowerThatForgotGetsItAllAgainAndCountsNoMore) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2});
  core.Propose();
  core.Propose();
  core.Turn();
  core.AcknowledgeAll({2});
  EXPECT_EQ(core->commit(), Index(3));
  core.Propose();
  core.Turn();
  // From its beginning on again.
  const Term term = core->term();
  core.Answer(2, AppendEntriesResponse{term, false, Index(3), At(1, 1)});
  EXPECT_EQ(core->commit(), Index(3));
  EXPECT_EQ(core->Status().peers[0].match, Index());
  auto sent =
      core.Answer(2, AppendEntriesResponse{term, false, Index(2), At(1, 1)});
  const auto appends = To<AppendEntries>(2, sent);
  ASSERT_FALSE(appends.empty());
  EXPECT_EQ(appends.back().previous.index, Index(1));
  core.Answer(2, AppendEntriesResponse{term, true, core->last_index(), {}});
  EXPECT_EQ(core->commit(), Index(4));
}

TEST(Paper53, ARefusalNeverAdvancesTheCommitIndex) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.Propose();
  core.Turn();
  core.Answer(2, Refusal(1, 2, At(1, 1)));
  core.Answer(3, Refusal(1, 2, At(1, 1)));
  EXPECT_EQ(core->commit(), Index(0));
}

// Section 6 of the paper: a server uses the latest configuration in its log,
// committed or not.
TEST(Paper6, AConfigurationCountsFromWhenItIsAppended) {
  CoreUnderTest core(WithLog({1}));
  const Configuration next{Nodes({1, 2, 3, 4}), {}, Nodes({9})};
  core.Answer(2,
              AppendEntries{Term(1), At(1, 1), Index(0), {Config(1, 2, next)}});
  EXPECT_EQ(core->Status().configuration, next);
}

TEST(Paper6, AConfigurationThatIsCutOffNoLongerCounts) {
  CoreUnderTest core(WithLog({1}));
  const Configuration before = core->Status().configuration;
  const Configuration next{Nodes({1, 2, 3, 4}), {}, {}};
  const Configuration last{Nodes({2, 3, 4}), {}, {}};
  core.Answer(2, AppendEntries{Term(1),
                               At(1, 1),
                               Index(0),
                               {Config(1, 2, next), Config(1, 3, last)}});
  EXPECT_EQ(core->Status().configuration, last);
  core.Answer(3, AppendEntries{Term(2), At(1, 2), Index(0), {Command(2, 3)}});
  EXPECT_EQ(core->Status().configuration, next);
  core.Answer(2, AppendEntries{Term(3), At(1, 1), Index(0), {Command(3, 2)}});
  EXPECT_EQ(core->Status().configuration, before);
}

TEST(Paper6, ConfigurationsInTheLogAreRecovered) {
  const Configuration first{Nodes({1, 2, 3}), {}, {}};
  const Configuration second{Nodes({1, 2, 3, 4}), {}, {}};
  InitialState state;
  state.snapshot.configuration = first;
  state.hard_state.term = Term(1);
  state.terms = {{Index(1), Term(1)}};
  state.last_index = Index(2);
  state.entries = {Command(1, 1), Config(1, 2, second)};
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  EXPECT_EQ(core->Status().configuration, second);

  state.applied = Index(2);
  state.applied_configuration = second;
  state.entries.clear();
  CoreUnderTest applied(CoreUnderTest::DefaultOptions(), state);
  EXPECT_EQ(applied->Status().configuration, second);
}

// Both arrive in one turn: what is acknowledged would be cut off by the same
// write that the acknowledgement waits for.
TEST(Paper53, WhatANewTermCutsOffIsNotAcknowledgedAnyMore) {
  CoreUnderTest core;
  core.Receive(2, AppendEntries{Term(1),
                                {},
                                Index(0),
                                {Command(1, 1), Command(1, 2), Command(1, 3)}});
  core.Receive(3, AppendEntries{Term(2), {}, Index(0), {Command(2, 1)}});
  const auto sent = core.Turn();
  EXPECT_TRUE(To<AppendEntriesResponse>(2, sent).empty());
  const auto acks = To<AppendEntriesResponse>(3, sent);
  ASSERT_EQ(acks.size(), 1u);
  EXPECT_TRUE(acks[0].success);
  EXPECT_EQ(acks[0].index, Index(1));
}

TEST(Paper53, NorAfterACandidacyInBetween) {
  CoreUnderTest::State state;
  state.options.pre_vote = false;
  CoreUnderTest core(state);
  core.Receive(
      2, AppendEntries{Term(1), {}, Index(0), {Command(1, 1), Command(1, 2)}});
  for (int i = 0; i < 10; ++i) core->Tick();
  ASSERT_EQ(core->term(), Term(2));
  core.Receive(3, AppendEntries{Term(2), {}, Index(0), {Command(2, 1)}});
  EXPECT_TRUE(To<AppendEntriesResponse>(2, core.Turn()).empty());
}

}  // namespace
}  // namespace kv739::raft
