// Groups whose members change: by an operator's word, and by themselves.
#include <filesystem>

#include "tests/integration/cluster_test.h"
#include "tests/support/bulk.h"

namespace kv739::test {
namespace {

class MembershipTest : public ClusterTest {
 protected:
  void StartWith(int servers, int extra, std::string settings) {
    cluster_ = std::make_unique<Cluster>(
        ClusterOptions{.servers = servers,
                       .extra = extra,
                       .settings = std::move(settings),
                       .failed = ProgramFailed});
    const absl::Status started = cluster_->Start();
    ASSERT_TRUE(started.ok()) << started.message();
  }
  Cluster& cluster() { return *cluster_; }
  std::unique_ptr<Client> OpenClient() {
    auto client = Client::Open(cluster().config(), 30'000);
    if (client.ok()) return *std::move(client);
    ADD_FAILURE() << client.status().message();
    return nullptr;
  }
  // As many new servers as there are places, known to the map.
  void StartNewOnes() {
    for (int i = cluster().size(); i < cluster().total(); ++i) {
      ASSERT_TRUE(cluster().StartNew(i).ok());
      ASSERT_TRUE(Eventually([&] { return cluster().NodeId(i) != 0; }))
          << cluster().LogTails();
    }
  }
  void StartLoad() {
    workload_ = std::make_unique<Workload>(
        cluster().config(), WorkloadOptions{.clients = 4,
                                            .keys = 8,
                                            .gets_percent = 30,
                                            .pace = absl::Milliseconds(2)});
    ASSERT_TRUE(workload_->Start().ok());
    client_ = OpenClient();
    ASSERT_NE(client_, nullptr);
    ASSERT_TRUE(workload_->WaitForWrites(100));
  }
  void StopAndCheck() {
    workload_->Stop();
    const auto operations = WithFinalReads(*workload_, *client_);
    PrintTally(operations);
    const auto violation = CheckPuts(operations);
    EXPECT_FALSE(violation.has_value()) << violation->text;
  }
  void TearDown() override {
    if (workload_ != nullptr) workload_->Stop();
  }

  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<Workload> workload_;
  std::unique_ptr<Client> client_;
};

TEST_F(MembershipTest, AllFiveAreReplacedOneByOne) {
  ASSERT_NO_FATAL_FAILURE(StartWith(5, 5, kTestSettings));
  ASSERT_NO_FATAL_FAILURE(StartNewOnes());
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  std::vector<int> members = {0, 1, 2, 3, 4};
  for (int old = 0; old < 5; ++old) {
    const absl::Status left = cluster().RemoveServer(old);
    ASSERT_TRUE(left.ok()) << left;
    // It stops by itself once it is out.
    EXPECT_EQ(cluster().WaitExit(old), 0) << cluster().LogTails();
    // A client that asks now and then learns where the cluster has gone.
    EXPECT_TRUE(client_->Get("key0").ok());
  }
  members = {5, 6, 7, 8, 9};
  const absl::Status changed = cluster().WaitForMembers(0, members);
  ASSERT_TRUE(changed.ok()) << changed;
  EXPECT_TRUE(workload_->WaitForWrites(100));
  ASSERT_NO_FATAL_FAILURE(StopAndCheck());
  const absl::Status hashes = cluster().WaitForEqualHashes(0);
  EXPECT_TRUE(hashes.ok()) << hashes;
}

TEST_F(MembershipTest, ADeadServerIsReplacedByASpare) {
  ASSERT_NO_FATAL_FAILURE(StartWith(6, 0, kSoonReplaced));
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  cluster().KillHard(4);
  const absl::Status replaced = cluster().WaitForMembers(0, {0, 1, 2, 3, 5});
  ASSERT_TRUE(replaced.ok()) << replaced;
  // Two more may die: three of five are there.
  cluster().KillHard(0);
  cluster().KillHard(1);
  EXPECT_TRUE(workload_->WaitForWrites(100));
  ASSERT_NO_FATAL_FAILURE(StopAndCheck());
  // The one that was replaced comes back as a spare and holds nothing.
  ASSERT_TRUE(cluster().Restart(4).ok());
  EXPECT_TRUE(Eventually([&] {
    auto status = cluster().Status(4);
    return status.ok() && status->replicas_size() == 0;
  }));
}

TEST_F(MembershipTest, AServerThatComesBackInTimeIsNotReplaced) {
  ASSERT_NO_FATAL_FAILURE(StartWith(6, 0, kSoonReplaced));
  auto client = OpenClient();
  ASSERT_TRUE(client->Put("a", "1").ok());
  cluster().KillHard(4);
  ASSERT_TRUE(client->Put("a", "2").ok());
  ASSERT_TRUE(cluster().Restart(4).ok());
  const absl::Status caught_up = cluster().WaitForEqualReplicas(0);
  EXPECT_TRUE(caught_up.ok()) << caught_up;
  const absl::Status same = cluster().WaitForMembers(0, {0, 1, 2, 3, 4});
  EXPECT_TRUE(same.ok()) << same;
}

TEST_F(MembershipTest, AWipedServerComesBackAsAnotherOne) {
  ASSERT_NO_FATAL_FAILURE(StartWith(5, 0, kTestSettings));
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  const uint64_t before = cluster().NodeId(3);
  cluster().KillHard(3);
  std::filesystem::remove_all(cluster().data_dir(3));
  ASSERT_TRUE(cluster().Restart(3).ok());
  EXPECT_TRUE(Eventually([&] {
    const uint64_t now = cluster().NodeId(3);
    return now != 0 && now != before;
  })) << cluster().LogTails();
  const absl::Status members = cluster().WaitForMembers(0, {0, 1, 2, 3, 4});
  ASSERT_TRUE(members.ok()) << members;
  ASSERT_NO_FATAL_FAILURE(StopAndCheck());
  const absl::Status hashes = cluster().WaitForEqualHashes(0);
  EXPECT_TRUE(hashes.ok()) << hashes;
}

TEST_F(MembershipTest, NoGroupIsLeftWithFewerThanThree) {
  ASSERT_NO_FATAL_FAILURE(StartWith(5, 0, kTestSettings));
  ASSERT_TRUE(cluster().RemoveServer(0).ok());
  EXPECT_EQ(cluster().WaitExit(0), 0);
  ASSERT_TRUE(cluster().RemoveServer(1).ok());
  EXPECT_EQ(cluster().WaitExit(1), 0);
  const absl::Status left = cluster().WaitForMembers(0, {2, 3, 4});
  ASSERT_TRUE(left.ok()) << left;
  const absl::Status refused = cluster().RemoveServer(2);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition) << refused;
  EXPECT_THAT(std::string(refused.message()), ::testing::HasSubstr("group 0"));
  // What left stays away from its old data.
  ASSERT_TRUE(cluster().Restart(0).ok());
  EXPECT_EQ(cluster().WaitExit(0), 2) << cluster().LogTails();
  auto client = OpenClient();
  EXPECT_TRUE(client->Put("still", "here").ok());
}

// Streams are opened by the smaller id: nobody calls the one with the largest
// once it has left, so it must ask.
TEST_F(MembershipTest, AServerThatLeftWhileItWasDownStopsWhenItIsStarted) {
  ASSERT_NO_FATAL_FAILURE(StartWith(5, 0, kTestSettings));
  int largest = 0;
  uint64_t id = 0;
  for (int i = 0; i < cluster().size(); ++i) {
    if (cluster().NodeId(i) > id) {
      id = cluster().NodeId(i);
      largest = i;
    }
  }
  cluster().KillHard(largest);
  const absl::Status removed = cluster().RemoveServer(largest);
  ASSERT_TRUE(removed.ok()) << removed;
  std::vector<int> rest;
  for (int i = 0; i < cluster().size(); ++i) {
    if (i != largest) rest.push_back(i);
  }
  const absl::Status left = cluster().WaitForMembers(0, rest);
  ASSERT_TRUE(left.ok()) << left;
  // Nor do those who were started after it had left try to reach it.
  for (int i : rest) {
    cluster().KillHard(i);
    ASSERT_TRUE(cluster().Restart(i).ok());
  }
  ASSERT_TRUE(cluster().WaitForLeaders().ok());
  ASSERT_TRUE(cluster().Restart(largest).ok());
  EXPECT_THAT(cluster().WaitExit(largest),
              ::testing::AnyOf(::testing::Optional(0), ::testing::Optional(2)))
      << cluster().LogTails();
  // From then on its data directory knows.
  ASSERT_TRUE(cluster().Restart(largest).ok());
  EXPECT_EQ(cluster().WaitExit(largest), 2) << cluster().LogTails();
}

TEST_F(MembershipTest, ANewServerFillsASmallGroup) {
  ASSERT_NO_FATAL_FAILURE(StartWith(3, 2, kTestSettings));
  auto client = OpenClient();
  Bulk bulk(*client, 100);
  ASSERT_TRUE(bulk.Put(0, 12'000, 1).ok());
  ASSERT_NO_FATAL_FAILURE(StartNewOnes());
  const absl::Status members = cluster().WaitForMembers(0, {0, 1, 2, 3, 4});
  ASSERT_TRUE(members.ok()) << members;
  // They hold what was written before they were there.
  cluster().KillHard(0);
  cluster().KillHard(1);
  const absl::Status read = bulk.Verify(0, 12'000, 1);
  EXPECT_TRUE(read.ok()) << read;
}

}  // namespace
}  // namespace kv739::test
