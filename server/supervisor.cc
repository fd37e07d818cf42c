#include "server/supervisor.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "kv/supervisor_protocol.h"
#include "server/local_address.h"
#include "server/logging.h"
#include "server/node.h"
#include "server/supervisor_socket.h"

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

// OK when a new server may be started on `path`: nothing is there, or an empty
// directory.
absl::Status CheckEmpty(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return absl::OkStatus();
  if (std::filesystem::is_empty(path, error) && !error) return absl::OkStatus();
  return absl::AlreadyExistsError(absl::StrCat(
      "the data directory ", path,
      error ? absl::StrCat(" cannot be looked at: ", error.message())
            : " is not empty; a new server starts on an empty one"));
}

class Supervisor {
 public:
  explicit Supervisor(SupervisorConfig config) : config_(std::move(config)) {
    for (const SupervisedServer& server : config_.servers) {
      children_.push_back({server});
    }
  }

  int Run() {
    const sigset_t watched = WatchedSignals();
    ::sigprocmask(SIG_BLOCK, &watched, &old_mask_);
    // The service manager hears from this process, not from its children.
    ::unsetenv("NOTIFY_SOCKET");
    const int signal_fd = ::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0) {
      LogError("Cannot watch for signals: ", strerror(errno));
      return kExitFailure;
    }
    if (!Listen()) return kExitDirectory;
    for (Child& child : children_) Start(&child, false).IgnoreError();
    while (Running() > 0) Wait(signal_fd);
    ::close(signal_fd);
    LogInfo("All servers have ended");
    return ExitCode();
  }

 private:
  struct Child {
    SupervisedServer server;
    pid_t pid = 0;  // 0: not running
    int wait_status = 0;
    bool ended_before_stop = false;
  };

  size_t Running() const {
    return std::count_if(children_.begin(), children_.end(),
                         [](const Child& c) { return c.pid != 0; });
  }

  // False: another supervisor runs these servers.
  bool Listen() {
    ::unsetenv(kv::kSupervisorVariable);
    if (config_.socket.empty()) return true;
    auto socket = SupervisorSocket::Listen(config_.socket);
    if (socket.ok()) {
      socket_ = *std::move(socket);
      ::setenv(kv::kSupervisorVariable, config_.socket.c_str(), 1);
      return true;
    }
    if (absl::IsAlreadyExists(socket.status())) {
      LogError("Cannot start: ", socket.status().message());
      return false;
    }
    LogWarn("No socket for start requests: ", socket.status().message());
    return true;
  }

  void Wait(int signal_fd) {
    std::vector<pollfd> polled = {{signal_fd, POLLIN, 0}};
    const int timeout = socket_ == nullptr ? -1 : socket_->Prepare(&polled);
    if (::poll(polled.data(), polled.size(), timeout) < 0) return;
    if (socket_ != nullptr) {
      socket_->Serve(polled.data() + 1, polled.size() - 1,
                     [this](absl::string_view line) { return Answer(line); });
    }
    signalfd_siginfo info;
    while (::read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
      // Signals of one kind may have come as one.
      if (info.ssi_signo == SIGCHLD) {
        Reap();
      } else {
        OnStopSignal();
      }
    }
  }

  absl::Status Start(Child* child, bool join) {
    std::vector<std::string> command = child->server.command;
    if (join) command.push_back(kJoinFlag);
    std::vector<char*> argv;
    for (std::string& argument : command) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const int null_fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    const pid_t self = ::getpid();
    const pid_t pid = ::fork();
    if (pid == 0) BecomeServer(argv.data(), self, old_mask_, null_fd);
    const int error = errno;
    if (null_fd >= 0) ::close(null_fd);
    child->ended_before_stop = pid < 0;
    if (pid < 0) {
      child->wait_status = kExitFailure << 8;
      const std::string what = absl::StrCat(
          "cannot start server ", child->server.address, ": ", strerror(error));
      LogError(what);
      return absl::InternalError(what);
    }
    child->pid = pid;
    LogInfo("Started server ", child->server.address, " as process ", pid, ": ",
            absl::StrJoin(command, " "));
    return absl::OkStatus();
  }

  // ---- what the socket asks ----

  std::string Answer(absl::string_view line) {
    const auto request = kv::ParseRequest(line);
    if (!request.ok()) return kv::FormatAnswer({}, request.status());
    return kv::FormatAnswer(*request,
                            request->verb == kv::SupervisorRequest::Verb::kStart
                                ? StartAsked(*request)
                                : StateOf(request->server.ToString()));
  }

  Child* Find(absl::string_view address) {
    const auto child = std::find_if(
        children_.begin(), children_.end(),
        [&](const Child& c) { return c.server.address == address; });
    return child == children_.end() ? nullptr : &*child;
  }

  kv::ServerProcess StateOf(const std::string& address) {
    kv::ServerProcess process;
    const Child* child = Find(address);
    if (child == nullptr) return process;
    if (child->pid != 0) {
      process.state = kv::ServerProcess::State::kRunning;
      process.pid = child->pid;
      return process;
    }
    const int status = child->wait_status;
    process.state = kv::ServerProcess::State::kEnded;
    process.code =
        WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    process.how = DescribeExit(status);
    return process;
  }

  absl::StatusOr<kv::ServerProcess> StartAsked(
      const kv::SupervisorRequest& request) {
    const std::string name = request.server.ToString();
    if (signals_ > 0) {
      return absl::UnavailableError("the supervisor is stopping");
    }
    // One that ended a moment ago is not running.
    Reap();
    Child* child = Find(name);
    if (child != nullptr && child->pid != 0) {
      return absl::AlreadyExistsError(absl::StrCat(
          "server ", name, " runs already, as process ", child->pid));
    }
    if (child == nullptr) {
      auto added = MakeAdded(request);
      if (!added.ok()) return added.status();
      if (absl::Status s = CheckStart(request, *added, true); !s.ok()) return s;
      children_.push_back({*std::move(added)});
      child = &children_.back();
    } else if (absl::Status s = CheckStart(request, child->server, false);
               !s.ok()) {
      return s;
    }
    if (absl::Status s = Start(child, request.is_new); !s.ok()) return s;
    return StateOf(name);
  }

  absl::StatusOr<SupervisedServer> MakeAdded(
      const kv::SupervisorRequest& request) {
    const std::string name = request.server.ToString();
    if (!config_.make) {
      return absl::NotFoundError(
          absl::StrCat("server ", name, " is none of this supervisor's"));
    }
    if (!IsLocalHost(request.server.host)) {
      return absl::InvalidArgumentError(
          absl::StrCat("server ", name, " is not on this host"));
    }
    if (children_.size() >= config_.servers.size() + kMaxAddedServers) {
      return absl::InternalError(absl::StrCat(
          "this supervisor has run ", children_.size(), " servers, its limit"));
    }
    return config_.make(request.server);
  }

  absl::Status CheckStart(const kv::SupervisorRequest& request,
                          const SupervisedServer& server, bool added) {
    if (request.is_new) return CheckEmpty(server.data);
    std::error_code error;
    if (added && !std::filesystem::is_directory(server.data, error)) {
      return absl::NotFoundError(absl::StrCat(
          "server ", server.address, " is not in the cluster file and has no ",
          "data directory ", server.data, "; start it as a new one"));
    }
    return absl::OkStatus();
  }

  // ---- signals ----

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
          absl::StrCat("Server ", child->server.address, " (process ", pid,
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

  const SupervisorConfig config_;
  std::unique_ptr<SupervisorSocket> socket_;
  std::deque<Child> children_;  // those of the file, then those added
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

SupervisedServer MakeSupervisedServer(const kv::Address& address,
                                      const std::string& cluster_path,
                                      const std::string& data_root,
                                      const std::string& settings,
                                      const std::string& program) {
  SupervisedServer server;
  server.address = address.ToString();
  // "::1" would make an awkward name for a directory.
  server.data = absl::StrCat(data_root, "/",
                             absl::StrReplaceAll(address.host, {{":", "_"}}),
                             "-", address.port);
  server.command = {program,        "--cluster", cluster_path, "--listen",
                    server.address, "--data",    server.data};
  if (!settings.empty()) {
    server.command.insert(server.command.end(), {"--settings", settings});
  }
  return server;
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
    servers.push_back(MakeSupervisedServer(address, cluster_path, data_root,
                                           settings, program));
  }
  if (servers.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "no server of ", cluster_path,
        " is on this host; its servers are: ", absl::StrJoin(all, ", ")));
  }
  return servers;
}

int RunSupervisor(SupervisorConfig config) {
  return Supervisor(std::move(config)).Run();
}

}  // namespace kv739::server
