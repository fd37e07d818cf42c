// Reads by lease (raft/lease.h): when a leader may trust one, and what its
// followers do for it.
#include <gtest/gtest.h>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

using State = CoreUnderTest::State;

constexpr uint64_t kTick = 20'000'000;
constexpr uint64_t kElection = 10;
constexpr uint64_t kLease = LeaseNanos(kElection, kTick);

State WithLeases() {
  State state;
  state.options.election_timeout_ticks = kElection;
  state.options.heartbeat_ticks = 2;
  state.options.lease_nanos = kLease;
  return state;
}

class LeaseTest : public ::testing::Test {
 protected:
  LeaseTest() : core(WithLeases()) {
    core->SetTime(now_);
    core.BecomeLeader();
    core.AcknowledgeAll({2, 3});
  }

  void Pass(uint64_t nanos) { core->SetTime(now_ += nanos); }
  // Ticks until a heartbeat is sent, without time passing otherwise; its round.
  uint64_t HeartbeatRound() {
    const auto beats = Of<Heartbeat>(core.Ticks(2));
    EXPECT_EQ(beats.size(), 2u);
    return beats.empty() ? 0 : beats[0].round;
  }
  void Answer(uint64_t from, uint64_t round, bool promise) {
    core.Answer(from, HeartbeatResponse{core->term(), round, promise});
  }
  // A read that is answered at once.
  bool ReadsAlone() {
    const size_t before = core.reads.size();
    core->ReadIndex(++read_);
    core.Turn();
    return core.reads.size() > before;
  }

  CoreUnderTest core;
  uint64_t now_ = 1'000'000'000;
  ReadId read_ = 0;
};

TEST_F(LeaseTest, IsEarnedByTheAnswersToOneRound) {
  EXPECT_FALSE(ReadsAlone());
  core.Answer(2, HeartbeatResponse{Term(1), 1, true});
  EXPECT_EQ(core.reads.size(), 1u) << "the round of the read itself";
  EXPECT_TRUE(ReadsAlone());
}

TEST_F(LeaseTest, PlainHeartbeatsEarnItToo) {
  const uint64_t round = HeartbeatRound();
  EXPECT_FALSE(ReadsAlone());
  Answer(3, round, true);
  EXPECT_TRUE(ReadsAlone());
}

TEST_F(LeaseTest, EndsInTimeCountedFromWhenTheRoundWasSent) {
  const uint64_t round = HeartbeatRound();
  Pass(kLease / 2);  // the answer takes its time
  Answer(2, round, true);
  Pass(kLease / 2 - 1);
  EXPECT_TRUE(ReadsAlone());
  Pass(1);
  EXPECT_FALSE(ReadsAlone());
}

TEST_F(LeaseTest, IsShorterThanAnElectionTimeoutByATickAndAFifth) {
  EXPECT_EQ(kLease, (kElection - 1) * kTick * 4 / 5);
}

TEST_F(LeaseTest, NeedsPromisesOfAMajority) {
  const uint64_t round = HeartbeatRound();
  Answer(2, round, false);
  Answer(3, round, false);
  EXPECT_FALSE(ReadsAlone()) << "they keep no leases";
}

TEST_F(LeaseTest, AnOldAnswerDoesNotRenewIt) {
  const uint64_t first = HeartbeatRound();
  Answer(2, first, true);
  Pass(kLease - 1);
  HeartbeatRound();
  Answer(3, first, true);
  EXPECT_TRUE(ReadsAlone());
  Pass(1);
  EXPECT_FALSE(ReadsAlone());
}

TEST_F(LeaseTest, TimeThatFallsBackLengthensNothing) {
  const uint64_t round = HeartbeatRound();
  Answer(2, round, true);
  Pass(kLease);
  core->SetTime(now_ - kLease);
  EXPECT_FALSE(ReadsAlone());
}

TEST_F(LeaseTest, EndsForGoodWhenAnotherIsToldToCampaign) {
  Answer(2, HeartbeatRound(), true);
  EXPECT_TRUE(ReadsAlone());
  ASSERT_TRUE(core->TransferLeadership(NodeId(2)).ok());
  EXPECT_EQ(Of<TimeoutNow>(core.Turn()).size(), 1u);
  EXPECT_FALSE(ReadsAlone());
  // It is given up, but the call may still be on its way.
  for (uint64_t i = 0; i < 2 * kElection; i += 2) {
    Answer(3, HeartbeatRound(), true);
  }
  EXPECT_FALSE(core->transferring());
  EXPECT_TRUE(core->IsLeader());
  EXPECT_FALSE(ReadsAlone());
}

