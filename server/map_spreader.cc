#include "server/map_spreader.h"

#include <algorithm>
#include <string>
#include <vector>

#include "kv/directory.h"

namespace kv739::server {

void MapSpreader::OnPeerEpoch(raft::NodeId peer, uint64_t epoch) {
  {
    const std::lock_guard lock(mutex_);
    epochs_[peer] = epoch;
  }
  const MapHolder::Map map = maps_->Get();
  if (epoch >= map->epoch) return;
  transport_->SendToNode(peer,
                         {NodeMessage::Kind::kMap, kv::EncodeClusterMap(*map)});
}

void MapSpreader::SendToAll() {
  const MapHolder::Map map = maps_->Get();
  std::vector<raft::NodeId> behind;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [peer, epoch] : epochs_) {
      if (peer != self_ && epoch < map->epoch) behind.push_back(peer);
    }
  }
  if (behind.empty()) return;
  const std::string encoded = kv::EncodeClusterMap(*map);
  for (raft::NodeId peer : behind) {
    if (!transport_->Connected(peer)) continue;
    transport_->SendToNode(peer, {NodeMessage::Kind::kMap, encoded});
  }
}

void MapSpreader::Tick() {
  {
    const std::lock_guard lock(mutex_);
    if (++ticks_ < kRepeatTicks) return;
    ticks_ = 0;
    // Who is forgotten by the map need not be remembered here.
    const MapHolder::Map map = maps_->Get();
    absl::erase_if(epochs_, [&](const auto& known) {
      return map->FindNode(known.first) == nullptr;
    });
  }
  SendToAll();
}

}  // namespace kv739::server
