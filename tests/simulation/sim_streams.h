// The streams that carry snapshots from node to node (as
// server/snapshot_fetcher.h and snapshot_service.h do it over gRPC): opened by
// the receiver, one chunk on its way at a time, ended once. Faults cut them,
// and repeat and damage chunks.
#ifndef KV739_TESTS_SIMULATION_SIM_STREAMS_H_
#define KV739_TESTS_SIMULATION_SIM_STREAMS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "server/snapshot_exchange.h"
#include "tests/simulation/world_queue.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class SimServer;
class World;

class SnapshotStreams {
 public:
  explicit SnapshotStreams(World* world);

  void Open(int to, raft::NodeId from, server::SnapshotRequest request,
            std::shared_ptr<server::SnapshotSink> sink);
  void Cancel(const server::SnapshotSink* sink);
  // Its streams are gone; those who read from it are told some time later.
  void ServerDown(int server);

 private:
  struct Stream {
    int from = -1;
    int to = -1;
    raft::NodeId sender;
    server::SnapshotRequest request;
    std::shared_ptr<server::SnapshotSink> sink;
    std::unique_ptr<server::SnapshotCursor> cursor;
    bool open = false;    // has its turn
    bool ending = false;  // the end is on its way
  };

  Stream* Find(uint64_t number);
  void StartWaiting(int to);
  void Begin(uint64_t number);  // at the sender
  void SendNext(uint64_t number);
  // At the receiver, in its process.
  void Receive(uint64_t number, std::string chunk);
  void End(uint64_t number, absl::Status status, uint64_t delay);
  // Runs `task` at the other end, or the stream breaks.
  void Hop(uint64_t number, bool to_sender, uint64_t bytes, Task task);

  World* const world_;
  sim::SimRandom random_;
  std::map<uint64_t, Stream> streams_;
  uint64_t opened_ = 0;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_STREAMS_H_
