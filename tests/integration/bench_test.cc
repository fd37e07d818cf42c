// kv739 bench against real servers: every mode and workload counts what it
// says, and faults of the servers show.
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

enum Exit { kOk, kNo, kUsage, kUnreachable };

class BenchTest : public ClusterTest {
 protected:
  CommandResult Bench(std::vector<std::string> words) {
    words.insert(words.begin(), {CommandProgram(), "-c", cluster().config(),
                                 "bench", "--keys", "1000"});
    auto result = RunCommand(words, kPatience);
    if (result.ok()) return *result;
    ADD_FAILURE() << result.status().message();
    return {.code = -1000};
  }
  Json BenchJson(std::vector<std::string> words) {
    // Without a warm-up the first operations count: there are some, however
    // slow the machine is.
    words.insert(words.end(), {"--json", "-", "--warmup", "0"});
    const CommandResult result = Bench(words);
    EXPECT_EQ(result.code, kOk) << result.error;
    Json json = Json::parse(result.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << result.output;
    return json;
  }
  // lib739kv repeats what an election refuses; unary calls are not repeated.
  static void ExpectClean(const Json& json) {
    EXPECT_GT(json["ops"], 0);
    EXPECT_EQ(json["not_found"], 0);
    if (json["settings"]["mode"] == "unary") return;
    EXPECT_EQ(json["errors"], 0) << json["first_error"];
    EXPECT_EQ(json["unknown"], 0) << json["first_error"];
  }
};

TEST_F(BenchTest, WorkloadsAndModes) {
  StartCluster();
  const CommandResult load = Bench({"--load", "--seconds", "0"});
  EXPECT_EQ(load.code, kOk) << load.error;
  EXPECT_THAT(load.error, HasSubstr("loaded 1000 keys"));

  for (const char* mode : {"threads", "async", "unary"}) {
    SCOPED_TRACE(mode);
    const Json closed = BenchJson({"--mode", mode, "--workload", "a",
                                   "--seconds", "0.5", "--in-flight", "20"});
    ExpectClean(closed);
    EXPECT_GT(closed["operations"]["read"]["ops"], 0);
    EXPECT_GT(closed["operations"]["update"]["ops"], 0);
    // An open loop gives what was asked for, slow machine or not.
    const Json open =
        BenchJson({"--mode", mode, "--workload", "get", "--seconds", "1",
                   "--rate", "200", "--arrivals", "fixed"});
    ExpectClean(open);
    EXPECT_NEAR(open["arrivals"].get<double>(), 200, 1);
    EXPECT_EQ(open["ops"].get<uint64_t>() + open["errors"].get<uint64_t>() +
                  open["dropped"].get<uint64_t>(),
              open["arrivals"].get<uint64_t>());
  }
  for (const char* workload : {"b", "c", "d", "f", "put"}) {
    SCOPED_TRACE(workload);
    ExpectClean(BenchJson({"--workload", workload, "--seconds", "0.3"}));
  }
  for (const char* mode : {"threads", "async", "unary"}) {
    SCOPED_TRACE(mode);
    const Json scans = BenchJson({"--mode", mode, "--workload", "e",
                                  "--seconds", "0.5", "--in-flight", "20"});
    ExpectClean(scans);
    const auto count = scans["operations"]["scan"]["ops"].get<double>();
    EXPECT_GT(count, 0);
    // 50.5 on the average, less at the end of the keys.
    EXPECT_GT(scans["scanned_keys"].get<double>(), 20 * count);
    EXPECT_LE(scans["scanned_keys"].get<double>(), 100 * count);
    if (count > 200) {
      EXPECT_GT(scans["operations"]["insert"]["ops"], 0);
    }
  }
}

TEST_F(BenchTest, VerdictAndServersThatGo) {
  StartCluster();
  const std::string bounds = cluster().config() + ".bounds";
  std::ofstream(bounds) << R"({"p50_ms": {"max": 0.000001},)"
                        << R"( "ops_per_second": {"min": 1}})";
  const CommandResult judged =
      Bench({"--workload", "put", "--seconds", "0.3", "--warmup", "0",
             "--target-file", bounds});
  EXPECT_EQ(judged.code, kNo);
  EXPECT_THAT(judged.output, HasSubstr("p50_ms <= 1e-06: NOT MET"));
  EXPECT_THAT(judged.output, HasSubstr("1 <= ops_per_second: met"));

  cluster().KillHardAll();
  for (const char* mode : {"threads", "async", "unary"}) {
    const CommandResult gone = Bench({"--mode", mode, "--timeout", "500"});
    EXPECT_EQ(gone.code, kUnreachable) << gone.error;
    EXPECT_EQ(gone.output, "");
  }
}

}  // namespace
}  // namespace kv739::test
