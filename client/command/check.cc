// check: every group's leader compares its replicas at one index of its log.
#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/command/check_view.h"
#include "client/command/status_model.h"
#include "client/command/verbs.h"

namespace kv739::command {
namespace {

constexpr absl::Duration kPerServer = absl::Seconds(1);
// Each replica reads all that it has.
constexpr absl::Duration kCheck = absl::Minutes(1);

}  // namespace

int Check(Context& context, std::optional<uint64_t> group) {
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) {
    return context.Fail(kUsage, std::string(client.status().message()));
  }
  const ClusterAnswers answers = (*client)->Ask(kPerServer);
  const ClusterView cluster = BuildView(answers, (*client)->file());
  if (cluster.groups.empty()) {
    return context.Fail(kUnreachable, cluster.problems.empty()
                                          ? "no server knows the cluster map"
                                          : cluster.problems.back());
  }
  if (group.has_value() && cluster.FindGroup(*group) == nullptr) {
    return context.Fail(
        kUsage,
        absl::StrCat("no such group: ", *group, "; there are: ",
                     absl::StrJoin(cluster.groups, ", ",
                                   [](std::string* out, const GroupView& g) {
                                     absl::StrAppend(out, g.id);
                                   })));
  }
  std::map<std::string, std::vector<uint64_t>> led;
  CheckView view;
  for (const GroupView& g : cluster.groups) {
    if (group.has_value() && g.id != *group) continue;
    if (g.leader.empty()) {
      view.groups.push_back({g.id, "", "no leader", {}});
    } else {
      led[g.leader].push_back(g.id);
    }
  }
  const absl::Time end = absl::Now() + context.Timeout(kCheck);
  for (const auto& [leader, groups] : led) {
    v1::CheckRequest request;
    request.mutable_groups()->Add(groups.begin(), groups.end());
    const absl::StatusOr<v1::CheckResponse> response = (*client)->Check(
        leader, request, absl::Ceil(end - absl::Now(), absl::Seconds(1)));
    for (const uint64_t id : groups) {
      view.groups.push_back(
          response.ok()
              ? BuildCheckedGroup(id, leader, *response, *answers.map)
              : CheckedGroupView{
                    id, leader, std::string(response.status().message()), {}});
    }
  }
  std::sort(view.groups.begin(), view.groups.end(),
            [](const CheckedGroupView& a, const CheckedGroupView& b) {
              return a.id < b.id;
            });
  if (context.options.json) {
    context.Print(CheckJson(view));
  } else {
    context.io.out << CheckText(view, context.UseColor()) << std::flush;
  }
  return view.Finds() ? kDegraded : kOk;
}

}  // namespace kv739::command
