// kv739d: one server of a cluster, or with -c all of them that are on this
// host.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "kv/cluster_file.h"
#include "kv/cluster_map.h"
#include "kv/supervisor_protocol.h"
#include "server/command_line.h"
#include "server/data_directory.h"
#include "server/disk_monitor.h"
#include "server/logging.h"
#include "server/node.h"
#include "server/service_manager.h"
#include "server/settings.h"
#include "server/signal_watcher.h"
#include "server/supervisor.h"

namespace kv739::server {
namespace {

constexpr int kExitSecondSignal = 130;

int Complain(const absl::Status& status, ExitCode code) {
  const std::string text = absl::StrCat("kv739d: ", status.message(), "\n");
  std::fputs(text.c_str(), stderr);
  return code;
}

absl::StatusOr<Settings> ReadSettings(const CommandLine& line) {
  if (line.settings.empty()) return Settings();
  return Settings::Read(line.settings);
}

// The address that the server is to have: one of the cluster file, one that
// joins, or one whose data directory shows that it is a server already.
absl::StatusOr<kv::Address> FindListen(const CommandLine& line,
                                       const kv::ClusterFile& cluster) {
  const auto wanted = kv::Address::Parse(line.listen);
  if (!wanted.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--listen: ", wanted.status().message()));
  }
  std::vector<std::string> known;
  for (const kv::ServerLine& server : cluster.servers) {
    if (server.address == *wanted) return *wanted;
    known.push_back(server.address.ToString());
  }
  if (line.join) return *wanted;
  const auto used = DataDirectory::HasIdentity(line.data);
  if (used.ok() && *used) return *wanted;
  return absl::InvalidArgumentError(
      absl::StrCat("--listen ", line.listen, " is not in ", line.cluster,
                   "; its servers are: ", absl::StrJoin(known, ", "),
                   ". A further server of the cluster is started with --join"));
}

// Brings a stop that was asked for to the node, also when it was asked for
// before there is one.
class StopSwitch {
 public:
  void OnSignal(int signal, int count) {
    if (count > 1) {
      // Nothing is flushed: what was acknowledged is on disk already.
      LogWarn("Second signal, exiting at once");
      ::_exit(kExitSecondSignal);
    }
    LogInfo("Received ", signal == SIGINT ? "SIGINT" : "SIGTERM",
            ", stopping; again to exit at once");
    TellServiceManager("STOPPING=1");
    asked_.Notify();
    Node* node = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      requested_ = true;
      node = node_;
    }
    if (node != nullptr) node->RequestStop();
  }

  const absl::Notification* asked() const { return &asked_; }

  void Attach(Node* node) {
    bool requested = false;
    {
      absl::MutexLock lock(&mutex_);
      node_ = node;
      requested = requested_;
    }
    if (requested) node->RequestStop();
  }

