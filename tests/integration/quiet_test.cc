// A cluster in which nothing happens: its groups rest, and it is there at once
// when something does.
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/cluster_test.h"
#include "tests/support/scrape.h"

namespace kv739::test {
namespace {

class QuietTest : public ClusterTest {
 protected:
  void SetUp() override {
    ASSERT_NO_FATAL_FAILURE(StartCluster(
        5, absl::StrCat(kTestSettings, "raft:\n  quiesce_after_ticks: 25\n")));
    client_ = OpenClient();
    ASSERT_NE(client_, nullptr);
    ASSERT_TRUE(client_->Put("k", "1").ok());
  }
  bool AllRest() {
    for (int i = 0; i < cluster().size(); ++i) {
      if (cluster().running(i) &&
          ScrapeMetric(cluster().metrics_port(i), "kv739_quiet_groups") != 1) {
        return false;
      }
    }
    return true;
  }
  uint64_t group() { return cluster().only_group(); }

  std::unique_ptr<Client> client_;
};

TEST_F(QuietTest, AnIdleClusterRestsAndServesAtOnce) {
  ASSERT_TRUE(Eventually([&] { return AllRest(); }));
  const int leader = cluster().WaitForLeader(group());
  const absl::Time start = absl::Now();
  ASSERT_TRUE(client_->Put("k", "2").ok());
  EXPECT_EQ(client_->Get("k").seen, Stored("2"));
  std::printf("a put and a get of a resting group: %.1f ms\n",
              absl::ToDoubleMilliseconds(absl::Now() - start));
  EXPECT_EQ(cluster().WaitForLeader(group()), leader);
  EXPECT_TRUE(Eventually([&] { return AllRest(); }));
}

// Nobody asks for anything, and still there is a new leader soon.
TEST_F(QuietTest, ALeaderThatIsKilledIsReplacedUnasked) {
  ASSERT_TRUE(Eventually([&] { return AllRest(); }));
  const int old = cluster().WaitForLeader(group());
  ASSERT_GE(old, 0);
  const absl::Time start = absl::Now();
  cluster().KillHard(old);
  int next = -1;
  ASSERT_TRUE(Eventually([&] {
    next = cluster().LeaderOf(group());
    return next >= 0 && next != old;
  }));
  std::printf("a leader %.0f ms after the kill of the one that rested\n",
              absl::ToDoubleMilliseconds(absl::Now() - start));
  ASSERT_TRUE(client_->Put("k", "3").ok());
  // With a member dead it does not rest; once that is back it does.
  ASSERT_TRUE(cluster().Restart(old).ok());
  EXPECT_TRUE(Eventually([&] { return cluster().running(old) && AllRest(); }));
  EXPECT_TRUE(cluster().WaitForEqualReplicas(group()).ok());
}

// It says nothing, and its connections stand.
TEST_F(QuietTest, ALeaderThatIsPausedIsReplacedUnasked) {
  ASSERT_TRUE(Eventually([&] { return AllRest(); }));
  const int old = cluster().WaitForLeader(group());
  ASSERT_GE(old, 0);
  const absl::Time start = absl::Now();
  cluster().Pause(old);
  ASSERT_TRUE(Eventually([&] {
    for (int i = 0; i < cluster().size(); ++i) {
      if (i == old) continue;
      auto replica = cluster().Replica(i, group());
      if (replica && replica->role() == v1::LEADER) return true;
    }
    return false;
  }));
  std::printf("a leader %.0f ms after the pause of the one that rested\n",
              absl::ToDoubleMilliseconds(absl::Now() - start));
  cluster().Resume(old);
  EXPECT_TRUE(Eventually([&] { return AllRest(); }));
}

}  // namespace
}  // namespace kv739::test
