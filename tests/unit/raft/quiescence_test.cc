// Quiet groups: raft/quiescence.cc.
#include <gtest/gtest.h>

#include <vector>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

constexpr uint32_t kAfter = 6;

CoreUnderTest::State Idle() {
  CoreUnderTest::State state;
  state.options.quiesce_after_ticks = kAfter;
  return state;
}

// A leader of three (or more) whose followers have everything.
struct IdleLeader : CoreUnderTest {
  explicit IdleLeader(State state = Idle(), std::vector<uint64_t> f = {2, 3})
      : CoreUnderTest(std::move(state)), followers(std::move(f)) {
    BecomeLeader();
    AcknowledgeAll(followers);
  }
  // A tick as the owner makes it, with the answers of all but `silent`.
  std::vector<Envelope> Tick(uint64_t silent = 0) {
    core->BecomeQuiet();
    std::vector<Envelope> sent = Ticks(1);
    for (const Envelope& e : sent) {
      const auto* beat = std::get_if<Heartbeat>(&e.message);
      if (beat == nullptr || beat->quiesce || e.to == NodeId(silent)) continue;
      Receive(e.to.value(), HeartbeatResponse{core->term(), beat->round});
    }
    return sent;
  }
  void Rest() {
    for (int i = 0; i < 100 && !core->quiet(); ++i) Tick();
    ASSERT_TRUE(core->quiet());
    Turn();
  }
  std::vector<uint64_t> followers;
};

// A follower of node 2 that has one entry, committed and applied.
struct IdleFollower : CoreUnderTest {
  explicit IdleFollower(State state = Idle()) : CoreUnderTest(state) {
    Answer(2, AppendEntries{Term(1), {}, Index(1), {Command(1, 1)}});
    EXPECT_EQ(core->applied(), Index(1));
  }
  std::vector<Envelope> Quiesce(uint64_t commit = 1) {
    return Answer(2, Heartbeat{Term(1), Index(commit), 0, true});
  }
};

TEST(QuiescenceTest, AnIdleLeaderSaysSoOnceAndRests) {
  IdleLeader leader;
  std::vector<Envelope> sent;
  int ticks = 0;
  while (!leader->quiet() && ++ticks < 100) sent = leader.Tick();
  EXPECT_GE(ticks, static_cast<int>(kAfter));
  EXPECT_LE(ticks, static_cast<int>(kAfter) + 4);
  const auto beats = Of<Heartbeat>(sent);
  ASSERT_EQ(beats.size(), 2u);
  for (const Heartbeat& beat : beats) {
    EXPECT_TRUE(beat.quiesce);
    EXPECT_EQ(beat.commit, leader->last_index());
  }
  EXPECT_TRUE(leader->Status().quiet);
  // Neither a message nor a step-down for want of answers.
  EXPECT_TRUE(leader.Ticks(1000).empty());
  EXPECT_TRUE(leader->IsLeader());
}

TEST(QuiescenceTest, NeverWithoutTheOption) {
  IdleLeader leader{CoreUnderTest::State()};
  for (int i = 0; i < 1000; ++i) leader.Tick();
  EXPECT_FALSE(leader->quiet());
  IdleFollower follower{CoreUnderTest::State()};
  EXPECT_EQ(Of<HeartbeatResponse>(follower.Quiesce()).size(), 1u);
  EXPECT_FALSE(follower->quiet());
}

TEST(QuiescenceTest, NotWhileAFollowerLags) {
  IdleLeader leader;
  leader.Propose();
  leader.Turn();
  leader.AcknowledgeAll({2});  // committed, and 3 has it not
  for (int i = 0; i < 100; ++i) leader.Tick();
  EXPECT_FALSE(leader->quiet());
  leader.AcknowledgeAll({3});
  leader.Rest();
}

