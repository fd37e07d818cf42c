// Runs the program in C against five servers; and the same calls for
// std::string in C++.
#include <string>

#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

class ClassicApiTest : public ClusterTest {};

TEST_F(ClassicApiTest, WorksInC) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  auto result = RunCommand(
      {CLASSIC_API_PROGRAM, cluster().config(), cluster().address(leader)},
      kPatience, "", {"KV739_TIMEOUT_MS=20000"});
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->code, 0) << result->error;
  EXPECT_EQ(result->output, "all is well\n");
  EXPECT_EQ(cluster().WaitExit(leader), 0);

  // Strings of any length and with any bytes.
  ASSERT_EQ(kv739_init(cluster().config()), 0) << kv739_last_error();
  std::string value;
  std::string old_value;
  const std::string big(100'000, '\0');
  EXPECT_EQ(kv739_put(std::string("cc"), big, old_value), 1);
  EXPECT_EQ(kv739_get(std::string("cc"), value), 0);
  EXPECT_EQ(value, big);
  EXPECT_EQ(kv739_put(std::string("cc"), std::string(), old_value), 0);
  EXPECT_EQ(old_value, big);
  EXPECT_EQ(kv739_get(std::string("cc"), value), 0);
  EXPECT_EQ(value, "");
  EXPECT_EQ(kv739_get(std::string("c\0c", 3), value), 1);
  EXPECT_EQ(kv739_get(std::string(), value), -1);
  EXPECT_EQ(kv739_shutdown(), 0);
}

}  // namespace
}  // namespace kv739::test
