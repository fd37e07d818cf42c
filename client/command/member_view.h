// The servers of the map and their places in its groups, for people and for
// programs. A value.
#ifndef KV739_CLIENT_COMMAND_MEMBER_VIEW_H_
#define KV739_CLIENT_COMMAND_MEMBER_VIEW_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "client/command/status_model.h"

namespace kv739::command {

struct PlaceView {
  uint64_t group = 0;
  std::string role;  // "leader", "voter", "learner", "joining", "leaving"
};

struct NodeView {
  std::string address;
  uint64_t id = 0;
  std::string state;  // "active", "leaving", "left"
  bool spare = false;
  bool alive = false;
  std::string reason;  // why not
  std::vector<PlaceView> places;
};

struct MembersView {
  uint64_t epoch = 0;
  std::vector<NodeView> nodes;  // in the map's order
};

// `answers` has a map, and `cluster` was built from it.
MembersView BuildMembers(const ClusterAnswers& answers,
                         const ClusterView& cluster);

std::string MembersText(const MembersView& view, bool use_color);
nlohmann::ordered_json MembersJson(const MembersView& view);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_MEMBER_VIEW_H_
