// Servers whose disks fill up: small file systems in memory, of this program
// alone. With a reserve they refuse in time; without one the writes of the log
// and of the store fail themselves.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "tests/integration/cluster_test.h"
#include "tests/support/private_world.h"

namespace kv739::test {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kDiskBytes = 160 * kMiB;

// Small files, and a disk that is low below 32 MiB.
const char kWithReserve[] = R"(storage:
  disk_reserve_bytes: 32MiB
  wal_segment_bytes: 4MiB
  write_buffer_bytes: 4MiB
  block_cache_bytes: 16MiB
)";
const char kWithoutReserve[] = R"(storage:
  disk_reserve_bytes: 0
  wal_segment_bytes: 4MiB
  write_buffer_bytes: 4MiB
  block_cache_bytes: 16MiB
snapshot:
  entries: 1000
  trailing_entries: 500
)";

class DiskFullTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { *world_ = EnterPrivateWorld(false); }
  void SetUp() override {
    if (!world_->ok()) GTEST_SKIP() << world_->message();
  }
  void Start(int servers, std::string settings) {
    ClusterOptions options{.servers = servers,
                           .settings = std::move(settings),
                           .failed = ProgramFailed};
    for (int i = 0; i < servers; ++i) {
      auto disk = SmallDisk::Mount(kDiskBytes);
      ASSERT_TRUE(disk.ok()) << disk.status();
      options.places[i].data_dir = (*disk)->path() + "/data";
      disks_.push_back(*std::move(disk));
    }
    cluster_ = std::make_unique<Cluster>(std::move(options));
    const absl::Status started = cluster_->Start();
    ASSERT_TRUE(started.ok()) << started.message();
    auto client = Client::Open(cluster_->config(), 20'000);
    ASSERT_TRUE(client.ok()) << client.status().message();
    client_ = *std::move(client);
  }
  void StartLoad() {
    workload_ = std::make_unique<Workload>(
        cluster_->config(), WorkloadOptions{.clients = 4,
                                            .keys = 8,
                                            .gets_percent = 30,
                                            .pace = absl::Milliseconds(2)});
    ASSERT_TRUE(workload_->Start().ok());
    ASSERT_TRUE(workload_->WaitForWrites(100));
  }
  void StopAndCheck() {
    workload_->Stop();
    const auto operations = WithFinalReads(*workload_, *client_);
    PrintTally(operations);
    const auto violation = CheckPuts(operations);
    EXPECT_FALSE(violation.has_value()) << violation->text;
  }
  // Values of 8 KiB, more than server i keeps in memory; it may end before.
  void WriteMoreThanItHolds(int i) {
    const std::string value(8192, 'v');
    for (int n = 0; cluster_->running(i) && n < 400; ++n) {
      if (!client_->Put("fill" + std::to_string(n % 1000), value).ok()) break;
    }
  }
  void TearDown() override {
    if (workload_ != nullptr) workload_->Stop();
    client_.reset();
    cluster_.reset();  // before its disks
  }

  static inline absl::Status* const world_ = new absl::Status;
  std::vector<std::unique_ptr<SmallDisk>> disks_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Workload> workload_;
};

TEST_F(DiskFullTest, ALeaderShortOfRoomHandsOverAndComesBack) {
  ASSERT_NO_FATAL_FAILURE(Start(5, kWithReserve));
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  const int full = cluster_->WaitForLeader(0);
  ASSERT_GE(full, 0);
  ASSERT_TRUE(disks_[full]->FillUpTo(24 * kMiB).ok());
  EXPECT_TRUE(Eventually([&] {
    const int leader = cluster_->LeaderOf(0);
    return leader >= 0 && leader != full;
  })) << "it leads on";
  // It sends those who still take it for the leader to the new one.
  grpc::ClientContext context;
  SetDeadline(context);
  v1::PutRequest put;
  put.set_key("b");
  put.set_value("2");
  v1::WriteResponse response;
  cluster_->KeyValueStub(full)->Put(&context, put, &response);
  EXPECT_EQ(ErrorOf(context).code(), v1::NOT_LEADER)
      << ErrorOf(context).DebugString();
  EXPECT_TRUE(workload_->WaitForWrites(100));
  // It follows all the same, and leads again when it has room.
  disks_[full]->MakeRoom();
  EXPECT_TRUE(Eventually([&] {
    return cluster_->TransferLeader(0, full).ok() &&
           cluster_->LeaderOf(0) == full;
  })) << "it cannot lead again";
  EXPECT_TRUE(workload_->WaitForWrites(100));
  ASSERT_NO_FATAL_FAILURE(StopAndCheck());
  const absl::Status hashes = cluster_->WaitForEqualHashes(0);
  EXPECT_TRUE(hashes.ok()) << hashes;
}

