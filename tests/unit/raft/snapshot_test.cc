// Snapshots and the log: Raft paper section 7.
#include <gtest/gtest.h>

#include <vector>

#include "raft/core.h"
#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

AppendEntriesResponse Ack(uint64_t term, uint64_t index) {
  return {Term(term), true, Index(index), {}};
}

SnapshotMeta Meta(uint64_t term, uint64_t index,
                  std::initializer_list<uint64_t> voters = {1, 2, 3}) {
  return {At(term, index), {Nodes(voters), {}, {}}};
}

State WithLog(std::vector<uint64_t> terms, uint64_t commit = 0) {
  State state;
  state.log = std::move(terms);
  state.hard_state.commit = Index(commit);
  return state;
}

std::vector<Entry> Entries(uint64_t term, uint64_t first, uint64_t last) {
  std::vector<Entry> entries;
  for (uint64_t i = first; i <= last; ++i) entries.push_back(Command(term, i));
  return entries;
}

// ---- follower ----

TEST(Paper7, ASnapshotThatIsNewsIsWanted) {
  CoreUnderTest core;
  auto sent = core.Answer(2, InstallSnapshot{Term(3), Meta(2, 9, {1, 2})});
  EXPECT_EQ(core->leader(), NodeId(2));
  ASSERT_EQ(core.wants_snapshot.size(), 1u);
  EXPECT_EQ(core.wants_snapshot[0], Meta(2, 9, {1, 2}));
  EXPECT_TRUE(sent.empty()) << "answered once it is installed";
  EXPECT_EQ(core->last_index(), Index(0));
}

TEST(Paper7, AnOfferKeepsTheElectionTimerQuiet) {
  CoreUnderTest core;
  for (int i = 0; i < 10; ++i) {
    core.Answer(2, InstallSnapshot{Term(3), Meta(2, 9)});
    EXPECT_TRUE(core.Ticks(6).empty());
  }
  EXPECT_EQ(core->leader(), NodeId(2));
}

TEST(Paper7, AnOfferOfAnEarlierTermIsAnsweredWithOurs) {
  CoreUnderTest core;
  core.Answer(3, Heartbeat{Term(5), Index(0), 0});
  auto answers = To<AppendEntriesResponse>(
      2, core.Answer(2, InstallSnapshot{Term(3), Meta(2, 9)}));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].success);
  EXPECT_EQ(answers[0].term, Term(5));
  EXPECT_TRUE(core.wants_snapshot.empty());
}

TEST(Paper7, OffersThatMakeNoSenseAreDropped) {
  CoreUnderTest core;
  SnapshotMeta nobody = Meta(2, 9);
  nobody.configuration.voters.clear();
  const InstallSnapshot bad[] = {{Term(3), Meta(4, 9)},
                                 {Term(3), Meta(0, 9)},
                                 {Term(3), Meta(2, 0)},
                                 {Term(3), nobody}};
  uint64_t count = 0;
  for (const InstallSnapshot& m : bad) {
    EXPECT_TRUE(core.Answer(2, m).empty());
    EXPECT_EQ(core->dropped(), ++count);
  }
  EXPECT_TRUE(core.wants_snapshot.empty());
}

