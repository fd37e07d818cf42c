// The write-ahead log of a node: the Raft log and hard state of all its
// groups in one stream of segments. Format: docs/wal_format.md.
//
// Two layers. `Wal` is the log itself: synchronous, no threads, on a
// FileSystem that a test or the simulator can put in the place of the disk.
// `WalThread` (wal_thread.h) is the thread that a node runs it on: it takes
// everything that waits, makes it durable with one write and one sync, and
// reports from the same thread.
//
// Durability: what Append() returned OK for survives a crash of the process
// and of the machine. A failed write or sync is final: the Wal refuses
// everything from then on, because after a failed sync nobody can say what is
// on the disk (known as the fsync failure problem).
#ifndef KV739_SERVER_WAL_WAL_H_
#define KV739_SERVER_WAL_WAL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "raft/core.h"
#include "raft/types.h"
#include "server/wal/file_system.h"
#include "server/wal/segment.h"

namespace kv739::wal {

// One write carries at most this much, or one larger record.
inline constexpr uint64_t kMaxWriteBytes = 4 << 20;
// One Append moves at most this much out of old segments, or one record.
inline constexpr uint64_t kMaxRewriteBytes = 1 << 20;

struct WalOptions {
  // A multiple of kBlockBytes, at least two blocks. A record that does not
  // fit gets a larger segment of its own.
  uint64_t segment_bytes = 64 << 20;
  // Prefilled segments kept ready beyond the one in use.
  uint32_t spare_segments = 1;
  // Recent entries of all groups kept in memory, to feed followers.
  uint64_t cache_bytes = 32 << 20;
  // O_DIRECT|O_DSYNC where the file system takes it; otherwise, or when off,
  // buffered writes and fdatasync.
  bool direct = true;
  // Identity of a log that is created; it goes into the seed of every
  // checksum. 0: a random one. A simulator sets it, to be repeatable.
  uint64_t new_log_id = 0;
  // Of new segments; segments of any known format are read. An older one is
  // for tests of a start after an upgrade.
  uint32_t format_version = kFormatVersion;
};

// One group's share of an append. Applied in the order of the fields.
struct GroupWrite {
  raft::GroupId group;
  std::optional<raft::HardState> hard_state;
  // Contiguous; replaces what is stored from entries.front().index on. The
  // first must follow the last one stored, or replace a stored one.
  std::vector<raft::Entry> entries;
  // The log up to and including this position is not needed any more: it is
  // dropped, and the log begins behind it. Ignored when not ahead. When the
  // stored entry at the position has another term, what follows it belongs to
  // another history and is dropped too.
  std::optional<raft::LogPosition> compact;
  // The group is gone from this node: nothing of it is kept but its hard
  // state, should it ever come back: a vote once given is never forgotten.
  // Say a commit index of 0 with it: it means nothing without the log.
  bool remove_group = false;

  bool empty() const {
    return !hard_state && entries.empty() && !compact && !remove_group;
  }
};

// What recovery found of one group. The commit index is held down to
// last_index: entries that came with it may have been torn off.
struct RecoveredGroup {
  raft::HardState hard_state;
  // Position behind which the log begins: {0, 0} or the last compaction.
  raft::LogPosition start;
  raft::Index last_index;  // start.index when there are no entries
  std::vector<raft::TermRun> terms;
};

using RecoveredGroups = absl::flat_hash_map<raft::GroupId, RecoveredGroup>;

struct WalStats {
  uint64_t appends = 0;  // calls that wrote
  uint64_t syncs = 0;
  uint64_t entries = 0;
  uint64_t bytes = 0;            // payload and headers
  uint64_t disk_bytes = 0;       // with block padding and rewrites
  uint64_t segments = 0;         // in use, spares not counted
  uint64_t rewritten_bytes = 0;  // live records moved to free old segments
  uint64_t live_bytes = 0;       // of records that are still needed
  uint64_t cached_bytes = 0;
  uint64_t spares = 0;             // filled files that wait
  uint64_t recycled_segments = 0;  // became spares again
  uint64_t removed_segments = 0;
  uint64_t inline_segments = 0;  // made in Append: no spare was ready
};

class Wal {
 public:
  // Opens or creates the log in `dir` (which must exist), recovering what is
  // there. A torn tail is cut; DATA_LOSS names file and offset when a bad
  // record lies before good ones. `fs` must outlive the log.
  static absl::StatusOr<std::unique_ptr<Wal>> Open(FileSystem* fs,
                                                   const std::string& dir,
                                                   const WalOptions& options);
  virtual ~Wal() = default;

  virtual const RecoveredGroups& recovered() const = 0;

  // Makes all of it durable with one write and, when anything was written,
  // one sync; more than kMaxWriteBytes or a change of segment take another.
  // Groups may repeat; order is kept. One caller at a time.
  // INVALID_ARGUMENT, and nothing is written, when entries do not fit what is
  // stored. Any other error is final, see above.
  virtual absl::Status Append(absl::Span<const GroupWrite> writes) = 0;

  // Durable entries [first, last] of a group, fewer when max_bytes is reached
  // (at least one). OUT_OF_RANGE when `first` is compacted or not there;
  // DATA_LOSS when a record fails its checksum. Any thread.
  virtual absl::StatusOr<std::vector<raft::Entry>> Read(raft::GroupId group,
                                                        raft::Index first,
                                                        raft::Index last,
                                                        uint64_t max_bytes) = 0;

  // Work that needs no hurry: prefills spare segments, frees segments that
  // nothing needs, notes live records that pin old segments for rewriting by
  // the next Append. A bounded amount of each, so call it again while
  // wants_maintenance(). Any one thread; may run beside Append and Read.
  // RESOURCE_EXHAUSTED, naming path and bytes, when the disk is full: not
  // final, the log goes on until it needs the space.
  virtual absl::Status Maintain() = 0;
  virtual bool wants_maintenance() const = 0;  // any thread

  virtual WalStats stats() const = 0;  // any thread
  // Of the entries that the group's log holds, headers included. Any thread.
  virtual uint64_t log_bytes(raft::GroupId group) const = 0;
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_WAL_H_
