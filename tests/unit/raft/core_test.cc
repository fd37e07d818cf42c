// What the core promises beyond the paper: bounds, flow control, entries that
// are no longer in memory, the order of Ready, and what it starts from.
#include "raft/core.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

AppendEntriesResponse Ack(uint64_t term, uint64_t index) {
  return {Term(term), true, Index(index), {}};
}

void LeadAndCommit(CoreUnderTest* core) {
  core->BecomeLeader();
  core->AcknowledgeAll({2, 3});
}

// ---- Ready ----

TEST(Ready, NothingToDoAtFirstAndAfterEachTurn) {
  CoreUnderTest core;
  EXPECT_FALSE(core->HasReady());
  LeadAndCommit(&core);
  EXPECT_FALSE(core->HasReady());
  core.Propose();
  EXPECT_TRUE(core->HasReady());
  core.Turn();
  EXPECT_FALSE(core->HasReady());
  EXPECT_TRUE(core->TakeReady().empty());
}

TEST(Ready, ACommitAloneIsNotWorthASync) {
  CoreUnderTest core;
  core.Answer(2, AppendEntries{Term(1), {}, Index(0), {Command(1, 1)}});
  core.Receive(2, Heartbeat{Term(1), Index(1), 0});
  Ready ready = core->TakeReady();
  EXPECT_EQ(ready.committed.size(), 1u);
  EXPECT_TRUE(ready.persist.empty());
  core.Receive(2, AppendEntries{Term(1), At(1, 1), Index(1), {Command(1, 2)}});
  ready = core->TakeReady();
  ASSERT_TRUE(ready.persist.hard_state.has_value());
  EXPECT_EQ(ready.persist.hard_state->commit, Index(1)) << "goes along";
}

TEST(Ready, SoftStateWhenItChanged) {
  CoreUnderTest core;
  core.Receive(2, Heartbeat{Term(1), Index(0), 0});
  Ready ready = core->TakeReady();
  ASSERT_TRUE(ready.soft_state.has_value());
  EXPECT_EQ(ready.soft_state->leader, NodeId(2));
  core.Receive(2, Heartbeat{Term(1), Index(0), 0});
  EXPECT_FALSE(core->TakeReady().soft_state.has_value());
}

TEST(Ready, AppliesWithinItsBound) {
  State state;
  state.voters = Nodes({1});
  state.options.max_apply_bytes = 1;
  CoreUnderTest core(state);
  core.BecomeLeader({});
  core.Turn();
  for (int i = 0; i < 3; ++i) core.Propose();
  core->Persisted(core->TakeReady().persist.position);
  for (uint64_t i = 2; i <= 4; ++i) {
    Ready ready = core->TakeReady();
    ASSERT_EQ(ready.committed.size(), 1u);
    EXPECT_EQ(ready.committed[0].index, Index(i));
  }
  EXPECT_TRUE(core->TakeReady().committed.empty());
}

// ---- writes that are heard of late ----

TEST(Persisted, AnAnswerForAnOverwrittenEntryIsNotBelieved) {
  CoreUnderTest core;
  core.Receive(2, AppendEntries{Term(1), {}, Index(0), {Command(1, 1)}});
  const PersistedPosition first = core->TakeReady().persist.position;
  core.Receive(3, AppendEntries{Term(2), {}, Index(0), {Command(2, 1)}});
  const PersistedPosition second = core->TakeReady().persist.position;
  core->Persisted(first);
  EXPECT_EQ(core->Status().durable, Index(0));
  core->Persisted(second);
  EXPECT_EQ(core->Status().durable, Index(1));
}

