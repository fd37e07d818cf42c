// What was acknowledged is there after a restart: of all servers in order, and
// of all servers killed at once under load.
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

class RestartTest : public ClusterTest {
 protected:
  // Of every replica that answers, by server and group.
  using Terms = std::map<std::pair<int, uint64_t>, uint64_t>;
  Terms AllTerms() {
    Terms terms;
    for (int i = 0; i < cluster().size(); ++i) {
      auto status = cluster().Status(i);
      if (!status.ok()) continue;
      for (const v1::ReplicaStatus& replica : status->replicas()) {
        terms[{i, replica.group()}] = replica.term();
      }
    }
    return terms;
  }

  void RestartAll() {
    for (int i = 0; i < cluster().size(); ++i) {
      ASSERT_TRUE(cluster().Restart(i).ok());
    }
    const absl::Status leaders = cluster().WaitForLeaders();
    ASSERT_TRUE(leaders.ok()) << leaders.message();
  }
};

TEST_F(RestartTest, AllServersStopInOrderAndComeBackWithTheirData) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  constexpr int kKeys = 100;
  std::map<std::string, uint64_t> versions;
  {
    auto client = OpenClient();
    for (int i = 0; i < kKeys; ++i) {
      const std::string key = absl::StrCat("k", i);
      Answer put = client->Put(key, absl::StrCat("v", i));
      ASSERT_EQ(put.code, 1) << put;
      versions[key] = put.version;
    }
    ASSERT_EQ(client->Put("big", std::string(500'000, 'b')).code, 1);
    ASSERT_EQ(client->Put("gone", "x").code, 1);
    ASSERT_EQ(client->Delete("gone").code, 0);
  }
  const Terms before = AllTerms();
  ASSERT_EQ(before.size(), 5u);
  for (int i = 0; i < cluster().size(); ++i) cluster().Terminate(i);
  for (int i = 0; i < cluster().size(); ++i) {
    EXPECT_EQ(cluster().WaitExit(i), 0) << "server " << i;
  }
  ASSERT_NO_FATAL_FAILURE(RestartAll());

  for (const auto& [replica, term] : AllTerms()) {
    EXPECT_GE(term, before.at(replica)) << "server " << replica.first;
  }
  auto client = OpenClient();
  uint64_t newest = 0;
  for (const auto& [key, version] : versions) {
    Answer get = client->Get(key);
    EXPECT_EQ(get.code, 0) << key << get;
    EXPECT_EQ(get.seen, "v" + key.substr(1));
    EXPECT_EQ(get.version, version);
    newest = std::max(newest, version);
  }
  EXPECT_EQ(client->Get("big").seen, std::string(500'000, 'b'));
  EXPECT_EQ(client->Get("gone").code, 1);
  Answer put = client->Put("k0", "new");
  EXPECT_EQ(put.seen, "v0");
  EXPECT_GT(put.version, newest);
}

TEST_F(RestartTest, AllServersKilledAtOnceLoseNothingAcknowledged) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  Workload workload(cluster().config(), {.clients = 8, .keys = 12});
  ASSERT_TRUE(workload.Start().ok());
  constexpr int kRounds = 3;
  for (int round = 0; round < kRounds; ++round) {
    ASSERT_TRUE(workload.WaitForWrites(300));
    const Terms before = AllTerms();
    cluster().KillHardAll();
    ASSERT_NO_FATAL_FAILURE(RestartAll());
    for (const auto& [replica, term] : AllTerms()) {
      auto old = before.find(replica);
      if (old == before.end()) continue;
      EXPECT_GE(term, old->second) << "server " << replica.first;
    }
  }
  EXPECT_TRUE(workload.WaitForWrites(300));
  workload.Stop();
  auto client = OpenClient();
  const auto operations = WithFinalReads(workload, *client);
  PrintTally(operations);
  const auto violation = CheckPuts(operations);
  EXPECT_FALSE(violation.has_value()) << violation->text;
  for (const auto& [group, members] : cluster().groups()) {
    const absl::Status equal = cluster().WaitForEqualReplicas(group);
    EXPECT_TRUE(equal.ok()) << equal.message();
  }
}

}  // namespace
}  // namespace kv739::test
