// The supervisor's socket: starting servers again, starting new ones, and
// peers of every kind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/supervisor_protocol.h"
#include "server/supervisor_client.h"
#include "tests/unit/server/outer_supervisor_fixture.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

using kv::ServerProcess;
using kv::SupervisorRequest;
using State = kv::ServerProcess::State;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kOne[] = "localhost:7001";
constexpr char kTwo[] = "localhost:7002";
constexpr char kThree[] = "localhost:7003";

kv::Address Parse(const std::string& address) {
  return *kv::Address::Parse(address);
}

class SupervisorSocketTest : public SupervisorTest {
 protected:
  SupervisorConfig Config(const std::string& script = kGood) {
    SupervisorConfig config;
    for (const char* name : {kOne, kTwo}) {
      config.servers.push_back(Script(name, script));
      config.servers.back().data = temp_.Sub(name);
    }
    config.socket = socket_;
    config.make = [this](const kv::Address& address) {
      // What follows the script of a shell is its $0.
      SupervisedServer server = Script(
          address.ToString(), absl::StrCat("echo NAME with $0; ", kGood));
      server.data = temp_.Sub(address.ToString());
      return server;
    };
    return config;
  }
  void StartBoth(const SupervisorConfig& config) {
    Begin(config);
    WaitUntilSaid(absl::StrCat(kOne, " is up\n"));
    WaitUntilSaid(absl::StrCat(kTwo, " is up\n"));
  }
  absl::StatusOr<ServerProcess> Ask(const std::string& server, bool is_new) {
    return kv::AskSupervisorAt(
        socket_, {SupervisorRequest::Verb::kStart, Parse(server), is_new});
  }
  ServerProcess StateOf(const std::string& server) {
    const auto state = kv::AskSupervisorAt(
        socket_, {SupervisorRequest::Verb::kStatus, Parse(server), false});
    EXPECT_TRUE(state.ok()) << state.status();
    return state.value_or(ServerProcess{});
  }
  // A connection that has said `text`.
  int Connect(const std::string& text) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, socket_.data(), socket_.size());
    EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&address),
                      sizeof(address)),
              0)
        << strerror(errno);
    EXPECT_EQ(send(fd, text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
    return fd;
  }
  // All that comes until the other side ends.
  std::string ReadAll(int fd) {
    std::string all;
    char buffer[256];
    for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
      all.append(buffer, static_cast<size_t>(n));
    }
    close(fd);
    return all;
  }

  const OuterTempDir temp_;
  const std::string socket_ = temp_.Sub("run/c.sock");
};

TEST_F(SupervisorSocketTest, StartsAServerAgainThatHasEnded) {
  StartBoth(Config());
  const ServerProcess before = StateOf(kOne);
  ASSERT_EQ(before.state, State::kRunning);
  const auto running = Ask(kOne, false);
  EXPECT_TRUE(absl::IsAlreadyExists(running.status())) << running.status();
  EXPECT_THAT(std::string(running.status().message()),
              HasSubstr(absl::StrCat("runs already, as process ", before.pid)));

  ASSERT_EQ(kill(static_cast<pid_t>(before.pid), SIGKILL), 0);
  WaitUntilSaid("it is not restarted, 1 of 2 go on\n");
  const ServerProcess ended = StateOf(kOne);
  EXPECT_EQ(ended.state, State::kEnded);
  EXPECT_EQ(ended.code, 128 + SIGKILL);
  EXPECT_THAT(ended.how, HasSubstr("was ended by signal 9"));

  said_.clear();
  const auto again = Ask(kOne, false);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_NE(again->pid, before.pid);
  WaitUntilSaid(absl::StrCat(kOne, " is up\n"));
  EXPECT_EQ(StateOf(kOne).pid, again->pid);
  EXPECT_EQ(StateOf(kThree).state, State::kUnknown);
  // The one that had been killed counts by its last end.
  ASSERT_EQ(kill(pid_, SIGTERM), 0);
  EXPECT_EQ(Wait(), 0) << said_;
  EXPECT_THAT(said_, HasSubstr(absl::StrCat(kOne, " stops\n")));
  EXPECT_FALSE(std::filesystem::exists(socket_));
}

