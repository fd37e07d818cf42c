// What must hold in every run, whatever fails (Raft paper figure 3), told
// step by step what the replicas do. Remembers the first breach.
//
//   election safety       one leader per term; one vote per replica and term,
//                         restarts or not
//   leader append-only    a leader overwrites nothing of its log
//   log matching          one entry and one predecessor per (term, index)
//   leader completeness   a new leader has all that was committed
//   state machine safety  one entry per committed index; equal states
//   durability            what is committed is on the disks of a majority of
//                         each half of the configuration in force
//   membership            the configuration in force is the last of the log; a
//                         joint one is left only once it is committed
#ifndef KV739_TESTS_SUPPORT_SIM_CHECKER_H_
#define KV739_TESTS_SUPPORT_SIM_CHECKER_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "raft/core.h"
#include "tests/support/sim_disk.h"

namespace kv739::sim {

class SafetyChecker {
 public:
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  void Fail(std::string what);

  // The groups begin with everything up to `at` committed, in this state.
  void OnBegin(raft::LogPosition at, uint64_t digest);
  void OnLeader(raft::NodeId node, raft::Term term, const DiskImage& log);
  void OnVote(raft::NodeId node, raft::Term term, raft::NodeId candidate);
  // `before` is the log that the entries are written into.
  void OnWrite(raft::NodeId node, bool leader_before, const DiskImage& before,
               const std::vector<raft::Entry>& entries);
  void OnCommit(raft::NodeId node, const raft::Entry& entry);
  // A leader takes `at` for committed under `configuration`; `copies` says who
  // has it durably.
  void OnQuorum(raft::NodeId node, raft::LogPosition at,
                const raft::Configuration& configuration,
                absl::FunctionRef<bool(raft::NodeId)> copies);
  // `log` has just been written with a configuration; `active` is the core's.
  void OnConfiguration(raft::NodeId node, const DiskImage& log,
                       const raft::Configuration& active);
  // The log of `node` begins behind `at` now, with a state of this digest.
  void OnInstall(raft::NodeId node, raft::LogPosition at, uint64_t digest);
  // The state of `node` after applying `index`.
  void OnApply(raft::NodeId node, const raft::Entry& entry, uint64_t digest);
  // An acknowledgement leaves `node`, whose disk ends durably at `durable`.
  void OnAcknowledge(raft::NodeId node, raft::Index acknowledged,
                     raft::Index durable);

  // 0 when nothing is committed.
  raft::Index committed() const { return raft::Index(committed_.size()); }
  size_t leaders() const { return leaders_.size(); }

 private:
  struct Known {
    raft::Term previous_term;
    uint64_t data;
  };
  std::string failure_;
  std::map<raft::Term, raft::NodeId> leaders_;
  std::map<std::pair<raft::NodeId, raft::Term>, raft::NodeId> votes_;
  absl::flat_hash_map<std::pair<uint64_t, uint64_t>, Known> entries_;
  std::vector<raft::LogPosition> committed_;  // from index 1 on
  std::map<raft::Index, uint64_t> digests_;
};

uint64_t Mix(uint64_t digest, uint64_t value);
uint64_t DigestOf(const raft::Entry& entry);

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_SIM_CHECKER_H_
