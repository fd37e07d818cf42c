// Bad arguments, files, directories and bytes: a clear error, and nothing
// else happens.
#include <grpcpp/generic/generic_stub.h>

#include <filesystem>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "tests/integration/cluster_test.h"
#include "tests/support/tcp.h"

namespace kv739::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

// Exit codes of kv739d.
constexpr int kBadUse = 2;
constexpr int kBadData = 3;

// Starts one server that is not expected to serve.
class BadStartTest : public ::testing::Test {
 protected:
  BadStartTest() : ports_(9) {
    cluster_ = File("cluster.conf", GoodLines());
    data_ = dir_.path() + "/data";
  }

  std::string Address(int i) const {
    return absl::StrCat("127.0.0.1:", ports_[3 * i]);
  }
  std::string GoodLines() const {
    std::string lines;
    for (int i = 0; i < 3; ++i) {
      absl::StrAppend(&lines, Address(i), " metrics=", ports_[3 * i + 1],
                      " http=", ports_[3 * i + 2], "\n");
    }
    return lines;
  }
  std::string File(const std::string& name, const std::string& text) const {
    WriteFile(dir_.path() + "/" + name, text);
    return dir_.path() + "/" + name;
  }
  std::vector<std::string> Arguments(
      const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments = {
        ServerProgram(), "--cluster", cluster_, "--listen",
        Address(0),      "--data",    data_};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  }
  void ExpectExit(const std::vector<std::string>& arguments, int code,
                  const ::testing::Matcher<const std::string&>& says) {
    const auto result = RunCommand(arguments);
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(result->code, code) << result->error;
    EXPECT_THAT(result->error, says);
    EXPECT_EQ(result->output, "");
  }
  void ExpectBadCluster(const std::string& text,
                        const ::testing::Matcher<const std::string&>& says) {
    cluster_ = File("bad.conf", text);
    ExpectExit(Arguments(), kBadUse, says);
    EXPECT_FALSE(std::filesystem::exists(data_)) << text;
  }
  void ExpectBadSettings(const std::string& text,
                         const ::testing::Matcher<const std::string&>& says) {
    ExpectExit(Arguments({"--settings", File("bad.yaml", text)}), kBadUse,
               says);
    EXPECT_FALSE(std::filesystem::exists(data_)) << text;
  }

  TempDir dir_;
  Ports ports_;
  std::string cluster_;
  std::string data_;
};

TEST_F(BadStartTest, ClusterFilesAreRefusedWithTheLine) {
  const std::string good = GoodLines();
  ExpectBadCluster(good + "no-port\n", HasSubstr("bad.conf:4:"));
  ExpectBadCluster("# servers\n\n" + good + "localhost:99999\n",
                   HasSubstr("bad.conf:6:"));
  ExpectBadCluster(good + Address(1) + "\n", HasSubstr("bad.conf:4:"));
  ExpectBadCluster(good + "localhost:1234 colour=red\n",
                   AllOf(HasSubstr("bad.conf:4:"), HasSubstr("colour")));
  ExpectBadCluster(good + "localhost:1234 metrics=no\n",
                   HasSubstr("bad.conf:4:"));
  ExpectBadCluster(Address(0) + "\n" + Address(1) + "\n",
                   HasSubstr("2 servers; at least 3"));
  ExpectBadCluster("", HasSubstr("0 servers; at least 3"));
}

TEST_F(BadStartTest, ArgumentsAreRefused) {
  ExpectExit({ServerProgram(), "--no-such-flag"}, kBadUse,
             HasSubstr("no-such-flag"));
  ExpectExit({ServerProgram()}, kBadUse, HasSubstr("--"));
  ExpectExit(Arguments({"surplus"}), kBadUse, HasSubstr("surplus"));
  const std::string missing = dir_.path() + "/none.conf";
  ExpectExit({ServerProgram(), "--cluster", missing, "--listen", Address(0),
              "--data", data_},
             kBadUse, HasSubstr("none.conf"));
  // A server that is not in the file.
  ExpectExit({ServerProgram(), "--cluster", cluster_, "--listen", "127.0.0.1:9",
              "--data", data_},
             kBadUse, HasSubstr("127.0.0.1:9"));
  ExpectExit({ServerProgram(), "--cluster", cluster_, "--listen", "nonsense",
              "--data", data_},
             kBadUse, HasSubstr("nonsense"));
  EXPECT_FALSE(std::filesystem::exists(data_));
}

