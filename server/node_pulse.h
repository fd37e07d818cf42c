// Which nodes are there. Quiet groups (raft/quiescence.cc) have no heartbeats
// of their own; in their place each node tells every node that it shares a
// group with that it lives: one small message per pair of nodes and interval,
// however many groups there are.
//
// A node is heard of by anything that it sends. It is silent when nothing came
// for an election timeout, or since its connection ended, and from the start on
// until it is first heard. A pulse carries a number drawn at the start of its
// process, so a process that was restarted is told from the one before it even
// where the connection's end went by unseen.
//
// Threads: any. Time: ticks of the host.
#ifndef KV739_SERVER_NODE_PULSE_H_
#define KV739_SERVER_NODE_PULSE_H_

#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "raft/types.h"
#include "server/map_holder.h"
#include "server/transport.h"

namespace kv739::server {

class NodePulse {
 public:
  struct Options {
    raft::NodeId self;
    uint64_t process = 0;         // a random number
    uint64_t interval_ticks = 0;  // 0: none is sent
    uint64_t silent_after_ticks = 0;
  };
  // Both outlive it.
  NodePulse(const Options& options, const MapHolder* maps,
            Transport* transport);

  // Once a tick. Those that have become silent by it.
  std::vector<raft::NodeId> Tick();
  void Heard(raft::NodeId node);
  // True when it comes from another process than the last one did.
  bool OnPulse(raft::NodeId from, absl::string_view payload);
  void Gone(raft::NodeId node);

  bool IsHeard(raft::NodeId node) const;

 private:
  struct Node {
    bool heard = false;
    uint64_t at = 0;
    std::optional<uint64_t> process;
  };
  void Send();

  const Options options_;
  const MapHolder* const maps_;
  Transport* const transport_;
  mutable std::mutex mutex_;  // guards what follows
  uint64_t ticks_ = 0;
  // Bounded by the nodes of the map, as only those are let in.
  absl::flat_hash_map<raft::NodeId, Node> nodes_;
  // Who shares a group with us, by the map of this epoch.
  std::optional<uint64_t> epoch_;
  std::vector<raft::NodeId> partners_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_PULSE_H_
