// Entries that wait for followers whom no majority needs
// (raft/holding_back.cc).
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

#include "raft/thrift.h"
#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

constexpr uint64_t kHold = 2'000'000;
constexpr uint64_t kAck = 300'000;

State FiveWith(uint64_t hold_back_nanos) {
  State state;
  state.voters = Nodes({1, 2, 3, 4, 5});
  state.options.hold_back_nanos = hold_back_nanos;
  return state;
}

class HoldingBackTest : public ::testing::Test {
 protected:
  explicit HoldingBackTest(State state = FiveWith(kHold)) : core(state) {
    core->SetTime(now_);
    core.BecomeLeader({2, 3});
    core.AcknowledgeAll({2, 3, 4, 5});
  }

  std::vector<Envelope> Pass(uint64_t nanos) {
    core->SetTime(now_ += nanos);
    return core.Turn();
  }
  // Who is sent entries by these messages.
  static std::set<uint64_t> Asked(const std::vector<Envelope>& sent) {
    std::set<uint64_t> asked;
    for (const Envelope& e : sent) {
      const auto* m = std::get_if<AppendEntries>(&e.message);
      if (m != nullptr && !m->entries.empty()) asked.insert(e.to.value());
    }
    return asked;
  }
  std::set<uint64_t> Propose() {
    core.Propose();
    return Asked(core.Turn());
  }
  void Acknowledge(const std::set<uint64_t>& from) {
    for (const uint64_t id : from) {
      core.Receive(id, AppendEntriesResponse{
                           core->term(), true, core->last_index(), {}});
    }
    core.Turn();
  }
  // One batch, from proposal to commit, with a commit that takes longer where
  // all are asked.
  std::set<uint64_t> Batch() {
    const std::set<uint64_t> asked = Propose();
    Pass(asked.size() > 2 ? 2 * kAck : kAck);
    Acknowledge(asked);
    EXPECT_EQ(core->commit(), core->last_index());
    return asked;
  }
  // Until the leader asks two; who they are.
  std::set<uint64_t> AskFew() {
    std::set<uint64_t> asked;
    for (uint32_t n = 0; n < 4 * Thrift::kTurn; ++n) {
      asked = Batch();
      if (asked.size() == 2 && n > 3 * Thrift::kTurn) break;
    }
    EXPECT_EQ(asked.size(), 2u);
    return asked;
  }
  // Those who are held back get all that there is.
  void Catch() {
    const std::set<uint64_t> asked = Asked(Pass(kHold));
    Acknowledge(asked);
    EXPECT_EQ(core->HeldBackUntil(), 0u);
  }

  CoreUnderTest core;
  uint64_t now_ = 1'000'000'000;
};

std::set<uint64_t> Others(const std::set<uint64_t>& asked) {
  std::set<uint64_t> others = {2, 3, 4, 5};
  for (const uint64_t id : asked) others.erase(id);
  return others;
}

TEST_F(HoldingBackTest, AMajorityCommitsAndTheOthersShareAMessage) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  const uint64_t since = now_;
  const Index before = core->last_index();
  for (int n = 0; n < 3; ++n) EXPECT_EQ(Batch(), few);
  EXPECT_EQ(core->HeldBackUntil(), since + kHold);
  EXPECT_TRUE(Pass(since + kHold - now_ - 1).empty());
  const auto sent = Pass(1);
  EXPECT_EQ(Asked(sent), Others(few));
  for (const AppendEntries& m : Of<AppendEntries>(sent)) {
    EXPECT_EQ(m.previous.index, before);
    EXPECT_EQ(m.entries.size(), 3u);
    EXPECT_EQ(m.commit, core->commit());
  }
  EXPECT_EQ(core->HeldBackUntil(), 0u);
}

TEST_F(HoldingBackTest, ATickSendsToo) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  Batch();
  EXPECT_EQ(Asked(core.Ticks(1)), Others(few));
}

// The entries reach the others in time, and the next ones go to those who
// answer.
TEST_F(HoldingBackTest, WhoStallsIsReplaced) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  const uint64_t stalled = *few.begin();
  EXPECT_EQ(Propose(), few);
  Pass(kAck);
  Acknowledge({*few.rbegin()});
  EXPECT_LT(core->commit(), core->last_index());
  EXPECT_EQ(Asked(Pass(kHold)), Others(few));
  Acknowledge(Others(few));
  EXPECT_EQ(core->commit(), core->last_index());
  const std::set<uint64_t> next = Propose();
  EXPECT_EQ(next.size(), 2u);
  EXPECT_EQ(next.count(stalled), 0u);
}

