// Several replica hosts in one thread: messages, log writes and time move
// only when the test says so. What is durable survives Crash(). On disks in
// memory (`Disks`) a node can be stopped at any of its storage steps, and comes
// back with what these have left.
#ifndef KV739_TESTS_SUPPORT_HOST_CLUSTER_H_
#define KV739_TESTS_SUPPORT_HOST_CLUSTER_H_

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kv/cluster_map.h"
#include "kv/engine.h"
#include "server/background.h"
#include "server/clock.h"
#include "server/host.h"
#include "server/map_holder.h"
#include "server/wal/wal.h"
#include "server/wal/wal_thread.h"
#include "tests/support/fake_file_system.h"
#include "tests/support/storage_steps.h"

namespace kv739::testing {

class ManualClock : public server::Clock {
 public:
  uint64_t MonotonicNanos() const override { return nanos_; }
  uint64_t WallMillis() const override { return wall_ms_; }
  void Advance(uint64_t nanos) { nanos_ += nanos; }
  void SetWall(uint64_t ms) { wall_ms_ = ms; }

 private:
  uint64_t nanos_ = 1;
  uint64_t wall_ms_ = 1'700'000'000'000;
};

// Keeps every answer.
class Answers : public server::ReplySink {
 public:
  void Deliver(server::Reply reply) override {
    replies_[reply.tag].push_back(std::move(reply));
  }
  void Flush() override {}
  bool Has(uint64_t tag) const { return replies_.count(tag) > 0; }
  // The one answer; fails the test when there is none or more than one.
  const server::Reply& Of(uint64_t tag) const;

 private:
  std::map<uint64_t, std::vector<server::Reply>> replies_;
};

class HostCluster {
 public:
  // `size` nodes of one cluster file, each with all of its groups.
  explicit HostCluster(int size, server::HostOptions options = {});
  // The same with logs on disks in memory and stores whose changes are storage
  // steps. Nodes are made with PowerOn().
  struct Disks {
    uint64_t segment_bytes = 8 * wal::kBlockBytes;
    uint32_t spare_segments = 1;
  };
  HostCluster(int size, server::HostOptions options, const Disks& disks);
  ~HostCluster();

  server::Host* host(int node) { return nodes_[node]->host.get(); }
  const kv::ClusterMap& map() const { return *map_; }
  int NodeOf(raft::NodeId id) const;

  // Delivers messages and completes log writes until nothing moves.
  void Settle();
  // A tick on every running node, then Settle().
  void Tick(int count = 1);
  // Ticks until `group` has one leader among running nodes; its node.
  int ElectLeader(raft::GroupId group);

  // Submits one operation and settles; `answers` gets the reply by tag.
  void Submit(int node, server::Operation operation);
  // Submits to the leader of the key's group and returns the answer.
  server::Reply Call(server::Operation operation);
  // The same for several of one group, which travel together.
  std::vector<server::Reply> CallAll(std::vector<server::Operation> operations);

  void Isolate(int node, bool isolated) { nodes_[node]->isolated = isolated; }
  // Log writes of this node wait until it is turned off.
  void StallLog(int node, bool stalled) { nodes_[node]->stalled = stalled; }
  // So does the work of its background.
  void StallBackground(int node, bool stalled) {
    nodes_[node]->background_stalled = stalled;
  }
  // Timers ring in Settle() when nothing else moves any more: the clock moves
  // on to the next one. Not while they are held.
  void HoldTimers(bool held) { timers_held_ = held; }
  // What happens to the streams of snapshots, asked before each chunk: the
  // chunk may be changed.
  enum class Fault { kNone, kCut, kRepeat, kHold };
  using StreamFault =
      std::function<Fault(int from, int to, int number, std::string* chunk)>;
  void SetStreamFault(StreamFault fault) { stream_fault_ = std::move(fault); }
  int streams() const { return static_cast<int>(streams_.size()); }
  uint64_t streams_opened() const { return streams_opened_; }
  kv::StateMachine::StateHash Hash(int node, raft::GroupId group);
  // Loses what is not durable, and the process.
  void Crash(int node);
  void Restart(int node);
  // Of a node that does not run: its log, and taking all but the hard state of
  // one group from it.
  absl::StatusOr<std::unique_ptr<wal::Wal>> OpenWal(int node);
  void ForgetGroup(int node, raft::GroupId group);
  bool running(int node) const { return nodes_[node]->host != nullptr; }
  int size() const { return static_cast<int>(nodes_.size()); }

