#include "raft/progress.h"

#include <gtest/gtest.h>

#include <deque>

#include "tests/support/sim_random.h"

namespace kv739::raft {
namespace {

using State = Progress::State;

Progress Fresh(uint64_t next = 11) {
  return Progress(NodeId(2), Index(next), 0, 4, 1000);
}

Progress Replicating() {
  Progress p = Fresh();
  p.Sent(Index(10), 0);
  EXPECT_TRUE(p.Acknowledged(Index(10), Index(1)));
  EXPECT_EQ(p.state(), State::kReplicate);
  return p;
}

TEST(Inflights, AgreesWithAPlainQueue) {
  sim::SimRandom random(1);
  for (int run = 0; run < 200; ++run) {
    const uint32_t max = 1 + static_cast<uint32_t>(random.Below(20));
    Inflights window(max, 500);
    std::deque<std::pair<uint64_t, uint64_t>> slow;
    uint64_t last = 0;
    for (int step = 0; step < 200; ++step) {
      if (random.Chance(2, 3)) {
        if (!window.full()) {
          const uint64_t bytes = random.Below(120);
          last += 1 + random.Below(3);
          window.Add(Index(last), bytes);
          slow.emplace_back(last, bytes);
        }
      } else {
        const uint64_t to = random.Below(last + 2);
        window.FreeTo(Index(to));
        while (!slow.empty() && slow.front().first <= to) slow.pop_front();
      }
      uint64_t bytes = 0;
      for (const auto& [at, size] : slow) bytes += size;
      ASSERT_EQ(window.count(), slow.size());
      ASSERT_EQ(window.bytes(), bytes);
      ASSERT_EQ(window.full(), slow.size() >= max || bytes >= 500);
    }
  }
}

TEST(Progress, ProbesWithOneMessageAtATime) {
  Progress p = Fresh();
  EXPECT_TRUE(p.CanSend(Index(12)));
  p.Sent(Index(12), 50);
  EXPECT_FALSE(p.CanSend(Index(12)));
  EXPECT_EQ(p.next(), Index(11)) << "nothing is assumed of a probe";
}

TEST(Progress, ALostProbeIsRepeatedWithoutEntries) {
  Progress p = Fresh();
  p.Sent(Index(12), 50);
  EXPECT_FALSE(p.probes_empty());
  p.OnHeartbeatTick();
  EXPECT_TRUE(p.CanSend(Index(12)));
  EXPECT_TRUE(p.probes_empty());
}

TEST(Progress, SendsAheadWithinTheWindow) {
  Progress p = Replicating();
  for (uint64_t i = 11; i <= 14; ++i) {
    EXPECT_TRUE(p.CanSend(Index(20)));
    p.Sent(Index(i), 10);
  }
  EXPECT_FALSE(p.CanSend(Index(20))) << "four messages are the bound";
  p.Acknowledged(Index(12), Index(1));
  EXPECT_TRUE(p.CanSend(Index(20)));
  EXPECT_EQ(p.inflights().count(), 2u);
  EXPECT_EQ(p.next(), Index(15));
}

TEST(Progress, WindowIsBoundedByBytesToo) {
  Progress p = Replicating();
  p.Sent(Index(11), 1000);
  EXPECT_FALSE(p.CanSend(Index(20)));
  p.Acknowledged(Index(11), Index(1));
  EXPECT_TRUE(p.CanSend(Index(20)));
}

TEST(Progress, OldAcknowledgementsAndRefusalsChangeNothing) {
  Progress p = Replicating();
  p.Sent(Index(15), 10);
  p.Acknowledged(Index(15), Index(1));
  EXPECT_FALSE(p.Acknowledged(Index(12), Index(1)));
  EXPECT_FALSE(p.Refused(Index(15), Index(15)));
  EXPECT_FALSE(p.Refused(Index(99), Index(16))) << "never sent";
  EXPECT_EQ(p.match(), Index(15));
  EXPECT_EQ(p.next(), Index(16));
  EXPECT_EQ(p.state(), State::kReplicate);
}

TEST(Progress, ARefusalEmptiesTheWindowAndProbes) {
  Progress p = Replicating();
  p.Sent(Index(12), 10);
  p.Sent(Index(14), 10);
  EXPECT_TRUE(p.Refused(Index(12), Index(11)));
  EXPECT_EQ(p.state(), State::kProbe);
  EXPECT_TRUE(p.inflights().empty());
  EXPECT_EQ(p.next(), Index(11));
  EXPECT_TRUE(p.CanSend(Index(14)));
  EXPECT_FALSE(p.Refused(Index(14), Index(11))) << "of the old window";
}

TEST(Progress, AsksWhenAWindowWaitsForAWholeInterval) {
  Progress p = Replicating();
  EXPECT_FALSE(p.OnHeartbeatTick());
  p.Sent(Index(12), 10);
  EXPECT_FALSE(p.OnHeartbeatTick()) << "it has only just been sent";
  EXPECT_TRUE(p.OnHeartbeatTick());
  EXPECT_TRUE(p.OnHeartbeatTick());
  p.Acknowledged(Index(12), Index(1));
  EXPECT_FALSE(p.OnHeartbeatTick());
}

TEST(Progress, SnapshotIsAskedForOnceUntilItsOutcome) {
  Progress p = Fresh();
  EXPECT_TRUE(p.BecomeSnapshot());
  EXPECT_FALSE(p.CanSend(Index(20)));
  EXPECT_FALSE(p.BecomeSnapshot());
  p.SnapshotDone(Index(0));
  EXPECT_FALSE(p.CanSend(Index(20))) << "not again before a heartbeat tick";
  p.OnHeartbeatTick();
  EXPECT_TRUE(p.CanSend(Index(20)));
  EXPECT_TRUE(p.BecomeSnapshot());
  p.SnapshotDone(Index(30));
  EXPECT_EQ(p.next(), Index(31));
  EXPECT_EQ(p.match(), Index(0)) << "only the follower proves a match";
  EXPECT_EQ(p.state(), State::kProbe);
}

TEST(Progress, LeavesSnapshotWhenTheFollowerGetsThereOnItsOwn) {
  Progress p = Fresh();
  p.BecomeSnapshot();
  p.Acknowledged(Index(5), Index(10));
  EXPECT_EQ(p.state(), State::kSnapshot);
  p.Acknowledged(Index(9), Index(10));
  EXPECT_EQ(p.state(), State::kReplicate);
  EXPECT_EQ(p.next(), Index(10));
}

TEST(Progress, WaitsForAFetchAndRetriesAFailedOne) {
  Progress p = Replicating();
  p.FetchStarted();
  EXPECT_FALSE(p.CanSend(Index(20)));
  p.OnHeartbeatTick();
  EXPECT_FALSE(p.CanSend(Index(20))) << "one fetch at a time";
  p.FetchDone(/*found=*/false);
  EXPECT_FALSE(p.CanSend(Index(20)));
  p.OnHeartbeatTick();
  EXPECT_TRUE(p.CanSend(Index(20)));
  p.FetchStarted();
  p.FetchDone(/*found=*/true);
  EXPECT_TRUE(p.CanSend(Index(20)));
}

}  // namespace
}  // namespace kv739::raft
