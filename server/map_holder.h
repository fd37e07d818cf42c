// The newest cluster map that this node knows, for everyone on it.
//
// Maps come from the cluster file or the data directory at the start, from the
// directory's log where group 0 has a replica, and from other nodes. Only a
// newer epoch of the same cluster is taken.
//
// Threads: any.
#ifndef KV739_SERVER_MAP_HOLDER_H_
#define KV739_SERVER_MAP_HOLDER_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "kv/cluster_map.h"

namespace kv739::server {

class MapHolder {
 public:
  using Map = std::shared_ptr<const kv::ClusterMap>;
  // Never blocks; any thread; newer maps may have been told of before it
  // returns, so it looks at Get().
  using Listener = std::function<void()>;

  explicit MapHolder(Map map) : epoch_(map->epoch), map_(std::move(map)) {}

  Map Get() const {
    const std::lock_guard lock(mutex_);
    return map_;
  }
  // Of Get(), without taking it.
  uint64_t epoch() const { return epoch_.load(std::memory_order_relaxed); }
  // Takes another one in its place, of whatever cluster and epoch. Before
  // anybody else has the holder.
  void Begin(Map map) {
    const std::lock_guard lock(mutex_);
    epoch_.store(map->epoch, std::memory_order_relaxed);
    map_ = std::move(map);
  }
  // Before anything is offered.
  void Listen(Listener listener) { listeners_.push_back(std::move(listener)); }
  // True when it was newer: then the listeners have been called.
  bool Offer(Map map) {
    {
      const std::lock_guard lock(mutex_);
      if (map->cluster_id != map_->cluster_id || map->epoch <= map_->epoch) {
        return false;
      }
      map_.swap(map);
      epoch_.store(map_->epoch, std::memory_order_relaxed);
    }
    for (const Listener& listener : listeners_) listener();
    return true;
  }

 private:
  std::atomic<uint64_t> epoch_;
  mutable std::mutex mutex_;  // guards map_
  Map map_;
  std::vector<Listener> listeners_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_MAP_HOLDER_H_
