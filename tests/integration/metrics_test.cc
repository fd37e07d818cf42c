// Prometheus metrics of servers that run.
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/integration/cluster_test.h"
#include "tests/support/tcp.h"

namespace kv739::test {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;

class MetricsTest : public SharedClusterTest {
 protected:
  static std::string Scrape(int i) {
    auto text = HttpGet(cluster().metrics_port(i), "/metrics");
    EXPECT_TRUE(text.ok()) << text.status().message();
    return text.value_or("");
  }

  // Samples by name with labels.
  using Samples = std::map<std::string, double>;
  static Samples Parse(const std::string& text) {
    Samples samples;
    for (absl::string_view line :
         absl::StrSplit(text, absl::ByAnyChar("\r\n"), absl::SkipEmpty())) {
      if (absl::StartsWith(line, "#")) continue;
      const size_t space = line.rfind(' ');
      double value = 0;
      EXPECT_NE(space, absl::string_view::npos) << line;
      EXPECT_TRUE(absl::SimpleAtod(line.substr(space + 1), &value)) << line;
      EXPECT_TRUE(
          samples.emplace(std::string(line.substr(0, space)), value).second)
          << "twice: " << line;
    }
    return samples;
  }
  // The sample of `name` for the group; -1 when there is none.
  static double OfGroup(const Samples& samples, const std::string& name) {
    auto found = samples.find(
        absl::StrCat(name, "{group=\"", cluster().only_group(), "\"}"));
    return found == samples.end() ? -1 : found->second;
  }
  static double Sum(const Samples& samples, const std::string& prefix) {
    double sum = 0;
    for (const auto& [name, value] : samples) {
      if (absl::StartsWith(name, prefix)) sum += value;
    }
    return sum;
  }
};

TEST_F(MetricsTest, TheSevenNamesAreThere) {
  ASSERT_TRUE(client().Put("m", "v").ok());
  ASSERT_TRUE(client().Get("m").ok());
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  int leaders = 0;
  for (int i = 0; i < cluster().size(); ++i) {
    const std::string text = Scrape(i);
    const Samples samples = Parse(text);
    for (const char* name :
         {"raft_term", "raft_state", "raft_log_size", "raft_committed_index"}) {
      EXPECT_GE(OfGroup(samples, name), 0) << name;
    }
    EXPECT_THAT(OfGroup(samples, "raft_state"), AnyOf(0, 1, 2));
    leaders += OfGroup(samples, "raft_state") == 2;
    EXPECT_GE(OfGroup(samples, "raft_term"), 1);
    EXPECT_EQ(Sum(samples, "raft_node_health"), 1);
    EXPECT_THAT(text, HasSubstr("# TYPE raft_request_latency_seconds "
                                "histogram"));
    if (i != leader) continue;
    int peers = 0;
    for (const auto& [name, value] : samples) {
      if (!absl::StartsWith(name, "raft_replication_lag{")) continue;
      EXPECT_THAT(name, HasSubstr(absl::StrCat("group=\"",
                                               cluster().only_group(), "\"")));
      EXPECT_THAT(name, HasSubstr("peer=\""));
      ++peers;
    }
    EXPECT_EQ(peers, 4);
  }
  EXPECT_EQ(leaders, 1);
}

TEST_F(MetricsTest, TheNodesOwnNamesAreThere) {
  const Samples samples = Parse(Scrape(0));
  EXPECT_GE(OfGroup(samples, "kv739_applied_index"), 0);
  EXPECT_GE(OfGroup(samples, "kv739_last_log_index"), 0);
  EXPECT_GE(OfGroup(samples, "kv739_snapshot_index"), 0);
  EXPECT_GE(Sum(samples, "kv739_map_epoch"), 1);
  EXPECT_GT(Sum(samples, "process_resident_memory_bytes"), 0);
}

TEST_F(MetricsTest, ValuesMoveWithTheWork) {
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  const Samples before = Parse(Scrape(leader));
  constexpr int kWrites = 50;
  for (int i = 0; i < kWrites; ++i) {
    ASSERT_TRUE(client().Put(absl::StrCat("move", i), "v").ok());
    ASSERT_TRUE(client().Get(absl::StrCat("move", i)).ok());
  }
  // Leaderships may move on a busy machine; then this leader's counters need
  // not have grown, and the test says nothing.
  if (cluster().WaitForLeader(cluster().only_group()) != leader) {
    GTEST_SKIP() << "the leadership moved";
  }
  Samples after;
  // The scraped figures may be as old as one collection.
  EXPECT_TRUE(Eventually([&] {
    after = Parse(Scrape(leader));
    return OfGroup(after, "raft_committed_index") >=
           OfGroup(before, "raft_committed_index") + kWrites;
  }));
  EXPECT_GE(OfGroup(after, "kv739_applied_index"),
            OfGroup(before, "kv739_applied_index") + kWrites);
  const std::string latency = "raft_request_latency_seconds_count";
  EXPECT_GE(Sum(after, latency), Sum(before, latency) + 2 * kWrites);
  bool by_operation = false;
  for (const auto& [name, value] : after) {
    by_operation = by_operation ||
                   (absl::StartsWith(name, latency) &&
                    absl::StrContains(name, "op=\"put\"") && value >= kWrites);
  }
  EXPECT_TRUE(by_operation);
}

TEST_F(MetricsTest, PromtoolFindsNothing) {
  for (int i = 0; i < cluster().size(); ++i) {
    const std::string text = Scrape(i);
    ASSERT_NE(text, "");
    auto result = RunCommand({PROMTOOL, "check", "metrics"}, kPatience, text);
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(result->code, 0);
    EXPECT_EQ(result->output + result->error, "");
  }
}

TEST_F(MetricsTest, OtherPathsAreNotFound) {
  EXPECT_FALSE(HttpGet(cluster().metrics_port(0), "/nonsense").ok());
}

}  // namespace
}  // namespace kv739::test
