// Turns copied counts into Prometheus families. Names, labels and units are
// decided here and nowhere else; HELP gives the unit of each.
#ifndef KV739_SERVER_METRIC_FAMILIES_H_
#define KV739_SERVER_METRIC_FAMILIES_H_

#include <prometheus/metric_family.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "server/process_stats.h"
#include "server/stats.h"
#include "server/sync_monitor.h"
#include "server/wal/wal.h"

namespace kv739::server {

// This node's side of its stream to one peer.
struct PeerConnectionStats {
  std::string peer;  // host:port
  bool connected = false;
  uint64_t queued_bytes = 0;
  uint64_t connects = 0;          // streams that were established
  uint64_t dropped_messages = 0;  // no connection, or its queue was full
};

// All that one scrape tells. What is not known is left out.
struct MetricsSource {
  bool healthy = false;
  uint64_t host_timeouts = 0;
  std::optional<HostStats> host;
  std::optional<wal::WalStats> wal;
  std::optional<SyncMonitor::Snapshot> syncs;
  std::vector<PeerConnectionStats> peers;
  std::optional<ProcessStats> process;
};

// `address_of` gives the host:port of a node.
std::vector<prometheus::MetricFamily> MakeMetricFamilies(
    const MetricsSource& source,
    const std::function<std::string(raft::NodeId)>& address_of);

}  // namespace kv739::server

#endif  // KV739_SERVER_METRIC_FAMILIES_H_