TEST(QuiescenceTest, NotWhileALearnerLags) {
  CoreUnderTest::State state = Idle();
  state.learners = Nodes({4});
  IdleLeader leader(state, {2, 3});
  for (int i = 0; i < 100; ++i) leader.Tick();
  EXPECT_FALSE(leader->quiet());
  leader.AcknowledgeAll({4});
  leader.Rest();
}

TEST(QuiescenceTest, NotWhileAFollowerIsSilent) {
  IdleLeader leader;
  leader.Rest();
  leader->Wake();
  for (int i = 0; i < 100; ++i) leader.Tick(/*silent=*/3);
  EXPECT_FALSE(leader->quiet());
  EXPECT_TRUE(leader->IsLeader());
}

TEST(QuiescenceTest, NotWhileSomethingIsUnderWay) {
  {
    IdleLeader leader;
    ASSERT_TRUE(
        leader->ProposeConfiguration({Nodes({1, 2, 3}), {}, Nodes({4})}).ok());
    leader.Turn();
    leader.AcknowledgeAll({2, 3});
    for (int i = 0; i < 100; ++i) leader.Tick();
    EXPECT_FALSE(leader->quiet()) << "a new learner has nothing";
  }
  {
    IdleLeader leader;
    leader->SetFit(false);
    for (int i = 0; i < 15; ++i) leader.Tick();
    EXPECT_FALSE(leader->quiet()) << "it must not lead";
  }
  {
    IdleLeader leader;
    leader.Propose();
    while (leader->HasReady()) leader->TakeReady();  // a disk that hangs
    for (uint64_t f : {2, 3}) {
      leader.Receive(f, AppendEntriesResponse{
                            leader->term(), true, leader->last_index(), {}});
    }
    for (int i = 0; i < 9; ++i) {
      leader->BecomeQuiet();
      leader->Tick();
      while (leader->HasReady()) leader->TakeReady();
      EXPECT_FALSE(leader->quiet());
    }
  }
}

TEST(QuiescenceTest, EverythingWakesALeader) {
  const auto wakes = [](const char* what, auto&& input) {
    IdleLeader leader;
    leader.Rest();
    input(leader);
    EXPECT_FALSE(leader->quiet()) << what;
    EXPECT_TRUE(leader->IsLeader()) << what;
    // Those who rest hear of it at the next tick, and it has its time.
    EXPECT_FALSE(Of<Heartbeat>(leader.Ticks(1)).empty()) << what;
    EXPECT_TRUE(leader->IsLeader()) << what;
  };
  wakes("a write", [](auto& leader) { leader.Propose(); });
  wakes("a read", [](auto& leader) { leader->ReadIndex(1); });
  wakes("a change of members", [](auto& leader) {
    EXPECT_TRUE(
        leader->ProposeConfiguration({Nodes({1, 2, 3}), {}, Nodes({4})}).ok());
  });
  wakes("a transfer", [](auto& leader) {
    EXPECT_TRUE(leader->TransferLeadership(NodeId(2)).ok());
  });
  wakes("a member that goes",
        [](auto& leader) { leader->PeerGone(NodeId(3)); });
  wakes("its owner", [](auto& leader) { leader->Wake(); });
  wakes("fitness", [](auto& leader) { leader->SetFit(false); });
  wakes("a restarted follower", [](auto& leader) {
    leader.Receive(3, RequestVote{leader->term() + 1,
                                  {leader->term(), leader->last_index()},
                                  true});
  });
  wakes("an answer", [](auto& leader) {
    leader.Receive(3, HeartbeatResponse{leader->term(), 0});
  });
}

