// When one replica's log is cut, and where. The state machine is made durable
// first (server/snapshot_flusher.h), and the log is then dropped up to what is
// durable, less a tail: at every moment log and state machine of the disk meet.
// A crash between the two leaves a log that is longer than it need be.
//
// A flush is due after `entries` applied since the last (but see min_gap_ms),
// when the log has grown
// past `log_bytes`, after `interval`, and once nothing was applied for a while:
// so every group is durable in the end, and of an idle one only a small tail
// stays, which is all that the write-ahead log ever has to carry along for it.
//
// The log is held for a follower that is there and behind, within `log_bytes`,
// and from the position of a snapshot on that is under way, within
// kHeldLogFactor times that; for nobody else.
//
// Owned by the replica, with the loop.
#ifndef KV739_SERVER_SNAPSHOT_COMPACTION_H_
#define KV739_SERVER_SNAPSHOT_COMPACTION_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "raft/core.h"
#include "raft/types.h"
#include "server/snapshot_context.h"

namespace kv739::server {

struct SnapshotOptions {
  uint64_t entries = 10'000;
  uint64_t log_bytes = 256 << 20;
  uint64_t interval_s = 0;  // 0: never by time
  uint64_t trailing_entries = 5'000;
  // Flushes for the sake of `entries` are at least so far apart, but the first
  // one. What is written again until then is written out once, and fewer files
  // are to be merged: at 30,000 puts a second to 100,000 keys, applying and
  // storing one costs a quarter less with five seconds than with two. Longer
  // gaps mean longer logs, and more to apply again at a start.
  uint64_t min_gap_ms = 10'000;
};

// The log is held for a snapshot under way up to so many times log_bytes.
inline constexpr uint64_t kHeldLogFactor = 4;
// Without anything applied for so long a group is idle, ...
inline constexpr uint64_t kIdleNanos = 60'000'000'000;
// ... and its log is cut down to about this much.
inline constexpr uint64_t kIdleTailBytes = 1 << 20;

class Compaction {
 public:
  // The state machine stands at `durable`, durably.
  Compaction(const SnapshotContext* context, raft::GroupId group,
             raft::Index durable);

  // At every tick: asks for a flush when one is due.
  void Tick(uint64_t now, const raft::Core& core);
  // Cuts when a tick or a flush found that it is time; `held` is the lowest
  // index that somebody receives a snapshot of, or 0.
  void Cut(uint64_t now, raft::Index held, raft::Core* core, Turn& turn);

  // Up to where a crash would leave the state machine at least.
  raft::Index durable() const { return durable_; }
  // A snapshot was put in place.
  void Installed(raft::Index index) { durable_ = index; }
  uint64_t compactions() const { return compactions_; }

 private:
  bool FlushIsDue(uint64_t now, raft::Index applied);
  void OnFlushed(absl::StatusOr<raft::LogPosition> durable, uint64_t now,
                 raft::Index applied);
  raft::Index Limit(uint64_t log_bytes, const raft::Core& core) const;

  const SnapshotContext* const context_;
  const raft::GroupId group_;
  const uint64_t id_;    // of this object, in callbacks
  raft::Index durable_;  // the state machine's

  uint64_t now_ = 0;  // of the last tick; 0 before the first
  raft::Index applied_;
  uint64_t applied_at_ = 0;  // when it last moved
  bool idle_ = false;

  bool joined_ = false;   // the next flush serves us
  bool started_ = false;  // and it was started
  uint64_t flushed_at_ = 0;
  uint64_t not_before_ = 0;  // after a flush that failed

  uint64_t looked_at_ = 0;     // at the log's size
  uint64_t log_bytes_ = 0;     // then
  uint64_t bytes_at_cut_ = 0;  // left by the last one, about
  bool cut_wanted_ = false;
  uint64_t cut_at_ = 0;
  bool held_back_ = false;  // the last one was, by somebody
  uint64_t compactions_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SNAPSHOT_COMPACTION_H_