TEST_F(HoldingBackTest, ManyEntriesAreSentToAll) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  EXPECT_EQ(Propose(), few);
  std::vector<Payload> many(40, MakePayload("x"));
  ASSERT_TRUE(core->Propose(many).ok());
  EXPECT_EQ(Asked(core.Turn()).size(), 4u);
}

TEST_F(HoldingBackTest, WhoIsBehindIsSentAtOnce) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  const uint64_t behind = *Others(few).begin();
  // It has lost what it had.
  const Index had = core->last_index();
  const auto sent = core.Answer(
      behind, AppendEntriesResponse{core->term(), false, had, At(1, 0)});
  EXPECT_EQ(Of<AppendEntries>(sent).size(), 1u);
}

// By an answer to what it was sent before its log was in doubt, say.
TEST_F(HoldingBackTest, WhoAcknowledgesWithoutBeingSentIsNotWaitedFor) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  EXPECT_EQ(Propose(), few);
  EXPECT_GT(core->HeldBackUntil(), now_);
  Acknowledge(Others(few));
  EXPECT_EQ(core->HeldBackUntil(), 0u);
  EXPECT_TRUE(Asked(Pass(kHold)).empty());
}

TEST_F(HoldingBackTest, NothingWaitsWhileLeadershipMoves) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  EXPECT_EQ(Propose(), few);
  const uint64_t target = *Others(few).begin();
  ASSERT_TRUE(core->TransferLeadership(NodeId(target)).ok());
  EXPECT_EQ(Asked(core.Turn()), Others(few));
}

TEST_F(HoldingBackTest, NothingWaitsWhileMembersChange) {
  const std::set<uint64_t> few = AskFew();
  Catch();
  EXPECT_EQ(Propose(), few);
  Configuration target;
  target.voters = Nodes({1, 2, 3, 4, 5});
  target.learners = Nodes({6});
  ASSERT_TRUE(core->ProposeConfiguration(target).ok());
  const std::set<uint64_t> asked = Asked(core.Turn());
  for (const uint64_t id : {2, 3, 4, 5}) EXPECT_EQ(asked.count(id), 1u);
}

// Followers whose times differ from message to message: the second of four is
// there sooner than both of two. So all are asked, but for trials.
TEST_F(HoldingBackTest, AllAreAskedWhereAnyTwoMayBeTheFastest) {
  std::mt19937 random(5);
  std::exponential_distribution<double> nanos(1.0 / kAck);
  int few = 0;
  constexpr int kBatches = 20'000;
  for (int n = 0; n < kBatches; ++n) {
    const std::set<uint64_t> asked = Propose();
    few += asked.size() == 2 ? 1 : 0;
    std::map<uint64_t, uint64_t> answers;  // by time
    for (const uint64_t id : asked) {
      answers[now_ + static_cast<uint64_t>(nanos(random))] = id;
    }
    for (const auto& [at, id] : answers) {
      const std::set<uint64_t> late = Asked(Pass(at - now_));
      Acknowledge({id});
      if (!late.empty()) Acknowledge(late);
    }
  }
  EXPECT_LT(few, kBatches / 20);
  EXPECT_GT(few, 0);
}

class NoHoldingBackTest : public HoldingBackTest {
 protected:
  NoHoldingBackTest() : HoldingBackTest(FiveWith(0)) {}
};

TEST_F(NoHoldingBackTest, AllAreAsked) {
  for (uint32_t n = 0; n < 4 * Thrift::kTurn; ++n) {
    EXPECT_EQ(Batch().size(), 4u);
    EXPECT_EQ(core->HeldBackUntil(), 0u);
  }
}

// Two of three, one of whom is the leader.
TEST(HoldingBack, OneOfTwoIsAskedInAGroupOfThree) {
  State state;
  state.options.hold_back_nanos = kHold;
  CoreUnderTest core(state);
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  uint64_t now = 1'000'000;
  size_t asked = 2;
  for (uint32_t n = 0; n < 4 * Thrift::kTurn; ++n) {
    core->SetTime(now);
    core.Propose();
    asked = Of<AppendEntries>(core.Turn()).size();
    core->SetTime(now += asked == 1 ? kAck : 2 * kAck);
    core.AcknowledgeAll(asked == 1 ? std::vector<uint64_t>{2}
                                   : std::vector<uint64_t>{2, 3});
    EXPECT_EQ(core->commit(), core->last_index());
    core->SetTime(now += kHold);
    core.Turn();
    core.AcknowledgeAll({2, 3});
  }
  EXPECT_EQ(asked, 1u);
}

}  // namespace
}  // namespace kv739::raft
