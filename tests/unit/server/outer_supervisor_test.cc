// The supervisor with shell scripts in the place of servers, each supervisor
// in a process of its own.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "server/local_address.h"
#include "server/service_manager.h"
#include "server/supervisor.h"
#include "tests/unit/server/outer_supervisor_fixture.h"
#include "tests/unit/server/outer_temp_dir.h"

namespace kv739::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST_F(SupervisorTest, StopsAllInOrderOnEitherSignal) {
  for (const int signal : {SIGTERM, SIGINT}) {
    said_.clear();
    Start({Script("one", kGood), Script("two", kGood)});
    WaitUntilSaid("one is up\n");
    WaitUntilSaid("two is up\n");
    ASSERT_EQ(kill(pid_, signal), 0);
    EXPECT_EQ(Wait(), 0);
    EXPECT_THAT(said_, HasSubstr("one stops\n"));
    EXPECT_THAT(said_, HasSubstr("two stops\n"));
    EXPECT_THAT(said_, HasSubstr("Server two (process "));
    fclose(output_);
    output_ = nullptr;
  }
}

TEST_F(SupervisorTest, SecondSignalKills) {
  Start({Script("one", kStubborn), Script("two", kGood)});
  WaitUntilSaid("one is up\n");
  WaitUntilSaid("two is up\n");
  ASSERT_EQ(kill(pid_, SIGTERM), 0);
  WaitUntilSaid("one will not\n");
  ASSERT_EQ(kill(pid_, SIGINT), 0);
  EXPECT_EQ(Wait(), 130);
  EXPECT_THAT(said_, HasSubstr("was ended by signal 9"));
}

TEST_F(SupervisorTest, NamesTheDeadAndGoesOnWithTheOthers) {
  const OuterTempDir temp;
  Start({Script("one", kGood), Script("two", kFails, temp.Sub("go")),
         Script("three", kGood)});
  WaitUntilSaid("one is up\n");
  WaitUntilSaid("two is up\n");
  WaitUntilSaid("three is up\n");
  WriteText(temp.Sub("go"), "");
  WaitUntilSaid(
      "ended with code 3 (data directory in use or damaged); it is not "
      "restarted, 2 of 3 go on\n");
  EXPECT_THAT(said_, HasSubstr("Server two (process "));
  ASSERT_EQ(kill(pid_, SIGTERM), 0);
  EXPECT_EQ(Wait(), 0) << said_;
  EXPECT_THAT(said_, HasSubstr("one stops\n"));
  EXPECT_THAT(said_, HasSubstr("three stops\n"));
}

TEST_F(SupervisorTest, EndsWhenAllHaveEnded) {
  struct {
    const char* first;
    const char* second;
    int code;
  } const cases[] = {{"exit 3", "exit 3", 3},   {"exit 2", "exit 2", 2},
                     {"exit 0", "exit 0", 0},   {"exit 0", "exit 3", 1},
                     {"exit 77", "exit 77", 1}, {"kill -9 $$", "exit 0", 1}};
  for (const auto& c : cases) {
    Start({Script("one", c.first), Script("two", c.second)});
    EXPECT_EQ(Wait(), c.code) << c.first << ", " << c.second;
    fclose(output_);
    output_ = nullptr;
  }
  Start({{"gone", {"/nonexistent/kv739d"}}});
  EXPECT_EQ(Wait(), 1);
  EXPECT_THAT(said_, HasSubstr("could not be run"));
}

TEST_F(SupervisorTest, KilledItLeavesNobodyBehind) {
  Start({Script("one", kGood), Script("two", kGood)});
  WaitUntilSaid("one is up\n");
  WaitUntilSaid("two is up\n");
  ASSERT_EQ(kill(pid_, SIGKILL), 0);
  int status = 0;
  ASSERT_EQ(waitpid(pid_, &status, 0), pid_);
  pid_ = 0;
  // The pipe ends only when nobody has it any more.
  while (ReadLine()) {
  }
  EXPECT_THAT(said_, HasSubstr("one stops\n"));
  EXPECT_THAT(said_, HasSubstr("two stops\n"));
}

