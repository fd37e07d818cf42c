// One simulated replica: a core, its disk and a state machine that is a digest
// of all it applied. It does for the core what a real host does, and can lose
// everything that is not durable.
#ifndef KV739_TESTS_SUPPORT_SIM_NODE_H_
#define KV739_TESTS_SUPPORT_SIM_NODE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "raft/core.h"
#include "tests/support/sim_checker.h"
#include "tests/support/sim_disk.h"

namespace kv739::sim {

// What a state machine is: durable when flushed, and the data of a snapshot.
struct SimState {
  raft::Index applied;
  raft::Term term;  // of the entry at `applied`
  uint64_t digest = 0;
  raft::Configuration configuration;  // in force at `applied`
  raft::SnapshotMeta meta() const { return {{term, applied}, configuration}; }
};

class SimNode {
 public:
  // What one turn asks of the world outside of the replica.
  struct Output {
    std::vector<raft::Envelope> send;
    std::vector<raft::Entry> applied;
    std::vector<raft::ReadReady> reads;
    std::vector<raft::ReadId> failed_reads;
    std::vector<raft::LogFetch> fetch;
    std::vector<raft::NodeId> needs_snapshot;
    std::optional<raft::SnapshotMeta> wants_snapshot;
    bool wrote = false;
    bool led = false;  // all through the turn, in one term
  };

  // All pointers outlive the node. Starts at once, behind `initial`.
  SimNode(const raft::Options& options, raft::SnapshotMeta initial,
          raft::Random* random, SafetyChecker* checker);

  raft::NodeId id() const { return options_.self; }
  bool up() const { return core_ != nullptr; }
  raft::Core& core() { return *core_; }
  SimDisk& disk() { return disk_; }
  const SimDisk& disk() const { return disk_; }

  // One TakeReady() and all that follows from it on this replica. Committed
  // entries are applied; the core is told of it now or, with `lazy`, later.
  Output Turn(bool lazy);
  // The oldest write is durable: returns the messages that waited for it.
  std::vector<raft::Envelope> CompleteWrite();

  // Of the writes under way the first `survivors` became durable; what the
  // state machine applied since its last Flush() is gone.
  void Crash(size_t survivors);
  void Start();
  void Flush() { flushed_ = state_; }
  // The state machine becomes this snapshot, durably and at once. False when it
  // is past it. The core is to be told with SnapshotInstalled().
  bool Switch(const SimState& snapshot);
  const SimState& durable_state() const { return flushed_; }
  // What a restart would begin from.
  raft::Index flushed() const { return flushed_.applied; }
  raft::Index applied() const { return state_.applied; }
  uint64_t digest() const { return state_.digest; }
  // The commit index as far as the checker has been told.
  raft::Index checked_commit = raft::Index(0);

 private:
  void CheckSend(const raft::Envelope& envelope);
  void CheckDurable();

  const raft::Options options_;
  raft::Random* const random_;
  SafetyChecker* const checker_;
  SimDisk disk_;
  SimState state_;
  SimState flushed_;
  bool led_ = false;  // at the end of the last turn
  raft::Term led_term_;
  std::unique_ptr<raft::Core> core_;
};

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_SIM_NODE_H_