TEST_F(LeaseTest, IsEarnedAgainWhenMembersChange) {
  Answer(2, HeartbeatRound(), true);
  EXPECT_TRUE(ReadsAlone());
  Configuration grown;
  grown.voters = Nodes({1, 2, 3, 4, 5});
  ASSERT_TRUE(core->ProposeConfiguration(grown).ok());
  core.Turn();
  EXPECT_FALSE(ReadsAlone());
}

TEST_F(LeaseTest, NothingIsReadBeforeTheFirstCommitOfTheTerm) {
  CoreUnderTest fresh(WithLeases());
  fresh->SetTime(now_);
  fresh.BecomeLeader();
  const auto beats = Of<Heartbeat>(fresh.Ticks(2));
  ASSERT_FALSE(beats.empty());
  fresh.Answer(2, HeartbeatResponse{Term(1), beats[0].round, true});
  fresh->ReadIndex(1);
  fresh.Turn();
  EXPECT_TRUE(fresh.reads.empty());
  // Nor by the answers to heartbeats: what was committed before is not known.
  for (int i = 0; i < 3; ++i) {
    for (const Heartbeat& beat : Of<Heartbeat>(fresh.Ticks(2))) {
      fresh.Answer(2, HeartbeatResponse{Term(1), beat.round, true});
    }
  }
  EXPECT_TRUE(fresh.reads.empty());
  fresh.AcknowledgeAll({2});
  for (const Heartbeat& beat : Of<Heartbeat>(fresh.Ticks(2))) {
    fresh.Answer(2, HeartbeatResponse{Term(1), beat.round, true});
  }
  EXPECT_EQ(fresh.reads.size(), 1u);
}

// ---- a follower's promise ----

class PromiseTest : public ::testing::Test {
 protected:
  explicit PromiseTest(State state = WithLeases()) : core(state) {}

  std::vector<Envelope> Hear(uint64_t term, uint64_t round) {
    return core.Answer(2, Heartbeat{Term(term), Index(0), round});
  }
  bool VotesFor(uint64_t candidate, uint64_t term, bool transfer = false) {
    const auto sent = core.Answer(
        candidate,
        RequestVote{Term(term), {Term(9), Index(9)}, false, transfer});
    const auto answers = Of<RequestVoteResponse>(sent);
    return !answers.empty() && answers[0].granted;
  }

  CoreUnderTest core;
};

TEST_F(PromiseTest, IsSaidInTheAnswer) {
  const auto answers = Of<HeartbeatResponse>(Hear(5, 7));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_TRUE(answers[0].promise);
  EXPECT_EQ(answers[0].round, 7u);
}

TEST_F(PromiseTest, IsNotMadeToALeaderOfThePast) {
  Hear(5, 1);
  const auto answers =
      Of<HeartbeatResponse>(core.Answer(3, Heartbeat{Term(4), Index(0), 2}));
  ASSERT_EQ(answers.size(), 1u);
  EXPECT_FALSE(answers[0].promise);
}

TEST_F(PromiseTest, IsKeptThoughTheConnectionToTheLeaderEnds) {
  core.Ticks(kElection);  // past what a start keeps
  Hear(5, 1);
  core->PeerGone(NodeId(2));
  EXPECT_TRUE(Of<RequestVote>(core.Ticks(kElection - 1)).empty());
  EXPECT_FALSE(VotesFor(3, 6));
}

TEST_F(PromiseTest, IsKeptAcrossARestart) {
  EXPECT_FALSE(VotesFor(3, 6)) << "it may have promised before it stopped";
  core.Ticks(kElection - 1);
  EXPECT_FALSE(VotesFor(3, 6));
  core.Ticks(1);
  EXPECT_TRUE(VotesFor(3, 7));
}

TEST_F(PromiseTest, DoesNotStandInTheWayOfAHandOver) {
  Hear(5, 1);
  EXPECT_TRUE(VotesFor(3, 6, /*transfer=*/true));
}

TEST(LeaseOptions, NeedWhatTheyRestOn) {
  Options options = WithLeases().options;
  options.self = NodeId(1);
  EXPECT_TRUE(options.Validate().ok());
  options.check_quorum = false;
  EXPECT_FALSE(options.Validate().ok());
}

}  // namespace
}  // namespace kv739::raft
