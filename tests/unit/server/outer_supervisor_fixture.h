// A supervisor in a process of its own, with shell scripts in the place of
// servers.
#ifndef KV739_TESTS_UNIT_SERVER_OUTER_SUPERVISOR_FIXTURE_H_
#define KV739_TESTS_UNIT_SERVER_OUTER_SUPERVISOR_FIXTURE_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "server/supervisor.h"

namespace kv739::server {

// What a server does: say that it is there, wait for its signal, say goodbye.
// It ends without that when its supervisor is gone for good, so that a failed
// test leaves nobody behind.
inline constexpr char kGood[] =
    "trap 'echo NAME stops; exit 0' TERM; echo NAME is up; "
    "while kill -0 $PPID; do sleep 0.05; done";
inline constexpr char kStubborn[] =
    "trap 'echo NAME will not' TERM; echo NAME is up; "
    "while kill -0 $PPID; do sleep 0.05; done";
// Ends once another file appears.
inline constexpr char kFails[] =
    "echo NAME is up; while ! test -e GO; do sleep 0.01; done; exit 3";

inline SupervisedServer Script(const std::string& name,
                               const std::string& script,
                               const std::string& go = "") {
  return {name,
          {"/bin/sh", "-c",
           absl::StrReplaceAll(script, {{"NAME", name}, {"GO", go}})}};
}

// Runs the supervisor in a child of its own, its output on a pipe.
class SupervisorTest : public testing::Test {
 protected:
  void Start(const std::vector<SupervisedServer>& servers) {
    Begin(SupervisorConfig{servers});
  }
  void Begin(const SupervisorConfig& config) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      _exit(RunSupervisor(config));
    }
    close(ends[1]);
    pid_ = child;
    output_ = fdopen(ends[0], "r");
  }
  ~SupervisorTest() override {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    if (output_ != nullptr) fclose(output_);
  }

  void WaitUntilSaid(const std::string& text) {
    while (said_.find(text) == std::string::npos) {
      ASSERT_TRUE(ReadLine()) << "never said '" << text << "':\n" << said_;
    }
  }
  bool ReadLine() {
    char line[4096];
    if (fgets(line, sizeof(line), output_) == nullptr) return false;
    said_ += line;
    return true;
  }
  int Wait() {
    while (ReadLine()) {
    }
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

  pid_t pid_ = 0;
  FILE* output_ = nullptr;
  std::string said_;
};

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_OUTER_SUPERVISOR_FIXTURE_H_
