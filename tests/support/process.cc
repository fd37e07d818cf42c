#include "tests/support/process.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

extern char** environ;

namespace kv739::test {
namespace {

// A failure of the test's own machinery, not of what is tested.
[[noreturn]] void Die(const char* what) {
  std::perror(what);
  std::abort();
}

int OpenFor(const std::string& path, int flags) {
  const char* name = path.empty() ? "/dev/null" : path.c_str();
  return open(name, flags | O_CLOEXEC, 0644);
}

// In the child, between fork and exec: async-signal-safe calls alone.
[[noreturn]] void Become(char** arguments, char** environment, pid_t parent,
                         int network, int input, int output, int error) {
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent ||
      dup2(input, 0) < 0 || dup2(output, 1) < 0 || dup2(error, 2) < 0 ||
      (network >= 0 && setns(network, CLONE_NEWNET) != 0)) {
    _exit(126);
  }
  syscall(SYS_close_range, 3, ~0U, CLOSE_RANGE_CLOEXEC);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  execve(arguments[0], arguments, environment);
  _exit(127);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Process>> Process::Start(
    const ProcessOptions& options) {
  if (getpid() != gettid()) Die("a process was started off the main thread");
  const std::string& program = options.arguments.at(0);
  if (access(program.c_str(), X_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("no program at ", program));
  }
  std::vector<char*> arguments;
  for (const std::string& argument : options.arguments) {
    arguments.push_back(const_cast<char*>(argument.c_str()));
  }
  arguments.push_back(nullptr);
  std::vector<char*> environment;
  for (const std::string& variable : options.environment) {
    environment.push_back(const_cast<char*>(variable.c_str()));
  }
  for (char** at = environ; *at != nullptr; ++at) environment.push_back(*at);
  environment.push_back(nullptr);

  const int append = O_WRONLY | O_CREAT | O_APPEND;
  const int input = OpenFor(options.input, O_RDONLY);
  const int output = OpenFor(options.output, append);
  const int error = OpenFor(options.error, append);
  auto close_all = absl::MakeCleanup([&] {
    close(input);
    close(output);
    close(error);
  });
  if (input < 0 || output < 0 || error < 0) {
    return absl::InternalError(
        absl::StrCat("files of ", program, ": ", std::strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) Die("fork");
  if (child == 0) {
    Become(arguments.data(), environment.data(), parent, options.network, input,
           output, error);
  }
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, child, 0));
  if (fd < 0) Die("pidfd_open");
  return std::unique_ptr<Process>(new Process(child, fd));
}

Process::~Process() {
  if (!result_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(fd_);
}

bool Process::running() { return !Wait(absl::ZeroDuration()).has_value(); }

void Process::Signal(int signal) {
  // Not reaped until Wait(), so the number is still this process's.
  if (!result_) kill(pid_, signal);
}

void Process::Pause() {
  if (result_) return;
  Signal(SIGSTOP);
  siginfo_t info;
  // Also ends when the process has ended; Wait() then finds out how.
  while (waitid(P_PID, static_cast<id_t>(pid_), &info,
                WSTOPPED | WEXITED | WNOWAIT) != 0) {
    if (errno != EINTR) Die("waitid");
  }
}

std::optional<int> Process::Wait(absl::Duration timeout) {
  if (result_) return result_;
  const absl::Time deadline = absl::Now() + timeout;
  pollfd wait = {.fd = fd_, .events = POLLIN, .revents = 0};
  while (true) {
    const absl::Duration left = deadline - absl::Now();
    const int64_t ms = std::max<int64_t>(
        0, absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
    const int ready = poll(&wait, 1, static_cast<int>(ms));
    if (ready > 0) break;
    if (ready < 0 && errno != EINTR) Die("poll");
    if (absl::Now() >= deadline) return std::nullopt;
  }
  int status = 0;
  if (waitpid(pid_, &status, 0) != pid_) Die("waitpid");
  result_ = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return result_;
}

absl::StatusOr<CommandResult> RunCommand(
    const std::vector<std::string>& arguments, absl::Duration timeout,
    const std::string& input, const std::vector<std::string>& environment) {
  TempDir dir;
  ProcessOptions options;
  options.arguments = arguments;
  options.environment = environment;
  options.output = dir.path() + "/out";
  options.error = dir.path() + "/err";
  if (!input.empty()) {
    options.input = dir.path() + "/in";
    WriteFile(options.input, input);
  }
  auto process = Process::Start(options);
  if (!process.ok()) return process.status();
  const std::optional<int> code = (*process)->Wait(timeout);
  CommandResult result;
  result.output = ReadFile(options.output);
  result.error = ReadFile(options.error);
  if (!code) {
    return absl::DeadlineExceededError(absl::StrCat(
        arguments[0], " still ran after ", absl::FormatDuration(timeout),
        "; it wrote:\n", result.output, result.error));
  }
  result.code = *code;
  return result;
}

TempDir::TempDir() {
  const char* base = std::getenv("TMPDIR");
  std::string name =
      absl::StrCat(base == nullptr ? "/tmp" : base, "/kv739-test-XXXXXX");
  if (mkdtemp(name.data()) == nullptr) Die("mkdtemp");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  if (!keep_) std::filesystem::remove_all(path_, ignored);
}

void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  if (!file.flush()) Die(path.c_str());
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace kv739::test
