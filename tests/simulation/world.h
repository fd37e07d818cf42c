// A whole cluster and its clients in one thread, from one seed.
//
// The code above the clock, the network and the disk is that of kv739d and
// lib739kv: raft core, replica host, write-ahead log, state machine, snapshots,
// sessions, membership, directory, client::Engine. What is simulated:
//   time       EventQueue; every node and client has a clock of its own rate
//   network    SimNet, SnapshotStreams
//   disk       wal::FakeFileSystem below the log; SimStore below the state
//              machine; SimDirectory for the small files
//   processes  SimServer: start, crash, pause, stop; as server/node.cc wires it
//   joining    sim_joining.cc: server/joining.h blocks and sleeps, so who
//              starts follows its rules here; who is asked runs its functions
//   people     Operators: they crash, cut, wipe, and change the members
//
// A world has a time of faults, then a calm in which everything must recover.
#ifndef KV739_TESTS_SIMULATION_WORLD_H_
#define KV739_TESTS_SIMULATION_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kv/cluster_file.h"
#include "kv/cluster_map.h"
#include "tests/simulation/sim_checks.h"
#include "tests/simulation/world_profile.h"
#include "tests/simulation/world_queue.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class SimClient;
class SimNet;
class SimServer;
class SnapshotStreams;
class FaultMaker;

struct Result {
  std::string failure;  // empty: all is well
  std::string last;     // notes before a failure
  std::string profile;
  uint64_t digest = 0;
  uint64_t nanos = 0;  // simulated
  uint64_t events = 0;
  // What has happened, to see that a run is not empty.
  uint64_t done = 0;     // operations
  uint64_t unknown = 0;  // writes
  uint64_t refused = 0;
  uint64_t swapped = 0;    // compare-and-swaps that wrote
  uint64_t pages = 0;      // of scans
  uint64_t deleted = 0;    // values
  uint64_t undecided = 0;  // keys whose order was not found in time
  uint64_t leaders = 0;
  uint64_t crashes = 0;
  uint64_t faults = 0;
  uint64_t installs = 0;  // of snapshots
  uint64_t joins = 0;
  uint64_t epochs = 0;  // of the map
  uint64_t hashes = 0;  // states compared
  uint64_t rests = 0;   // replicas that rested, at all ticks
};

class World {
 public:
  explicit World(const Options& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  Result Run();

  // ---- for its parts ----
  uint64_t now() const { return queue_.now(); }
  EventQueue& queue() { return queue_; }
  Journal& journal() { return journal_; }
  Checks& checks() { return checks_; }
  const Profile& profile() const { return profile_; }
  sim::SimRandom& random() { return random_; }
  SimNet& net() { return *net_; }
  SnapshotStreams& streams() { return *streams_; }
  Result& result() { return result_; }
  bool calm() const { return calm_; }

  const kv::ClusterFile& file() const { return file_; }
  const std::vector<std::unique_ptr<SimServer>>& servers() { return servers_; }
  const std::vector<std::unique_ptr<SimClient>>& clients() { return clients_; }
  // Null when nobody has it, or ever had.
  SimServer* FindServer(raft::NodeId id);
  SimServer* FindServer(const kv::Address& address);
  // Of the running servers that this is known of; null when there is none.
  std::shared_ptr<const kv::ClusterMap> NewestMap();
  SimServer* LeaderOf(raft::GroupId group);
  // The group goes on without the disk of this server, and so do all others.
  bool CanLoseDisk(const SimServer& server);

 private:
  void Step();
  void RunUntil(uint64_t time);
  // False when it has not become true in that time.
  template <typename F>
  bool RunUntilTrue(uint64_t nanos, F&& done);
  void Calm();
  // For a failure.
  std::string DescribeReplicas();
  // Gives a new disk to who is refused by the others, as an operator does.
  void MindOutcasts();
  bool AllLed();
  bool AllEqual(std::string* why);
  void CheckHistories();
  void Finish();

  const Options options_;
  const Profile profile_;
  EventQueue queue_;
  Journal journal_;
  sim::SimRandom random_;
  Checks checks_;
  Result result_;
  kv::ClusterFile file_;
  bool calm_ = false;
  std::unique_ptr<SimNet> net_;
  std::unique_ptr<SnapshotStreams> streams_;
  std::vector<std::unique_ptr<SimServer>> servers_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  std::unique_ptr<FaultMaker> faults_;
};

// One run of one world.
Result Simulate(const Options& options);

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_WORLD_H_
