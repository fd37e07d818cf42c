// Puts the groups' logs together again from the records of the surviving
// segments, in the order in which they were written.
//
// Segments are freed oldest first, so the stream may begin in the middle: the
// first record of an entry that is seen can be the moved copy of it, behind
// entries that follow it. So a group's log may have holes while the stream is
// read; at the end it must have none.
#ifndef KV739_SERVER_WAL_REPLAY_H_
#define KV739_SERVER_WAL_REPLAY_H_

#include <deque>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "server/wal/log_index.h"
#include "server/wal/record.h"

namespace kv739::wal {

class Replay {
 public:
  // A log with records of so many bytes in all. Comes first.
  void Begin(uint64_t bytes) { max_span_ = bytes / kRecordHeaderBytes; }
  // The next record. DATA_LOSS when it contradicts those before it.
  absl::Status Add(const Record& record, Location at);
  // The logs, or DATA_LOSS when one has a hole. Commit indexes are held down
  // to what is there. Call once.
  absl::StatusOr<absl::flat_hash_map<raft::GroupId, GroupLog>> Finish();

 private:
  struct Known {
    Location at;  // nowhere: a hole
    raft::EntryKind kind = raft::EntryKind::kCommand;
    raft::Term term;
  };
  struct Group {
    raft::HardState hard_state;
    Location hard_state_at;
    raft::LogPosition start;
    Location start_at;
    raft::Index first{1};  // of known[0]
    std::deque<Known> known;
  };

  absl::Status Put(Group& group, raft::Index index, const Known& known) const;
  absl::Status AddEntry(Group& group, const Record& record, Location at) const;
  static void AddCompaction(Group& group, const Record& record, Location at);
  static absl::StatusOr<GroupLog> FinishGroup(Group group);

  absl::flat_hash_map<raft::GroupId, Group> groups_;
  uint64_t max_span_ = 0;
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_REPLAY_H_
