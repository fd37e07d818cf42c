// Leaders of groups on the same servers spread by themselves, without a write
// being lost or a client noticing more than a pause.
#include <algorithm>
#include <vector>

#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

constexpr int kGroups = 10;

class LeaderSpreadTest : public ClusterTest {
 protected:
  // How many groups each server leads.
  std::vector<int> Led() {
    std::vector<int> led(5, 0);
    for (const auto& [group, members] : cluster().groups()) {
      const int leader = cluster().LeaderOf(group);
      if (leader >= 0) ++led[leader];
    }
    return led;
  }
  // Two apiece. A leader rests for ten seconds before it is handed on.
  bool Spread() {
    const std::vector<int> led = Led();
    return std::all_of(led.begin(), led.end(), [](int n) { return n == 2; });
  }
};

TEST_F(LeaderSpreadTest, EachServerComesToLeadItsShareAndGetsItBack) {
  ASSERT_NO_FATAL_FAILURE(StartClusterWith({.servers = 5,
                                            .groups_per_five = kGroups,
                                            .settings = kTestSettings,
                                            .failed = ProgramFailed}));
  ASSERT_EQ(cluster().groups().size(), static_cast<size_t>(kGroups));
  // As uneven as can be.
  for (int group = 0; group < kGroups; ++group) {
    const absl::Status moved = cluster().TransferLeader(group, 0);
    ASSERT_TRUE(moved.ok()) << moved;
  }
  auto client = OpenClient();
  ASSERT_NE(client, nullptr);
  int round = 0;
  const auto put_and_look = [&] {
    ++round;
    for (int key = 0; key < 40; ++key) {
      const Answer put =
          client->Put("key" + std::to_string(key), std::to_string(round));
      EXPECT_EQ(put.code, round == 1 ? 1 : 0) << put;
      if (round > 1) {
        EXPECT_EQ(put.seen, std::to_string(round - 1));
      }
    }
    return Spread();
  };
  EXPECT_TRUE(Eventually(put_and_look)) << ::testing::PrintToString(Led());

  cluster().KillHard(3);
  ASSERT_TRUE(cluster().WaitForLeaders().ok());
  EXPECT_EQ(Led()[3], 0);
  ASSERT_TRUE(cluster().Restart(3).ok());
  EXPECT_TRUE(Eventually(put_and_look)) << ::testing::PrintToString(Led());
}

}  // namespace
}  // namespace kv739::test