TEST_F(BadStartTest, SettingsAreRefusedWithTheLineAndTheNearestName) {
  ExpectBadSettings("raft:\n  tick_mss: 20\n",
                    AllOf(HasSubstr("bad.yaml:2:"), HasSubstr("tick_mss"),
                          HasSubstr("tick_ms")));
  ExpectBadSettings("rafd:\n  tick_ms: 20\n",
                    AllOf(HasSubstr("bad.yaml:1:"), HasSubstr("raft")));
  ExpectBadSettings("raft:\n  tick_ms: 0\n", HasSubstr("bad.yaml:2:"));
  ExpectBadSettings("raft:\n  tick_ms: soon\n", HasSubstr("bad.yaml:2:"));
  ExpectBadSettings("raft: [\n", HasSubstr("bad.yaml:"));
  ExpectExit(Arguments({"--settings", dir_.path() + "/none.yaml"}), kBadUse,
             HasSubstr("none.yaml"));
}

TEST_F(BadStartTest, VersionAndHelpAreAnswered) {
  auto version = RunCommand({ServerProgram(), "--version"});
  ASSERT_TRUE(version.ok());
  EXPECT_EQ(version->code, 0);
  EXPECT_THAT(version->output, HasSubstr("0.1.0"));
  auto help = RunCommand({ServerProgram(), "--help"});
  ASSERT_TRUE(help.ok());
  EXPECT_EQ(help->code, 0);
  EXPECT_THAT(help->output, HasSubstr("--cluster"));
}

TEST_F(BadStartTest, AForeignDirectoryIsRefused) {
  std::filesystem::create_directory(data_);
  WriteFile(data_ + "/letter.txt", "dear");
  ExpectExit(Arguments(), kBadData, HasSubstr(data_));
  EXPECT_EQ(ReadFile(data_ + "/letter.txt"), "dear");
  // A file where the directory should be.
  data_ = File("file", "x");
  ExpectExit(Arguments(), kBadData, HasSubstr(data_));
}

TEST_F(BadStartTest, APortInUseIsNamed) {
  {
    SilentListener taken(ports_[0]);
    const auto result = RunCommand(Arguments());
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(result->code, 1);
    EXPECT_THAT(result->error,
                AllOf(HasSubstr(Address(0)), HasSubstr("in use")));
  }
  {
    SilentListener taken(ports_[1]);
    const auto result = RunCommand(Arguments());
    ASSERT_TRUE(result.ok()) << result.status().message();
    EXPECT_EQ(result->code, 1);
    EXPECT_THAT(result->error,
                AllOf(HasSubstr(absl::StrCat(ports_[1])), HasSubstr("in use")));
  }
}

class BadInputTest : public SharedClusterTest {
 protected:
  std::vector<std::string> ArgumentsWith(const std::string& config,
                                         const std::string& listen,
                                         const std::string& data) {
    return {ServerProgram(), "--cluster", config, "--listen",
            listen,          "--data",    data};
  }
  void ExpectServing() {
    for (int i = 0; i < cluster().size(); ++i) {
      EXPECT_TRUE(cluster().running(i)) << "server " << i;
      EXPECT_TRUE(cluster().Status(i).ok()) << "server " << i;
    }
    const Answer put = client().Put("still", "served");
    EXPECT_TRUE(put.ok()) << put;
    EXPECT_EQ(client().Get("still").seen, "served");
  }
};

TEST_F(BadInputTest, ADataDirectoryInUseIsRefused) {
  // The same server a second time: its directory is taken.
  auto result = RunCommand(ArgumentsWith(
      cluster().config(), cluster().address(0), cluster().data_dir(0)));
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_EQ(result->code, kBadData) << result->error;
  EXPECT_THAT(result->error,
              AllOf(HasSubstr(cluster().data_dir(0)), HasSubstr("in use")));
  ExpectServing();
}

