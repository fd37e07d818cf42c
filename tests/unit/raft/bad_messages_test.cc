// Messages that no honest peer sends. They are dropped and counted; above all
// they never stop the process and never leave a state that later would.
#include <gtest/gtest.h>

#include <vector>

#include "raft/core.h"
#include "tests/support/raft_fixture.h"

namespace kv739::raft {
namespace {

constexpr uint64_t kTop = ~uint64_t{0};

SnapshotMeta Meta(uint64_t term, uint64_t index) {
  return {At(term, index), {Nodes({1, 2, 3}), {}, {}}};
}

// A term from which ours would wrap around to 0 when we campaign.
TEST(BadMessages, TermsNearTheTopAreDropped) {
  for (uint64_t term : {kTop, kTop - 1, kNumberLimit}) {
    CoreUnderTest core;
    const std::vector<Message> messages = {
        RequestVote{Term(term), At(1, 1), false, true},
        RequestVoteResponse{Term(term), false, true},
        AppendEntries{Term(term), {}, Index(), {}},
        AppendEntriesResponse{Term(term), false, Index(1), {}},
        Heartbeat{Term(term), Index(), 1},
        HeartbeatResponse{Term(term), 1},
        TimeoutNow{Term(term)},
        InstallSnapshot{Term(term), Meta(1, 9)}};
    for (const Message& message : messages) core.Answer(2, message);
    EXPECT_EQ(core->term(), Term(0));
    EXPECT_EQ(core->dropped(), messages.size());
    core.Ticks(30);
    EXPECT_LT(core->term(), Term(kNumberLimit));
  }
}

TEST(BadMessages, TheHighestTermIsStillOne) {
  CoreUnderTest core;
  core.Answer(2, Heartbeat{Term(kNumberLimit - 1), Index(), 1});
  EXPECT_EQ(core->term(), Term(kNumberLimit - 1));
  core.Answer(2, TimeoutNow{Term(kNumberLimit - 1)});
  EXPECT_EQ(core->term(), Term(kNumberLimit));
}

TEST(BadMessages, IndexesNearTheTopAreDropped) {
  CoreUnderTest core;
  core.Answer(2, AppendEntries{Term(2), At(1, kTop), Index(), {}});
  core.Answer(2, AppendEntries{Term(2), At(1, kNumberLimit), Index(kTop), {}});
  core.Answer(2, AppendEntries{Term(2),
                               At(1, kNumberLimit - 1),
                               Index(kTop),
                               {Command(1, kNumberLimit)}});
  core.Answer(2, InstallSnapshot{Term(2), Meta(1, kTop)});
  core.Answer(2, InstallSnapshot{Term(2), Meta(1, kNumberLimit)});
  EXPECT_EQ(core->dropped(), 5u);
  EXPECT_TRUE(core.wants_snapshot.empty());
  core.Answer(2, InstallSnapshot{Term(2), Meta(1, kNumberLimit - 1)});
  EXPECT_EQ(core.wants_snapshot.size(), 1u);
}

}  // namespace
}  // namespace kv739::raft
