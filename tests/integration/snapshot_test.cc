// A follower that was away for longer than the log reaches back gets a
// snapshot, whatever happens in the middle of it; and the log stays short.
#include <filesystem>

#include "tests/integration/cluster_test.h"
#include "tests/support/bulk.h"

namespace kv739::test {
namespace {

constexpr int kKeys = 25'000;

// Slow enough that there is a middle: about three seconds for the keys.
const char kSlowSnapshots[] = R"(snapshot:
  send_bytes_per_s: 1MiB
storage:
  wal_segment_bytes: 8MiB
  write_buffer_bytes: 8MiB
  block_cache_bytes: 16MiB
)";

class SnapshotTest : public ClusterTest {
 protected:
  // Leaves one follower out of kKeys writes; what it had before is partly
  // overwritten and partly deleted meanwhile.
  void LeaveOneBehind() {
    ASSERT_NO_FATAL_FAILURE(StartCluster(5, kSlowSnapshots));
    client_ = OpenClient();
    ASSERT_NE(client_, nullptr);
    bulk_ = std::make_unique<Bulk>(*client_, 256);
    ASSERT_TRUE(bulk_->Put(0, 100, 1).ok());
    ASSERT_TRUE(client_->Put("deleted", "before").ok());
    ASSERT_TRUE(cluster().WaitForEqualReplicas(group()).ok());
    const int leader = cluster().WaitForLeader(group());
    ASSERT_GE(leader, 0);
    away_ = (leader + 1) % 5;
    cluster().KillHard(away_);
    ASSERT_TRUE(client_->Delete("deleted").ok());
    const absl::Status put = bulk_->Put(0, kKeys, 2);
    ASSERT_TRUE(put.ok()) << put;
    // The others' logs do not reach back to it any more.
    for (int i = 0; i < 5; ++i) {
      if (i == away_) continue;
      ASSERT_TRUE(Eventually([&] {
        auto replica = cluster().Replica(i, group());
        return replica && replica->first_index() > 10'000;
      }));
    }
  }
  // Waits until a good part of the snapshot is there, but not all.
  void WaitForTheMiddle() {
    EXPECT_TRUE(Eventually([&] {
      auto replica = cluster().Replica(away_, group());
      return replica && replica->receiving().bytes() > 300'000;
    })) << "no snapshot is under way";
  }
  // The one that was away has everything, also as the leader.
  void CheckTheReturned() {
    const absl::Status equal = cluster().WaitForEqualReplicas(group());
    ASSERT_TRUE(equal.ok()) << equal;
    auto replica = cluster().Replica(away_, group());
    ASSERT_TRUE(replica.has_value());
    // It came by a snapshot: its log does not begin at the beginning.
    EXPECT_GT(replica->first_index(), 10'000u);
    const absl::Status hashes = cluster().WaitForEqualHashes(group());
    EXPECT_TRUE(hashes.ok()) << hashes;
    ASSERT_TRUE(Eventually([&] {
      return cluster().TransferLeader(group(), away_).ok() &&
             cluster().WaitForLeader(group()) == away_;
    }));
    const absl::Status read = bulk_->Verify(0, kKeys, 2);
    EXPECT_TRUE(read.ok()) << read;
    const Answer deleted = client_->Get("deleted");
    EXPECT_EQ(deleted.code, 1) << "a deleted key is back";
  }
  uint64_t group() { return cluster().only_group(); }

  std::unique_ptr<Client> client_;
  std::unique_ptr<Bulk> bulk_;
  int away_ = -1;
};

TEST_F(SnapshotTest, CatchesUpAFollowerThatWasAway) {
  ASSERT_NO_FATAL_FAILURE(LeaveOneBehind());
  ASSERT_TRUE(cluster().Restart(away_).ok());
  ASSERT_NO_FATAL_FAILURE(CheckTheReturned());
}

TEST_F(SnapshotTest, GoesOnWhenTheReceiverIsKilled) {
  ASSERT_NO_FATAL_FAILURE(LeaveOneBehind());
  ASSERT_TRUE(cluster().Restart(away_).ok());
  WaitForTheMiddle();
  cluster().KillHard(away_);
  ASSERT_TRUE(cluster().Restart(away_).ok());
  ASSERT_NO_FATAL_FAILURE(CheckTheReturned());
}

TEST_F(SnapshotTest, GoesOnWhenTheSenderIsKilled) {
  ASSERT_NO_FATAL_FAILURE(LeaveOneBehind());
  ASSERT_TRUE(cluster().Restart(away_).ok());
  WaitForTheMiddle();
  const int sender = cluster().WaitForLeader(group());
  cluster().KillHard(sender);
  ASSERT_TRUE(cluster().Restart(sender).ok());
  ASSERT_NO_FATAL_FAILURE(CheckTheReturned());
}

TEST_F(SnapshotTest, GoesOnWhenTheLeaderChanges) {
  ASSERT_NO_FATAL_FAILURE(LeaveOneBehind());
  ASSERT_TRUE(cluster().Restart(away_).ok());
  WaitForTheMiddle();
  const int sender = cluster().WaitForLeader(group());
  const int next =
      (sender + 1) % 5 == away_ ? (sender + 2) % 5 : (sender + 1) % 5;
  EXPECT_TRUE(cluster().TransferLeader(group(), next).ok());
  ASSERT_NO_FATAL_FAILURE(CheckTheReturned());
}

uint64_t BytesUnder(const std::string& dir) {
  uint64_t bytes = 0;
  for (const auto& file : std::filesystem::recursive_directory_iterator(dir)) {
    std::error_code gone;
    const uint64_t size = file.file_size(gone);
    if (!gone) bytes += size;
  }
  return bytes;
}

TEST_F(SnapshotTest, TheLogStaysShort) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(5, kTestSettings));
  client_ = OpenClient();
  Bulk bulk(*client_, 256);
  // About 35 MB of log each round.
  for (int round = 1; round <= 3; ++round) {
    const absl::Status put = bulk.Put(0, 100'000, round);
    ASSERT_TRUE(put.ok()) << put;
  }
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(Eventually([&] {
      auto replica = cluster().Replica(i, group());
      return replica && replica->last_index() - replica->first_index() < 25'000;
    }));
    EXPECT_TRUE(Eventually([&] {
      return BytesUnder(cluster().data_dir(i) + "/wal") < 64 << 20;
    })) << BytesUnder(cluster().data_dir(i) + "/wal");
  }
  // And it is enough to start from.
  cluster().KillHardAll();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(cluster().Restart(i).ok());
  const absl::Status read = bulk.Verify(0, 100'000, 3);
  EXPECT_TRUE(read.ok()) << read;
}

}  // namespace
}  // namespace kv739::test
