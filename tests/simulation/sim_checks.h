// What must hold at every moment, whatever fails. Told step by step what the
// nodes do; remembers the first breach.
//
//   P1  one leader per (group, term)
//   P2  one vote per (replica, term), durable before it is given
//   P3  log matching: one entry and one predecessor per (group, term, index)
//   P4  what is committed stays; commit and applied never fall in a process
//   P5  equal states at equal indexes
//   P6  what is committed is durable on a majority of each half of the
//       configuration; nothing else is applied; nobody acknowledges more than
//       its disk has
//   P8  one map per epoch, each slot owned by one group; epochs only grow
//   P10 a node finds on its disk all that it had promised, or does not start
// P7 (histories) and P9 (liveness) are the world's, at its end.
#ifndef KV739_TESTS_SIMULATION_SIM_CHECKS_H_
#define KV739_TESTS_SIMULATION_SIM_CHECKS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "kv/cluster_map.h"
#include "kv/state_machine.h"
#include "raft/core.h"
#include "raft/message.h"
#include "tests/simulation/sim_shadow.h"

namespace kv739::world {

// One process's replica as it was last looked at.
struct SeenReplica {
  raft::Index commit;
  raft::Index applied;
  raft::Index last;
  raft::Term term;
  bool leader = false;
  raft::Configuration configuration;  // of a leader, in force
};

class Checks {
 public:
  // The durable log of a node, null when it has none.
  using DurableLog =
      std::function<const ShadowLog*(raft::NodeId, raft::GroupId)>;
  explicit Checks(DurableLog durable) : durable_(std::move(durable)) {}

  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  void Fail(std::string what) {
    if (!failed()) failure_ = std::move(what);
  }

  // Entries go to a log that is `before` now.
  void OnWrite(raft::NodeId node, const ShadowLog& before,
               const wal::GroupWrite& write);
  // A message leaves a node whose disk holds `durable`.
  void OnSend(raft::NodeId node, raft::NodeId to, raft::GroupId group,
              const raft::Message& message, const ShadowLog* durable);
  // Whether `seen` needs more than a glance.
  static bool Changed(const raft::Core& core, const SeenReplica& seen) {
    return core.commit() != seen.commit || core.applied() != seen.applied ||
           core.last_index() != seen.last || core.term() != seen.term ||
           core.IsLeader() != seen.leader;
  }
  // After each step of a node. `log_idle`: `written` holds all that the core
  // has.
  void Look(raft::NodeId node, raft::GroupId group, const raft::Core& core,
            const kv::StateMachine& machine, const ShadowLog& written,
            bool log_idle, SeenReplica* seen);
  // The disk of a node is lost; what it held counts where it was counted.
  void OnDiskLost(raft::NodeId node, const ShadowLogs& durable) {
    lost_[node] = durable;
  }
  void OnMap(raft::NodeId node, const kv::ClusterMap& map, uint64_t* epoch);

  // ---- what is known ----
  raft::Index committed(raft::GroupId group) const;
  raft::LogPosition committed_position(raft::GroupId group) const;
  // In force where the newest commit was seen.
  const raft::Configuration* configuration(raft::GroupId group) const;
  uint64_t leaders() const { return leaders_; }
  uint64_t hashes() const { return hashes_; }

 private:
  struct Known {
    raft::Term previous;
    uint64_t digest = 0;
  };
  struct Group {
    std::map<raft::Term, raft::NodeId> leaders;
    std::map<std::pair<raft::NodeId, raft::Term>, raft::NodeId> votes;
    absl::flat_hash_map<std::pair<uint64_t, uint64_t>, Known> entries;
    std::vector<raft::Term> committed{raft::Term(1)};  // from index 1 on
    // By leaders of each term, the last of these.
    std::map<raft::Term, raft::Index> committed_in{
        {raft::Term(1), raft::Index(1)}};
    raft::Configuration configuration;
    std::map<raft::Index, uint64_t> hashes;
    raft::Index last() const { return raft::Index(committed.size()); }
  };

  void OnLeader(raft::NodeId node, raft::GroupId id, const raft::Core& core,
                const ShadowLog& written, bool log_idle);
  void OnLeaderCommit(raft::NodeId node, raft::GroupId id,
                      const raft::Core& core,
                      const raft::Configuration& before);
  // What `at` lacks to be committed in this configuration; empty: nothing.
  std::string NotDurable(raft::GroupId id, raft::LogPosition at,
                         const raft::Configuration& configuration,
                         const ShadowLog** example) const;
  void OnApplied(raft::NodeId node, raft::GroupId id, raft::Index before,
                 const raft::Core& core, const kv::StateMachine& machine,
                 const ShadowLog& written);
  void OnVote(raft::NodeId node, raft::GroupId group, raft::Term term,
              raft::NodeId candidate);

  const ShadowLog* Durable(raft::NodeId node, raft::GroupId group) const;

  const DurableLog durable_;
  std::map<raft::NodeId, ShadowLogs> lost_;
  std::string failure_;
  std::map<raft::GroupId, Group> groups_;
  std::map<uint64_t, uint64_t> maps_;  // epoch -> digest
  uint64_t leaders_ = 0;
  uint64_t hashes_ = 0;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_CHECKS_H_
