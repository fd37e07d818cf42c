// Servers that die or stall under load: writes go on, and the history of the
// clients stays linearizable.
#include <cstdio>

#include "absl/time/clock.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

class FailoverTest : public ClusterTest {
 protected:
  void StartLoad() {
    ASSERT_NO_FATAL_FAILURE(StartCluster());
    workload_ = std::make_unique<Workload>(
        cluster().config(),
        WorkloadOptions{.clients = 6, .keys = 8, .gets_percent = 40});
    ASSERT_TRUE(workload_->Start().ok());
    ASSERT_TRUE(workload_->WaitForWrites(200));
  }

  // A leader other than `not_this` of a majority that answers.
  int WaitForOtherLeader(int not_this) {
    int leader = -1;
    Eventually([&] {
      leader = cluster().LeaderOf(cluster().only_group());
      return leader >= 0 && leader != not_this;
    });
    return leader;
  }

  void StopAndCheck() {
    workload_->Stop();
    auto client = OpenClient();
    const auto operations = WithFinalReads(*workload_, *client);
    PrintTally(operations);
    const auto violation = CheckPuts(operations);
    EXPECT_FALSE(violation.has_value()) << violation->text;
    // Those that were away catch up.
    const absl::Status equal =
        cluster().WaitForEqualReplicas(cluster().only_group());
    EXPECT_TRUE(equal.ok()) << equal.message();
  }

  void PrintGap(const char* what, Nanos from) {
    gaps_.emplace_back(what, from);
  }
  void TearDown() override {
    if (workload_ == nullptr) return;
    workload_->Stop();
    for (const auto& [what, from] : gaps_) {
      std::printf("longest time without a write after %s: %.0f ms\n", what,
                  absl::ToDoubleMilliseconds(LongestGap(
                      workload_->operations(), from, from + 10'000'000'000)));
    }
  }

  std::unique_ptr<Workload> workload_;

 private:
  std::vector<std::pair<const char*, Nanos>> gaps_;
};

TEST_F(FailoverTest, TheLeaderIsKilledTwice) {
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  for (int round = 0; round < 2; ++round) {
    const int leader = cluster().WaitForLeader(cluster().only_group());
    ASSERT_GE(leader, 0);
    const Nanos killed = Now();
    cluster().KillHard(leader);
    const int next = WaitForOtherLeader(leader);
    ASSERT_GE(next, 0);
    ASSERT_NE(next, leader);
    EXPECT_TRUE(workload_->WaitForWrites(200));
    PrintGap("a kill of the leader", killed);
    ASSERT_TRUE(cluster().Restart(leader).ok());
    EXPECT_TRUE(workload_->WaitForWrites(200));
  }
  StopAndCheck();
}

TEST_F(FailoverTest, TwoFollowersAreKilled) {
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  const int first = (leader + 1) % cluster().size();
  const int second = (leader + 2) % cluster().size();
  const Nanos killed = Now();
  cluster().KillHard(first);
  cluster().KillHard(second);
  EXPECT_TRUE(workload_->WaitForWrites(200));
  PrintGap("a kill of two followers", killed);
  ASSERT_TRUE(cluster().Restart(first).ok());
  ASSERT_TRUE(cluster().Restart(second).ok());
  EXPECT_TRUE(workload_->WaitForWrites(200));
  StopAndCheck();
}

TEST_F(FailoverTest, TheLeaderStallsForThreeSeconds) {
  ASSERT_NO_FATAL_FAILURE(StartLoad());
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  const absl::Time paused = absl::Now();
  const Nanos from = Now();
  cluster().Pause(leader);
  const int next = WaitForOtherLeader(leader);
  ASSERT_GE(next, 0);
  while (absl::Now() < paused + absl::Seconds(3)) {
    ASSERT_TRUE(workload_->WaitForWrites(50));
  }
  PrintGap("a stall of the leader", from);
  // It wakes up believing that it leads. Its clients must not be told what
  // was true before.
  cluster().Resume(leader);
  EXPECT_TRUE(workload_->WaitForWrites(300));
  StopAndCheck();
}

}  // namespace
}  // namespace kv739::test