TEST(Paper7, AnInstalledSnapshotIsTheStartOfTheLog) {
  CoreUnderTest core(WithLog({1, 1, 1}));
  core.Answer(2, InstallSnapshot{Term(3), Meta(2, 9, {1, 2, 4})});
  core->SnapshotInstalled(Meta(2, 9, {1, 2, 4}));
  Ready ready = core->TakeReady();
  EXPECT_EQ(ready.persist.snapshot, At(2, 9));
  ASSERT_TRUE(ready.persist.hard_state.has_value());
  EXPECT_EQ(ready.persist.hard_state->commit, Index(9));
  EXPECT_TRUE(ready.persist.entries.empty());
  EXPECT_TRUE(ready.committed.empty());
  EXPECT_TRUE(ready.send_now.empty());
  auto answers = To<AppendEntriesResponse>(2, ready.send_after_persist);
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_TRUE(answers[0].success);
  EXPECT_EQ(answers[0].index, Index(9));
  core->Persisted(ready.persist.position);
  const CoreStatus status = core->Status();
  EXPECT_EQ(status.first_index, Index(10));
  EXPECT_EQ(status.last_index, Index(9));
  EXPECT_EQ(status.durable, Index(9));
  EXPECT_EQ(status.commit, Index(9));
  EXPECT_EQ(status.applied, Index(9));
  EXPECT_EQ(status.configuration, Meta(2, 9, {1, 2, 4}).configuration);
  core.Answer(2,
              AppendEntries{Term(3), At(2, 9), Index(10), Entries(3, 10, 11)});
  ASSERT_EQ(core.applied.size(), 1u);
  EXPECT_EQ(core.applied[0].index, Index(10));
}

// "If ... the snapshot describes a prefix of its log, then log entries covered
// by the snapshot are deleted but entries following the snapshot are retained".
TEST(Paper7, WhatFollowsTheSnapshotIsKept) {
  CoreUnderTest core;
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 3)});
  ASSERT_EQ(core.wants_snapshot.size(), 1u);
  // The log arrives by itself while the data is under way, and beyond.
  core.Answer(2, AppendEntries{Term(2), {}, Index(1), Entries(2, 1, 5)});
  core->SnapshotInstalled(Meta(2, 3));
  core.Turn();
  EXPECT_EQ(core.log_begins_behind, (std::vector<LogPosition>{At(2, 3)}));
  EXPECT_EQ(core->Status().first_index, Index(4));
  EXPECT_EQ(core->last_index(), Index(5));
  EXPECT_EQ(core->Status().durable, Index(5));
  core.Answer(2, Heartbeat{Term(2), Index(5), 0});
  ASSERT_EQ(core.applied.size(), 3u);
  EXPECT_EQ(core.applied[1].index, Index(4)) << "what it covers is not applied";
}

TEST(Paper7, KeptEntriesThatAreNotWrittenYetAreWrittenBehindIt) {
  CoreUnderTest core;
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 3)});
  core.Receive(2, AppendEntries{Term(2), {}, Index(0), Entries(2, 1, 5)});
  core->SnapshotInstalled(Meta(2, 3));
  Ready ready = core->TakeReady();
  EXPECT_EQ(ready.persist.snapshot, At(2, 3));
  ASSERT_EQ(ready.persist.entries.size(), 2u);
  EXPECT_EQ(ready.persist.entries[0].index, Index(4));
  EXPECT_EQ(core->Status().durable, Index(3));
  core->Persisted(ready.persist.position);
  EXPECT_EQ(core->Status().durable, Index(5));
}

// S1.
TEST(Paper7, S1ASnapshotThatIsBehindWhatIsAppliedIsIgnored) {
  CoreUnderTest core;
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 3)});
  core.Answer(2, AppendEntries{Term(2), {}, Index(5), Entries(2, 1, 5)});
  ASSERT_EQ(core->applied(), Index(5));
  const std::string before = Describe(core->Status());
  core->SnapshotInstalled(Meta(2, 3, {1, 9}));
  EXPECT_TRUE(core.Turn().empty());
  EXPECT_TRUE(core.log_begins_behind.empty());
  EXPECT_EQ(Describe(core->Status()), before);
  EXPECT_EQ(core->Status().configuration.voters, Nodes({1, 2, 3}));
}

TEST(Paper7, S1ALocalCompactionNeverMovesTheStartBack) {
  CoreUnderTest core(WithLog({1, 1, 1}, 3));
  core.Turn();
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 13)});
  core->SnapshotInstalled(Meta(2, 13));
  core.Turn();
  core->Compact(Index(3));  // begun before, finished late
  EXPECT_EQ(core->Status().first_index, Index(14));
  EXPECT_EQ(core->applied(), Index(13));
}

