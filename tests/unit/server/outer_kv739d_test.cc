// The program itself: what it answers, and its exit codes.
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/cluster_file.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "server/settings.h"
#include "tests/unit/server/outer_process.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

struct Result {
  int code;
  std::string said;
};

Result RunToEnd(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), KV739D);
  Process process(arguments);
  const int code = process.Wait();
  return {code, process.said()};
}

// Ports that were free a moment ago, all different.
std::vector<int> FreePorts(size_t count) {
  std::vector<int> fds;
  std::vector<int> ports;
  while (ports.size() < count) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    fds.push_back(fd);
    ports.push_back(ntohs(address.sin_port));
  }
  for (const int fd : fds) close(fd);
  return ports;
}

// A cluster file of three servers on free ports.
class Cluster {
 public:
  Cluster() {
    const std::vector<int> ports = FreePorts(9);
    std::string text;
    for (int i = 0; i < 3; ++i) {
      addresses_.push_back(absl::StrCat("127.0.0.1:", ports[3 * i]));
      absl::StrAppend(&text, addresses_[i], " metrics=", ports[3 * i + 1],
                      " http=", ports[3 * i + 2], "\n");
    }
    WriteText(file(), text);
  }
  std::string file() const { return temp_.Sub("cluster.conf"); }
  std::string root() const { return temp_.Sub("data"); }
  const std::string& address(int i) const { return addresses_[i]; }
  std::vector<std::string> Node(int i) const {
    return {"--cluster", file(),   "--listen",
            address(i),  "--data", absl::StrCat(root(), "/", i)};
  }
  const OuterTempDir& temp() const { return temp_; }

 private:
  OuterTempDir temp_;
  std::vector<std::string> addresses_;
};

std::vector<std::string> Command(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), KV739D);
  return arguments;
}

