// What `kv739 check` found: of each group, the state of each replica at one
// index. A value, for people and for programs.
#ifndef KV739_CLIENT_COMMAND_CHECK_VIEW_H_
#define KV739_CLIENT_COMMAND_CHECK_VIEW_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kv739/v1/admin.pb.h"
#include "kv739/v1/cluster.pb.h"

namespace kv739::command {

struct CheckedReplicaView {
  std::string server;
  uint64_t index = 0;
  uint64_t hash = 0;
  uint64_t keys = 0;
  std::string finding;  // "": it equals the majority
};

struct CheckedGroupView {
  uint64_t id = 0;
  std::string leader;   // who compared; "" when there is none
  std::string problem;  // why nothing was compared
  std::vector<CheckedReplicaView> replicas;
};

struct CheckView {
  std::vector<CheckedGroupView> groups;
  // A replica differs or was not compared.
  bool Finds() const;
};

// The group as its leader answered; a group that the answer misses has a
// problem.
CheckedGroupView BuildCheckedGroup(uint64_t group, const std::string& leader,
                                   const v1::CheckResponse& response,
                                   const v1::GetMapResponse& map);

std::string CheckText(const CheckView& view, bool use_color);
nlohmann::ordered_json CheckJson(const CheckView& view);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_CHECK_VIEW_H_
