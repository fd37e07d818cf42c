#include "server/map_seeker.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "server/logging.h"

namespace kv739::server {

MapSeeker::MapSeeker(Parts parts) : parts_(std::move(parts)) {}

MapSeeker::~MapSeeker() {
  stop_.Notify();
  if (thread_.joinable()) thread_.join();
}

void MapSeeker::Start() {
  thread_ = std::thread([this] {
    while (!stop_.WaitForNotificationWithTimeout(kPause)) Round();
  });
}

// Whom to ask; nobody when a majority of the others is connected.
std::vector<kv::Address> MapSeeker::Missing(const kv::ClusterMap& map) const {
  std::vector<kv::Address> missing;
  size_t others = 0;
  const kv::NodeInfo* self = map.FindNode(parts_.self);
  const auto add = [&](const kv::Address& address) {
    const bool own = self != nullptr && self->address == address;
    if (!own &&
        std::find(missing.begin(), missing.end(), address) == missing.end()) {
      missing.push_back(address);
    }
  };
  for (const kv::NodeInfo& node : map.nodes) {
    if (node.id == parts_.self || node.state == kv::NodeState::kLeft) continue;
    ++others;
    if (!parts_.connected(node.id)) add(node.address);
  }
  if (2 * missing.size() <= others && others > 0) return {};
  for (const kv::Address& address : parts_.others) {
    if (map.FindNode(address) == nullptr) add(address);
  }
  return missing;
}

bool MapSeeker::Round() {
  const MapHolder::Map map = parts_.maps->Get();
  const std::vector<kv::Address> missing = Missing(*map);
  if (missing.empty()) {
    rounds_alone_ = 0;
    return false;
  }
  if (++rounds_alone_ % kRoundsPerWarning == 0) {
    LogWarn("no stream with a majority of the other servers of map epoch ",
            map->epoch, "; asking them for a newer map");
  }
  auto answer = parts_.inquire(missing[next_++ % missing.size()], kTimeout);
  if (!answer.ok()) return false;
  return parts_.maps->Offer(
      std::make_shared<const kv::ClusterMap>(*std::move(answer)));
}

}  // namespace kv739::server
