// Child processes of tests. A child never outlives the test: it is killed in
// the destructor, and by the kernel when the test dies first.
//
// Start processes on the main thread alone: the kernel kills them when the
// thread that started them ends.
#ifndef KV739_TESTS_SUPPORT_PROCESS_H_
#define KV739_TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace kv739::test {

struct ProcessOptions {
  std::vector<std::string> arguments;  // the first is the program's path
  std::string output;  // file that standard output is appended to
  std::string error;   // the same for standard error; may be equal
  std::string input;   // file to read from; empty: nothing to read
  std::vector<std::string> environment;  // "NAME=value", beside the test's
  int network = -1;  // descriptor of its network namespace; -1: the test's
};

class Process {
 public:
  static absl::StatusOr<std::unique_ptr<Process>> Start(
      const ProcessOptions& options);
  ~Process();  // SIGKILL if it still runs
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  bool running();
  // Nothing happens if it has ended.
  void Signal(int signal);
  // SIGSTOP, and every thread stands still when it returns. The signal alone
  // is not enough: until one thread has taken it, the others go on.
  void Pause();
  // How it ended: the exit code, or minus the signal that killed it. nullopt:
  // still runs after `timeout`.
  std::optional<int> Wait(absl::Duration timeout);

 private:
  Process(pid_t pid, int fd) : pid_(pid), fd_(fd) {}

  const pid_t pid_;
  const int fd_;  // pidfd, readable once the process has ended
  std::optional<int> result_;
};

struct CommandResult {
  int code = 0;  // exit code, or minus the signal
  std::string output;
  std::string error;
};
// Runs a program to its end. A program that does not end in time is killed
// and gives DEADLINE_EXCEEDED with what it wrote.
absl::StatusOr<CommandResult> RunCommand(
    const std::vector<std::string>& arguments,
    absl::Duration timeout = absl::Seconds(60), const std::string& input = "",
    const std::vector<std::string>& environment = {});

// A new directory; removed with all in it unless Keep() was called.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  const std::string& path() const { return path_; }
  void Keep() { keep_ = true; }

 private:
  std::string path_;
  bool keep_ = false;
};

void WriteFile(const std::string& path, const std::string& text);
std::string ReadFile(const std::string& path);  // "" if it cannot be read

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_PROCESS_H_
