// Runs the servers of a cluster file that are on this host, each as a process
// of its own, and stops them. Restarts none by itself: a server that ended is
// the operator's to look at, and to start again over the supervisor's socket
// (kv/supervisor_protocol.h), as servers that the file does not name are.
//
// One thread, which the caller gives; it must be the only one of the process
// (children are forked), and it blocks SIGINT, SIGTERM and SIGCHLD for good.
// Children are process groups of their own, so that Ctrl-C in a terminal
// reaches the supervisor alone, and get SIGTERM when it dies in any way. They
// find the socket in their environment (kSupervisorVariable).
#ifndef KV739_SERVER_SUPERVISOR_H_
#define KV739_SERVER_SUPERVISOR_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kv/cluster_file.h"

namespace kv739::server {

// What starts a server that is to join a cluster, behind its other arguments.
inline constexpr char kJoinFlag[] = "--join";
// Servers that the file does not name and one supervisor runs at most.
inline constexpr size_t kMaxAddedServers = 256;

struct SupervisedServer {
  std::string address;               // its name
  std::vector<std::string> command;  // program and arguments
  std::string data = {};             // its data directory
};

// How the server of this address is run. `program` is kv739d; `settings` may
// be empty.
SupervisedServer MakeSupervisedServer(const kv::Address& address,
                                      const std::string& cluster_path,
                                      const std::string& data_root,
                                      const std::string& settings,
                                      const std::string& program);

// The servers of `cluster` on this host, each with its command.
// INVALID_ARGUMENT when none is here.
absl::StatusOr<std::vector<SupervisedServer>> ServersOfThisHost(
    const kv::ClusterFile& cluster, const std::string& cluster_path,
    const std::string& data_root, const std::string& settings,
    const std::string& program);

struct SupervisorConfig {
  std::vector<SupervisedServer> servers;
  // Path of the socket; empty: none. When it cannot be had, that is said and
  // the servers run without it, unless another supervisor has it.
  std::string socket = {};
  // How a server of this host that is not among `servers` is run; empty: not.
  std::function<SupervisedServer(const kv::Address&)> make = {};
};

// Runs them until all have ended. Exit code: 0 when they were asked to stop
// and those still running did so in order; 130 when a second signal killed
// them; without a signal the code that all of them ended with last, or 1 when
// they differ; 3 when another supervisor runs them.
int RunSupervisor(SupervisorConfig config);

// "stopped in order", "data directory in use or damaged", ...
std::string DescribeExit(int wait_status);

}  // namespace kv739::server

#endif  // KV739_SERVER_SUPERVISOR_H_
