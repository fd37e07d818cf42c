// Logs that end, and followers that need what was dropped: the replica host
// with every message, log write, piece of background work and chunk in the
// test's hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/snapshot.h"
#include "server/host.h"
#include "server/replica_store.h"
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
  options.snapshot.min_gap_ms = 0;
  return options;
}

void PutMany(HostCluster& cluster, int first, int count, size_t bytes = 10) {
  std::vector<Operation> puts;
  for (int i = first; i < first + count; ++i) {
    puts.push_back(Put(absl::StrCat("k", i),
                       absl::StrCat(i, ":", std::string(bytes, 'v'))));
    if (puts.size() < 10 && i + 1 < first + count) continue;
    for (const Reply& reply : cluster.CallAll(std::exchange(puts, {}))) {
      ASSERT_EQ(reply.code, ReplyCode::kOk) << reply.message;
    }
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

TEST(CompactionTest, WhatIsNotDurableIsKept) {
  HostOptions options = SmallLogs();
  options.snapshot.trailing_entries = 0;
  HostCluster cluster(5, options);
  PutMany(cluster, 0, 55);
  cluster.Tick(3);
  EXPECT_EQ(StatsOf(cluster, 0).compactions, 1u);
  PutMany(cluster, 55, 20);
  for (int n = 0; n < 5; ++n) cluster.Crash(n);
  for (int n = 0; n < 5; ++n) cluster.Restart(n);
  EXPECT_GE(StatsOf(cluster, 0).snapshot_index, raft::Index(50));
  EXPECT_LT(StatsOf(cluster, 0).snapshot_index, raft::Index(70));
  for (int i = 0; i < 75; ++i) {
    EXPECT_TRUE(cluster.Call(Get(absl::StrCat("k", i))).found) << i;
  }
}

TEST(CompactionTest, ABusyGroupDoesNotFlushAllTheTime) {
  HostOptions options = SmallLogs();
  options.snapshot.min_gap_ms = 1'000;
  HostCluster cluster(5, options);
  for (int i = 0; i < 20; ++i) {
    PutMany(cluster, i * 50, 50);
    cluster.Tick(5);  // 100 ms
  }
  EXPECT_GE(StatsOf(cluster, 0).compactions, 2u);
  EXPECT_LE(StatsOf(cluster, 0).compactions, 3u);
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

// ---- installing ----

using Fault = HostCluster::Fault;

Operation Delete(const std::string& key) {
  Operation operation;
  operation.kind = OpKind::kDelete;
  operation.key = key;
  return operation;
}

// A cluster one of whose followers needs a snapshot of a few chunks.
class InstallTest : public ::testing::Test {
 protected:
  static constexpr size_t kValueBytes = 100'000;

  InstallTest() : cluster_(5, SmallLogs()) {}

  // Writes, with `down_` crashed for the second half; it is not started.
  void LeaveBehind() {
    leader_ = cluster_.ElectLeader(kGroup);
    down_ = (leader_ + 1) % 5;
    PutMany(cluster_, 0, 20, kValueBytes);
    cluster_.Tick(5);
    cluster_.Crash(down_);
    cluster_.Tick(60);
    for (int i = 20; i < 100; i += 20) {
      PutMany(cluster_, i, 20, kValueBytes);
      cluster_.Tick();
    }
    std::vector<Operation> deletes;
    for (int i = 0; i < 20; ++i)
      deletes.push_back(Delete(absl::StrCat("k", i)));
    for (const Reply& reply : cluster_.CallAll(std::move(deletes))) {
      ASSERT_EQ(reply.code, ReplyCode::kOk);
    }
    cluster_.Tick(10);
    leader_ = cluster_.ElectLeader(kGroup);
  }

  void Faults(HostCluster::StreamFault fault) {
    cluster_.SetStreamFault(std::move(fault));
  }

  bool CaughtUp() {
    const raft::CoreStatus a = StatsOf(cluster_, leader_).core;
    for (int n = 0; n < 5; ++n) {
      if (!cluster_.running(n)) continue;
      const raft::CoreStatus b = StatsOf(cluster_, n).core;
      if (a.applied != b.applied || a.last_index != b.last_index) return false;
    }
    return a.applied == a.last_index;
  }
  // All replicas hold the same, and it is right.
  void ExpectEqual(uint64_t most_installs = 2) {
    leader_ = cluster_.ElectLeader(kGroup);
    for (int i = 0; i < 3000 && !CaughtUp(); ++i) cluster_.Tick();
    ASSERT_TRUE(CaughtUp());
    const auto expected = cluster_.Hash(leader_, kGroup);
    for (int n = 0; n < 5; ++n) {
      if (!cluster_.running(n)) continue;
      const auto hash = cluster_.Hash(n, kGroup);
      EXPECT_EQ(hash.index, expected.index) << n;
      EXPECT_EQ(hash.hash, expected.hash) << n;
    }
    const ReplicaStats stats = StatsOf(cluster_, down_);
    EXPECT_LE(stats.received.done, most_installs);
    EXPECT_FALSE(stats.receiving.has_value());
    EXPECT_TRUE(stats.fault.empty());
    // It leads, and answers from what it has got.
    cluster_.host(leader_)->TransferLeadership(
        kGroup, cluster_.map().nodes[down_].id, [](auto) {});
    cluster_.Tick(20);
    for (int i = 0; i < 100; ++i) {
      const Reply reply = cluster_.Call(Get(absl::StrCat("k", i)));
      EXPECT_EQ(reply.code, ReplyCode::kOk);
      EXPECT_EQ(reply.found, i >= 20) << i;
      if (i >= 20) {
        EXPECT_EQ(reply.value,
                  absl::StrCat(i, ":", std::string(kValueBytes, 'v')));
      }
    }
  }

  HostCluster cluster_;
  int leader_ = 0;
  int down_ = 0;
};

TEST_F(InstallTest, WhoWasAwayGetsOneSnapshot) {
  LeaveBehind();
  cluster_.Restart(down_);
  ExpectEqual(1);
  const ReplicaStats stats = StatsOf(cluster_, down_);
  EXPECT_EQ(stats.received.done, 1u);
  EXPECT_GT(stats.received.bytes, 0u);
  EXPECT_EQ(stats.received.failures, 0u);
  // The log begins behind the snapshot, and again after a restart.
  EXPECT_GT(stats.core.first_index, raft::Index(80));
  cluster_.Crash(down_);
  cluster_.Restart(down_);
  ExpectEqual(0);
}

TEST_F(InstallTest, WritesGoOnMeanwhileAndOneSnapshotIsEnough) {
  LeaveBehind();
  int written = 100;
  cluster_.Restart(down_);
  bool hold = true;
  Faults([&](int, int, int number, std::string*) {
    return hold && number >= 2 ? Fault::kHold : Fault::kNone;
  });
  cluster_.Tick(10);
  ASSERT_EQ(cluster_.streams(), 1);
  // More than a log of this size holds.
  for (int i = 0; i < 20; ++i) {
    std::vector<Operation> puts;
    for (int j = 0; j < 10; ++j) {
      puts.push_back(Put(absl::StrCat("later", written++), "x"));
    }
    for (const Reply& reply : cluster_.CallAll(std::move(puts))) {
      ASSERT_EQ(reply.code, ReplyCode::kOk);
    }
    cluster_.Tick();
  }
  EXPECT_GE(StatsOf(cluster_, leader_).log_entries, 200u);
  hold = false;
  ExpectEqual(1);
  cluster_.Tick(200);
  EXPECT_LE(StatsOf(cluster_, leader_).log_entries, 70u);
}

TEST_F(InstallTest, ASnapshotThatDoesNotMoveDoesNotKeepTheLog) {
  LeaveBehind();
  cluster_.Restart(down_);
  bool hold = true;
  Faults([&](int, int, int number, std::string*) {
    return hold && number >= 2 ? Fault::kHold : Fault::kNone;
  });
  cluster_.Tick(10);
  ASSERT_EQ(cluster_.streams(), 1);
  for (int i = 0; i < 30; ++i) {
    PutMany(cluster_, 20 + i, 1, kValueBytes);
    PutMany(cluster_, 90, 5, kValueBytes);
    cluster_.Tick(40);
  }
  EXPECT_LE(StatsOf(cluster_, leader_).log_entries, 70u);
  hold = false;
  ExpectEqual(2);
}

TEST_F(InstallTest, CutStreamsGoOnWhereTheyBroke) {
  LeaveBehind();
  int cuts = 0;
  Faults([&](int, int, int number, std::string* chunk) {
    if (chunk->empty()) return Fault::kNone;
    // Each stream brings one chunk.
    if (number == 1 && ++cuts <= 4) return Fault::kCut;
    return Fault::kNone;
  });
  cluster_.Restart(down_);
  ExpectEqual(1);
  const ReplicaStats stats = StatsOf(cluster_, down_);
  EXPECT_EQ(stats.received.failures, 4u);
  // Nothing came twice: a chunk or so beyond the data.
  EXPECT_LE(stats.received.bytes, 2'000'000u);
}

TEST_F(InstallTest, RepeatedAndCorruptedChunksDoNoHarm) {
  LeaveBehind();
  int n = 0;
  Faults([&](int, int, int, std::string* chunk) {
    if (chunk->empty()) return Fault::kNone;
    ++n;
    if (n % 3 == 0) return Fault::kRepeat;
    if (n % 4 == 1 && n < 30) (*chunk)[chunk->size() / 2] ^= 1;
    return Fault::kNone;
  });
  cluster_.Restart(down_);
  ExpectEqual(1);
  EXPECT_GT(StatsOf(cluster_, down_).received.failures, 0u);
}

class ReceiverDiesTest : public InstallTest,
                         public ::testing::WithParamInterface<int> {};

// In the middle of the stream; before the commit; between the commit and the
// log's share; and after all.
TEST_P(ReceiverDiesTest, AndComesBack) {
  const int step = GetParam();
  LeaveBehind();
  bool hold = step == 0;
  Faults([&](int, int, int number, std::string*) {
    return hold && number >= 2 ? Fault::kHold : Fault::kNone;
  });
  cluster_.Restart(down_);
  if (step == 1 || step == 2) cluster_.StallBackground(down_, true);
  cluster_.Tick(10);
  if (step == 2) {
    cluster_.StallLog(down_, true);
    cluster_.StallBackground(down_, false);
    cluster_.Tick(5);
  }
  if (step == 3) cluster_.Tick(20);
  cluster_.Crash(down_);
  const auto durable = kv::DurablePosition(*cluster_.engine(down_), kGroup);
  ASSERT_TRUE(durable.ok());
  EXPECT_EQ(durable->index > raft::Index(80), step >= 2)
      << durable->index.value();
  hold = false;
  cluster_.StallLog(down_, false);
  cluster_.StallBackground(down_, false);
  cluster_.Restart(down_);
  EXPECT_EQ(StatsOf(cluster_, down_).core.applied > raft::Index(80), step >= 2);
  ExpectEqual(1);
}

INSTANTIATE_TEST_SUITE_P(Steps, ReceiverDiesTest, ::testing::Range(0, 4));

TEST_F(InstallTest, TheSenderMayDieInTheMiddle) {
  LeaveBehind();
  bool hold = true;
  Faults([&](int, int, int number, std::string*) {
    return hold && number >= 2 ? Fault::kHold : Fault::kNone;
  });
  cluster_.Restart(down_);
  cluster_.Tick(10);
  ASSERT_EQ(cluster_.streams(), 1);
  cluster_.Crash(leader_);
  hold = false;
  ExpectEqual();
  EXPECT_GE(StatsOf(cluster_, down_).received.failures, 1u);
}

TEST_F(InstallTest, TheLeaderMayChangeInTheMiddle) {
  LeaveBehind();
  bool hold = true;
  Faults([&](int, int, int number, std::string*) {
    return hold && number >= 2 ? Fault::kHold : Fault::kNone;
  });
  cluster_.Restart(down_);
  cluster_.Tick(10);
  ASSERT_EQ(cluster_.streams(), 1);
  cluster_.host(leader_)->TransferLeadership(
      kGroup, cluster_.map().nodes[(leader_ + 2) % 5].id, [](auto) {});
  cluster_.Tick(20);
  ASSERT_NE(cluster_.ElectLeader(kGroup), leader_);
  cluster_.Tick(100);
  hold = false;
  // The stream that was open goes on: what it brings is as good as before.
  ExpectEqual();
  EXPECT_EQ(cluster_.streams_opened(), 1u);
}

// What came is of another snapshot, so it is thrown away; before the pause is
// over another leader offers another one.
TEST_F(InstallTest, AnotherOfferMayComeWhenAllWasThrownAway) {
  LeaveBehind();
  std::string old_chunk;
  Faults([&](int, int, int number, std::string* chunk) {
    if (number == 0 && !chunk->empty()) old_chunk = *chunk;
    return Fault::kNone;
  });
  cluster_.Restart(down_);
  ExpectEqual();
  ASSERT_FALSE(old_chunk.empty());
  LeaveBehind();
  bool replaced = false;
  Faults([&](int, int, int number, std::string* chunk) {
    if (number > 0 || chunk->empty() || replaced) return Fault::kNone;
    replaced = true;
    *chunk = old_chunk;
    return Fault::kNone;
  });
  cluster_.Restart(down_);
  for (int i = 0; i < 500 && !replaced; ++i) cluster_.Tick();
  ASSERT_TRUE(replaced);
  PutMany(cluster_, 20, 1, kValueBytes);
  cluster_.host(leader_)->TransferLeadership(
      kGroup, cluster_.map().nodes[(leader_ + 2) % 5].id, [](auto) {});
  cluster_.Tick(8);
  EXPECT_NE(cluster_.ElectLeader(kGroup), leader_);
  ExpectEqual(2);
}

TEST_F(InstallTest, NothingIsAppliedToAStateThatIsBeingReplaced) {
  leader_ = cluster_.ElectLeader(kGroup);
  const int whole = (leader_ + 2) % 5;
  cluster_.StallBackground(whole, true);  // its log is not cut
  LeaveBehind();
  ASSERT_EQ(StatsOf(cluster_, whole).compactions, 0u);
  cluster_.StallBackground(down_, true);
  cluster_.Restart(down_);
  cluster_.Tick(10);
  EXPECT_EQ(cluster_.streams(), 0);
  ASSERT_GT(StatsOf(cluster_, down_).received.bytes, 0u);
  const raft::CoreStatus before = StatsOf(cluster_, down_).core;
  // The next leader has every entry that it lacks, and sends them.
  cluster_.host(leader_)->TransferLeadership(
      kGroup, cluster_.map().nodes[whole].id, [](auto) {});
  cluster_.Tick(20);
  ASSERT_EQ(cluster_.ElectLeader(kGroup), whole);
  PutMany(cluster_, 30, 5, kValueBytes);
  cluster_.Tick(10);
  const raft::CoreStatus after = StatsOf(cluster_, down_).core;
  EXPECT_GT(after.commit, before.commit + 80);
  EXPECT_EQ(after.applied, before.applied);
  cluster_.StallBackground(down_, false);
  ExpectEqual(1);
}

// What was said in answers that wait for the log must not be forgotten by a
// state that is newer than it.
TEST_F(InstallTest, TheLogComesFirst) {
  LeaveBehind();
  cluster_.host(leader_)->TransferLeadership(
      kGroup, cluster_.map().nodes[(leader_ + 2) % 5].id, [](auto) {});
  cluster_.Tick(20);
  leader_ = cluster_.ElectLeader(kGroup);
  cluster_.StallLog(down_, true);  // the new term is written, and not durable
  cluster_.Restart(down_);
  cluster_.Tick(20);
  EXPECT_EQ(cluster_.streams(), 0);
  EXPECT_GT(StatsOf(cluster_, down_).received.bytes, 0u);
  const auto durable = kv::DurablePosition(*cluster_.engine(down_), kGroup);
  ASSERT_TRUE(durable.ok());
  EXPECT_LT(durable->index, raft::Index(80));
  cluster_.StallLog(down_, false);
  ExpectEqual(1);
}

TEST_F(InstallTest, ADoubtfulReplicaIsRebuilt) {
  LeaveBehind();
  cluster_.Restart(down_);
  ExpectEqual(1);
  leader_ = cluster_.ElectLeader(kGroup);
  const int bad = (leader_ + 2) % 5;
  // A value is not what was written.
  auto batch = cluster_.engine(bad)->NewBatch();
  const auto before = cluster_.Hash(bad, kGroup);
  std::string key;
  ASSERT_TRUE(cluster_.engine(bad)
                  ->NewView()
                  ->Scan(std::string(), std::string(9, '\xff'),
                         [&](absl::string_view k, absl::string_view) {
                           key = std::string(k);
                           return true;
                         })
                  .ok());
  batch->Delete(key);
  ASSERT_TRUE(cluster_.engine(bad)->Apply(batch.get()).ok());
  ASSERT_NE(cluster_.Hash(bad, kGroup).hash, before.hash);
  bool hold = true;
  Faults([&](int, int, int, std::string*) {
    return hold ? Fault::kHold : Fault::kNone;
  });
  cluster_.host(bad)->RebuildReplica(kGroup, "it differs");
  // Committed here, not applied, and in the snapshot that comes then.
  PutMany(cluster_, 50, 5, kValueBytes);
  cluster_.Tick(5);
  EXPECT_EQ(StatsOf(cluster_, bad).fault, "it differs");
  Operation stale = Get("k50");
  stale.kind = OpKind::kGetStale;
  stale.tag = 77;
  cluster_.Submit(bad, std::move(stale));
  EXPECT_EQ(cluster_.answers()->Of(77).code, ReplyCode::kUnavailable);
  PutMany(cluster_, 40, 5, kValueBytes);
  hold = false;
  down_ = bad;
  ExpectEqual(1);
  EXPECT_EQ(StatsOf(cluster_, bad).received.done, 1u);
}

TEST_F(InstallTest, ADoubtfulLeaderHandsOverAndIsRebuilt) {
  LeaveBehind();
  cluster_.Restart(down_);
  ExpectEqual(1);
  const int bad = cluster_.ElectLeader(kGroup);
  cluster_.host(bad)->RebuildReplica(kGroup, "it differs");
  cluster_.Tick(60);
  EXPECT_NE(cluster_.ElectLeader(kGroup), bad);
  down_ = bad;
  // It is idle: the snapshot is of just what is applied here.
  ExpectEqual(3);
  EXPECT_TRUE(StatsOf(cluster_, bad).fault.empty());
}

TEST(SnapshotStoreTest, TwoGroupsAtOnce) {
  HostOptions options = SmallLogs();
  HostCluster cluster(10, options);
  const raft::GroupId other(1);
  const auto put_all = [&](int first, int count) {
    for (int i = first; i < first + count; ++i) {
      ASSERT_EQ(
          cluster.Call(Put(absl::StrCat("k", i), std::string(50'000, 'v')))
              .code,
          ReplyCode::kOk);
      if (i % 20 == 0) cluster.Tick();
    }
  };
  put_all(0, 20);
  std::vector<int> down;
  for (raft::GroupId group : {kGroup, other}) {
    const int leader = cluster.ElectLeader(group);
    const int base = group == kGroup ? 0 : 5;
    down.push_back(base + (leader - base + 1) % 5);
  }
  for (int n : down) cluster.Crash(n);
  cluster.Tick(60);
  put_all(20, 260);
  cluster.Tick(20);
  for (int n : down) cluster.Restart(n);
  cluster.Tick(300);
  for (size_t i = 0; i < 2; ++i) {
    const raft::GroupId group(i);
    const int leader = cluster.ElectLeader(group);
    EXPECT_EQ(cluster.Hash(down[i], group).hash,
              cluster.Hash(leader, group).hash);
    EXPECT_EQ(StatsOf(cluster, down[i], group).received.done, 1u);
  }
}

// Sessions come with the state: a write whose answer was lost is not done again
// by a leader that has never seen its entry (K2).
TEST_F(InstallTest, ARepetitionAfterASnapshotGetsItsFirstAnswer) {
  leader_ = cluster_.ElectLeader(kGroup);
  Operation open;
  open.kind = OpKind::kOpenSession;
  open.group = kGroup;
  const kv::SessionId session = cluster_.Call(std::move(open)).session;
  const auto append = [&](kv::Sequence sequence) {
    Operation operation;
    operation.kind = OpKind::kAppend;
    operation.key = "once";
    operation.value = absl::StrCat("<", sequence, ">");
    operation.session = session;
    operation.sequence = sequence;
    operation.floor = 1;
    return operation;
  };
  LeaveBehind();  // `down_` has not seen the writes that follow
  std::vector<Reply> first;
  for (kv::Sequence n = 1; n <= 3; ++n) {
    first.push_back(cluster_.Call(append(n)));
    ASSERT_EQ(first.back().code, ReplyCode::kOk);
  }
  PutMany(cluster_, 40, 60, kValueBytes);
  cluster_.Tick(10);
  cluster_.Restart(down_);
  ExpectEqual(1);  // and it leads
  ASSERT_EQ(StatsOf(cluster_, down_).received.done, 1u);
  ASSERT_EQ(cluster_.ElectLeader(kGroup), down_);
  for (kv::Sequence n = 1; n <= 3; ++n) {
    const Reply again = cluster_.Call(append(n));
    EXPECT_EQ(again.code, ReplyCode::kOk) << again.message;
    EXPECT_EQ(again.version, first[n - 1].version);
  }
  EXPECT_EQ(cluster_.Call(Get("once")).value, "<1><2><3>");
}

// ---- a replica without a state ----

TEST_F(InstallTest, AVacantReplicaGetsItsFirstSnapshot) {
  LeaveBehind();
  cluster_.Restart(down_);
  ExpectEqual(1);
  leader_ = cluster_.ElectLeader(kGroup);
  down_ = (leader_ + 3) % 5;
  cluster_.Crash(down_);
  cluster_.ForgetGroup(down_, kGroup);
  // As one that comes as a learner: nobody thinks that it has anything yet.
  cluster_.host(leader_)->TransferLeadership(
      kGroup, cluster_.map().nodes[(leader_ + 2) % 5].id, [](auto) {});
  cluster_.Tick(20);
  leader_ = cluster_.ElectLeader(kGroup);
  cluster_.Restart(down_);
  EXPECT_EQ(StatsOf(cluster_, down_).core.applied, raft::Index());
  Operation stale = Get("k50");
  stale.kind = OpKind::kGetStale;
  stale.tag = 78;
  cluster_.Submit(down_, std::move(stale));
  EXPECT_EQ(cluster_.answers()->Of(78).code, ReplyCode::kUnavailable);
  // Nobody sends entries from the very beginning; whoever does is not heard.
  raft::AppendEntries forged;
  forged.term = StatsOf(cluster_, leader_).core.soft.term;
  forged.commit = raft::Index(1);
  forged.entries.push_back({raft::Term(1), raft::Index(1),
                            raft::EntryKind::kNoop, raft::MakePayload("")});
  cluster_.host(down_)->OnPeerMessages(cluster_.map().nodes[leader_].id,
                                       {{kGroup, forged}});
  // Nor has it a vote: with its log it has forgotten what it acknowledged.
  const raft::HardState before = StatsOf(cluster_, down_).core.hard;
  const raft::RequestVote asked{
      before.term + 1, {before.term, raft::Index(99)}, false, true};
  cluster_.host(down_)->OnPeerMessages(cluster_.map().nodes[leader_].id,
                                       {{kGroup, asked}});
  EXPECT_EQ(StatsOf(cluster_, down_).core.hard, before);
  cluster_.Settle();
  EXPECT_EQ(StatsOf(cluster_, down_).core.last_index, raft::Index());
  ExpectEqual(1);
}

TEST_F(InstallTest, AVacantReplicaMayDieWithItsFirstSnapshotInPlace) {
  LeaveBehind();
  cluster_.ForgetGroup(down_, kGroup);
  cluster_.StallBackground(down_, true);
  cluster_.Restart(down_);
  cluster_.Tick(10);
  cluster_.StallLog(down_, true);
  cluster_.StallBackground(down_, false);
  cluster_.Tick(2);
  cluster_.Crash(down_);
  cluster_.StallLog(down_, false);
  cluster_.Restart(down_);
  // Its log never began, so it is as if the snapshot had not come.
  EXPECT_EQ(StatsOf(cluster_, down_).core.applied, raft::Index());
  ExpectEqual(1);
}

TEST_F(InstallTest, ALogWithoutAStateIsALoss) {
  LeaveBehind();
  auto engine = kv::NewMemoryEngine();
  auto wal = cluster_.OpenWal(down_);
  ASSERT_TRUE(wal.ok());
  auto replicas = LoadReplicas(engine.get(), wal->get(), "");
  EXPECT_TRUE(absl::IsDataLoss(replicas.status()));
  EXPECT_THAT(std::string(replicas.status().message()),
              ::testing::HasSubstr("the store has nothing of it"));
}

}  // namespace
}  // namespace kv739::server