TEST_F(DiskFullTest, WithNoRoomAnywhereDeletesAloneAreTaken) {
  ASSERT_NO_FATAL_FAILURE(Start(3, kWithReserve));
  ASSERT_TRUE(client_->Put("a", "1").ok());
  for (auto& disk : disks_) ASSERT_TRUE(disk->FillUpTo(24 * kMiB).ok());
  Answer refused;
  EXPECT_TRUE(Eventually([&] {
    refused = client_->Put("b", "2", 500);
    return !refused.ok();
  }));
  EXPECT_EQ(OutcomeOf(refused.code), Outcome::kRefused) << refused;
  EXPECT_TRUE(kv739_is_retryable(refused.code)) << refused;
  // What, and the limit.
  EXPECT_THAT(refused.error, HasSubstr("disk is full"));
  EXPECT_THAT(refused.error, HasSubstr("32 MiB"));
  // The status of the wire, from whoever leads.
  const int leader = cluster_->WaitForLeader(0);
  ASSERT_GE(leader, 0);
  grpc::ClientContext context;
  SetDeadline(context);
  v1::PutRequest put;
  put.set_key("b");
  put.set_value("2");
  v1::WriteResponse response;
  const grpc::Status status =
      cluster_->KeyValueStub(leader)->Put(&context, put, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED)
      << status.error_message();
  EXPECT_EQ(client_->Get("a").seen, Stored("1"));
  EXPECT_EQ(client_->Delete("a").seen, Stored("1"));
  EXPECT_EQ(client_->Get("a").code, 1);
  for (auto& disk : disks_) disk->MakeRoom();
  EXPECT_TRUE(Eventually([&] { return client_->Put("b", "3", 1000).ok(); }));
  EXPECT_EQ(client_->Get("b").seen, Stored("3"));
}

TEST_F(DiskFullTest, AFollowerWithoutAnyRoomLosesNothing) {
  ASSERT_NO_FATAL_FAILURE(Start(5, kWithoutReserve));
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  const int leader = cluster_->WaitForLeader(0);
  ASSERT_GE(leader, 0);
  const int full = (leader + 1) % 5;
  ASSERT_TRUE(disks_[full]->FillUpTo(0).ok());
  WriteMoreThanItHolds(full);
  EXPECT_TRUE(workload_->WaitForWrites(100));
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(ReadFile(cluster_->log_path(full)),
                             "No space left on device");
  }));
  // Where the log has found no room it has ended, in good order.
  const bool ended = !cluster_->running(full);
  disks_[full]->MakeRoom();
  if (ended) {
    EXPECT_EQ(cluster_->WaitExit(full), 1);
    ASSERT_TRUE(cluster_->Restart(full).ok());
  }
  EXPECT_TRUE(workload_->WaitForWrites(100));
  ASSERT_NO_FATAL_FAILURE(StopAndCheck());
  const absl::Status hashes = cluster_->WaitForEqualHashes(0);
  EXPECT_TRUE(hashes.ok()) << hashes << cluster_->LogTails();
}

TEST_F(DiskFullTest, NoServerHasAnyRoomAndAllComeBack) {
  ASSERT_NO_FATAL_FAILURE(Start(3, kWithoutReserve));
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  for (auto& disk : disks_) ASSERT_TRUE(disk->FillUpTo(0).ok());
  const std::string value(8192, 'v');
  EXPECT_TRUE(Eventually([&] {
    for (int n = 0; n < 100; ++n) {
      if (!client_->Put("fill" + std::to_string(n), value, 2000).ok()) {
        return true;
      }
    }
    return false;
  }));
  for (auto& disk : disks_) disk->MakeRoom();
  for (int i = 0; i < 3; ++i) {
    // Those that still stand have lost nothing either.
    if (cluster_->running(i)) continue;
    ASSERT_TRUE(cluster_->Restart(i).ok());
  }
  ASSERT_TRUE(cluster_->WaitForLeaders().ok()) << cluster_->LogTails();
  // One may have ended only now.
  EXPECT_TRUE(Eventually([&] {
    for (int i = 0; i < 3; ++i) {
      if (!cluster_->running(i) && !cluster_->Restart(i).ok()) return false;
    }
    return client_->Put("after", "room", 2000).ok();
  }));
  ASSERT_NO_FATAL_FAILURE(StopAndCheck());
  const absl::Status hashes = cluster_->WaitForEqualHashes(0);
  EXPECT_TRUE(hashes.ok()) << hashes << cluster_->LogTails();
}

TEST_F(DiskFullTest, AServerThatStartsWithoutRoomWaitsForIt) {
  ASSERT_NO_FATAL_FAILURE(Start(3, kWithReserve));
  ASSERT_TRUE(client_->Put("a", "1").ok());
  cluster_->KillHard(2);
  ASSERT_TRUE(disks_[2]->FillUpTo(0).ok());
  const auto waits = [&](int times) {
    return Eventually([&] {
      const std::vector<std::string> parts =
          absl::StrSplit(ReadFile(cluster_->log_path(2)), "waiting for room");
      return static_cast<int>(parts.size()) > times;
    });
  };
  ASSERT_TRUE(cluster_->Restart(2).ok());
  ASSERT_TRUE(waits(1)) << cluster_->LogTails();
  cluster_->Terminate(2);
  EXPECT_EQ(cluster_->WaitExit(2), 0);
  ASSERT_TRUE(cluster_->Restart(2).ok());
  ASSERT_TRUE(waits(2)) << cluster_->LogTails();
  EXPECT_TRUE(cluster_->running(2));
  ASSERT_TRUE(client_->Put("a", "2").ok());
  disks_[2]->MakeRoom();
  const absl::Status hashes = cluster_->WaitForEqualHashes(0);
  EXPECT_TRUE(hashes.ok()) << hashes << cluster_->LogTails();
}

}  // namespace
}  // namespace kv739::test