TEST_F(SupervisorSocketTest, StartsNewServersOnEmptyDirectoriesAlone) {
  StartBoth(Config());
  auto started = Ask(kThree, false);
  EXPECT_TRUE(absl::IsNotFound(started.status())) << started.status();
  EXPECT_EQ(StateOf(kThree).state, State::kUnknown);
  std::filesystem::create_directories(temp_.Sub(kThree));
  WriteText(temp_.Sub(absl::StrCat(kThree, "/identity")), "x");
  started = Ask(kThree, true);
  EXPECT_TRUE(absl::IsAlreadyExists(started.status())) << started.status();
  EXPECT_THAT(std::string(started.status().message()), HasSubstr("not empty"));
  started = Ask("203.0.113.1:7003", true);
  EXPECT_TRUE(absl::IsInvalidArgument(started.status())) << started.status();

  std::filesystem::remove(temp_.Sub(absl::StrCat(kThree, "/identity")));
  started = Ask(kThree, true);
  ASSERT_TRUE(started.ok()) << started.status();
  WaitUntilSaid(absl::StrCat(kThree, " with --join\n"));
  WaitUntilSaid(absl::StrCat(kThree, " is up\n"));
  EXPECT_EQ(StateOf(kThree).state, State::kRunning);

  ASSERT_EQ(kill(static_cast<pid_t>(started->pid), SIGKILL), 0);
  WaitUntilSaid("2 of 3 go on\n");
  // On its old data, without joining again.
  ASSERT_TRUE(Ask(kThree, false).ok());
  WaitUntilSaid(absl::StrCat(kThree, " with /bin/sh\n"));
}

TEST_F(SupervisorSocketTest, OfOneClusterThereIsOneSupervisor) {
  StartBoth(Config());
  struct Second : SupervisorTest {
    using SupervisorTest::Begin;
    using SupervisorTest::said_;
    using SupervisorTest::Wait;
    void TestBody() override {}
  } other;
  other.Begin(Config());
  EXPECT_EQ(other.Wait(), 3);
  EXPECT_THAT(other.said_,
              HasSubstr(absl::StrCat("a supervisor of this cluster runs here "
                                     "already, process ",
                                     pid_)));
  EXPECT_EQ(StateOf(kOne).state, State::kRunning);

  // What a dead one leaves behind is in nobody's way.
  ASSERT_EQ(kill(pid_, SIGKILL), 0);
  while (ReadLine()) {
  }
  ASSERT_EQ(waitpid(pid_, nullptr, 0), pid_);
  pid_ = 0;
  fclose(output_);
  EXPECT_TRUE(std::filesystem::exists(socket_));
  const auto nobody = Ask(kOne, false);
  EXPECT_TRUE(absl::IsFailedPrecondition(nobody.status())) << nobody.status();
  said_.clear();
  StartBoth(Config());
  EXPECT_EQ(StateOf(kOne).state, State::kRunning);
}

TEST_F(SupervisorSocketTest, BadLinesAndSilentPeersHarmNobody) {
  StartBoth(Config());
  for (const char* bad : {"\n", "start\n", "start localhost:1 soon\n",
                          "start localhost:1 old now\n", "status nonsense\n",
                          "stop localhost:7001\n", "status  localhost:1\n"}) {
    EXPECT_THAT(ReadAll(Connect(bad)), StartsWith("error INVALID_ARGUMENT "))
        << bad;
  }
  EXPECT_EQ(ReadAll(Connect(std::string(kv::kMaxSupervisorLine + 300, 'x'))),
            "");
  EXPECT_THAT(ReadAll(Connect(absl::StrCat("status ", kOne, "\n"))),
              StartsWith("running "));
  // As many as there is room for, and one behind them that has something to
  // say: it is heard when they are dropped.
  std::vector<int> silent;
  for (int i = 0; i < 16; ++i) silent.push_back(Connect("stat"));
  EXPECT_THAT(ReadAll(Connect(absl::StrCat("status ", kOne, "\n"))),
              StartsWith("running "));
  for (const int fd : silent) EXPECT_EQ(ReadAll(fd), "");
}