TEST(QuiescenceTest, ALeaderThatWakesIsNotDeposedForTheSilenceBefore) {
  IdleLeader leader;
  leader.Rest();
  leader.Ticks(10'000);
  leader->Wake();
  leader.Ticks(leader.options.election_timeout_ticks - 1);
  EXPECT_TRUE(leader->IsLeader());
  leader.Ticks(1);
  EXPECT_FALSE(leader->IsLeader()) << "nobody has answered since";
}

TEST(QuiescenceTest, AFollowerThatHasAllRestsWithoutAWord) {
  IdleFollower follower;
  EXPECT_TRUE(follower.Quiesce().empty());
  EXPECT_TRUE(follower->quiet());
  EXPECT_TRUE(follower.Ticks(10'000).empty());
  EXPECT_EQ(follower->leader(), NodeId(2));
  // A repetition changes nothing.
  EXPECT_TRUE(follower.Quiesce().empty());
  EXPECT_TRUE(follower->quiet());
}

TEST(QuiescenceTest, AFollowerThatLagsAnswersInstead) {
  IdleFollower follower;
  EXPECT_EQ(Of<HeartbeatResponse>(follower.Quiesce(2)).size(), 1u);
  EXPECT_FALSE(follower->quiet());
  // Or has more than the leader speaks of: an entry that is not committed.
  follower.Answer(
      2,
      AppendEntries{Term(1), {Term(1), Index(1)}, Index(1), {Command(1, 2)}});
  EXPECT_EQ(Of<HeartbeatResponse>(follower.Quiesce(1)).size(), 1u);
  EXPECT_FALSE(follower->quiet());
}

TEST(QuiescenceTest, AFollowerWakesWithItsWholeTimeout) {
  const uint32_t timeout =
      CoreUnderTest::DefaultOptions().election_timeout_ticks;
  const auto wakes = [&](const char* what, auto&& input) {
    IdleFollower follower;
    follower.Quiesce();
    follower.Ticks(1000);
    input(follower);
    EXPECT_FALSE(follower->quiet()) << what;
    EXPECT_TRUE(Of<RequestVote>(follower.Ticks(timeout - 1)).empty()) << what;
    EXPECT_EQ(Of<RequestVote>(follower.Ticks(1)).size(), 2u) << what;
  };
  wakes("a heartbeat", [](auto& follower) {
    follower.Answer(2, Heartbeat{Term(1), Index(1), 0});
  });
  wakes("a vote that is asked for", [](auto& follower) {
    // And it is refused: there is a leader, which is woken too.
    const auto sent =
        follower.Answer(3, RequestVote{Term(2), {Term(1), Index(1)}, true});
    ASSERT_EQ(sent.size(), 1u);
    EXPECT_EQ(To<HeartbeatResponse>(2, sent).size(), 1u);
  });
  wakes("its owner", [](auto& follower) { follower->Wake(); });
}

TEST(QuiescenceTest, AFollowerWhoseLeaderIsGoneAsksSoon) {
  CoreUnderTest::State state = Idle();
  state.options.gone_timeout_ticks = 3;
  IdleFollower follower(state);
  follower.Quiesce();
  follower.Ticks(1000);
  follower->PeerGone(NodeId(3));  // not its leader
  EXPECT_TRUE(follower->quiet());
  follower->PeerGone(NodeId(2));
  EXPECT_FALSE(follower->quiet());
  EXPECT_FALSE(Of<RequestVote>(follower.Ticks(3)).empty());
}

TEST(QuiescenceTest, AReadOfARestingGroupIsConfirmed) {
  IdleLeader leader;
  leader.Rest();
  leader->ReadIndex(7);
  const auto beats = Of<Heartbeat>(leader.Turn());
  ASSERT_FALSE(beats.empty());
  EXPECT_TRUE(leader.reads.empty());
  leader.Answer(2, HeartbeatResponse{leader->term(), beats[0].round});
  ASSERT_EQ(leader.reads.size(), 1u);
}

TEST(QuiescenceTest, TheOnlyMemberRestsAlone) {
  CoreUnderTest::State state = Idle();
  state.voters = Nodes({1});
  CoreUnderTest alone(state);
  alone.Ticks(alone.options.election_timeout_ticks);
  ASSERT_TRUE(alone->IsLeader());
  for (int i = 0; i < 20; ++i) {
    alone->BecomeQuiet();
    alone.Ticks(1);
  }
  EXPECT_TRUE(alone->quiet());
}

}  // namespace
}  // namespace kv739::raft
