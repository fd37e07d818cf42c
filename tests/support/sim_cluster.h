// A group of replicas in one thread, driven by one seed: a time of faults, then
// a calm in which it has to recover. The same seed gives the same run.
#ifndef KV739_TESTS_SUPPORT_SIM_CLUSTER_H_
#define KV739_TESTS_SUPPORT_SIM_CLUSTER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "raft/core.h"
#include "tests/support/sim_checker.h"
#include "tests/support/sim_network.h"
#include "tests/support/sim_node.h"
#include "tests/support/sim_random.h"

namespace kv739::sim {

// How hard a run is; drawn from the seed, so that runs differ in kind.
struct SimProfile {
  uint64_t nodes = 3;
  uint64_t spares = 0;  // which are no members at first
  NetworkFaults network;
  uint64_t max_sync = 20;  // units that a write takes at most
  // Chances per unit, in 1/10000.
  uint64_t crash = 0;
  uint64_t crash_all = 0;
  uint64_t partition = 0;
  uint64_t transfer = 0;
  uint64_t propose = 0;
  uint64_t read = 0;
  uint64_t compact = 0;
  uint64_t members = 0;  // change them
  uint64_t unfit = 0;    // a replica must not lead, or may again
  uint64_t tail = 0;     // entries that compaction leaves at least
  bool lazy_apply = false;
  // Off in some runs: leaders then stay without followers, and reads from such
  // have to fail by themselves.
  bool check_quorum = true;
  bool pre_vote = true;
  uint64_t quiesce = 0;  // ticks; 0: never
};

struct SimResult {
  std::string failure;  // empty: all is well
  uint64_t digest = 0;  // of everything that happened, in order
  uint64_t committed = 0;
  uint64_t leaders = 0;
  uint64_t reads = 0;
  uint64_t acknowledged = 0;
  uint64_t crashes = 0;
  uint64_t fetches = 0;
  uint64_t snapshots = 0;  // asked for
  uint64_t installs = 0;
  uint64_t changes = 0;  // of members, begun
  uint64_t unfit = 0;    // replicas that must not lead, in the end or before
  uint64_t rests = 0;    // times that a leader became quiet
  std::string trace;     // when asked for
};

class SimCluster {
 public:
  static constexpr uint64_t kUnitsPerTick = 10;
  static constexpr uint32_t kElectionTicks = 10;
  static constexpr uint64_t kFaultUnits = 4000;

  SimCluster(uint64_t seed, bool trace);
  SimResult Run();

 private:
  static SimProfile DrawProfile(SimRandom* random);
  raft::Options CoreOptions(raft::NodeId id);
  SimNode& node(raft::NodeId id) { return *nodes_[id.value() - 1]; }
  SimNode& AnyNode() { return *nodes_[random_.Below(nodes_.size())]; }
  void Note(const char* what, uint64_t a, uint64_t b = 0, uint64_t c = 0);
  void NoteMessage(const char* what, const raft::Envelope& envelope);

  void Unit(bool faults);
  void InjectFaults();
  void TickNode(size_t i);
  void CrashNode(SimNode* node);
  void Partition();
  void CompactSomewhere();
  void ChangeMembers();
  void ChangeFitness();
  void CheckFitness();
  raft::Configuration AnyTarget(const raft::Configuration& now);
  void OfferSnapshot(SimNode* from, raft::NodeId to);
  void WantSnapshot(SimNode* to, const raft::SnapshotMeta& meta);
  void Install(SimNode* to);
  void Snapshots();
  // One input to a core; when its leader commits by it, a quorum is looked for.
  template <typename F>
  void Input(SimNode* node, F&& input);
  void CheckQuorum(SimNode* node, const raft::Configuration& configuration);
  void Clients();
  void RunNode(SimNode* node);
  void CheckCommit(SimNode* node, bool led);
  void Calm();
  void CheckConverged();
  raft::Index LowestApplied();  // of the leader's members
  SimNode* Leader();

  const uint64_t seed_;
  const bool tracing_;
  SimRandom random_;
  SimProfile profile_;
  SafetyChecker checker_;
  SimNetwork network_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  uint64_t now_ = 0;

  std::vector<uint64_t> start_at_;  // per node: when it comes back
  std::vector<uint64_t> began_at_;  // per node: when it last came
  // When a node was last there to be heard by another: {by, of}.
  std::map<std::pair<size_t, size_t>, uint64_t> heard_at_;
  std::vector<uint64_t> sync_at_;  // per node: when its oldest write is done
  // Per node, while it must not lead: since when, and the term in which it
  // led at that time.
  struct Unfit {
    uint64_t since;
    raft::Term led;
  };
  std::map<raft::NodeId, Unfit> unfit_;
  uint64_t heal_at_ = 0;
  std::vector<std::pair<raft::NodeId, raft::LogFetch>> fetches_;
  // Snapshots on the way, as their senders see it.
  struct Offer {
    raft::NodeId from;
    raft::NodeId to;
    SimState state;
    uint64_t deadline;       // then it has failed
    bool installed = false;  // the sender has not heard of it yet
  };
  std::vector<Offer> offers_;
  // Per receiver: the one that is being installed, the newest that was wanted.
  struct Incoming {
    SimState state;
    uint64_t ready_at;
    uint64_t writes;  // of its disk, that must be done before the switch
  };
  std::map<raft::NodeId, Incoming> incoming_;
  std::map<raft::NodeId, uint64_t> calm_installs_;
  bool calm_ = false;

  uint64_t next_command_ = 0;
  // Proposed at a node and not acknowledged yet.
  std::map<std::pair<raft::NodeId, raft::Index>, raft::Term> proposed_;
  raft::Index acknowledged_;  // the highest
  raft::ReadId next_read_ = 0;
  // What a read must see at least.
  std::map<raft::ReadId, raft::Index> reads_;
  SimResult result_;
};

// One run of one seed.
SimResult Simulate(uint64_t seed, bool trace = false);

}  // namespace kv739::sim

#endif  // KV739_TESTS_SUPPORT_SIM_CLUSTER_H_
