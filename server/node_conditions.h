// Which nodes are short of disk space: this one, and peers that said so.
//
// A node in need repeats it every kRepeatTicks; what was not repeated for
// kForgetTicks is over. So nobody has to be told of the end, and a node that
// has nothing to say says nothing.
//
// Threads: any. Time is in the host's ticks.
#ifndef KV739_SERVER_NODE_CONDITIONS_H_
#define KV739_SERVER_NODE_CONDITIONS_H_

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "raft/types.h"

namespace kv739::server {

class NodeConditions {
 public:
  static constexpr uint64_t kRepeatTicks = 50;
  static constexpr uint64_t kForgetTicks = 4 * kRepeatTicks;

  // Empty: there is room. Otherwise what clients are told.
  void SetDiskLow(std::string why) {
    const std::lock_guard lock(mutex_);
    why_ = std::move(why);
    low_.store(!why_.empty(), std::memory_order_relaxed);
  }
  bool disk_low() const { return low_.load(std::memory_order_relaxed); }
  std::string why() const {
    const std::lock_guard lock(mutex_);
    return why_;
  }

  // True when it is time to tell the peers.
  bool Tick() {
    const uint64_t now = ticks_.fetch_add(1, std::memory_order_relaxed) + 1;
    return now % kRepeatTicks == 0 && disk_low();
  }
  void PeerIsLow(raft::NodeId peer) {
    const std::lock_guard lock(mutex_);
    low_peers_[peer] = ticks_.load(std::memory_order_relaxed);
  }
  bool IsLow(raft::NodeId peer) const {
    const std::lock_guard lock(mutex_);
    const auto it = low_peers_.find(peer);
    return it != low_peers_.end() &&
           ticks_.load(std::memory_order_relaxed) - it->second < kForgetTicks;
  }

 private:
  std::atomic<bool> low_{false};
  std::atomic<uint64_t> ticks_{0};
  mutable std::mutex mutex_;  // guards what follows
  std::string why_;
  // Bounded by the number of nodes; peers alone send it.
  absl::flat_hash_map<raft::NodeId, uint64_t> low_peers_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_CONDITIONS_H_