// S2: "the follower discards its entire log".
TEST(Paper7, S2AConflictingLogIsDroppedWithItsConfiguration) {
  CoreUnderTest core(WithLog({1, 1}));
  const Configuration old{Nodes({1, 7, 8}), {}, {}};
  core.Answer(3,
              AppendEntries{Term(2),
                            At(1, 2),
                            Index(1),
                            {Config(2, 3, old), Command(2, 4), Command(2, 5)}});
  ASSERT_EQ(core->Status().configuration, old);
  core.Answer(2, InstallSnapshot{Term(5), Meta(4, 4, {1, 2, 4})});
  core->SnapshotInstalled(Meta(4, 4, {1, 2, 4}));
  core.Turn();
  EXPECT_EQ(core->Status().configuration.voters, Nodes({1, 2, 4}));
  EXPECT_EQ(core->last_index(), Index(4));
  EXPECT_EQ(core->Status().first_index, Index(5));
  // And is not found again behind it.
  core.Answer(2, AppendEntries{Term(5), At(4, 4), Index(4), Entries(5, 5, 6)});
  EXPECT_EQ(core->Status().configuration.voters, Nodes({1, 2, 4}));
  EXPECT_EQ(core->last_index(), Index(6));
}

TEST(Paper7, S2ALogThatEndsBeforeTheSnapshotIsDropped) {
  CoreUnderTest core(WithLog({1, 1, 1}));
  core.Receive(2, AppendEntries{Term(1), At(1, 3), Index(0), {Command(1, 4)}});
  const PersistedPosition late = core->TakeReady().persist.position;
  core.Receive(2, InstallSnapshot{Term(1), Meta(1, 9)});
  core->SnapshotInstalled(Meta(1, 9));
  core->Persisted(late);  // of an entry that is gone
  EXPECT_EQ(core->Status().durable, Index(9));
  EXPECT_EQ(core->last_index(), Index(9));
  core.Turn();
  EXPECT_TRUE(core.applied.empty());
}

TEST(Paper7, S2AConfigurationBehindTheSnapshotStaysInForce) {
  CoreUnderTest core;
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 2, {1, 2, 3})});
  const Configuration newer{Nodes({1, 2, 3}), {}, Nodes({5})};
  core.Answer(
      2, AppendEntries{Term(2),
                       {},
                       Index(0),
                       {Command(2, 1), Command(2, 2), Config(2, 3, newer)}});
  core->SnapshotInstalled(Meta(2, 2, {1, 2, 3}));
  EXPECT_EQ(core->Status().configuration, newer);
  core.Answer(3, AppendEntries{Term(3), At(2, 2), Index(2), {Command(3, 3)}});
  EXPECT_EQ(core->Status().configuration.voters, Nodes({1, 2, 3}));
  EXPECT_TRUE(core->Status().configuration.learners.empty());
}

TEST(Paper7, ACandidateWhoseLogIsDroppedStepsBack) {
  CoreUnderTest core(WithLog({1, 1}));
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 5)});
  core.Ticks(10);
  ASSERT_EQ(core->Status().soft.role, Role::kCandidate);
  core->SnapshotInstalled(Meta(2, 5));
  EXPECT_EQ(core->Status().soft.role, Role::kFollower);
  EXPECT_EQ(core->last_index(), Index(5));
  EXPECT_TRUE(Of<AppendEntriesResponse>(core.Turn()).empty())
      << "there is nobody to tell";
}

TEST(Paper7, ALeaderTakesASnapshotOfBefore) {
  CoreUnderTest core;
  core.Answer(2, InstallSnapshot{Term(2), Meta(2, 2)});
  core.Answer(2, AppendEntries{Term(2), {}, Index(0), Entries(2, 1, 3)});
  core.Ticks(20);
  core.BecomeLeader({3});
  core->SnapshotInstalled(Meta(2, 2));
  core.Turn();
  EXPECT_EQ(core->applied(), Index(2));
  core.AcknowledgeAll({3});
  EXPECT_EQ(core->commit(), Index(4));
  EXPECT_EQ(core->applied(), Index(4));
}

