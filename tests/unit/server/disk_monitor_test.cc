#include "server/disk_monitor.h"

#include <gtest/gtest.h>

#include "server/node_conditions.h"

namespace kv739::server {
namespace {

TEST(DiskMonitor, SaysWhenRoomGoesAndWhenItIsBack) {
  std::optional<uint64_t> free = 1000 << 20;
  DiskMonitor monitor([&] { return free; }, 256 << 20);
  EXPECT_FALSE(monitor.Check());
  EXPECT_FALSE(monitor.low());
  free = 255 << 20;
  EXPECT_TRUE(monitor.Check());
  EXPECT_TRUE(monitor.low());
  EXPECT_EQ(monitor.Describe(),
            "the disk is full: 255 MiB are free, 256 MiB are kept in reserve; "
            "only deletes are taken");
  // Just above the reserve is not enough to go on as before.
  free = 257 << 20;
  EXPECT_FALSE(monitor.Check());
  EXPECT_TRUE(monitor.low());
  free = (256 + 32) << 20;
  EXPECT_TRUE(monitor.Check());
  EXPECT_FALSE(monitor.low());
}

TEST(DiskMonitor, KeepsWhatItKnowsWhenTheFileSystemSaysNothing) {
  std::optional<uint64_t> free = 1;
  DiskMonitor monitor([&] { return free; }, 2);
  EXPECT_TRUE(monitor.Check());
  free.reset();
  EXPECT_FALSE(monitor.Check());
  EXPECT_TRUE(monitor.low());
}

TEST(DiskMonitor, NoReserveIsNeverLow) {
  DiskMonitor monitor([] { return 0; }, 0);
  EXPECT_FALSE(monitor.Check());
  EXPECT_FALSE(monitor.low());
}

TEST(NodeConditions, APeerInNeedIsForgottenWhenItDoesNotRepeatIt) {
  NodeConditions conditions;
  const raft::NodeId peer(7);
  EXPECT_FALSE(conditions.IsLow(peer));
  conditions.PeerIsLow(peer);
  for (uint64_t i = 0; i + 1 < NodeConditions::kForgetTicks; ++i) {
    conditions.Tick();
  }
  EXPECT_TRUE(conditions.IsLow(peer));
  conditions.Tick();
  EXPECT_FALSE(conditions.IsLow(peer));
}

TEST(NodeConditions, TellsThePeersOnlyWhileItIsLow) {
  NodeConditions conditions;
  auto told = [&] {
    int times = 0;
    for (uint64_t i = 0; i < 10 * NodeConditions::kRepeatTicks; ++i) {
      times += conditions.Tick();
    }
    return times;
  };
  EXPECT_EQ(told(), 0);
  conditions.SetDiskLow("full");
  EXPECT_EQ(told(), 10);
  EXPECT_EQ(conditions.why(), "full");
  conditions.SetDiskLow("");
  EXPECT_EQ(told(), 0);
}

}  // namespace
}  // namespace kv739::server
