// One running server: opens its data directory, log and store, forms its
// groups, serves, and stops in order.
#ifndef KV739_SERVER_NODE_H_
#define KV739_SERVER_NODE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "kv/cluster_file.h"
#include "server/exit_code.h"
#include "server/settings.h"

namespace kv739::server {

struct NodeConfig {
  kv::ClusterFile cluster;
  kv::Address listen;
  std::string data_dir;
  Settings settings;
  // Become a server of a cluster that runs already, see joining.h.
  bool join = false;
  uint16_t metrics_port = 0;  // of one that the file does not have; 0: default
  uint16_t http_port = 0;
  // Ends a start that waits for other servers.
  const absl::Notification* cancel = nullptr;
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
