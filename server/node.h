// One running server: opens its data directory, log and store, forms its
// groups, serves, and stops in order.
#ifndef KV739_SERVER_NODE_H_
#define KV739_SERVER_NODE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kv/cluster_file.h"
#include "server/settings.h"

namespace kv739::server {

struct NodeConfig {
  kv::ClusterFile cluster;
  kv::Address listen;  // one of the cluster's
  std::string data_dir;
  Settings settings;
};

// Exit codes of kv739d.
enum ExitCode : int {
  kExitStopped = 0,    // stopped in order
  kExitFailure = 1,    // anything else
  kExitUsage = 2,      // bad arguments or configuration
  kExitDirectory = 3,  // data directory in use or damaged
};

class Node {
 public:
  // Serves when it returns OK (a leader may not be known yet). On error
  // nothing is left running; ExitCodeFor() tells the kind.
  static absl::StatusOr<std::unique_ptr<Node>> Start(const NodeConfig& config);
  static ExitCode ExitCodeFor(const absl::Status& status);

  virtual ~Node() = default;

  // Begins an orderly stop: hand over leaderships, drain, flush. Any thread;
  // later calls change nothing.
  virtual void RequestStop() = 0;
  // Returns when a stop was requested and is done; call it once.
  virtual ExitCode WaitUntilStopped() = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_H_
