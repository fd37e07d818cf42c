// Runs the servers of a cluster file that are on this host, each as a process
// of its own, and stops them. Restarts none: a server that ended is the
// operator's to look at.
//
// One thread, which the caller gives; it must be the only one of the process
// (children are forked), and it blocks SIGINT, SIGTERM and SIGCHLD for good.
// Children are process groups of their own, so that Ctrl-C in a terminal
// reaches the supervisor alone, and get SIGTERM when it dies in any way.
#ifndef KV739_SERVER_SUPERVISOR_H_
#define KV739_SERVER_SUPERVISOR_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kv/cluster_file.h"

namespace kv739::server {

struct SupervisedServer {
  std::string address;               // for messages
  std::vector<std::string> command;  // program and arguments
};

// The servers of `cluster` on this host, each with its command. `program` is
// kv739d; `settings` may be empty. INVALID_ARGUMENT when none is here.
absl::StatusOr<std::vector<SupervisedServer>> ServersOfThisHost(
    const kv::ClusterFile& cluster, const std::string& cluster_path,
    const std::string& data_root, const std::string& settings,
    const std::string& program);

// Runs them until all have ended. Exit code: 0 when they were asked to stop
// and those still running did so in order; 130 when a second signal killed
// them; without a signal the code that all of them ended with, or 1 when they
// differ.
int RunSupervisor(const std::vector<SupervisedServer>& servers);

// "stopped in order", "data directory in use or damaged", ...
std::string DescribeExit(int wait_status);

}  // namespace kv739::server

#endif  // KV739_SERVER_SUPERVISOR_H_