TEST_F(SupervisorSocketTest, ServersKnowTheSocket) {
  SupervisorConfig config = Config("echo at $KV739_SUPERVISOR");
  Begin(config);
  Wait();
  EXPECT_THAT(said_, HasSubstr(absl::StrCat("at ", socket_, "\n")));
}

TEST_F(SupervisorSocketTest, OneThatStopsStartsNobody) {
  StartBoth(Config(kStubborn));
  ASSERT_EQ(kill(pid_, SIGTERM), 0);
  WaitUntilSaid(absl::StrCat(kTwo, " will not\n"));
  const auto started = Ask(kOne, false);
  EXPECT_TRUE(absl::IsUnavailable(started.status())) << started.status();
  ASSERT_EQ(kill(pid_, SIGTERM), 0);
  EXPECT_EQ(Wait(), 130);
}

TEST_F(SupervisorSocketTest, ADirectoryOpenToOthersIsNotUsed) {
  std::filesystem::create_directories(temp_.Sub("run"));
  ASSERT_EQ(chmod(temp_.Sub("run").c_str(), 0777), 0);
  StartBoth(Config());
  EXPECT_THAT(said_, HasSubstr("No socket for start requests"));
  EXPECT_TRUE(absl::IsFailedPrecondition(Ask(kOne, false).status()));
}

TEST_F(SupervisorSocketTest, ARelayAsksOnItsOwnThread) {
  StartBoth(Config());
  setenv(kv::kSupervisorVariable, socket_.c_str(), 1);
  std::mutex mutex;
  std::condition_variable changed;
  std::optional<absl::StatusOr<ServerProcess>> answer;
  {
    SupervisorRelay relay;
    relay.Ask({SupervisorRequest::Verb::kStatus, Parse(kOne), false},
              [&](absl::StatusOr<ServerProcess> state) {
                const std::lock_guard lock(mutex);
                answer = std::move(state);
                changed.notify_one();
              });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return answer.has_value(); });
  }
  unsetenv(kv::kSupervisorVariable);
  ASSERT_TRUE(answer->ok()) << answer->status();
  EXPECT_EQ((*answer)->state, State::kRunning);
  EXPECT_TRUE(
      absl::IsFailedPrecondition(AskSupervisorStatus(Parse(kOne)).status()));
}

TEST(SupervisorProtocolTest, WhatIsFormattedIsRead) {
  for (const auto verb :
       {SupervisorRequest::Verb::kStart, SupervisorRequest::Verb::kStatus}) {
    const SupervisorRequest request{verb, Parse("[::1]:7001"),
                                    verb == SupervisorRequest::Verb::kStart};
    const auto read = kv::ParseRequest(kv::FormatRequest(request));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->verb, verb);
    EXPECT_EQ(read->server, request.server);
    EXPECT_EQ(read->is_new, request.is_new);
    for (const absl::Status& status :
         {absl::AlreadyExistsError("it runs"), absl::NotFoundError("none"),
          absl::InvalidArgumentError("two\nlines")}) {
      const std::string line = kv::FormatAnswer(request, status);
      EXPECT_FALSE(absl::StrContains(line, "\n"));
      EXPECT_EQ(kv::ParseAnswer(request, line).status().code(), status.code());
    }
    for (const char* nonsense : {"", "ok", "ok x", "ended", "ended 3",
                                 "running", "perhaps", "unknown 1"}) {
      EXPECT_TRUE(absl::IsInternal(kv::ParseAnswer(request, nonsense).status()))
          << nonsense;
    }
  }
  ServerProcess ended;
  ended.state = State::kEnded;
  ended.code = 3;
  ended.how = "ended with code 3 (data directory in use or damaged)";
  const auto read = kv::ParseAnswer({}, kv::FormatAnswer({}, ended));
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->state, State::kEnded);
  EXPECT_EQ(read->code, 3);
  EXPECT_EQ(read->how, ended.how);
}

}  // namespace
}  // namespace kv739::server
