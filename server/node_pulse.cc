#include "server/node_pulse.h"

#include <cstring>
#include <string>

#include "absl/container/flat_hash_set.h"
#include "kv/cluster_map.h"

namespace kv739::server {

NodePulse::NodePulse(const Options& options, const MapHolder* maps,
                     Transport* transport)
    : options_(options), maps_(maps), transport_(transport) {}

std::vector<raft::NodeId> NodePulse::Tick() {
  if (options_.interval_ticks == 0) return {};
  std::vector<raft::NodeId> silent;
  bool due = false;
  {
    const std::lock_guard lock(mutex_);
    ++ticks_;
    for (auto& [id, node] : nodes_) {
      if (!node.heard || ticks_ - node.at <= options_.silent_after_ticks) {
        continue;
      }
      node.heard = false;
      silent.push_back(id);
    }
    due = ticks_ % options_.interval_ticks == 0;
  }
  if (due) Send();
  return silent;
}

void NodePulse::Send() {
  std::vector<raft::NodeId> partners;
  {
    const MapHolder::Map map = maps_->Get();
    const std::lock_guard lock(mutex_);
    if (epoch_ != map->epoch) {
      epoch_ = map->epoch;
      absl::flat_hash_set<raft::NodeId> found;
      for (const kv::GroupInfo& group : map->groups) {
        if (!group.Concerns(options_.self)) continue;
        found.insert(group.members.begin(), group.members.end());
        found.insert(group.target.begin(), group.target.end());
        found.insert(group.withdrawn.begin(), group.withdrawn.end());
      }
      found.erase(options_.self);
      partners_.clear();
      // In the order of the map: the same run sends in the same order.
      for (const kv::NodeInfo& node : map->nodes) {
        if (found.contains(node.id)) partners_.push_back(node.id);
      }
    }
    partners = partners_;
  }
  std::string payload(sizeof(options_.process), '\0');
  std::memcpy(payload.data(), &options_.process, payload.size());
  for (raft::NodeId node : partners) {
    if (!transport_->Connected(node)) continue;
    transport_->SendToNode(node, {NodeMessage::Kind::kPulse, payload});
  }
}

void NodePulse::Heard(raft::NodeId from) {
  if (options_.interval_ticks == 0) return;
  const std::lock_guard lock(mutex_);
  Node& node = nodes_[from];
  node.heard = true;
  node.at = ticks_;
}

bool NodePulse::OnPulse(raft::NodeId from, absl::string_view payload) {
  uint64_t process = 0;
  if (options_.interval_ticks == 0 || payload.size() != sizeof(process)) {
    return false;
  }
  std::memcpy(&process, payload.data(), sizeof(process));
  const std::lock_guard lock(mutex_);
  Node& node = nodes_[from];
  const bool another = node.process && *node.process != process;
  node.process = process;
  return another;
}

void NodePulse::Gone(raft::NodeId from) {
  const std::lock_guard lock(mutex_);
  const auto it = nodes_.find(from);
  if (it != nodes_.end()) it->second.heard = false;
}

bool NodePulse::IsHeard(raft::NodeId id) const {
  const std::lock_guard lock(mutex_);
  const auto it = nodes_.find(id);
  return it != nodes_.end() && it->second.heard;
}

}  // namespace kv739::server
