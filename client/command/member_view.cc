#include "client/command/member_view.h"

#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/command/table.h"

namespace kv739::command {
namespace {

constexpr size_t kNamedPlaces = 8;

using Json = nlohmann::ordered_json;

std::string RoleOf(const GroupView& group, const MemberView& member) {
  if (group.leader == member.server) return "leader";
  if (member.learner) return "learner";
  return member.place;  // voter, joining, leaving
}

std::string StateName(v1::NodeState state) {
  switch (state) {
    case v1::LEAVING:
      return "leaving";
    case v1::LEFT:
      return "left";
    default:
      return "active";
  }
}

// Each, or how many of which kind when they are many.
std::string PlacesText(const std::vector<PlaceView>& places) {
  if (places.size() <= kNamedPlaces) {
    return absl::StrJoin(places, ", ",
                         [](std::string* out, const PlaceView& place) {
                           absl::StrAppend(out, place.group, " ", place.role);
                         });
  }
  std::map<std::string, int> roles;
  for (const PlaceView& place : places) ++roles[place.role];
  return absl::StrCat(
      places.size(), " groups: ",
      absl::StrJoin(roles, ", ", [](std::string* out, const auto& role) {
        absl::StrAppend(out, role.second, " ", role.first);
      }));
}

}  // namespace

MembersView BuildMembers(const ClusterAnswers& answers,
                         const ClusterView& cluster) {
  MembersView view;
  view.epoch = cluster.epoch;
  for (const v1::Node& node : answers.map->nodes()) {
    NodeView row;
    row.address = node.address();
    row.id = node.id();
    row.state = StateName(node.state());
    for (const ServerAnswer& answer : answers.servers) {
      if (answer.address != node.address()) continue;
      // Another node may have the address of one that has left.
      row.alive = answer.status.ok() && answer.response.node() == node.id();
      if (!answer.status.ok())
        row.reason = std::string(answer.status.message());
    }
    if (node.state() != v1::LEFT) {
      for (const GroupView& group : cluster.groups) {
        for (const MemberView& member : group.members) {
          if (member.server != row.address) continue;
          row.places.push_back({group.id, RoleOf(group, member)});
        }
      }
    }
    row.spare = node.state() == v1::ACTIVE && row.places.empty();
    view.nodes.push_back(std::move(row));
  }
  return view;
}

std::string MembersText(const MembersView& view, bool use_color) {
  Table table({{"SERVER"}, {"ID"}, {"STATE"}, {"ALIVE"}, {"GROUPS"}, {"NOTE"}});
  for (const NodeView& node : view.nodes) {
    const bool left = node.state == "left";
    const std::string groups = PlacesText(node.places);
    table.Add({node.address, absl::StrFormat("%016x", node.id), node.state,
               node.alive ? "yes" : "no", node.spare ? "spare" : groups,
               left ? "" : node.reason},
              !node.alive && !left     ? Color::kRed
              : node.state != "active" ? Color::kYellow
                                       : Color::kNone);
  }
  return table.Format(use_color);
}

Json MembersJson(const MembersView& view) {
  Json json = {{"epoch", view.epoch}, {"members", Json::array()}};
  for (const NodeView& node : view.nodes) {
    Json row = {
        {"server", node.address}, {"id", absl::StrFormat("%016x", node.id)},
        {"state", node.state},    {"alive", node.alive},
        {"spare", node.spare},    {"groups", Json::array()}};
    if (!node.reason.empty()) row["reason"] = node.reason;
    for (const PlaceView& place : node.places) {
      row["groups"].push_back({{"group", place.group}, {"role", place.role}});
    }
    json["members"].push_back(std::move(row));
  }
  return json;
}

}  // namespace kv739::command
