// What the kernel knows of this process, under the names that Prometheus'
// client libraries have agreed on (process_*).
#ifndef KV739_SERVER_PROCESS_STATS_H_
#define KV739_SERVER_PROCESS_STATS_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace kv739::server {

struct ProcessStats {
  double cpu_seconds = 0;         // user and system
  double start_time_seconds = 0;  // since 1970
  uint64_t resident_bytes = 0;
  uint64_t virtual_bytes = 0;
  uint64_t open_fds = 0;
  uint64_t max_fds = 0;  // 0: no limit
  uint64_t threads = 0;
};

// INTERNAL when /proc cannot be read.
absl::StatusOr<ProcessStats> ReadProcessStats();

}  // namespace kv739::server

#endif  // KV739_SERVER_PROCESS_STATS_H_
