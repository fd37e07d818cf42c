// Brings the newest cluster map to nodes that are behind.
//
// Every batch between nodes says which epoch its sender has. A node that sees
// an older one than its own sends its map; it does so at once when it learns of
// a map from the directory itself, and again every kRepeatTicks while the peer
// has not said that it has it. Nothing is acknowledged otherwise.
//
// Threads: any.
#ifndef KV739_SERVER_MAP_SPREADER_H_
#define KV739_SERVER_MAP_SPREADER_H_

#include <cstdint>
#include <mutex>

#include "absl/container/flat_hash_map.h"
#include "raft/types.h"
#include "server/map_holder.h"
#include "server/transport.h"

namespace kv739::server {

class MapSpreader {
 public:
  static constexpr uint32_t kRepeatTicks = 50;

  // Both must outlive it.
  MapSpreader(raft::NodeId self, MapHolder* maps, Transport* transport)
      : self_(self), maps_(maps), transport_(transport) {}

  // The peer said so.
  void OnPeerEpoch(raft::NodeId peer, uint64_t epoch);
  // To everyone who is behind, as far as is known.
  void SendToAll();
  void Tick();

 private:
  const raft::NodeId self_;
  MapHolder* const maps_;
  Transport* const transport_;
  std::mutex mutex_;  // guards what follows
  absl::flat_hash_map<raft::NodeId, uint64_t> epochs_;
  uint32_t ticks_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_MAP_SPREADER_H_
