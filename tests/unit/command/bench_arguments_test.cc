// kv739 bench: what is refused before any server is asked, and servers that
// are not there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/unit/command/harness.h"

namespace kv739::command {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Ran Bench(std::vector<std::string> words) {
  words.insert(words.begin(), "bench");
  return RunCommand(std::move(words));
}

void ExpectUsage(const std::vector<std::string>& words,
                 const std::vector<std::string>& why) {
  const Ran ran = Bench(words);
  EXPECT_EQ(ran.exit, kUsage);
  EXPECT_THAT(ran.out, IsEmpty());
  for (const std::string& part : why) EXPECT_THAT(ran.err, HasSubstr(part));
}

TEST(BenchArguments, Refused) {
  ExpectUsage({"--workload", "g"}, {"no such workload: g", "a, b, c, d, e, f"});
  ExpectUsage({"--mix", "101"}, {"--mix", "101", "0", "100"});
  ExpectUsage({"--mix", "50", "--workload", "a"}, {"--mix", "--workload"});
  ExpectUsage({"--in-flight", "0"}, {"--in-flight", "0", "1000"});
  ExpectUsage({"--in-flight", "1001"}, {"--in-flight", "1001", "1000"});
  ExpectUsage({"--in-flight", "many"}, {"--in-flight", "many"});
  ExpectUsage({"--keys", "0"}, {"--keys", "1000000000"});
  ExpectUsage({"--key-size", "5"}, {"--key-size", "5", "6", "256"});
  ExpectUsage({"--key-size", "257"}, {"--key-size", "257"});
  ExpectUsage({"--key-size", "9", "--keys", "10001"},
              {"--key-size 9", "10000", "10001"});
  ExpectUsage({"--key-size", "14", "--workload", "d"},
              {"--key-size 14", "--workload d", "15"});
  ExpectUsage({"--value-size", "1024001"}, {"--value-size", "1024000"});
  ExpectUsage({"--distribution", "normal"}, {"--distribution", "zipfian"});
  ExpectUsage({"--mode", "stream"}, {"--mode", "threads"});
  ExpectUsage({"--rate", "0"}, {"--rate"});
  ExpectUsage({"--rate", "-5"}, {"--rate"});
  ExpectUsage({"--arrivals", "bursts"}, {"--arrivals", "poisson"});
  ExpectUsage({"--seconds", "0"}, {"--seconds 0", "--load"});
  ExpectUsage({"--seconds", "-1"}, {"--seconds"});
  ExpectUsage({"--target", "redis"}, {"--target", "etcd"});
  ExpectUsage({"--target", "etcd"}, {"--endpoint"});
  ExpectUsage({"--target", "etcd", "--endpoint", "a:1", "--mode", "async"},
              {"--mode async", "unary"});
  ExpectUsage({"--endpoint", "a:1"}, {"--endpoint", "--target etcd"});
  ExpectUsage({"--pid", "0"}, {"--pid"});
  ExpectUsage({"--pid", "4194304"}, {"--pid 4194304", "no such process"});
  ExpectUsage({"put"}, {"one argument too many: put"});
  ExpectUsage({"--loda"}, {"unknown option --loda"});
}

TEST(BenchArguments, FilesAreLookedAtBeforeTheRun) {
  const TempDir folder;
  ExpectUsage({"--json", folder.path() + "/none/x.json"},
              {"--json", "none/x.json: it cannot be written"});
  ExpectUsage({"--target-file", folder.path() + "/none"},
              {"--target-file", "it cannot be read"});
  const std::string bounds = folder.Write("bounds", R"({"p98_ms": 1})");
  ExpectUsage({"--target-file", bounds}, {bounds, "p98_ms"});
  // All is well: the cluster file is looked for.
  const std::string good = folder.Write("good", R"({"p99_ms": {"max": 1}})");
  for (const auto& words : std::vector<std::vector<std::string>>{
           {"--target-file", good},
           {"--json"},
           {"--json", "-", "--load"},
           {"--json", "--load"},
           {"--json", folder.path() + "/out.json"},
           {"--workload", "d", "--key-size", "15"},
           {"--load", "--seconds", "0"},
           {"--mix", "0", "--distribution", "latest"},
           {"--mode", "unary", "--rate", "100", "--arrivals", "fixed"},
           {"--pid", std::to_string(getpid())}}) {
    ExpectUsage(words, {"no cluster file"});
  }
}

TEST(BenchArguments, Help) {
  const Ran help = Bench({"--help"});
  EXPECT_EQ(help.exit, kOk);
  EXPECT_THAT(help.out,
              AllOf(HasSubstr("--workload"), HasSubstr("read-modify-writes"),
                    HasSubstr("--target etcd"), HasSubstr("p99_ms")));
}

// Nobody listens: an error that says so, no waiting for ever.
TEST(BenchArguments, NoServers) {
  const TempDir folder;
  const std::string file =
      folder.Write("config", "localhost:1\nlocalhost:2\nlocalhost:3\n");
  for (const char* mode : {"threads", "async", "unary"}) {
    const Ran ran = Bench({"-c", file, "--mode", mode, "--timeout", "300"});
    EXPECT_EQ(ran.exit, kUnreachable) << ran.err;
    EXPECT_THAT(ran.out, IsEmpty());
    EXPECT_THAT(ran.err, HasSubstr("kv739: "));
  }
  const Ran etcd = Bench({"--target", "etcd", "--endpoint",
                          "localhost:1,localhost:2", "--timeout", "300"});
  EXPECT_EQ(etcd.exit, kUnreachable);
  EXPECT_THAT(etcd.err, AllOf(HasSubstr("no etcd endpoint answers"),
                              HasSubstr("localhost:2")));
}

}  // namespace
}  // namespace kv739::command