// ---- S8: no endless repetition ----

TEST(Paper7, S8ASnapshotThatIsNotNeededIsAnsweredWithTheCommitIndex) {
  CoreUnderTest core(WithLog({1, 1, 1, 1}, 3));
  auto answers = To<AppendEntriesResponse>(
      2, core.Answer(2, InstallSnapshot{Term(2), Meta(1, 2)}));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_TRUE(answers[0].success);
  EXPECT_EQ(answers[0].index, Index(3));
  EXPECT_TRUE(core.wants_snapshot.empty());
}

TEST(Paper7, S8ASnapshotWhoseLastEntryIsThereIsNotNeeded) {
  CoreUnderTest core(WithLog({1, 1, 1, 1}));
  auto answers = To<AppendEntriesResponse>(
      2, core.Answer(2, InstallSnapshot{Term(2), Meta(1, 3)}));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_EQ(answers[0].index, Index(3));
  EXPECT_EQ(core->commit(), Index(3));
  EXPECT_TRUE(core.wants_snapshot.empty());
}

TEST(Paper7, S8ACandidateFollowsWhoeverOffersASnapshot) {
  for (uint64_t term : {1, 2}) {  // the candidate's own, and a later one
    State state;
    state.options.pre_vote = false;
    CoreUnderTest core(state);
    core.Ticks(10);
    ASSERT_EQ(core->Status().soft.role, Role::kCandidate);
    core.Answer(2, InstallSnapshot{Term(term), Meta(1, 9)});
    EXPECT_EQ(core->leader(), NodeId(2));
    ASSERT_EQ(core.wants_snapshot.size(), 1u);
    core->SnapshotInstalled(Meta(1, 9));
    core.Turn();
    EXPECT_EQ(core->term(), Term(term)) << "the term is the leader's";
  }
}

// A leader of 20 entries that begins its log behind entry 10; 2 has one entry.
CoreUnderTest LeaderWithoutTheStart() {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({3});
  for (int i = 0; i < 19; ++i) core.Propose();
  core.Turn();
  core.AcknowledgeAll({3});
  core->Compact(Index(10));
  core.Answer(2, AppendEntriesResponse{Term(1), false, Index(0), {}});
  return core;
}

TEST(Paper7, S8OneInstallThenPlainAppends) {
  CoreUnderTest core = LeaderWithoutTheStart();
  core.Answer(2, Ack(1, 1));
  ASSERT_EQ(core.needs_snapshot, Nodes({2}));
  core->SnapshotSent(NodeId(2), Index(15));
  auto appends = To<AppendEntries>(2, core.Turn());
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(1, 15));
  core.Answer(2, Ack(1, 20));
  core.Ticks(6);
  EXPECT_EQ(core.needs_snapshot.size(), 1u);
  EXPECT_EQ(core->Status().peers[0].match, Index(20));
}

TEST(Paper7, S8TheAnswerMayComeBeforeTheStreamEnds) {
  CoreUnderTest core = LeaderWithoutTheStart();
  core.Answer(2, Ack(1, 1));
  core.Answer(2, Ack(1, 15));
  EXPECT_FALSE(core->Status().peers[0].needs_snapshot);
  core.Answer(2, Ack(1, 20));
  core->SnapshotSent(NodeId(2), Index(15));  // news of before
  EXPECT_EQ(core->Status().peers[0].match, Index(20));
  EXPECT_EQ(core->Status().peers[0].next, Index(21));
}

TEST(Paper7, S8AFailedInstallIsTriedAgainAfterAHeartbeat) {
  CoreUnderTest core = LeaderWithoutTheStart();
  core.Answer(2, Ack(1, 1));
  for (size_t tries = 1; tries <= 4; ++tries) {
    ASSERT_EQ(core.needs_snapshot.size(), tries);
    core->SnapshotSent(NodeId(2), Index(0));
    core.Turn();
    ASSERT_EQ(core.needs_snapshot.size(), tries);
    core.Answer(2, HeartbeatResponse{Term(1), 0});
    core.Answer(3, HeartbeatResponse{Term(1), 0});
    core.Ticks(2);
  }
}

