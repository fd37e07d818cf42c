#include "server/supervisor.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "server/local_address.h"
#include "server/logging.h"
#include "server/node.h"

namespace kv739::server {
namespace {

constexpr int kExitKilled = 130;  // as a shell tells of Ctrl-C
constexpr int kExitCannotRun = 127;

sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGCHLD);
  return set;
}

// Between fork and exec: nothing here allocates or locks.
[[noreturn]] void BecomeServer(char* const* argv, pid_t supervisor,
                               const sigset_t& old_mask, int null_fd) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != supervisor) ::_exit(kExitKilled);  // it died already
  if (null_fd >= 0) ::dup2(null_fd, STDIN_FILENO);
  ::sigprocmask(SIG_SETMASK, &old_mask, nullptr);
  ::execv(argv[0], argv);
  ::_exit(kExitCannotRun);
}

class Supervisor {
 public:
  explicit Supervisor(const std::vector<SupervisedServer>& servers) {
    for (const SupervisedServer& server : servers) {
      children_.push_back({&server});
    }
  }

  int Run() {
    const sigset_t watched = WatchedSignals();
    ::sigprocmask(SIG_BLOCK, &watched, &old_mask_);
    // The service manager hears from this process, not from its children.
    ::unsetenv("NOTIFY_SOCKET");
    StartAll();
    while (Running() > 0) {
      siginfo_t info;
      const int signal = ::sigwaitinfo(&watched, &info);
      if (signal == SIGCHLD) {
        Reap();
      } else if (signal == SIGINT || signal == SIGTERM) {
        OnStopSignal();
      }
    }
    LogInfo("All servers have ended");
    return ExitCode();
  }

 private:
  struct Child {
    const SupervisedServer* server;
    pid_t pid = 0;  // 0: not running
    int wait_status = 0;
    bool ended_before_stop = false;
  };

  size_t Running() const {
    return std::count_if(children_.begin(), children_.end(),
                         [](const Child& c) { return c.pid != 0; });
  }

  void StartAll() {
    const int null_fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (Child& child : children_) Start(&child, null_fd);
    if (null_fd >= 0) ::close(null_fd);
  }

  void Start(Child* child, int null_fd) {
    std::vector<char*> argv;
    for (const std::string& argument : child->server->command) {
      argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) BecomeServer(argv.data(), self, old_mask_, null_fd);
    if (pid < 0) {
      LogError("Cannot start server ", child->server->address, ": ",
               strerror(errno));
      child->wait_status = kExitFailure << 8;
      child->ended_before_stop = true;
      return;
    }
    child->pid = pid;
    LogInfo("Started server ", child->server->address, " as process ", pid,
            ": ", absl::StrJoin(child->server->command, " "));
  }

  void Reap() {
    int status = 0;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      const auto child =
          std::find_if(children_.begin(), children_.end(),
                       [&](const Child& c) { return c.pid == pid; });
      if (child == children_.end()) continue;
      child->pid = 0;
      child->wait_status = status;
      child->ended_before_stop = signals_ == 0;
      const std::string what =
          absl::StrCat("Server ", child->server->address, " (process ", pid,
                       ") ", DescribeExit(status));
      if (signals_ > 0) {
        LogInfo(what);
      } else {
        LogPieces(status == 0 ? LogLevel::kWarn : LogLevel::kError, what,
                  "; it is not restarted, ", Running(), " of ",
                  children_.size(), " go on");
      }
    }
  }

  void OnStopSignal() {
    ++signals_;
    if (signals_ == 1) {
      LogInfo("Stopping ", Running(), " servers; again to kill them");
    } else {
      LogWarn("Killing ", Running(), " servers");
    }
    for (const Child& child : children_) {
      if (child.pid != 0) ::kill(child.pid, signals_ == 1 ? SIGTERM : SIGKILL);
    }
  }

  int ExitCode() const {
    if (signals_ > 1) return kExitKilled;
    std::vector<int> codes;
    for (const Child& child : children_) {
      // One that had ended before was told of then.
      if (signals_ > 0 && child.ended_before_stop) continue;
      codes.push_back(WIFEXITED(child.wait_status)
                          ? WEXITSTATUS(child.wait_status)
                          : static_cast<int>(kExitFailure));
    }
    if (codes.empty()) return kExitStopped;
    const bool same = std::all_of(codes.begin(), codes.end(),
                                  [&](int c) { return c == codes.front(); });
    if (same && codes.front() <= kExitDirectory) return codes.front();
    return kExitFailure;
  }

  std::vector<Child> children_;
  sigset_t old_mask_;
  int signals_ = 0;  // SIGINT and SIGTERM so far
};

}  // namespace

std::string DescribeExit(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    return absl::StrCat("was ended by signal ", WTERMSIG(wait_status), " (",
                        strsignal(WTERMSIG(wait_status)), ")");
  }
  const int code = WEXITSTATUS(wait_status);
  switch (code) {
    case kExitStopped:
      return "stopped in order";
    case kExitUsage:
      return "ended with code 2 (bad arguments or configuration)";
    case kExitDirectory:
      return "ended with code 3 (data directory in use or damaged)";
    case kExitCannotRun:
      return "could not be run (is the program there?)";
    default:
      return absl::StrCat("ended with code ", code);
  }
}

absl::StatusOr<std::vector<SupervisedServer>> ServersOfThisHost(
    const kv::ClusterFile& cluster, const std::string& cluster_path,
    const std::string& data_root, const std::string& settings,
    const std::string& program) {
  std::vector<SupervisedServer> servers;
  std::vector<std::string> all;
  for (const kv::ServerLine& line : cluster.servers) {
    const kv::Address& address = line.address;
    all.push_back(address.ToString());
    if (!IsLocalHost(address.host)) continue;
    SupervisedServer server;
    server.address = address.ToString();
    // "::1" would make an awkward name for a directory.
    const std::string directory = absl::StrCat(
        absl::StrReplaceAll(address.host, {{":", "_"}}), "-", address.port);
    server.command = {program,
                      "--cluster",
                      cluster_path,
                      "--listen",
                      server.address,
                      "--data",
                      absl::StrCat(data_root, "/", directory)};
    if (!settings.empty()) {
      server.command.insert(server.command.end(), {"--settings", settings});
    }
    servers.push_back(std::move(server));
  }
  if (servers.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no server of ", cluster_path,
        " is on this host; its servers are: ", absl::StrJoin(all, ", ")));
  }
  return servers;
}

int RunSupervisor(const std::vector<SupervisedServer>& servers) {
  return Supervisor(servers).Run();
}

}  // namespace kv739::server
