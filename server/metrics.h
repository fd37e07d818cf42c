// Serves the metrics over HTTP at /metrics. Nothing of Prometheus is on the
// path of a request: numbers are copied out when somebody scrapes.
//
// A scrape takes a bounded time: when the replica host does not answer in
// `host_timeout`, raft_node_health is 0 and what is known without the host is
// told. Scrapes that meet share one question to the host, so that a host that
// hangs collects one and not one per scrape.
#ifndef KV739_SERVER_METRICS_H_
#define KV739_SERVER_METRICS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/metric_families.h"

namespace kv739::server {

struct MetricsOptions {
  std::string host = "0.0.0.0";
  uint16_t port = 9090;  // 0: any free one
  absl::Duration host_timeout = absl::Seconds(1);
  // A write of the log that takes longer makes the node unhealthy.
  absl::Duration max_sync = absl::Seconds(5);
};

// Where the numbers come from. Called on the threads of the HTTP server; all
// must stay valid until the MetricsServer is gone.
struct MetricsParts {
  // Asks the host; the answer may come on any thread, late, or never.
  std::function<void(absl::AnyInvocable<void(HostStats)>)> host;
  std::function<std::string(raft::NodeId)> address_of;
  // May be left out.
  std::function<wal::WalStats()> wal;
  std::function<std::vector<PeerConnectionStats>()> peers;
  const SyncMonitor* syncs = nullptr;
};

class MetricsServer {
 public:
  // UNAVAILABLE, with the reason, when the address cannot be listened on;
  // INVALID_ARGUMENT when it is none.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const MetricsOptions& options, MetricsParts parts);
  virtual ~MetricsServer() = default;  // ends scrapes that are under way
  virtual uint16_t port() const = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_METRICS_H_
