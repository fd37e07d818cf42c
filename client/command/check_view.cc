#include "client/command/check_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/command/table.h"
#include "client/command/text.h"

namespace kv739::command {
namespace {

using Json = nlohmann::ordered_json;

std::string AddressOf(const v1::GetMapResponse& map, uint64_t id) {
  for (const v1::Node& node : map.nodes()) {
    if (node.id() == id) return node.address();
  }
  return absl::StrFormat("node %016x", id);
}

}  // namespace

bool CheckView::Finds() const {
  return std::any_of(
      groups.begin(), groups.end(), [](const CheckedGroupView& group) {
        return !group.problem.empty() ||
               std::any_of(group.replicas.begin(), group.replicas.end(),
                           [](const CheckedReplicaView& replica) {
                             return !replica.finding.empty();
                           });
      });
}

CheckedGroupView BuildCheckedGroup(uint64_t group, const std::string& leader,
                                   const v1::CheckResponse& response,
                                   const v1::GetMapResponse& map) {
  CheckedGroupView view{
      group, leader, "the leader's answer does not have it", {}};
  for (const v1::CheckedGroup& checked : response.groups()) {
    if (checked.group() != group) continue;
    view.problem.clear();
    for (const v1::CheckedReplica& replica : checked.replicas()) {
      view.replicas.push_back({AddressOf(map, replica.node()), replica.index(),
                               replica.hash(), replica.keys(),
                               replica.finding()});
    }
  }
  return view;
}

std::string CheckText(const CheckView& view, bool use_color) {
  using Align = Table::Align;
  Table table({{"GROUP", Align::kRight},
               {"SERVER"},
               {"INDEX", Align::kRight},
               {"HASH"},
               {"KEYS", Align::kRight},
               {"FINDING"}});
  size_t replicas = 0;
  size_t findings = 0;
  for (const CheckedGroupView& group : view.groups) {
    const std::string id = absl::StrCat(group.id);
    if (!group.problem.empty()) {
      ++findings;
      table.Add({id, group.leader.empty() ? "-" : group.leader, "-", "-", "-",
                 group.problem},
                Color::kRed);
    }
    for (const CheckedReplicaView& replica : group.replicas) {
      ++replicas;
      findings += !replica.finding.empty();
      // A replica of which nothing is known has no state to show.
      const bool known = replica.index != 0;
      table.Add({id, replica.server, known ? absl::StrCat(replica.index) : "-",
                 known ? absl::StrFormat("%016x", replica.hash) : "-",
                 known ? absl::StrCat(replica.keys) : "-",
                 replica.finding.empty() ? "ok" : replica.finding},
                replica.finding.empty() ? Color::kNone : Color::kRed);
    }
  }
  const std::string sum = absl::StrCat(
      Count(view.groups.size(), "group"), ", ", Count(replicas, "replica"),
      ": ",
      findings == 0 ? Paint("all equal", Color::kGreen, use_color)
                    : Paint(Count(findings, "finding"), Color::kRed, use_color),
      "\n");
  return absl::StrCat(sum, "\n", table.Format(use_color));
}

Json CheckJson(const CheckView& view) {
  Json json = {{"ok", !view.Finds()}, {"groups", Json::array()}};
  for (const CheckedGroupView& group : view.groups) {
    Json g = {
        {"id", group.id},
        {"leader", group.leader.empty() ? Json(nullptr) : Json(group.leader)}};
    if (!group.problem.empty()) g["problem"] = group.problem;
    g["replicas"] = Json::array();
    for (const CheckedReplicaView& replica : group.replicas) {
      g["replicas"].push_back({{"server", replica.server},
                               {"index", replica.index},
                               {"hash", absl::StrFormat("%016x", replica.hash)},
                               {"keys", replica.keys},
                               {"finding", replica.finding}});
    }
    json["groups"].push_back(std::move(g));
  }
  return json;
}

}  // namespace kv739::command