TEST(Persisted, AnAnswerOfAnEarlierTermIsNotBelievedForTheSameEntry) {
  CoreUnderTest core;
  core.Receive(2, AppendEntries{Term(1), {}, Index(0), {Command(1, 1)}});
  const PersistedPosition first = core->TakeReady().persist.position;
  core.Receive(3, AppendEntries{Term(2), {}, Index(0), {Command(2, 1)}});
  const PersistedPosition second = core->TakeReady().persist.position;
  core.Receive(2, AppendEntries{Term(3), {}, Index(0), {Command(1, 1)}});
  const PersistedPosition third = core->TakeReady().persist.position;
  EXPECT_EQ(first.last, third.last) << "the same entry at the same place";
  core->Persisted(first);
  EXPECT_EQ(core->Status().durable, Index(0));
  core->Persisted(second);
  EXPECT_EQ(core->Status().durable, Index(0));
  core->Persisted(third);
  EXPECT_EQ(core->Status().durable, Index(1));
}

TEST(Persisted, LaterAnswersCoverEarlierOnes) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  core.Propose();
  const PersistedPosition first = core->TakeReady().persist.position;
  core.Propose();
  const PersistedPosition second = core->TakeReady().persist.position;
  core->Persisted(second);
  EXPECT_EQ(core->Status().durable, Index(3));
  core->Persisted(first);
  EXPECT_EQ(core->Status().durable, Index(3));
}

// ---- proposals ----

