// What the core wants done. The fields say what must come first:
//
//   send_now            may leave at once
//   persist             must be durable before ...
//   send_after_persist  ... these leave, and before Core::Persisted()
//   committed           may be applied at once: durable on a majority, and here
//                       too, so that a crash never leaves the state machine
//                       ahead of the log
//   reads               may be served once applied() has reached their index
//
// Persist parts of successive Ready values are made durable in order, and
// send_after_persist waits for every earlier persist part as well as its own,
// even when its own is empty.
#ifndef KV739_RAFT_READY_H_
#define KV739_RAFT_READY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "raft/configuration.h"
#include "raft/message.h"
#include "raft/types.h"

namespace kv739::raft {

enum class Role : uint8_t { kFollower = 0, kCandidate = 1, kLeader = 2 };

// Handed back to Core::Persisted() unchanged. It names the entry by term and
// index, so that a late completion for an entry that was overwritten since is
// not believed (known as the ABA race of asynchronous log writes).
struct PersistedPosition {
  Term hard_state_term;
  LogPosition last;
};

// Written in the order of its fields.
struct Persist {
  // A snapshot was installed: the log begins behind this position. When the
  // log on disk has an entry at just this position, what follows it stays;
  // otherwise all of it is gone (paper section 7, figure 13).
  std::optional<LogPosition> snapshot;
  std::optional<HardState> hard_state;
  // Contiguous. Replaces everything from entries.front().index on.
  std::vector<Entry> entries;
  PersistedPosition position;
  bool empty() const { return !snapshot && !hard_state && entries.empty(); }
};

// Chosen by the caller, unique within its process.
using ReadId = uint64_t;

struct ReadReady {
  ReadId id = 0;
  Index index;  // linearizable once this index is applied
};

// A follower needs entries that the core no longer holds in memory: read them
// from the log and hand them to Core::Fetched().
struct LogFetch {
  NodeId peer;
  Index first;
  Index last;  // inclusive; fewer may be handed in, from `first` on
  uint64_t max_bytes = 0;
};

struct SoftState {
  Role role = Role::kFollower;
  Term term;
  NodeId leader;  // none when unknown
  bool operator==(const SoftState&) const = default;
};

struct Ready {
  Persist persist;
  std::vector<Envelope> send_now;
  std::vector<Envelope> send_after_persist;
  std::vector<Entry> committed;  // contiguous, follows the previous Ready's
  std::vector<ReadReady> reads;
  std::vector<ReadId> failed_reads;  // leadership was lost: ask elsewhere
  std::vector<LogFetch> fetch;
  // Followers that need entries below the log's start. At most once per
  // follower and leadership until Core::SnapshotSent() says how it went.
  std::vector<NodeId> needs_snapshot;
  // The leader offers this snapshot, and the log alone cannot get us there: its
  // data is wanted. Offers repeat; a newer one replaces an older one. The state
  // machine may be switched to it once this and every earlier persist part is
  // durable, and only while it has applied less; then Core::SnapshotInstalled()
  // is due.
  std::optional<SnapshotMeta> wants_snapshot;
  std::optional<SoftState> soft_state;  // set when it changed

  bool empty() const {
    return persist.empty() && send_now.empty() && send_after_persist.empty() &&
           committed.empty() && reads.empty() && failed_reads.empty() &&
           fetch.empty() && needs_snapshot.empty() && !wants_snapshot &&
           !soft_state;
  }
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_READY_H_