  // ---- on disks in memory ----

  // Starts the node; the first time it is made. False when it stops in one of
  // the storage steps of this.
  bool PowerOn(int node);
  // It stops now; `survives` as of FakeFileSystem::PowerLoss().
  void PowerOff(int node, const std::function<bool()>& survives);
  StorageSteps& steps(int node) { return *nodes_[node]->steps; }
  wal::FakeFileSystem& disk(int node) { return *nodes_[node]->disk; }
  wal::Wal* wal(int node) { return nodes_[node]->wal.get(); }
  // Called, in Settle(), for a node that has stopped in a storage step; it
  // calls PowerOff().
  void SetOnDown(std::function<void(int node)> on_down) {
    on_down_ = std::move(on_down);
  }
  // Sees each message that leaves a node.
  using SendHook =
      std::function<void(int from, int to, const server::GroupMessage&)>;
  void SetSendHook(SendHook hook) { send_hook_ = std::move(hook); }

  ManualClock& clock() { return clock_; }
  std::shared_ptr<Answers> answers() { return answers_; }
  server::HostStats Stats(int node);
  // The store below the host, for damage.
  kv::Engine* engine(int node) { return nodes_[node]->engine.get(); }

 private:
  class NodeTransport;
  class Jobs;
  class NodeLog;
  class NodeTimer;
  class NodeFetcher;
  class NodeSink;
  struct Stream {
    int from;
    int to;
    server::SnapshotRequest request;
    std::shared_ptr<server::SnapshotSink> sink;
    std::unique_ptr<server::SnapshotCursor> cursor;
    int number = 0;
    bool cancelled = false;
  };
  struct Node {
    raft::NodeId id;
    uint64_t starts = 0;  // each process has other random numbers
    bool isolated = false;
    bool stalled = false;
    bool background_stalled = false;
    std::string directory;
    // On disks in memory; else null.
    std::unique_ptr<StorageSteps> steps;
    std::unique_ptr<wal::FakeFileSystem> disk;
    std::shared_ptr<const kv::ClusterMap> saved_map;  // durable
    bool initialized = false;                         // the same
    bool down() const { return steps != nullptr && steps->down(); }
    std::unique_ptr<kv::MemoryEngine> engine;
    std::unique_ptr<wal::Wal> wal;
    std::unique_ptr<NodeTransport> transport;
    std::unique_ptr<NodeLog> log;
    std::unique_ptr<raft::Random> random;
    std::unique_ptr<server::MapHolder> maps;
    std::unique_ptr<Jobs> jobs;
    std::unique_ptr<NodeFetcher> fetcher;
    uint64_t rings_at = 0;  // its timer; 0: it does not
    std::function<void()> ring;
    std::unique_ptr<server::Host> host;
  };
  struct Message {
    int from;
    int to;
    std::vector<server::GroupMessage> messages;
    std::optional<server::NodeMessage> of_node;  // instead
  };

  void MakeMap(int size);
  void OpenLog(int node);
  void Start(int node);
  absl::Status StartHost(int node);
  absl::Status MakeReplicas(int node);
  void SaveMap(int node);
  void PowerOffWhoIsDown();
  bool RingNext();
  // What streams between nodes say of their maps.
  void TellEpochs();
  bool DeliverOne();
  // One step of every stream that is not held.
  bool MoveStreams();
  // The status that ends it, or none.
  std::optional<absl::Status> Move(Stream& stream, bool* held);

  const server::HostOptions options_;
  const std::optional<Disks> disks_;
  const std::string root_;
  ManualClock clock_;
  std::shared_ptr<Answers> answers_ = std::make_shared<Answers>();
  std::shared_ptr<const kv::ClusterMap> map_;
  // By sender and receiver, each in its order; the links take turns.
  std::map<std::pair<int, int>, std::deque<Message>> network_;
  std::pair<int, int> next_link_;
  std::vector<std::unique_ptr<Stream>> streams_;
  uint64_t streams_opened_ = 0;
  StreamFault stream_fault_;
  bool timers_held_ = false;
  std::map<std::pair<int, int>, uint64_t> told_epochs_;
  std::function<void(int node)> on_down_;
  SendHook send_hook_;
  std::vector<std::unique_ptr<Node>> nodes_;
  uint64_t next_tag_ = 1'000'000;
};

}  // namespace kv739::testing

#endif  // KV739_TESTS_SUPPORT_HOST_CLUSTER_H_
