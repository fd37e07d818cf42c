// The disk of one simulated replica: what raft::Ready::persist asks for is
// written in order, becomes durable later, and is lost by a crash before that.
//
// Two views: `durable` is what a crash leaves; `written` is durable plus all
// writes that are still under way.
#ifndef KV739_TESTS_SUPPORT_SIM_DISK_H_
#define KV739_TESTS_SUPPORT_SIM_DISK_H_

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "raft/core.h"

namespace kv739::sim {

// A log with its hard state, as it would be found when reopened.
struct DiskImage {
  raft::HardState hard_state;
  raft::SnapshotMeta snapshot;       // the log begins behind it
  std::vector<raft::Entry> entries;  // snapshot.position.index + 1 ...

  raft::Index last() const { return snapshot.position.index + entries.size(); }
  const raft::Entry* At(raft::Index index) const;
  std::optional<raft::Term> TermAt(raft::Index index) const;
  // The configuration in force at `index`.
  raft::Configuration ConfigurationAt(raft::Index index) const;
  // `at_snapshot` is in force at persist.snapshot.
  void Write(const raft::Persist& persist,
             const raft::Configuration& at_snapshot);
  // The rule of Persist::snapshot.
  void Install(const raft::SnapshotMeta& meta);
  void Compact(raft::Index index);
};

class SimDisk {
 public:
  // A finished write, and the messages that waited for it.
  struct Completion {
    raft::PersistedPosition position;
    std::vector<raft::Envelope> send;
  };

  // The log begins behind `initial`, all that it stands for is committed.
  explicit SimDisk(raft::SnapshotMeta initial);

  void Write(raft::Persist persist, std::vector<raft::Envelope> send,
             raft::Configuration at_snapshot = {});
  size_t pending() const { return pending_.size(); }
  // Writes that were asked for and that are done, since the start.
  uint64_t asked() const { return done_ + pending_.size(); }
  uint64_t done() const { return done_; }
  bool InstallPending() const;
  // The lowest index above `above` that a pending write touches, if any does.
  std::optional<raft::Index> LowestPending(raft::Index above) const;
  // The oldest pending write becomes durable.
  Completion CompleteOldest();
  // The oldest writes became durable without anyone hearing of it; the others
  // are gone.
  void Crash(size_t survivors);
  // At a start, for a state machine that was switched before the crash.
  void Install(const raft::SnapshotMeta& meta);
  // Drops the durable log up to `index`; nothing that is pending rewrites it.
  void Compact(raft::Index index);

  const DiskImage& durable() const { return durable_; }
  const DiskImage& written() const { return written_; }
  // For restarting a core whose state machine has applied `applied`.
  raft::InitialState Recover(raft::Index applied) const;
  // Durable entries as a LogFetch asks for.
  std::vector<raft::Entry> Read(const raft::LogFetch& fetch) const;

 private:
  struct Pending {
    raft::Persist persist;
    std::vector<raft::Envelope> send;
    raft::Configuration at_snapshot;
  };
  uint64_t done_ = 0;
  DiskImage durable_;
  DiskImage written_;
  std::deque<Pending> pending_;
};

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_SIM_DISK_H_
