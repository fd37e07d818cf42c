// A cluster of real kv739d processes on this host.
//
// Servers are known by their position in the cluster file, from 0. The
// program is the one named by the environment variable KV739D, else the one
// of this build. Data, logs and files lie in one temporary directory, which
// is kept and named when the test failed. Main thread alone, but for the
// stubs, which any thread may use.
#ifndef KV739_TESTS_SUPPORT_CLUSTER_H_
#define KV739_TESTS_SUPPORT_CLUSTER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "kv739/v1/cluster.grpc.pb.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "tests/support/ports.h"
#include "tests/support/process.h"

namespace kv739::test {

// Generous: how long a slow and busy machine may take for what should take a
// second.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

// Programs of this build, or of the environment variables KV739D and KV739.
std::string ServerProgram();
std::string CommandProgram();

// Asks `holds` again and again until it is true; false after `timeout`.
bool Eventually(const std::function<bool()>& holds,
                absl::Duration timeout = kPatience);

// Defaults with small files, so that a start writes little.
extern const char kTestSettings[];

// Where a server runs, and on what.
struct Place {
  std::string host = "127.0.0.1";
  std::string data_dir;                  // empty: one of the cluster's own
  std::vector<std::string> environment;  // "NAME=value"
  int network = -1;                      // see ProcessOptions
};

struct ClusterOptions {
  int servers = 5;
  // Places behind them for servers that are not in the cluster file; see
  // StartNew().
  int extra = 0;
  int groups_per_five = 1;
  // Start() waits for the leaders of all groups, one by one.
  bool wait_for_leaders = true;
  std::string settings = kTestSettings;  // YAML; "" for none
  // Run by one `kv739d -c`, as operators do; they and those that it starts
  // later are stopped and started over it and the cluster's own calls, so
  // KillHard(), Pause(), Restart() and their like are not for them. A server
  // runs when its port is open. Set KV739_RUN_DIR for the program before.
  bool supervised = false;
  // By position; those that are not there have a Place{}.
  std::map<int, Place> places = {};
  // Whether the test has failed so far; asked at the end.
  std::function<bool()> failed;
};

class Cluster {
 public:
  explicit Cluster(ClusterOptions options);
  ~Cluster();  // kills what runs
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // Starts all servers and waits until every group has a leader. On other
  // ports again when one is in use.
  absl::Status Start();

  int size() const { return options_.servers; }  // in the cluster file
  int total() const { return options_.servers + options_.extra; }
  const std::string& config() const { return config_; }  // cluster file
  const std::string& dir() const { return dir_.path(); }
  std::string address(int i) const;
  uint16_t port(int i) const { return (*ports_)[3 * i]; }
  uint16_t metrics_port(int i) const { return (*ports_)[3 * i + 1]; }
  uint16_t http_port(int i) const { return (*ports_)[3 * i + 2]; }
  std::string data_dir(int i) const;
  std::string log_path(int i) const;
  std::string settings_path() const;
  std::vector<std::string> ServerArguments(int i) const;

  bool running(int i);
  void KillHard(int i);  // SIGKILL, and gone when it returns
  void KillHardAll();    // all signals first, then all waits
  void Signal(int i, int signal);
  void Terminate(int i);  // SIGTERM; see WaitExit
  void Pause(int i);      // SIGSTOP, and it stands still when it returns
  void Resume(int i);     // SIGCONT
  // Starts a server that does not run; does not wait for it to serve.
  absl::Status Restart(int i);
  // Starts a server on an empty data directory, to join; does not wait.
  absl::Status StartNew(int i);
  // As Restart() or StartNew() with these arguments at the end.
  absl::Status LaunchWith(int i, std::vector<std::string> more);
  // Exit code, or minus the signal; nullopt when it still runs. Always 0 of a
  // supervised server.
  std::optional<int> WaitExit(int i, absl::Duration timeout = kPatience);

  absl::StatusOr<v1::GetStatusResponse> Status(int i);
  // Replica of `group` on server i; nullopt when it does not answer.
  std::optional<v1::ReplicaStatus> Replica(int i, uint64_t group);
  // The newest map that a running server has.
  absl::StatusOr<v1::GetMapResponse> NewestMap();
  // groups() as the newest map has them.
  absl::Status RefreshGroups();
  // Node id of the server that has the address of position i now; 0: none.
  uint64_t NodeId(int i);
  // Until the newest map and all of these members say that just these are the
  // group's voters and nothing is under way; groups() says so afterwards.
  absl::Status WaitForMembers(uint64_t group, std::vector<int> members,
                              absl::Duration timeout = kPatience);
  // Admin calls of the directory's leader, which is looked for.
  absl::Status RemoveServer(int i);
  absl::Status SetMembers(uint64_t group, std::vector<int> members);
  absl::Status TransferLeader(uint64_t group, int target);
  // Compares the replicas of the group; nothing until all have answered.
  absl::StatusOr<v1::CheckedGroup> Check(uint64_t group);
  // Until all members of the group have equal state at one index.
  absl::Status WaitForEqualHashes(uint64_t group,
                                  absl::Duration timeout = kPatience);

  // Groups with the positions of their members; known once Start() is done.
  const std::map<uint64_t, std::vector<int>>& groups() const { return groups_; }
  uint64_t only_group() const { return groups_.begin()->first; }
  // The server that says it leads `group` and that a majority of the group's
  // members take for the leader of one term; -1 if there is none just now.
  int LeaderOf(uint64_t group);
  // The same, waited for; -1 after the timeout.
  int WaitForLeader(uint64_t group, absl::Duration timeout = kPatience);
  absl::Status WaitForLeaders(absl::Duration timeout = kPatience);
  // Until the members of `group` that run have applied the same index.
  absl::Status WaitForEqualReplicas(uint64_t group,
                                    absl::Duration timeout = kPatience);

  std::unique_ptr<v1::KeyValue::Stub> KeyValueStub(int i);
  std::unique_ptr<v1::Cluster::Stub> ClusterStub(int i);
  std::unique_ptr<v1::Admin::Stub> AdminStub(int i);
  std::shared_ptr<grpc::Channel> channel(int i) { return channels_.at(i); }

  // Ends of the servers' logs.
  std::string LogTails() const;

 private:
  absl::Status StartOnce();
  absl::Status Launch();
  absl::Status LoadMap();
  void TakeGroups(const v1::GetMapResponse& map);
  bool PortInUse(int i);

  const Place& place(int i) const;

  const ClusterOptions options_;
  TempDir dir_;
  std::string config_;
  std::unique_ptr<Ports> ports_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::unique_ptr<Process> supervisor_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  std::map<uint64_t, std::vector<int>> groups_;
};

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_CLUSTER_H_
