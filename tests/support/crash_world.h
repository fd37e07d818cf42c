// A small cluster of real replica hosts that is stopped at a chosen storage
// step, comes back with what that step left, goes on with its work, and is
// checked all along:
//   - what a node made known (terms, votes, acknowledged entries) it knows
//     after a restart;
//   - one leader a term; commit indexes never fall; states at equal indexes are
//     equal, and so are all replicas in the end;
//   - every acknowledged write was done once, and its session remembers it;
//   - the configuration in force is the last one in the log.
//
// One thread, no time but that of ticks; the same Crash gives the same run.
#ifndef KV739_TESTS_SUPPORT_CRASH_WORLD_H_
#define KV739_TESTS_SUPPORT_CRASH_WORLD_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/host_cluster.h"

namespace kv739::testing {

struct Crash {
  int node = -1;      // none crashes
  uint64_t step = 0;  // of its storage steps, from 1
  bool all = false;   // all nodes stop with it
  // What of the step and of everything else that is not synced survives, bit
  // by bit; where there is more to decide, the bits come again.
  uint64_t mask = 0;
  uint32_t down_ticks = 0;  // until the next start
  // The start that follows stops in this storage step of its own; 0: it does
  // not.
  uint64_t again = 0;
};

class CrashWorld {
 public:
  static constexpr raft::GroupId kGroup{0};

  struct Options {
    int nodes = 3;
    uint64_t segment_bytes = 8 * wal::kBlockBytes;
    uint64_t snapshot_entries = 10'000;
    uint64_t trailing_entries = 5'000;
  };

  CrashWorld(const Options& options, const Crash& crash);

  // ---- what scenarios are made of ----

  // Appends `text` to `key` under a session, again and again until it is
  // answered.
  void Write(const std::string& key, const std::string& text);
  // Puts that nobody is to see: given to `node`, not waited for.
  void WriteInVain(int node, int count);
  void Isolate(int node, bool isolated);
  // Ticks until it holds; the test fails when it does not.
  void TickUntil(const char* what, const std::function<bool()>& holds);
  void Tick(int count = 1);
  // A running node that leads, or -1.
  int Leader();
  int ElectLeader();
  // A running node that is a voter and does not lead.
  int Follower();
  // Has the directory want these voters, and waits until the group has them.
  void Replace(int gone, int comes);
  raft::Index SnapshotIndex(int node);
  raft::Index Applied(int node);
  uint64_t Installs(int node);  // in this life of it
  // The highest commit index seen.
  raft::Index committed() const { return committed_; }
  HostCluster& cluster() { return cluster_; }

  // Heals everything and checks it; then all nodes lose their power, and once
  // more.
  void Finish();

  // ---- what was seen ----

  bool crashed() const { return crashed_; }
  const std::string& crashed_in() const { return crashed_in_; }
  // Decisions that the mask was asked for.
  uint64_t decisions() const { return decisions_; }
  uint64_t steps(int node) { return cluster_.steps(node).count(); }
  // Storage steps of the start after the crash.
  uint64_t restart_steps() const { return restart_steps_; }
  bool failed() const;

 private:
  class Inbox;
  struct Promises {  // of one node, that must outlive its process
    raft::Term term;
    std::map<raft::Term, raft::NodeId> votes;
    raft::LogPosition acknowledged;  // index, in this leader's term
  };

  void Start(int node);
  void OnDown(int node);
  void PowerOff(int node);
  void OnSend(int from, int to, const server::GroupMessage& message);
  void CheckRestarted(int node);
  void Observe();
  const server::ReplicaStats* StatsOf(int node);
  std::optional<server::Reply> Try(server::Operation operation);
  server::Reply Ask(server::Operation operation);
  std::string Describe();
  bool Settled();
  void CheckAll();
  void CheckConfiguration(int node);
  raft::NodeId Id(int node) { return cluster_.map().nodes[node].id; }

  const Crash crash_;
  HostCluster cluster_;
  std::shared_ptr<Inbox> inbox_;
  std::map<int, uint64_t> restarts_;  // node: tick
  std::map<int, server::HostStats> stats_;
  std::vector<bool> isolated_;
  uint64_t now_ = 0;
  uint64_t next_tag_ = 1;
  bool crashed_ = false;
  bool started_again_ = false;
  bool stuck_ = false;
  std::string crashed_in_;
  uint64_t decisions_ = 0;
  uint64_t restart_steps_ = 0;

  std::vector<Promises> promises_;
  std::map<raft::Term, int> leaders_;
  std::map<int, raft::CoreStatus> seen_;  // in this life of the node
  raft::Index committed_;
  std::map<raft::Index, uint64_t> hashes_;

  kv::SessionId session_ = 0;
  kv::Sequence sequence_ = 0;
  server::Operation last_write_;
  kv::Version last_version_ = 0;
  std::map<std::string, std::string> expected_;
};

}  // namespace kv739::testing

#endif  // KV739_TESTS_SUPPORT_CRASH_WORLD_H_