TEST(Propose, OnlyTheLeaderTakesThem) {
  CoreUnderTest core;
  EXPECT_EQ(core->Propose({MakePayload("x")}).status().code(),
            absl::StatusCode::kFailedPrecondition);
  LeadAndCommit(&core);
  EXPECT_EQ(core->Propose({}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(core->Propose({MakePayload("x"), nullptr}).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(core->last_index(), Index(1)) << "nothing is appended on error";
}

TEST(Propose, UncommittedBytesAreBounded) {
  State state;
  state.options.max_uncommitted_bytes = 3000;
  CoreUnderTest core(state);
  LeadAndCommit(&core);
  const std::string big(10000, 'x');
  EXPECT_TRUE(core->Propose({MakePayload(big)}).ok())
      << "one is accepted while all is committed";
  EXPECT_EQ(core->Propose({MakePayload("x")}).status().code(),
            absl::StatusCode::kResourceExhausted);
  core.Turn();
  core.AcknowledgeAll({2});
  const std::string part(1000, 'x');
  EXPECT_TRUE(core->Propose({MakePayload(part)}).ok());
  EXPECT_TRUE(core->Propose({MakePayload(part)}).ok());
  EXPECT_FALSE(core->Propose({MakePayload(part)}).ok());
  EXPECT_EQ(core->last_index(), Index(4));
}

TEST(Propose, WhatEarlierLeadersLeftCountsAsUncommitted) {
  State state;
  state.log = {1, 1, 1};
  state.options.max_uncommitted_bytes = 3 * kEntryOverhead;
  CoreUnderTest core(state);
  core.BecomeLeader();
  EXPECT_EQ(core->Propose({MakePayload("")}).status().code(),
            absl::StatusCode::kResourceExhausted);
  core.AcknowledgeAll({2});
  EXPECT_TRUE(core->Propose({MakePayload("")}).ok());
}

// ---- flow control ----

TEST(Flow, AppendsAreBoundedByEntriesAndBytes) {
  State state;
  state.options.max_append_entries = 2;
  state.options.max_append_bytes = 500;
  CoreUnderTest core(state);
  LeadAndCommit(&core);
  for (int i = 0; i < 4; ++i) core.Propose();
  auto appends = To<AppendEntries>(2, core.Turn());
  ASSERT_EQ(appends.size(), 2u);
  EXPECT_EQ(appends[1].entries.size(), 2u);
  core.Propose(std::string(5000, 'x'));
  core.Propose(std::string(400, 'x'));
  appends = To<AppendEntries>(2, core.Turn());
  ASSERT_EQ(appends.size(), 2u) << "a larger one goes alone";
}

TEST(Flow, TheWindowClosesAndReopens) {
  State state;
  state.options.max_inflight_messages = 2;
  CoreUnderTest core(state);
  LeadAndCommit(&core);
  std::vector<Envelope> sent;
  for (int i = 0; i < 5; ++i) {
    core.Propose();
    for (Envelope& e : core.Turn()) sent.push_back(std::move(e));
  }
  EXPECT_EQ(To<AppendEntries>(2, sent).size(), 2u);
  auto more = To<AppendEntries>(2, core.Answer(2, Ack(1, 2)));
  ASSERT_EQ(more.size(), 1u);
  EXPECT_EQ(more[0].entries.size(), 3u) << "what waited goes together";
}

TEST(Flow, ALostWindowIsFoundOutAndSentAgain) {
  State state;
  state.options.max_inflight_messages = 2;
  CoreUnderTest core(state);
  LeadAndCommit(&core);
  for (int i = 0; i < 5; ++i) {
    core.Propose();
    core.Turn();  // nothing arrives at 2
  }
  core.Answer(3, Ack(1, 3));
  auto asked = To<AppendEntries>(2, core.Ticks(4));
  ASSERT_FALSE(asked.empty());
  EXPECT_TRUE(asked.back().entries.empty()) << "first see whether it is there";
  auto again = To<AppendEntries>(
      2, core.Answer(
             2, AppendEntriesResponse{Term(1), false,
                                      asked.back().previous.index, At(1, 1)}));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].previous, At(1, 1));
  EXPECT_EQ(again[0].entries.size(), 5u);
}

TEST(Flow, ALostProbeIsRepeatedWithHeartbeats) {
  CoreUnderTest core;
  core.BecomeLeader();
  auto again = To<AppendEntries>(2, core.Ticks(2));
  ASSERT_EQ(again.size(), 1u);
  EXPECT_TRUE(again[0].entries.empty());
  auto sent = To<AppendEntries>(2, core.Answer(2, Ack(1, 0)));
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(sent[0].entries.size(), 1u);
}

TEST(Flow, ASilentFollowerIsOnlyProbed) {
  CoreUnderTest core;
  LeadAndCommit(&core);
  for (int i = 0; i < 12; ++i) {
    core.Ticks(1);
    core.Answer(3, HeartbeatResponse{Term(1), 0});
  }
  core.Propose(std::string(1000, 'x'));
  core.Turn();
  core.Answer(3, Ack(1, 2));
  for (int i = 0; i < 20; ++i) {
    for (const AppendEntries& m : To<AppendEntries>(2, core.Ticks(1))) {
      EXPECT_TRUE(m.entries.empty());
    }
    core.Answer(3, HeartbeatResponse{Term(1), 0});
  }
  auto sent = To<AppendEntries>(2, core.Answer(2, Ack(1, 1)));
  ASSERT_EQ(sent.size(), 1u) << "and gets what it lacks when it is back";
  EXPECT_EQ(sent[0].entries.size(), 1u);
}

// ---- entries that are no longer in memory, or in the log ----

// A leader of 20 committed entries with the last few in memory.
CoreUnderTest LongLog() {
  State state;
  state.options.max_cached_bytes = 3 * (1 + kEntryOverhead);
  state.options.max_append_entries = 4;
  CoreUnderTest core(state);
  core.BecomeLeader();
  core.AcknowledgeAll({3});
  for (int i = 0; i < 19; ++i) core.Propose();
  core.Turn();
  core.AcknowledgeAll({3});
  EXPECT_EQ(core->applied(), Index(20));
  return core;
}

std::vector<Entry> Entries(uint64_t first, uint64_t last) {
  std::vector<Entry> entries;
  for (uint64_t i = first; i <= last; ++i) entries.push_back(Command(1, i));
  return entries;
}

TEST(Fetch, OldEntriesAreAskedForWithinTheWindow) {
  CoreUnderTest core = LongLog();
  EXPECT_TRUE(core.fetch.empty());
  core.Answer(2, Ack(1, 1));
  ASSERT_EQ(core.fetch.size(), 1u);
  EXPECT_EQ(core.fetch[0].peer, NodeId(2));
  EXPECT_EQ(core.fetch[0].first, Index(2));
  EXPECT_EQ(core.fetch[0].last, Index(5));
  core.Ticks(2);
  EXPECT_EQ(core.fetch.size(), 1u) << "one at a time";

  core->Fetched(NodeId(2), Entries(2, 4));  // fewer may come
  auto appends = To<AppendEntries>(2, core.Turn());
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(1, 1));
  EXPECT_EQ(appends[0].entries.size(), 3u);
  ASSERT_EQ(core.fetch.size(), 2u);
  EXPECT_EQ(core.fetch[1].first, Index(5)) << "reads ahead";
}

