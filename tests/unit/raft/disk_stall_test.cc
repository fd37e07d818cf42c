// A leader whose disk stops answering must not keep the group to itself.
#include <gtest/gtest.h>

#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

// A leader with a write that never becomes durable, and followers that hear
// from it and answer.
class StalledLeader {
 public:
  StalledLeader() {
    core.BecomeLeader();
    core.AcknowledgeAll({2, 3});
    core.Propose();
    Take();
    core.Receive(
        2, AppendEntriesResponse{core->term(), true, core->last_index(), {}});
    core.Receive(
        3, AppendEntriesResponse{core->term(), true, core->last_index(), {}});
    Take();
  }

  // One tick; the followers answer its heartbeats, the disk does not.
  std::vector<Envelope> Tick() {
    core->Tick();
    std::vector<Envelope> sent = Take();
    core.Receive(2, HeartbeatResponse{core->term(), 0});
    core.Receive(3, HeartbeatResponse{core->term(), 0});
    return sent;
  }

  CoreUnderTest core;

 private:
  std::vector<Envelope> Take() {
    std::vector<Envelope> sent;
    while (core->HasReady()) {
      Ready ready = core->TakeReady();
      sent.insert(sent.end(), ready.send_now.begin(), ready.send_now.end());
    }
    return sent;
  }
};

TEST(DiskStallTest, ALeaderHandsOverAfterAnElectionTimeout) {
  StalledLeader leader;
  size_t asked = 0;
  for (int i = 0; i < 11; ++i) asked += Of<TimeoutNow>(leader.Tick()).size();
  EXPECT_GE(asked, 1u);
  EXPECT_TRUE(leader.core->IsLeader());
}

TEST(DiskStallTest, ItStepsDownWhenNobodyTakesOver) {
  StalledLeader leader;
  for (int i = 0; i < 21; ++i) leader.Tick();
  EXPECT_FALSE(leader.core->IsLeader());
}

TEST(DiskStallTest, ADiskThatMovesIsNoReason) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  for (int i = 0; i < 100; ++i) {
    core.Propose();
    core.Ticks(1);
    core.AcknowledgeAll({2, 3});
    EXPECT_TRUE(Of<TimeoutNow>(core.Turn()).empty());
  }
  EXPECT_TRUE(core->IsLeader());
}

TEST(DiskStallTest, AnIdleLeaderStays) {
  CoreUnderTest core;
  core.BecomeLeader();
  core.AcknowledgeAll({2, 3});
  for (int i = 0; i < 100; ++i) {
    core.Ticks(1);
    core.Receive(2, HeartbeatResponse{core->term(), 0});
    core.Receive(3, HeartbeatResponse{core->term(), 0});
  }
  EXPECT_TRUE(core->IsLeader());
}

}  // namespace
}  // namespace kv739::raft
