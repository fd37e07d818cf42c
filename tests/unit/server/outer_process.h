// Programs that a test runs: what they say, and how they end.
#ifndef KV739_TESTS_UNIT_SERVER_OUTER_PROCESS_H_
#define KV739_TESTS_UNIT_SERVER_OUTER_PROCESS_H_

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

namespace kv739::server {

// A child with standard output and error on one pipe. Killed at the end when
// it still runs.
class Process {
 public:
  explicit Process(const std::vector<std::string>& command) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) abort();
    std::vector<char*> argv;
    for (const std::string& a : command) {
      argv.push_back(const_cast<char*>(a.c_str()));
    }
    argv.push_back(nullptr);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = ends[0];
  }
  ~Process() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    close(output_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& said() const { return said_; }
  void Signal(int signal) const { EXPECT_EQ(kill(pid_, signal), 0); }

  // Reads on until it has said `text` `times` times; false when it ended
  // without.
  bool WaitUntilItSays(const std::string& text, int times = 1) {
    while (Count(text) < times) {
      if (!ReadMore()) return false;
    }
    return true;
  }

  int Count(const std::string& text) const {
    int count = 0;
    for (size_t at = 0; (at = said_.find(text, at)) != std::string::npos;
         at += text.size()) {
      ++count;
    }
    return count;
  }

  // Reads on until it, and all that have its output, are gone.
  void ReadToTheEnd() {
    while (ReadMore()) {
    }
  }

  // Exit code, or 1000 + signal.
  int Wait() {
    ReadToTheEnd();
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    pid_ = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

 private:
  bool ReadMore() {
    std::array<char, 4096> buffer;
    ssize_t n = 0;
    do {
      n = read(output_, buffer.data(), buffer.size());
    } while (n < 0 && errno == EINTR);
    if (n <= 0) return false;
    said_.append(buffer.data(), static_cast<size_t>(n));
    return true;
  }

  pid_t pid_ = 0;
  int output_ = -1;
  std::string said_;
};

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_OUTER_PROCESS_H_
