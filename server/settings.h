// Settings of a node: every one has a default, a unit, a range and a line in
// config/kv739d.yaml. A file may leave any out; an unknown one is an error.
#ifndef KV739_SERVER_SETTINGS_H_
#define KV739_SERVER_SETTINGS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::server {

struct Settings {
  // raft:
  uint32_t tick_ms = 20;
  uint32_t heartbeat_ticks = 5;
  uint32_t election_timeout_ticks = 25;
  uint32_t gone_timeout_ticks = 10;
  uint32_t quiesce_after_ticks = 150;
  uint64_t max_append_bytes = 1 << 20;
  uint64_t max_inflight_bytes = 16 << 20;
  uint32_t max_inflight_messages = 64;
  uint64_t max_uncommitted_bytes = 64 << 20;
  uint64_t entry_cache_bytes = 16 << 20;
  bool read_leases = false;
  uint32_t gather_from = 16;  // writes in flight; 0: no write waits
  uint32_t hold_back_ms = 2;  // 0: all followers are asked at once
  // snapshot: (used by log compaction)
  uint64_t snapshot_entries = 10'000;
  uint64_t snapshot_log_bytes = 256 << 20;
  uint64_t snapshot_interval_s = 0;  // 0: never by time
  uint64_t snapshot_trailing_entries = 5'000;
  uint64_t snapshot_send_bytes_per_s = 128 << 20;
  // membership:
  uint64_t replace_after_s = 300;
  uint64_t candidate_timeout_s = 60;
  uint64_t audit_interval_s = 300;
  bool balance_leaders = true;
  // limits:
  uint32_t max_key_bytes = 256;
  uint32_t max_value_bytes = 1'024'000;
  bool portable_keys = false;  // key_charset: portable | any
  uint64_t max_inbox_events = 65'536;
  uint64_t max_pending_proposals = 65'536;
  uint64_t max_peer_queue_bytes = 64 << 20;
  // storage:
  uint64_t wal_segment_bytes = 64 << 20;
  uint32_t wal_spare_segments = 1;
  uint64_t wal_cache_bytes = 32 << 20;
  bool wal_direct_io = true;
  uint64_t write_buffer_bytes = 64 << 20;
  uint64_t block_cache_bytes = 256 << 20;
  uint32_t storage_threads = 2;
  uint64_t disk_reserve_bytes = 256 << 20;
  // server:
  uint32_t loops = 1;
  uint32_t stop_timeout_ms = 10'000;
  bool allow_remote_admin = false;
  bool allow_die = true;
  // metrics: 0 takes the port of the cluster file
  std::string metrics_host = "0.0.0.0";
  uint32_t metrics_port = 0;
  // log:
  std::string log_level = "info";   // trace debug info warn error
  std::string log_format = "text";  // text | json

  // `name` is what errors call the file: "name:line:column: ...". Unknown
  // names are refused with the nearest known one; values outside of their
  // range with the range.
  static absl::StatusOr<Settings> Parse(absl::string_view yaml,
                                        absl::string_view name);
  static absl::StatusOr<Settings> Read(const std::string& path);
  // The file that would give these settings, with each one's description.
  std::string ToYaml() const;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SETTINGS_H_