TEST(Fetch, CatchesUpToTheEntriesInMemory) {
  CoreUnderTest core = LongLog();
  core.Answer(2, Ack(1, 1));
  for (size_t i = 0; i < core.fetch.size(); ++i) {
    const LogFetch fetch = core.fetch[i];
    core->Fetched(fetch.peer, Entries(fetch.first.value(), fetch.last.value()));
    core.Turn();
  }
  EXPECT_EQ(core->Status().peers[0].next, Index(21));
  EXPECT_EQ(core.fetch.back().last, Index(17));
}

TEST(Fetch, AnEmptyAnswerIsTriedAgainLater) {
  CoreUnderTest core = LongLog();
  core.Answer(2, Ack(1, 1));
  core->Fetched(NodeId(2), {});
  EXPECT_TRUE(core.Turn().empty());
  EXPECT_EQ(core.fetch.size(), 1u);
  core.Ticks(2);
  EXPECT_EQ(core.fetch.size(), 2u);
}

TEST(Fetch, LateAnswersDoNoHarm) {
  CoreUnderTest core = LongLog();
  core->Fetched(NodeId(2), Entries(2, 5));  // nobody asked
  EXPECT_TRUE(To<AppendEntries>(2, core.Turn()).empty());
  core.Answer(2, Ack(1, 1));
  core.Answer(2, Ack(1, 3));  // it had more than was thought
  core->Fetched(NodeId(2), Entries(2, 5));
  auto appends = To<AppendEntries>(2, core.Turn());
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(1, 3));
  core.Answer(3, AppendEntriesResponse{Term(9), false, Index(0), {}});
  core->Fetched(NodeId(2), Entries(6, 9));  // no leader any more
  EXPECT_TRUE(core.Turn().empty());
}

TEST(Compact, AFollowerBelowTheLogNeedsASnapshotOnce) {
  CoreUnderTest core = LongLog();
  core->Compact(Index(10));
  EXPECT_EQ(core->Status().first_index, Index(11));
  core.Answer(2, Ack(1, 1));
  EXPECT_EQ(core.needs_snapshot, Nodes({2}));
  EXPECT_TRUE(core->Status().peers[0].needs_snapshot);
  core.Ticks(6);
  EXPECT_EQ(core.needs_snapshot.size(), 1u);
  EXPECT_EQ(core->TransferLeadership(NodeId(2)).code(),
            absl::StatusCode::kUnavailable);

  core->SnapshotSent(NodeId(2), Index(0));  // failed
  core.Turn();
  EXPECT_EQ(core.needs_snapshot.size(), 1u) << "not at once again";
  core.Ticks(2);
  EXPECT_EQ(core.needs_snapshot.size(), 2u);

  core->SnapshotSent(NodeId(2), Index(18));
  auto appends = To<AppendEntries>(2, core.Turn());
  ASSERT_EQ(appends.size(), 1u);
  EXPECT_EQ(appends[0].previous, At(1, 18));
  EXPECT_FALSE(core->Status().peers[0].needs_snapshot);
}

