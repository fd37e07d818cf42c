// The network between servers, and between clients and servers.
//
// Endpoints are numbers: servers first, then clients. Between two servers there
// is a connection that comes up after a handshake in which both check each
// other (as the streams of kv739d do), keeps the order of messages, and breaks;
// faults let messages be lost, doubled and reordered on top, which Raft has to
// bear. What is blocked is one direction between two endpoints.
#ifndef KV739_TESTS_SIMULATION_SIM_NET_H_
#define KV739_TESTS_SIMULATION_SIM_NET_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "raft/types.h"
#include "server/transport.h"
#include "tests/simulation/world_queue.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class World;

// What travels together, with the epoch of the sender's map.
struct PeerBatch {
  std::vector<server::GroupMessage> messages;
  std::optional<server::NodeMessage> of_node;  // instead
  uint64_t epoch = 0;
  uint64_t bytes() const;
};

class SimNet {
 public:
  // Bytes that may wait for one peer; what is beyond is dropped.
  static constexpr uint64_t kMaxQueueBytes = 4 << 20;

  SimNet(World* world, int servers, int clients);

  int client(int number) const { return servers_ + number; }

  // ---- between servers ----
  void Send(int from, raft::NodeId to, PeerBatch batch);
  bool Connected(int from, raft::NodeId to);
  void ServerUp(int server);
  // `silent`: the peers are not told by the connection's end.
  void ServerDown(int server, bool silent);

  // ---- single messages: questions, streams, clients ----
  // Runs `task` (for the receiver's side) after the way there; false when the
  // message is lost.
  bool Carry(int from, int to, uint64_t bytes, Task task);
  bool blocked(int from, int to) const { return LinkOf(from, to).blocks > 0; }

  // ---- faults ----
  // Counted: as many Block(false) as Block(true).
  void Block(int from, int to, bool block);
  void Slow(int from, int to, uint64_t nanos) { LinkOf(from, to).slow = nanos; }
  void Break(int a, int b);
  void EndFaults();

 private:
  struct Link {
    int blocks = 0;
    uint64_t slow = 0;  // more delay
    uint64_t last = 0;  // when the newest message arrives
    uint64_t free = 0;  // when the wire is free
  };
  struct Connection {
    bool up = false;
    bool trying = false;
    uint64_t number = 0;
    uint64_t known_epoch[2] = {0, 0};  // last told, of the one to the other
    uint64_t broke_at = 0;
  };

  Link& LinkOf(int from, int to) { return links_[from * endpoints_ + to]; }
  const Link& LinkOf(int from, int to) const {
    return links_[from * endpoints_ + to];
  }
  Connection& ConnectionOf(int a, int b);
  bool CutOff(int a, int b) const { return blocked(a, b) || blocked(b, a); }
  // None when the queue is full.
  std::optional<uint64_t> Arrival(int from, int to, uint64_t bytes);
  void Arrive(int from, int to, raft::NodeId sender, raft::NodeId receiver,
              uint64_t number, PeerBatch batch);
  void TryLater(int a, int b);
  void Try(int a, int b);
  void Lose(int a, int b);

  World* const world_;
  const int servers_;
  const int endpoints_;
  sim::SimRandom random_;
  std::vector<Link> links_;
  std::map<std::pair<int, int>, Connection> connections_;
  bool calm_ = false;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_NET_H_
