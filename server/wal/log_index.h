// What the log knows in memory: for every group where its live records lie,
// its terms, and the recent entries themselves; for every segment how much in
// it is alive.
//
// Threads: none of its own; its owner guards it. Holds only what is durable.
// Memory: 32 bytes an entry, plus the cache's payloads.
#ifndef KV739_SERVER_WAL_LOG_INDEX_H_
#define KV739_SERVER_WAL_LOG_INDEX_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "raft/core.h"
#include "raft/types.h"
#include "server/wal/record.h"

namespace kv739::wal {

// Where a record lies. Segment 0 does not exist: "nowhere".
struct Location {
  uint32_t segment = 0;
  uint32_t offset8 = 0;  // in units of kRecordAlignment
  uint32_t payload_bytes = 0;

  uint64_t offset() const { return uint64_t{offset8} * kRecordAlignment; }
  uint64_t bytes() const { return RecordBytes(payload_bytes); }
  explicit operator bool() const { return segment != 0; }
  bool operator==(const Location&) const = default;
};

struct Slot {
  raft::Payload cached;  // null when only the file has it
  Location at;
  raft::EntryKind kind = raft::EntryKind::kCommand;
};
static_assert(sizeof(Slot) == 32);

struct GroupLog {
  raft::HardState hard_state;
  Location hard_state_at;
  raft::LogPosition start;  // the log begins behind it
  Location start_at;
  std::deque<Slot> slots;  // slots[i] is of index start.index + 1 + i
  std::vector<raft::TermRun> terms;
  uint64_t bytes = 0;  // of the entries' records

  raft::Index last() const { return start.index + slots.size(); }
  bool Has(raft::Index index) const {
    return index > start.index && index <= last();
  }
  Slot& At(raft::Index index) { return slots[index - start.index - 1]; }
  const Slot& At(raft::Index index) const {
    return slots[index - start.index - 1];
  }
  // Of a stored entry or of `start`; 0 for any other index.
  raft::Term TermAt(raft::Index index) const;
};

class LogIndex {
 public:
  explicit LogIndex(uint64_t cache_bytes) : cache_limit_(cache_bytes) {}

  // The changes, one for each record.
  void SetHardState(raft::GroupId group, const raft::HardState& state,
                    Location at);
  // Cuts everything from entry.index on, which must be stored or follow.
  void Append(raft::GroupId group, const raft::Entry& entry, Location at);
  void Compact(raft::GroupId group, raft::LogPosition position, bool drops_all,
               Location at);
  // All but the hard state.
  void Remove(raft::GroupId group);
  // Puts in a group that recovery has read.
  void Adopt(raft::GroupId group, GroupLog log);

  // The record at `from` was copied to `to`.
  void Move(RecordKind kind, raft::GroupId group, raft::Index index,
            Location to);
  // Whether the record of this kind, group and index that is in force is the
  // one at `at`.
  bool IsLive(RecordKind kind, raft::GroupId group, raft::Index index,
              Location at) const;

  const GroupLog* Find(raft::GroupId group) const;
  const absl::flat_hash_map<raft::GroupId, GroupLog>& groups() const {
    return groups_;
  }

  struct Usage {
    uint64_t records = 0;
    uint64_t bytes = 0;
  };
  Usage live(uint64_t segment) const;
  uint64_t live_bytes() const { return live_bytes_; }
  // Forgets the accounting of a segment in which nothing is alive.
  void ForgetSegment(uint64_t segment);
  uint64_t cached_bytes() const { return cached_bytes_; }

 private:
  // A stretch of entries in the order in which they were cached.
  struct CachedRun {
    raft::GroupId group;
    raft::Index first;
    uint64_t count;
  };

  void Retain(Location at);
  void Release(Location at);
  void Drop(Slot& slot);  // a slot that is about to go
  void Uncache(Slot& slot);
  void Remember(raft::GroupId group, raft::Index index);
  void Evict();
  void CutFrom(GroupLog& log, raft::Index index);
  void CutTo(GroupLog& log, raft::Index index);

  const uint64_t cache_limit_;
  absl::flat_hash_map<raft::GroupId, GroupLog> groups_;
  absl::flat_hash_map<uint64_t, Usage> usage_;
  uint64_t live_bytes_ = 0;
  std::deque<CachedRun> cached_runs_;
  uint64_t cached_bytes_ = 0;
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_LOG_INDEX_H_