TEST(Kv739d, SaysWhatItIs) {
  const Result version = RunToEnd({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_THAT(version.said, MatchesRegex("kv739d [0-9.]+ \\([0-9a-z-]+\\)\n"));
  const Result help = RunToEnd({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.said, HasSubstr("--listen HOST:PORT"));
  const Result settings = RunToEnd({"--print-settings"});
  EXPECT_EQ(settings.code, 0);
  EXPECT_EQ(settings.said, Settings().ToYaml());
}

TEST(Kv739d, BadArgumentsEndWithTwo) {
  const Cluster cluster;
  const OuterTempDir temp;
  Result result = RunToEnd({"--lisen", "x"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.said, HasSubstr("did you mean '--listen'?"));
  EXPECT_THAT(result.said, HasSubstr("usage: kv739d --cluster FILE"));
  EXPECT_EQ(RunToEnd({}).code, 2);

  result =
      RunToEnd({"--cluster", "/nonexistent", "--listen", "a:1", "--data", "d"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.said, HasSubstr("/nonexistent"));

  WriteText(temp.Sub("bad.conf"), "localhost:1\nlocalhost:1\nlocalhost:2\n");
  result = RunToEnd(
      {"--cluster", temp.Sub("bad.conf"), "--listen", "a:1", "--data", "d"});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.said, HasSubstr("bad.conf:2:"));
  result = RunToEnd({"-c", temp.Sub("bad.conf")});
  EXPECT_EQ(result.code, 2);

  for (const char* listen : {"127.0.0.1:1", "nonsense", "", ":"}) {
    result = RunToEnd({"--cluster", cluster.file(), "--listen", listen,
                       "--data", temp.Sub("d")});
    EXPECT_EQ(result.code, 2) << listen;
    EXPECT_THAT(result.said, HasSubstr("--listen"));
  }
  result = RunToEnd({"--cluster", cluster.file(), "--listen", "127.0.0.1:1",
                     "--data", temp.Sub("d")});
  EXPECT_THAT(result.said,
              HasSubstr(absl::StrCat("its servers are: ", cluster.address(0),
                                     ", ", cluster.address(1))));

  WriteText(temp.Sub("bad.yaml"), "raft:\n  tick_mss: 5\n");
  for (std::vector<std::string> arguments :
       {cluster.Node(0), {"-c", cluster.file()}, {"--print-settings"}}) {
    arguments.insert(arguments.end(), {"--settings", temp.Sub("bad.yaml")});
    result = RunToEnd(arguments);
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.said, HasSubstr("bad.yaml:2:3: unknown setting "
                                       "'raft.tick_mss'; did you mean "
                                       "'raft.tick_ms'?"));
  }

  WriteText(temp.Sub("far.conf"),
            "203.0.113.1:1\n203.0.113.2:1\n203.0.113.3:1\n");
  result = RunToEnd({"-c", temp.Sub("far.conf")});
  EXPECT_EQ(result.code, 2);
  EXPECT_THAT(result.said, HasSubstr("no server of "));
  EXPECT_FALSE(std::filesystem::exists(temp.Sub("d"))) << "nothing was made";
}

TEST(Kv739d, StopsInOrder) {
  const Cluster cluster;
  Process node(Command(cluster.Node(0)));
  ASSERT_TRUE(node.WaitUntilItSays("listening on " + cluster.address(0)))
      << node.said();
  node.Signal(SIGTERM);
  EXPECT_EQ(node.Wait(), 0) << node.said();
  EXPECT_THAT(node.said(), HasSubstr("Received SIGTERM"));
  EXPECT_THAT(node.said(), HasSubstr("stopped gracefully"));
}

TEST(Kv739d, StopsInOrderWhenAskedBeforeItServes) {
  const Cluster cluster;
  Process node(Command(cluster.Node(0)));
  ASSERT_TRUE(node.WaitUntilItSays("new data directory")) << node.said();
  node.Signal(SIGINT);
  EXPECT_EQ(node.Wait(), 0) << node.said();
  EXPECT_THAT(node.said(), HasSubstr("stopped gracefully"));
}

TEST(Kv739d, ExitsAtOnceOnASecondSignal) {
  const Cluster cluster;
  Process node(Command(cluster.Node(0)));
  // Early in its start, so that it cannot have stopped before the second one.
  ASSERT_TRUE(node.WaitUntilItSays("new data directory")) << node.said();
  node.Signal(SIGSTOP);
  node.Signal(SIGINT);
  node.Signal(SIGTERM);
  node.Signal(SIGCONT);
  EXPECT_EQ(node.Wait(), 130) << node.said();
  EXPECT_THAT(node.said(), Not(HasSubstr("stopped gracefully")));
  // And comes back from that.
  Process again(Command(cluster.Node(0)));
  ASSERT_TRUE(again.WaitUntilItSays("listening on " + cluster.address(0)))
      << again.said();
}

TEST(Kv739d, DirectoryInUseOrDamagedEndsWithThree) {
  const Cluster cluster;
  const std::string identity = absl::StrCat(cluster.root(), "/0/identity");
  {
    Process node(Command(cluster.Node(0)));
    ASSERT_TRUE(node.WaitUntilItSays("listening on " + cluster.address(0)))
        << node.said();
    const Result second = RunToEnd(cluster.Node(0));
    EXPECT_EQ(second.code, 3) << second.said;
    EXPECT_THAT(second.said,
                HasSubstr(absl::StrCat("in use by process ", node.pid())));
    node.Signal(SIGTERM);
    EXPECT_EQ(node.Wait(), 0) << node.said();
  }
  std::string text = ReadText(identity);
  text[40] = static_cast<char>(text[40] ^ 1);
  WriteText(identity, text);
  const Result damaged = RunToEnd(cluster.Node(0));
  EXPECT_EQ(damaged.code, 3) << damaged.said;
  EXPECT_THAT(damaged.said, HasSubstr("identity is damaged"));
}

// A fourth server joins three, loses its disk, and stops when it has left.
TEST(Kv739d, JoinsComesBackWithoutItsDiskAndLeaves) {
  const Cluster cluster;
  std::vector<std::unique_ptr<Process>> nodes;
  for (int i = 0; i < 3; ++i) {
    nodes.push_back(std::make_unique<Process>(Command(cluster.Node(i))));
  }
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(nodes[i]->WaitUntilItSays("listening on " + cluster.address(i)))
        << nodes[i]->said();
  }
  const std::vector<int> ports = FreePorts(3);
  const std::string address = absl::StrCat("127.0.0.1:", ports[0]);
  const std::string data = cluster.temp().Sub("fourth");
  std::vector<std::string> command = Command(
      {"--cluster", cluster.file(), "--listen", address, "--data", data});
  // Not without saying so.
  const Result stranger = RunToEnd({command.begin() + 1, command.end()});
  EXPECT_EQ(stranger.code, 2) << stranger.said;
  EXPECT_THAT(stranger.said, HasSubstr("--join"));
  EXPECT_FALSE(std::filesystem::exists(data));

  std::vector<std::string> join = command;
  join.insert(join.end(), {"--join", "--metrics-port", absl::StrCat(ports[1]),
                           "--http-port", absl::StrCat(ports[2])});
  {
    Process node(join);
    ASSERT_TRUE(node.WaitUntilItSays("listening on " + address)) << node.said();
    EXPECT_THAT(node.said(), HasSubstr("joined the cluster"));
    EXPECT_THAT(node.said(),
                HasSubstr(absl::StrCat("metrics on port ", ports[1])));
    ASSERT_TRUE(node.WaitUntilItSays("a new replica")) << node.said();
    node.Signal(SIGKILL);
    EXPECT_EQ(node.Wait(), 1000 + SIGKILL);
  }
  {
    // From now on it is a server like the others.
    Process node(command);
    ASSERT_TRUE(node.WaitUntilItSays("listening on " + address)) << node.said();
    EXPECT_THAT(node.said(), Not(HasSubstr("joining")));
    node.Signal(SIGTERM);
    EXPECT_EQ(node.Wait(), 0) << node.said();
  }
  std::filesystem::remove_all(data);
  Process node(join);
  ASSERT_TRUE(node.WaitUntilItSays("listening on " + address)) << node.said();

  // Whoever is asked names the leader in the end.
  std::string leader = cluster.address(0);
  v1::RemoveServerResponse response;
  for (int tries = 0; response.epoch() == 0 && tries < 600; ++tries) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(10));
    v1::RemoveServerRequest request;
    request.set_server(address);
    const auto stub = v1::Admin::NewStub(
        grpc::CreateChannel(leader, grpc::InsecureChannelCredentials()));
    const grpc::Status status =
        stub->RemoveServer(&context, request, &response);
    if (status.ok() && !response.leader().empty()) leader = response.leader();
    if (!status.ok()) usleep(100'000);  // no leader, or the group is moving
  }
  EXPECT_NE(response.epoch(), 0u);
  EXPECT_EQ(node.Wait(), 0) << node.said();
  EXPECT_THAT(node.said(), HasSubstr("has left the cluster"));
  const Result again = RunToEnd({command.begin() + 1, command.end()});
  EXPECT_EQ(again.code, 2) << again.said;
  EXPECT_THAT(again.said, HasSubstr("has left the cluster"));
}

TEST(Kv739d, WaitsForAClusterToJoinUntilItIsTold) {
  const Cluster cluster;
  std::vector<std::string> arguments = cluster.Node(0);
  arguments.push_back("--join");
  Process node(Command(arguments));
  ASSERT_TRUE(node.WaitUntilItSays("answers yet")) << node.said();
  node.Signal(SIGINT);
  EXPECT_EQ(node.Wait(), 0) << node.said();
}

TEST(Kv739d, SupervisorRunsAllAndStopsThem) {
  const Cluster cluster;
  const std::vector<std::string> command =
      Command({"-c", cluster.file(), "--data-root", cluster.root()});
  Process supervisor(command);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        supervisor.WaitUntilItSays("listening on " + cluster.address(i)))
        << supervisor.said();
  }
  // A second one finds every directory taken.
  const Result second =
      RunToEnd({"-c", cluster.file(), "--data-root", cluster.root()});
  EXPECT_EQ(second.code, 3) << second.said;
  supervisor.Signal(SIGTERM);
  EXPECT_EQ(supervisor.Wait(), 0) << supervisor.said();
  EXPECT_EQ(supervisor.Count("stopped in order"), 3) << supervisor.said();
}

TEST(Kv739d, SupervisorThatIsKilledLeavesNoServers) {
  const Cluster cluster;
  Process supervisor(
      Command({"-c", cluster.file(), "--data-root", cluster.root()}));
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(
        supervisor.WaitUntilItSays("listening on " + cluster.address(i)))
        << supervisor.said();
  }
  supervisor.Signal(SIGKILL);
  // Ends when the last server has closed its end of the pipe.
  EXPECT_EQ(supervisor.Wait(), 1000 + SIGKILL);
  EXPECT_EQ(supervisor.Count("stopped gracefully"), 3) << supervisor.said();
}

TEST(Config, LocalConfIsFiveServersOfThisHost) {
  const auto file = kv::ReadClusterFile("config/local.conf");
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->servers.size(), 5u);
  const std::string prometheus = ReadText("config/prometheus.yml");
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(file->servers[i].address.ToString(),
              absl::StrCat("localhost:", 50051 + i));
    EXPECT_THAT(prometheus,
                HasSubstr(absl::StrCat(
                    "- localhost:", file->servers[i].metrics_port, "\n")));
  }
}

}  // namespace
}  // namespace kv739::server
