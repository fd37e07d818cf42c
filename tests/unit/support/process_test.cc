#include "tests/support/process.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/ports.h"
#include "tests/support/tcp.h"

namespace kv739::test {
namespace {

TEST(RunCommand, GivesOutputErrorAndCode) {
  auto result =
      RunCommand({"/bin/sh", "-c", "cat; echo $WORD; echo err >&2; exit 7"},
                 absl::Seconds(60), "in\n", {"WORD=word"});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->code, 7);
  EXPECT_EQ(result->output, "in\nword\n");
  EXPECT_EQ(result->error, "err\n");
}

TEST(RunCommand, EndsWhatDoesNotEnd) {
  auto result = RunCommand({"/bin/sh", "-c", "echo so far; exec sleep 1000"},
                           absl::Milliseconds(300));
  EXPECT_EQ(result.status().code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(RunCommand({"/no/such/program"}).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(Process, IsKilledPausedAndResumed) {
  auto process = Process::Start({.arguments = {"/bin/sleep", "1000"}});
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_TRUE((*process)->running());
  (*process)->Signal(SIGSTOP);
  EXPECT_FALSE((*process)->Wait(absl::Milliseconds(10)).has_value());
  (*process)->Signal(SIGCONT);
  (*process)->Signal(SIGKILL);
  EXPECT_EQ((*process)->Wait(absl::Seconds(60)), -SIGKILL);
  EXPECT_FALSE((*process)->running());
  (*process)->Signal(SIGTERM);  // too late, and harmless
  EXPECT_EQ((*process)->Wait(absl::Seconds(60)), -SIGKILL);
}

TEST(Process, DoesNotOutliveTheOneThatStartedIt) {
  pid_t pid = 0;
  {
    auto process = Process::Start({.arguments = {"/bin/sleep", "1000"}});
    ASSERT_TRUE(process.ok()) << process.status();
    pid = (*process)->pid();
    EXPECT_EQ(kill(pid, 0), 0);
  }
  EXPECT_NE(kill(pid, 0), 0);
}

TEST(TempDir, IsRemovedUnlessKept) {
  std::string path;
  {
    TempDir dir;
    path = dir.path();
    WriteFile(path + "/file", "text");
    EXPECT_EQ(ReadFile(path + "/file"), "text");
  }
  EXPECT_FALSE(std::filesystem::exists(path));
  {
    TempDir dir;
    dir.Keep();
    path = dir.path();
  }
  EXPECT_TRUE(std::filesystem::exists(path));
  std::filesystem::remove_all(path);
}

TEST(Ports, AreDifferentAndFree) {
  std::vector<std::unique_ptr<Ports>> blocks;
  std::set<uint16_t> seen;
  for (int block = 0; block < 4; ++block) {
    blocks.push_back(std::make_unique<Ports>(60));
    for (int i = 0; i < 60; ++i) {
      const uint16_t port = (*blocks.back())[i];
      EXPECT_TRUE(seen.insert(port).second) << port;
      EXPECT_TRUE(IsFree(port)) << port;
    }
  }
  const uint16_t port = (*blocks.front())[0];
  SilentListener listener(port);
  EXPECT_FALSE(IsFree(port));
  // Somebody is there, and says nothing.
  auto answer = Exchange(port, "hello", absl::Milliseconds(50));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(*answer, "");
  EXPECT_FALSE(Exchange((*blocks.front())[1], "hello").ok());
}

}  // namespace
}  // namespace kv739::test