TEST(Compact, AFollowerThatAnswersLaterNeedsNoneAnyMore) {
  CoreUnderTest core = LongLog();
  core->Compact(Index(10));
  core.Answer(2, Ack(1, 1));
  core.Answer(2, Ack(1, 12));
  EXPECT_FALSE(core->Status().peers[0].needs_snapshot);
}

TEST(Compact, TheFollowerAcceptsAppendsAcrossItsSnapshot) {
  InitialState state;
  state.snapshot.position = At(1, 10);
  state.snapshot.configuration.voters = Nodes({1, 2, 3});
  state.hard_state.term = Term(1);
  state.applied = Index(10);
  state.last_index = Index(10);
  CoreUnderTest core(CoreUnderTest::DefaultOptions(), state);
  auto sent = core.Answer(
      2, AppendEntries{Term(1), At(1, 8), Index(9), Entries(9, 12)});
  auto answer = Of<AppendEntriesResponse>(sent);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_TRUE(answer[0].success);
  EXPECT_EQ(answer[0].index, Index(12));
  EXPECT_EQ(core->last_index(), Index(12));
  sent =
      core.Answer(2, AppendEntries{Term(1), At(1, 3), Index(9), Entries(4, 6)});
  answer = Of<AppendEntriesResponse>(sent);
  ASSERT_EQ(answer.size(), 1u);
  EXPECT_EQ(answer[0].index, Index(6)) << "claims no more than was covered";
}

// ---- start ----

TEST(Create, RefusesOptionsThatMakeNoSense) {
  NoRandom random;
  auto refused = [&](auto change) {
    Options options = CoreUnderTest::DefaultOptions();
    change(&options);
    return Core::Create(options, InitialState(), &random).status().code() ==
           absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused([](Options*) {}));
  EXPECT_TRUE(refused([](Options* o) { o->self = NodeId(0); }));
  EXPECT_TRUE(refused([](Options* o) { o->heartbeat_ticks = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->election_timeout_ticks = 2; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_append_bytes = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_append_entries = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_inflight_bytes = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_inflight_messages = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_uncommitted_bytes = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_read_rounds = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_pending_reads = 0; }));
  EXPECT_TRUE(refused([](Options* o) { o->max_apply_bytes = 0; }));
}

TEST(Create, RefusesStatesThatContradictThemselves) {
  NoRandom random;
  auto refused = [&](auto change) {
    InitialState state;
    state.snapshot.configuration.voters = Nodes({1, 2, 3});
    state.hard_state = {Term(2), NodeId(1), Index(1)};
    state.terms = {{Index(1), Term(2)}};
    state.last_index = Index(2);
    state.entries = {Command(2, 1), Command(2, 2)};
    change(&state);
    return !Core::Create(CoreUnderTest::DefaultOptions(), state, &random).ok();
  };
  EXPECT_FALSE(refused([](InitialState*) {}));
  EXPECT_TRUE(refused([](auto* s) { s->hard_state.term = Term(1); }));
  EXPECT_TRUE(refused([](auto* s) { s->hard_state.commit = Index(3); }));
  EXPECT_TRUE(refused([](auto* s) { s->applied = Index(3); }));
  EXPECT_TRUE(refused([](auto* s) { s->entries.clear(); }));
  EXPECT_TRUE(refused([](auto* s) {
    s->snapshot.configuration.voters = Nodes({3, 1});
  }));
  EXPECT_TRUE(
      refused([](auto* s) { s->entries[1].kind = EntryKind::kConfiguration; }));
}

TEST(Create, ResumesWhatWasThere) {
  State state;
  state.log = {1, 2, 2};
  state.hard_state = {Term(4), NodeId(3), Index(2)};
  CoreUnderTest core(state);
  EXPECT_EQ(core->term(), Term(4));
  EXPECT_EQ(core->commit(), Index(2));
  core.Turn();
  EXPECT_EQ(core.applied.size(), 2u);
}

}  // namespace
}  // namespace kv739::raft