// L5: nothing can be asked behind the start of the log, and nothing more fits
// into the window.
TEST(Paper7, L5AFollowerWhoseWindowWasLostBehindTheStartGetsASnapshot) {
  CoreUnderTest::State setup;
  setup.options.max_inflight_messages = 2;
  CoreUnderTest core(setup);
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  for (int i = 0; i < 4; ++i) {
    core.Propose();
    core.Turn();  // to 2 as well, and lost
    core.AcknowledgeAll({3});
  }
  core->Compact(core->applied());
  for (int i = 0; i < 8 && core.needs_snapshot.empty(); ++i) {
    core.Ticks(1);
    core.Receive(2, HeartbeatResponse{core->term(), 0});
    core.Receive(3, HeartbeatResponse{core->term(), 0});
    core.Turn();
  }
  EXPECT_EQ(core.needs_snapshot, Nodes({2}));
}

// Writes would stop for as long as the snapshot takes.
TEST(Paper7, E7LeadershipDoesNotGoToWhoNeedsASnapshot) {
  CoreUnderTest core = LeaderWithoutTheStart();
  core.Answer(2, Ack(1, 1));
  ASSERT_FALSE(core.needs_snapshot.empty());
  EXPECT_EQ(core->TransferLeadership(NodeId(2)).code(),
            absl::StatusCode::kUnavailable);
  EXPECT_FALSE(core->Status().transferring);
  EXPECT_TRUE(core->Propose({MakePayload("x")}).ok());
  EXPECT_EQ(core->BestTransferTarget(), NodeId(3));
}

TEST(Paper7, WhoIsDownIsSentNoSnapshot) {
  CoreUnderTest core = LeaderWithoutTheStart();
  core.Answer(2, Ack(1, 1));
  core->SnapshotSent(NodeId(2), Index(0));
  for (int i = 0; i < 30; ++i) {
    if (i == 10) core->SnapshotSent(NodeId(2), Index(0));
    core.Answer(3, HeartbeatResponse{Term(1), 0});
    core.Ticks(1);
  }
  const size_t before = core.needs_snapshot.size();
  core->SnapshotSent(NodeId(2), Index(0));
  for (int i = 0; i < 30; ++i) {
    core.Answer(3, HeartbeatResponse{Term(1), 0});
    core.Ticks(1);
  }
  EXPECT_EQ(core.needs_snapshot.size(), before);
  EXPECT_FALSE(core->HasReady());
  core.Answer(2, HeartbeatResponse{Term(1), 0});
  core.Ticks(2);
  EXPECT_EQ(core.needs_snapshot.size(), before + 1);
}

// A member that got the whole log from entry 1 on, without a snapshot, does not
// know the configuration that the group began with.
TEST(Paper7, NoSnapshotIsOfferedFromBeforeTheFirstKnownConfiguration) {
  CoreUnderTest::State state;
  state.voters = {};
  CoreUnderTest core(state);
  core.Answer(2, AppendEntries{Term(1),
                               {},
                               Index(4),
                               {Command(1, 1), Command(1, 2),
                                Config(1, 3, {Nodes({1, 2, 3}), {}, {}}),
                                Command(1, 4)}});
  core->Compact(Index(2));
  core.BecomeLeader({2});
  core.Answer(3, AppendEntriesResponse{
                     core->term(), false, Index(4), {Term(0), Index(0)}});
  core.Ticks(5);
  EXPECT_TRUE(core.needs_snapshot.empty());
  core->Compact(Index(3));
  core.Answer(3, HeartbeatResponse{core->term(), 0});
  core.Ticks(2);
  EXPECT_EQ(core.needs_snapshot, Nodes({3}));
}

}  // namespace
}  // namespace kv739::raft
