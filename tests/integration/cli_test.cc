// The kv739 command against servers that run, are partly down, and are gone.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

enum Exit { kOk, kNo, kUsage, kUnreachable, kDegraded, kUnknown };

class CliTest : public ClusterTest {
 protected:
  CommandResult Run(std::vector<std::string> words,
                    const std::string& input = "") {
    words.insert(words.begin(), {CommandProgram(), "-c", cluster().config()});
    auto result = RunCommand(words, kPatience, input);
    if (result.ok()) return *result;
    ADD_FAILURE() << result.status().message();
    return {.code = -1000};
  }
  void Expect(const std::vector<std::string>& words, int code,
              const std::string& output) {
    const CommandResult result = Run(words);
    EXPECT_EQ(result.code, code) << words.front() << ": " << result.error;
    EXPECT_EQ(result.output, output) << words.front();
  }
  Json RunJson(std::vector<std::string> words, int code) {
    words.push_back("--json");
    const CommandResult result = Run(words);
    EXPECT_EQ(result.code, code) << words.front() << ": " << result.error;
    Json json = Json::parse(result.output, nullptr, false);
    EXPECT_FALSE(json.is_discarded()) << result.output;
    return json;
  }

  void CheckData() {
    Expect({"put", "k", "one"}, kOk, "");
    Expect({"get", "k"}, kOk, "one\n");
    const CommandResult again = Run({"put", "k", "two"});
    EXPECT_EQ(again.code, kOk);
    EXPECT_THAT(again.error, HasSubstr("one"));
    Expect({"get", "-o", "raw", "k"}, kOk, "two");
    Expect({"append", "k", "-and"}, kUsage, "");
    Expect({"append", "k", "--", "-and"}, kOk, "");
    Expect({"get", "k"}, kOk, "two-and\n");
    Expect({"get", "none"}, kNo, "");
    Expect({"del", "none"}, kNo, "");
    Expect({"del", "k"}, kOk, "");
    Expect({"get", "k"}, kNo, "");
    EXPECT_EQ(Run({"put", "file", "-"}, "from input").code, kOk);
    Expect({"get", "file"}, kOk, "from input\n");
  }
  void CheckJson() {
    Json put = RunJson({"put", "j", "one"}, kOk);
    EXPECT_EQ(put["existed"], false);
    const std::string version = put["version"];
    Json get = RunJson({"get", "j"}, kOk);
    EXPECT_EQ(get["found"], true);
    EXPECT_EQ(get["value"], "one");
    EXPECT_EQ(get["version"], version);
    Json cas = RunJson({"cas", "j", "1", "no"}, kNo);
    EXPECT_EQ(cas["swapped"], false);
    EXPECT_EQ(cas["version"], version);
    EXPECT_EQ(RunJson({"cas", "j", version, "two"}, kOk)["swapped"], true);
    EXPECT_EQ(RunJson({"get", "none"}, kNo)["found"], false);
    EXPECT_EQ(RunJson({"del", "j"}, kOk)["old_value"], "two");
  }
  void CheckUsage() {
    EXPECT_EQ(Run({"put", "k"}).code, kUsage);
    EXPECT_EQ(Run({"nonsense"}).code, kUsage);
    EXPECT_EQ(Run({"get", "k", "--no-such-option"}).code, kUsage);
    EXPECT_EQ(Run({"put", "", "v"}).code, kUsage);
    EXPECT_EQ(Run({"put", std::string(257, 'k'), "v"}).code, kUsage);
    EXPECT_EQ(Run({"put", "k", "-"}, std::string(1'024'001, 'v')).code, kUsage);
    auto missing = RunCommand({CommandProgram(), "-c", "/none", "get", "k"});
    ASSERT_TRUE(missing.ok());
    EXPECT_EQ(missing->code, kUsage);
    EXPECT_THAT(missing->error, HasSubstr("/none"));
    auto version = RunCommand({CommandProgram(), "--version"});
    ASSERT_TRUE(version.ok());
    EXPECT_EQ(version->code, kOk);
    EXPECT_THAT(version->output, HasSubstr("0.1.0"));
  }
  void CheckShell() {
    const CommandResult result = Run({"shell"},
                                     "# a comment\n"
                                     "put s 'a value'\n"
                                     "get s\n"
                                     "append s !\n"
                                     "get s --json\n"
                                     "del s\n");
    EXPECT_EQ(result.code, kOk) << result.error;
    EXPECT_THAT(result.output, HasSubstr("a value\n"));
    EXPECT_THAT(result.output, HasSubstr("a value!"));
    EXPECT_EQ(Run({"shell"}, "get s\n").code, kNo);
    EXPECT_EQ(Run({"shell"}, "nonsense\n").code, kUsage);
  }
};

TEST_F(CliTest, EveryVerbAndEveryExitCode) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  CheckData();
  CheckJson();
  CheckUsage();
  CheckShell();

  const CommandResult status = Run({"status"});
  EXPECT_EQ(status.code, kOk) << status.output << status.error;
  Json json = RunJson({"status"}, kOk);
  ASSERT_EQ(json["groups"].size(), 1u);
  EXPECT_EQ(json["groups"][0]["members"].size(), 5u);
  EXPECT_EQ(json["servers"].size(), 5u);
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  EXPECT_EQ(Run({"ping"}).code, kOk);
  EXPECT_EQ(Run({"ping", cluster().address(leader)}).code, kOk);

  // One server is gone: it all works, and status says so.
  const int follower = (leader + 1) % cluster().size();
  cluster().KillHard(follower);
  const CommandResult degraded = Run({"status"});
  EXPECT_EQ(degraded.code, kDegraded) << degraded.output;
  EXPECT_THAT(degraded.output, HasSubstr(cluster().address(follower)));
  EXPECT_EQ(RunJson({"status"}, kDegraded)["groups"][0]["members"].size(), 5u);
  Expect({"put", "k", "v"}, kOk, "");
  EXPECT_EQ(Run({"ping", cluster().address(follower)}).code, kNo);

  // The leader cannot reach a majority: nobody can say what becomes of a
  // write that it has taken.
  for (int i = 0; i < cluster().size(); ++i) {
    if (i != leader && i != follower) cluster().Pause(i);
  }
  const CommandResult unknown = Run({"put", "k", "w", "--timeout", "400"});
  EXPECT_THAT(unknown.code, ::testing::AnyOf(kUnknown, kUnreachable))
      << unknown.error;
  std::printf("put without a majority: exit code %d, %s", unknown.code,
              unknown.error.c_str());

  cluster().KillHardAll();
  EXPECT_EQ(Run({"get", "k", "--timeout", "500"}).code, kUnreachable);
  EXPECT_EQ(Run({"put", "k", "v", "--timeout", "500"}).code, kUnreachable);
  EXPECT_EQ(Run({"status", "--timeout", "500"}).code, kUnreachable);
  EXPECT_EQ(Run({"ping", "--timeout", "500"}).code, kNo);
}

}  // namespace
}  // namespace kv739::test
