// Twenty servers: four groups of five. And numbers of servers that are no
// multiple of five.
#include "tests/integration/multi_group.h"

namespace kv739::test {
namespace {

TEST_F(MultiGroupTest, TwentyServersAreFourGroups) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(20));
  ASSERT_NO_FATAL_FAILURE(CheckGroups(4));
  ASSERT_NO_FATAL_FAILURE(CheckIndependence());
}

TEST_F(MultiGroupTest, ThreeServersAreOneGroup) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(3));
  ASSERT_EQ(cluster().groups().size(), 1u);
  EXPECT_EQ(cluster().groups().begin()->second.size(), 3u);
  auto client = OpenClient();
  EXPECT_EQ(client->Put("k", "v").code, 1);
  cluster().KillHard(cluster().WaitForLeader(cluster().only_group()));
  EXPECT_EQ(client->Get("k").seen, "v");
}

TEST_F(MultiGroupTest, ServersBehindTheLastFiveAreSpares) {
  ASSERT_NO_FATAL_FAILURE(StartCluster(7));
  ASSERT_EQ(cluster().groups().size(), 1u);
  EXPECT_THAT(cluster().groups().begin()->second,
              ::testing::UnorderedElementsAre(0, 1, 2, 3, 4));
  auto client = OpenClient();
  EXPECT_EQ(client->Put("k", "v").code, 1);
  for (int spare : {5, 6}) {
    auto status = cluster().Status(spare);
    ASSERT_TRUE(status.ok()) << status.status().message();
    EXPECT_EQ(status->replicas_size(), 0);
    EXPECT_TRUE(status->healthy());
  }
}

}  // namespace
}  // namespace kv739::test
