// Logs that end, and followers that need what was dropped: the replica host
// with every message, log write, piece of background work and chunk in the
// test's hand.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "kv/snapshot.h"
#include "server/host.h"
#include "tests/support/host_cluster.h"

namespace kv739::server {
namespace {

using testing::HostCluster;

constexpr raft::GroupId kGroup{0};

Operation Put(const std::string& key, const std::string& value) {
  Operation operation;
  operation.kind = OpKind::kPut;
  operation.key = key;
  operation.value = value;
  return operation;
}

Operation Get(const std::string& key) {
  Operation operation;
  operation.kind = OpKind::kGet;
  operation.key = key;
  return operation;
}

HostOptions SmallLogs() {
  HostOptions options;
  options.snapshot.entries = 50;
  options.snapshot.trailing_entries = 10;
  return options;
}

void PutMany(HostCluster& cluster, int first, int count, size_t bytes = 10) {
  for (int i = first; i < first + count; ++i) {
    ASSERT_EQ(cluster
                  .Call(Put(absl::StrCat("k", i),
                            absl::StrCat(i, ":", std::string(bytes, 'v'))))
                  .code,
              ReplyCode::kOk);
  }
}

ReplicaStats StatsOf(HostCluster& cluster, int node,
                     raft::GroupId group = kGroup) {
  for (const ReplicaStats& stats : cluster.Stats(node).replicas) {
    if (stats.group == group) return stats;
  }
  ADD_FAILURE() << "no group " << group;
  return ReplicaStats();
}

// ---- compaction ----

TEST(CompactionTest, LogsEndBehindATail) {
  HostCluster cluster(5, SmallLogs());
  for (int i = 0; i < 20; ++i) {
    PutMany(cluster, i * 10, 10);
    cluster.Tick();
  }
  cluster.Tick(10);
  for (int n = 0; n < 5; ++n) {
    const ReplicaStats stats = StatsOf(cluster, n);
    EXPECT_GE(stats.compactions, 3u);
    EXPECT_GE(stats.snapshot_index, raft::Index(150));
    // The tail, and what came since the last flush.
    EXPECT_LE(stats.log_entries, 10u + 50u + 2u);
    EXPECT_GE(stats.log_entries, 10u);
  }
}

TEST(CompactionTest, NothingWaitsForIt) {
  HostCluster cluster(5, SmallLogs());
  for (int n = 0; n < 5; ++n) cluster.StallBackground(n, true);
  PutMany(cluster, 0, 200);
  for (int n = 0; n < 5; ++n) {
    EXPECT_EQ(StatsOf(cluster, n).compactions, 0u);
    cluster.StallBackground(n, false);
  }
  cluster.Tick(3);
  EXPECT_EQ(StatsOf(cluster, 0).compactions, 1u);
}

TEST(CompactionTest, RestartsFindEverything) {
  HostCluster cluster(5, SmallLogs());
  PutMany(cluster, 0, 130);
  cluster.Tick(10);
  for (int n = 0; n < 5; ++n) cluster.Crash(n);
  for (int n = 0; n < 5; ++n) cluster.Restart(n);
  for (int i = 0; i < 130; ++i) {
    EXPECT_TRUE(cluster.Call(Get(absl::StrCat("k", i))).found) << i;
  }
}

// Between the flush and the cut, and between the cut and its write.
TEST(CompactionTest, ACrashInTheMiddleLosesNothing) {
  for (const bool after_flush : {false, true}) {
    HostCluster cluster(5, SmallLogs());
    PutMany(cluster, 0, 45);
    for (int n = 0; n < 5; ++n) cluster.StallBackground(n, true);
    PutMany(cluster, 45, 45);
    cluster.Tick(2);
    for (int n = 0; n < 5; ++n) {
      if (after_flush) {
        cluster.StallLog(n, true);
        cluster.StallBackground(n, false);
      }
    }
    cluster.Tick(1);
    for (int n = 0; n < 5; ++n) {
      EXPECT_EQ(StatsOf(cluster, n).compactions, after_flush ? 1u : 0u);
      cluster.Crash(n);
    }
    for (int n = 0; n < 5; ++n) {
      cluster.StallLog(n, false);
      cluster.StallBackground(n, false);
      cluster.Restart(n);
    }
    for (int i = 0; i < 90; ++i) {
      EXPECT_TRUE(cluster.Call(Get(absl::StrCat("k", i))).found) << i;
    }
  }
}

TEST(CompactionTest, AFollowerThatIsDownDoesNotKeepTheLog) {
  HostCluster cluster(5, SmallLogs());
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Crash((leader + 1) % 5);
  cluster.Tick(50);
  PutMany(cluster, 0, 200);
  cluster.Tick(10);
  EXPECT_LE(StatsOf(cluster, leader).log_entries, 10u + 50u + 2u);
}

TEST(CompactionTest, AFollowerThatIsThereAndBehindDoes) {
  HostCluster cluster(5, SmallLogs());
  const int leader = cluster.ElectLeader(kGroup);
  PutMany(cluster, 0, 5);
  const int behind = (leader + 1) % 5;
  cluster.StallLog(behind, true);  // answers heartbeats, acknowledges nothing
  PutMany(cluster, 5, 100);
  for (int i = 0; i < 40; ++i) cluster.Tick();
  EXPECT_GE(StatsOf(cluster, leader).log_entries, 100u);
  cluster.StallLog(behind, false);
  cluster.Tick(120);
  EXPECT_LE(StatsOf(cluster, leader).log_entries, 12u);
  EXPECT_EQ(StatsOf(cluster, behind).core.applied,
            StatsOf(cluster, leader).core.applied);
}

TEST(CompactionTest, BytesCutTheTailToo) {
  HostOptions options;
  options.snapshot.log_bytes = 100'000;
  HostCluster cluster(5, options);
  PutMany(cluster, 0, 300, 1000);
  cluster.Tick(20);
  for (int n = 0; n < 5; ++n) {
    EXPECT_LE(StatsOf(cluster, n).log_bytes, 115'000u);
  }
}

TEST(CompactionTest, AnIdleGroupLetsGoInTheEnd) {
  HostOptions options;
  options.snapshot.trailing_entries = 5'000;
  HostCluster cluster(5, options);
  PutMany(cluster, 0, 40, 100'000);
  cluster.Tick(10);
  EXPECT_GT(StatsOf(cluster, 0).log_bytes, 4'000'000u);
  cluster.Tick(static_cast<int>(kIdleNanos / 20'000'000) + 5);
  for (int n = 0; n < 5; ++n) {
    const ReplicaStats stats = StatsOf(cluster, n);
    EXPECT_EQ(stats.snapshot_index, stats.core.applied);
    EXPECT_LE(stats.log_bytes, kIdleTailBytes + 200'000);
    EXPECT_GT(stats.log_bytes, 0u);
  }
}

TEST(CompactionTest, TimeIsEnough) {
  HostOptions options;
  options.snapshot.interval_s = 2;
  HostCluster cluster(5, options);
  PutMany(cluster, 0, 20);
  const raft::Index last = StatsOf(cluster, 0).core.applied;
  EXPECT_EQ(StatsOf(cluster, 0).snapshot_index, kv::kFirstPosition.index);
  cluster.Tick(110);
  EXPECT_GE(StatsOf(cluster, 0).snapshot_index, last);
}

// One flush serves all groups, and groups that are not in need learn of it.
TEST(CompactionTest, OneFlushServesAllGroups) {
  HostCluster cluster(3, SmallLogs());
  PutMany(cluster, 0, 60);
  cluster.Tick(10);
  for (int n = 0; n < 3; ++n) {
    EXPECT_LE(cluster.Stats(n).store_flushes, 3u);
    EXPECT_GE(cluster.Stats(n).store_flushes, 1u);
  }
}

}  // namespace
}  // namespace kv739::server