// Ctrl-C in a terminal goes to the whole process group of the supervisor; a
// server that got it as well would take the supervisor's SIGTERM for a second
// signal.
TEST_F(SupervisorTest, ServersAreOutsideOfItsProcessGroup) {
  Start({Script("one", "echo group $(ps -o pgid= -p $$) $$ end")});
  EXPECT_EQ(Wait(), 0);
  int group = 0;
  int pid = 0;
  const size_t at = said_.find("\ngroup ");
  ASSERT_NE(at, std::string::npos) << said_;
  ASSERT_EQ(sscanf(said_.c_str() + at, "\ngroup %d %d", &group, &pid), 2);
  EXPECT_EQ(group, pid);
  EXPECT_NE(group, getpgrp());
}

TEST(ServersOfThisHost, AreThoseWithAnAddressHere) {
  const auto cluster = kv::ParseClusterFile(
      "localhost:7001\n203.0.113.1:7002\n127.0.0.5:7003\n[::1]:7004\n"
      "203.0.113.9:7005\n",
      "c");
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  auto servers = ServersOfThisHost(*cluster, "c", "root", "", "/bin/kv739d");
  ASSERT_TRUE(servers.ok()) << servers.status();
  ASSERT_EQ(servers->size(), 3u);
  EXPECT_THAT((*servers)[0].command,
              ElementsAre("/bin/kv739d", "--cluster", "c", "--listen",
                          "localhost:7001", "--data", "root/localhost-7001"));
  EXPECT_EQ((*servers)[1].address, "127.0.0.5:7003");
  EXPECT_EQ((*servers)[2].address, "[::1]:7004");
  EXPECT_EQ((*servers)[2].command[6], "root/__1-7004");
  servers = ServersOfThisHost(*cluster, "c", "root", "s.yaml", "/bin/kv739d");
  EXPECT_EQ((*servers)[0].command[8], "s.yaml");

  const auto elsewhere = kv::ParseClusterFile(
      "203.0.113.1:7001\n203.0.113.2:7001\n203.0.113.3:7001\n", "c");
  ASSERT_TRUE(elsewhere.ok()) << elsewhere.status();
  servers = ServersOfThisHost(*elsewhere, "c", "root", "", "p");
  EXPECT_EQ(servers.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(servers.status().message()),
              HasSubstr("203.0.113.1:7001, 203.0.113.2:7001"));
}

TEST(LocalAddress, KnowsThisHost) {
  for (const char* host :
       {"localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9"}) {
    EXPECT_TRUE(IsLocalHost(host)) << host;
  }
  for (const char* host : {"203.0.113.1", "203.0.113.9", ""}) {
    EXPECT_FALSE(IsLocalHost(host)) << host;
  }
}

TEST(ServiceManager, IsToldOnItsSocket) {
  unsetenv("NOTIFY_SOCKET");
  EXPECT_TRUE(TellServiceManager("READY=1"));  // nobody asked
  const OuterTempDir temp;
  const std::string path = temp.Sub("notify");
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  EXPECT_FALSE(TellServiceManager("READY=1"));  // nobody there
  for (const bool abstract : {false, true}) {
    const std::string name =
        abstract ? absl::StrCat("@kv739-test-", getpid()) : path;
    const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, name.data(), name.size());
    if (abstract) address.sun_path[0] = '\0';
    ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address),
                   offsetof(sockaddr_un, sun_path) + name.size()),
              0);
    setenv("NOTIFY_SOCKET", name.c_str(), 1);
    EXPECT_TRUE(TellServiceManager("READY=1"));
    char text[32] = {};
    EXPECT_EQ(recv(fd, text, sizeof(text), 0), 7);
    EXPECT_STREQ(text, "READY=1");
    close(fd);
  }
  unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace kv739::server
