// The log of one replica as the core sees it: terms for all of it, entries for
// the part that is still needed in memory.
//
//   snapshot            applied   committed            last
//      |-------------------|----------|--------------------|
//                 [ ------- entries in memory ------------ ]
//                                 durable ^   handed ^
//
// In memory: everything that is not yet applied or not yet durable, always;
// and before it the newest entries that fit max_cached_bytes, for followers
// that are a little behind. Older ones have to be read from the log on disk.
//
// Invariants, checked after each change:
//   first <= snapshot + 1
//   snapshot <= applied <= handed to apply <= committed <= last
//   durable <= handed to disk <= last
//
// Only what is durable here is handed out to be applied, so that after a crash
// the state machine is never ahead of the log.
#ifndef KV739_RAFT_LOG_H_
#define KV739_RAFT_LOG_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "raft/types.h"

namespace kv739::raft {

// Entries of one term; a log's terms are a short list of these.
struct TermRun {
  Index first;
  Term term;
};

// What an entry counts for in every bound of bytes: its data and a constant,
// so that empty entries are bounded too.
inline constexpr uint64_t kEntryOverhead = 32;
inline uint64_t EntryBytes(const Entry& entry) {
  return entry.data->size() + kEntryOverhead;
}

class Log {
 public:
  // See InitialState in raft/core.h.
  struct Start {
    LogPosition snapshot;
    Index applied;
    Index commit;
    std::vector<TermRun> terms;
    Index last;
    std::vector<Entry> entries;  // (applied, last]
  };
  static absl::Status Validate(const Start& start);
  // `start` is valid.
  Log(Start start, uint64_t max_cached_bytes);

  Index first() const { return snapshot_.index + 1; }
  Index last() const { return last_; }
  Term last_term() const;
  LogPosition end() const { return {last_term(), last_}; }
  LogPosition snapshot() const { return snapshot_; }
  Index committed() const { return committed_; }
  Index applied() const { return applied_; }
  Index durable() const { return durable_; }
  // Entries from here on are in memory.
  Index first_in_memory() const { return last_ + 1 - memory_count(); }
  // Of the entries in memory.
  uint64_t memory_bytes() const { return memory_bytes_; }

  // Nothing outside of [snapshot, last].
  std::optional<Term> TermAt(Index index) const;
  bool Matches(LogPosition position) const {
    return TermAt(position.index) == position.term;
  }
  // Paper section 5.4.1: is a log that ends at `end` at least as good as ours?
  bool IsUpToDate(LogPosition end) const;
  // The last position at or before `index` whose term is at most `term`; for
  // fast backtracking (section 5.3). Nothing is known of what lies before the
  // snapshot: there `index` comes back, without a term.
  LogPosition LastNotAbove(Index index, Term term) const;

  // Appends one entry behind the last; its term does not fall.
  void Append(Entry entry);
  // Drops everything from `index` on, which is not committed.
  void TruncateFrom(Index index);
  void CommitTo(Index index);

  // Copies entries from `first` (in memory) on: up to `limit` inclusive, at
  // most `max_entries`, and `max_bytes` unless the first alone is larger.
  // Returns their bytes.
  uint64_t Copy(Index first, Index limit, uint32_t max_entries,
                uint64_t max_bytes, std::vector<Entry>* out) const;
  const Entry& At(Index index) const;  // in memory

  // For Ready::persist: what was appended since the last call.
  bool persisting() const { return durable_ < handed_to_disk_; }
  bool HasUnpersisted() const { return handed_to_disk_ < last_; }
  std::vector<Entry> TakeUnpersisted();
  // Everything up to `position` is durable. Ignored when the log has another
  // entry there by now.
  void PersistedTo(LogPosition position);

  // For Ready::committed.
  bool HasUnapplied() const { return handed_to_apply_ < Applicable(); }
  std::vector<Entry> TakeUnapplied(uint64_t max_bytes);
  void AppliedTo(Index index);

  // The log begins behind `index` from now on: applied and durable.
  void Compact(Index index);
  // A snapshot stands for everything up to `position`, which is not applied
  // yet; it is durable and applied at once. What follows stays when the log has
  // that very entry, otherwise all of it goes (paper section 7); true when it
  // stays.
  bool Install(LogPosition position);

 private:
  Index Applicable() const { return std::min(committed_, durable_); }
  uint64_t memory_count() const { return memory_.size() - head_; }
  void EvictCached();
  void Check() const;

  const uint64_t max_cached_bytes_;
  LogPosition snapshot_;
  Index last_;
  Index committed_;
  Index applied_;
  Index durable_;
  Index handed_to_disk_;
  Index handed_to_apply_;
  std::vector<TermRun> runs_;
  // A queue: [head_, size) are the entries in memory. Contiguous, so that
  // copying a range is cheap.
  std::vector<Entry> memory_;
  size_t head_ = 0;
  uint64_t memory_bytes_ = 0;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_LOG_H_
