// SIGTERM: leaderships are handed over, writes go on, the exit code is 0.
#include <signal.h>

#include <cstdio>

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

class CleanStopTest : public ClusterTest {};

TEST_F(CleanStopTest, ALeaderHandsOverAndWritesGoOn) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  Workload workload(cluster().config(), {.clients = 6, .keys = 8});
  ASSERT_TRUE(workload.Start().ok());
  ASSERT_TRUE(workload.WaitForWrites(200));
  std::vector<Nanos> stops;
  for (int signal : {SIGTERM, SIGINT}) {
    const int leader = cluster().WaitForLeader(cluster().only_group());
    ASSERT_GE(leader, 0);
    const Nanos from = Now();
    cluster().Signal(leader, signal);
    EXPECT_EQ(cluster().WaitExit(leader), 0);
    EXPECT_TRUE(workload.WaitForWrites(200));
    const int next = cluster().WaitForLeader(cluster().only_group());
    EXPECT_NE(next, leader);
    stops.push_back(from);
    ASSERT_TRUE(cluster().Restart(leader).ok());
  }
  workload.Stop();
  auto client = OpenClient();
  const auto operations = WithFinalReads(workload, *client);
  PrintTally(operations);
  for (Nanos from : stops) {
    std::printf("longest time without a write after a stop in order: %.0f ms\n",
                absl::ToDoubleMilliseconds(
                    LongestGap(operations, from, from + 3'000'000'000)));
  }
  const auto violation = CheckPuts(operations);
  EXPECT_FALSE(violation.has_value()) << violation->text;
  // No client was told that its write's outcome is unknown: a stop in order
  // answers what it has taken.
  EXPECT_EQ(Count(operations, false).unknown, 0);
}

TEST_F(CleanStopTest, DieByCallIsAStopInOrder) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  auto client = OpenClient();
  ASSERT_EQ(client->Put("k", "v").code, 1);
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  EXPECT_EQ(kv739_client_die(client->handle(),
                             cluster().address(leader).c_str(), 1, 30'000),
            KV739_OK)
      << kv739_last_error();
  EXPECT_EQ(cluster().WaitExit(leader), 0);
  EXPECT_EQ(client->Get("k").seen, "v");
  const int next = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(next, 0);
  EXPECT_EQ(kv739_client_die(client->handle(), cluster().address(next).c_str(),
                             0, 30'000),
            KV739_OK)
      << kv739_last_error();
  ASSERT_TRUE(cluster().WaitExit(next).has_value());
  // Three of five are left.
  EXPECT_EQ(client->Put("k", "w").seen, "v");
}

TEST_F(CleanStopTest, ASecondSignalExitsAtOnce) {
  // The others are held, so that nobody takes the leadership over and the
  // stop has to wait for as long as it may.
  ASSERT_NO_FATAL_FAILURE(StartCluster(
      5, std::string(kTestSettings) + "server:\n  stop_timeout_ms: 300000\n"));
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  for (int i = 0; i < cluster().size(); ++i) {
    if (i != leader) cluster().Pause(i);
  }
  auto client = OpenClient(1'000);
  // A write that cannot be committed is under way.
  EXPECT_LT(client->Put("k", "v").code, 0);
  cluster().Terminate(leader);
  const size_t before = ReadFile(cluster().log_path(leader)).size();
  Eventually([&] {
    return !cluster().running(leader) ||
           ReadFile(cluster().log_path(leader)).size() > before;
  });
  cluster().Terminate(leader);
  const auto code = cluster().WaitExit(leader);
  ASSERT_TRUE(code.has_value());
  std::printf("exit code after the second signal: %d\n", *code);
  for (int i = 0; i < cluster().size(); ++i) {
    if (i != leader) cluster().Resume(i);
  }
  ASSERT_TRUE(cluster().Restart(leader).ok());
  EXPECT_TRUE(cluster().WaitForLeaders().ok());
}

}  // namespace
}  // namespace kv739::test
