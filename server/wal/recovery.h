// Reads a log directory back. What is torn, what is damaged and what is told
// apart how: docs/wal_format.md.
#ifndef KV739_SERVER_WAL_RECOVERY_H_
#define KV739_SERVER_WAL_RECOVERY_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "server/wal/file_system.h"
#include "server/wal/log_index.h"
#include "server/wal/segment.h"

namespace kv739::wal {

struct RecoveredLog {
  uint64_t log_id = 0;                             // 0: there is no log yet
  std::vector<std::shared_ptr<Segment>> segments;  // ascending, all sealed
  std::vector<uint64_t> ends;  // where the log ends in each of them
  absl::flat_hash_map<raft::GroupId, GroupLog> groups;
  std::vector<std::string> spares;  // paths of filled files of the right size
  uint64_t next_file_id = 1;        // above those of all spares
};

// Reads, checks and makes durable what is in `dir`. Afterwards the newest
// segment counts as ended: the log goes on in a new one. Removes files that a
// crash left unfinished.
absl::StatusOr<RecoveredLog> RecoverLog(FileSystem* fs, const std::string& dir,
                                        bool direct, uint64_t segment_bytes);

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_RECOVERY_H_