 private:
  absl::Notification asked_;
  absl::Mutex mutex_;
  Node* node_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool requested_ ABSL_GUARDED_BY(mutex_) = false;
};

// A server whose disk is full comes back when there is room: whoever makes room
// need not know that it has to be started. For one that has data; false when
// it is asked to stop first.
bool WaitForRoom(const CommandLine& line, const Settings& settings,
                 const absl::Status& why, const absl::Notification* stop) {
  constexpr uint64_t kLeast = 1 << 20;  // without a reserve
  DiskMonitor disk(DiskMonitor::OfDirectory(line.data),
                   std::max(settings.disk_reserve_bytes, kLeast));
  LogWarn("waiting for room on the disk: ", why.message());
  do {
    if (stop->WaitForNotificationWithTimeout(absl::Seconds(1))) return false;
    disk.Check();
  } while (disk.low());
  return true;
}

int RunNode(const CommandLine& line, const kv::ClusterFile& cluster,
            const Settings& settings) {
  auto listen = FindListen(line, cluster);
  if (!listen.ok()) return Complain(listen.status(), kExitUsage);
  LogOptions log;
  log.level = settings.log_level;
  log.format = settings.log_format;
  log.node = listen->ToString();
  if (absl::Status s = StartLogging(log); !s.ok()) {
    return Complain(s, kExitUsage);
  }
  StopSwitch stop;
  const auto start = [&]() -> absl::StatusOr<std::unique_ptr<Node>> {
    NodeConfig config;
    config.cluster = cluster;
    config.listen = *listen;
    config.data_dir = line.data;
    config.settings = settings;
    config.join = line.join;
    config.metrics_port = line.metrics_port;
    config.http_port = line.http_port;
    config.cancel = stop.asked();
    return Node::Start(config);
  };
  // Declared before the watcher, so that it outlives the watcher's calls.
  std::unique_ptr<Node> node;
  const auto watcher = SignalWatcher::Start(
      [&](int signal, int count) { stop.OnSignal(signal, count); });
  if (!watcher.ok()) return Complain(watcher.status(), kExitFailure);
  auto started = start();
  while (absl::IsResourceExhausted(started.status()) &&
         DataDirectory::HasIdentity(line.data).value_or(false)) {
    if (!WaitForRoom(line, settings, started.status(), stop.asked())) {
      LogInfo("server stopped gracefully, before it had started");
      return kExitStopped;
    }
    started = start();
  }
  if (absl::IsCancelled(started.status())) {
    LogInfo("server stopped gracefully, before it had started");
    return Node::ExitCodeFor(started.status());
  }
  if (!started.ok()) {
    LogError("Cannot start: ", started.status().message());
    return Node::ExitCodeFor(started.status());
  }
  node = *std::move(started);
  stop.Attach(node.get());
  TellServiceManager("READY=1");
  return node->WaitUntilStopped();
}

int Supervise(const CommandLine& line, const kv::ClusterFile& cluster,
              const Settings& settings) {
  LogOptions log;
  log.level = settings.log_level;
  log.format = settings.log_format;
  if (absl::Status s = StartLogging(log); !s.ok()) {
    return Complain(s, kExitUsage);
  }
  std::error_code error;
  const std::string program =
      std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) {
    return Complain(absl::InternalError("cannot find this program in /proc"),
                    kExitFailure);
  }
  auto servers = ServersOfThisHost(cluster, line.cluster, line.data_root,
                                   line.settings, program);
  if (!servers.ok()) return Complain(servers.status(), kExitUsage);
  SupervisorConfig config;
  config.servers = *std::move(servers);
  config.socket =
      kv::SupervisorSocketPath(kv::InitialClusterMap(cluster).cluster_id);
  config.make = [&](const kv::Address& address) {
    return MakeSupervisedServer(address, line.cluster, line.data_root,
                                line.settings, program);
  };
  return RunSupervisor(std::move(config));
}

int Main(int argc, const char* const* argv) {
  const auto line = ParseCommandLine(argc, argv);
  if (!line.ok()) {
    Complain(line.status(), kExitUsage);
    std::fputs(UsageText().c_str(), stderr);
    return kExitUsage;
  }
  if (line->action == CommandLine::Action::kPrintHelp) {
    return std::fputs(HelpText().c_str(), stdout) < 0 ? kExitFailure
                                                      : kExitStopped;
  }
  if (line->action == CommandLine::Action::kPrintVersion) {
    return std::puts(VersionText().c_str()) < 0 ? kExitFailure : kExitStopped;
  }
  const auto settings = ReadSettings(*line);
  if (!settings.ok()) return Complain(settings.status(), kExitUsage);
  if (line->action == CommandLine::Action::kPrintSettings) {
    return std::fputs(settings->ToYaml().c_str(), stdout) < 0 ? kExitFailure
                                                              : kExitStopped;
  }
  auto cluster = kv::ReadClusterFile(line->cluster);
  if (!cluster.ok()) return Complain(cluster.status(), kExitUsage);
  return line->action == CommandLine::Action::kRunSupervisor
             ? Supervise(*line, *cluster, *settings)
             : RunNode(*line, *std::move(cluster), *settings);
}

}  // namespace
}  // namespace kv739::server

int main(int argc, char** argv) {
  // Debian's abseil looks for deadlocks at every lock, gRPC's included: 2 % of
  // the processor under load.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return kv739::server::Main(argc, argv);
}