TEST_F(BadInputTest, ADataDirectoryOfAnotherNodeOrClusterIsRefused) {
  const int victim =
      (cluster().WaitForLeader(cluster().only_group()) + 1) % cluster().size();
  cluster().Terminate(victim);
  ASSERT_EQ(cluster().WaitExit(victim), 0);
  const int other = (victim + 1) % cluster().size();

  auto as_other_node =
      RunCommand(ArgumentsWith(cluster().config(), cluster().address(other),
                               cluster().data_dir(victim)));
  ASSERT_TRUE(as_other_node.ok()) << as_other_node.status().message();
  EXPECT_EQ(as_other_node->code, kBadData) << as_other_node->error;
  EXPECT_THAT(as_other_node->error, HasSubstr(cluster().address(victim)));

  const std::string config = cluster().dir() + "/other.conf";
  WriteFile(config, cluster().address(victim) +
                        " metrics=1 http=2\nlocalhost:3 metrics=4 http=5\n"
                        "localhost:6 metrics=7 http=8\n");
  auto as_other_cluster = RunCommand(ArgumentsWith(
      config, cluster().address(victim), cluster().data_dir(victim)));
  ASSERT_TRUE(as_other_cluster.ok()) << as_other_cluster.status().message();
  EXPECT_EQ(as_other_cluster->code, kBadData) << as_other_cluster->error;
  EXPECT_THAT(as_other_cluster->error, HasSubstr("cluster"));

  ASSERT_TRUE(cluster().Restart(victim).ok());
  EXPECT_TRUE(Eventually([&] { return cluster().Status(victim).ok(); }));
  ASSERT_TRUE(cluster().WaitForEqualReplicas(cluster().only_group()).ok());
  ExpectServing();
}

TEST_F(BadInputTest, GarbageOnThePortsHarmsNobody) {
  std::mt19937 random(1);
  std::vector<std::string> all = {
      "",
      "\n",
      "GET / HTTP/1.1\r\n\r\n",
      "GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
      "POST /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      "GET /" + std::string(1 << 20, 'a'),
      "GET / HTTP/1.1\r\n" + std::string(1 << 18, 'h'),
      // The preface of HTTP/2, then frames that are none.
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(4096, '\xff'),
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + std::string(4096, '\0'),
  };
  for (int i = 0; i < 20; ++i) {
    std::string noise(1 + random() % 5000, '\0');
    for (char& byte : noise) byte = static_cast<char>(random());
    all.push_back(i % 2 == 0 ? noise
                             : "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + noise);
  }
  for (const std::string& bytes : all) {
    for (uint16_t port : {cluster().port(0), cluster().metrics_port(0)}) {
      // Some of these leave the server waiting for more; that is its right.
      EXPECT_TRUE(Exchange(port, bytes, absl::Milliseconds(50)).ok());
    }
  }
  ExpectServing();
  EXPECT_TRUE(HttpGet(cluster().metrics_port(0), "/metrics").ok());
}

// Well-formed calls with bytes that are no message of ours.
TEST_F(BadInputTest, GarbageInMessagesHarmsNobody) {
  std::mt19937 random(2);
  for (const char* method :
       {"/kv739.v1.KeyValue/Put", "/kv739.v1.KeyValue/Stream",
        "/kv739.v1.Cluster/GetStatus", "/kv739.v1.Admin/TransferLeader",
        "/grpc.health.v1.Health/Check", "/kv739.v1.KeyValue/NoSuchMethod"}) {
    for (int round = 0; round < 10; ++round) {
      std::string noise(random() % 300, '\0');
      for (char& byte : noise) byte = static_cast<char>(random());
      grpc::Slice slice(noise);
      grpc::ByteBuffer request(&slice, 1);
      grpc::ByteBuffer response;
      grpc::ClientContext context;
      SetDeadline(context, absl::Seconds(2));
      absl::Notification done;
      grpc::GenericStub(cluster().channel(0))
          .UnaryCall(&context, method, grpc::StubOptions(), &request, &response,
                     [&done](grpc::Status) { done.Notify(); });
      done.WaitForNotification();
    }
  }
  ExpectServing();
}

}  // namespace
}  // namespace kv739::test
