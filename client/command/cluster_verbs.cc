// status, server, leader, ring: through the Cluster and Admin services.
#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/command/interrupt.h"
#include "client/command/status_view.h"
#include "client/command/table.h"
#include "client/command/text.h"
#include "client/command/value_json.h"
#include "client/command/verbs.h"
#include "kv/types.h"

namespace kv739::command {
namespace {

using Json = nlohmann::ordered_json;

// How long one server may take to say how it is.
constexpr absl::Duration kPerServer = absl::Seconds(1);
constexpr absl::Duration kWaitForLeaders = absl::Seconds(30);
constexpr absl::Duration kBetweenAsks = absl::Milliseconds(100);
// A transfer takes an election timeout at most; then the answer is that it
// did not happen.
constexpr absl::Duration kTransfer = absl::Seconds(5);

int BadConfig(const Context& context, const absl::Status& status) {
  return context.Fail(kUsage, std::string(status.message()));
}

// Why there is nothing to go on with, for verbs that need the map.
std::string NoMap(const ClusterView& view) {
  return view.problems.empty() ? "no server knows the cluster map"
                               : view.problems.back();
}

void Show(const Context& context, const std::string& text, const Json& json) {
  if (context.options.json) {
    context.Print(json);
  } else {
    context.io.out << text << std::flush;
  }
}

}  // namespace

int Status(Context& context, bool wait) {
  // Before the first connection: gRPC's threads inherit what is blocked.
  std::optional<Interrupt> interrupt;
  if (wait) interrupt.emplace();
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) return BadConfig(context, client.status());
  // With --wait the timeout is for the whole; each server is still asked
  // briefly.
  const absl::Duration each =
      wait ? kPerServer : std::min(kPerServer, context.Timeout(kPerServer));
  const absl::Time end = absl::Now() + context.Timeout(kWaitForLeaders);
  ClusterView view = BuildView((*client)->Ask(each), (*client)->file());
  while (wait && !view.Settled() && absl::Now() < end &&
         !interrupt->Wait(kBetweenAsks)) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) break;
    view = BuildView((*client)->Ask(std::min(each, left)), (*client)->file());
  }
  Show(context, StatusText(view, context.UseColor()), StatusJson(view));
  if (wait && view.verdict != Verdict::kUnreachable && view.AllGroupsLed()) {
    return kOk;
  }
  return StatusExit(view);
}

int ServerList(Context& context) {
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) return BadConfig(context, client.status());
  const ClusterView view =
      BuildView((*client)->Ask(context.Timeout(kPerServer)), (*client)->file());
  Show(context, ServersText(view, context.UseColor()), ServersJson(view));
  return view.verdict == Verdict::kUnreachable ? kUnreachable : kOk;
}

int ServerDie(Context& context, const std::string& address, bool now) {
  absl::StatusOr<kv739_client*> client = context.Data();
  if (!client.ok()) return BadConfig(context, client.status());
  const int code = kv739_client_die(*client, address.c_str(), now ? 0 : 1,
                                    context.options.timeout_ms);
  if (code != KV739_OK) {
    return context.Fail(ExitOf(code), kv739_last_error());
  }
  if (context.options.json) {
    context.Print({{"server", address}, {"stopped", true}});
  } else {
    context.io.err << address << (now ? " told to exit at once" : " stopped")
                   << std::endl;
  }
  return kOk;
}

int LeaderMove(Context& context, uint64_t group, const std::string& target) {
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) return BadConfig(context, client.status());
  const ClusterView view =
      BuildView((*client)->Ask(kPerServer), (*client)->file());
  if (view.groups.empty()) return context.Fail(kUnreachable, NoMap(view));
  const GroupView* found = view.FindGroup(group);
  if (found == nullptr) {
    return context.Fail(kUsage, absl::StrCat("no such group: ", group));
  }
  if (found->leader.empty()) {
    return context.Fail(kUnreachable,
                        absl::StrCat("group ", group, " has no leader"));
  }
  const absl::StatusOr<std::string> leader = (*client)->TransferLeader(
      found->leader, group, target, context.Timeout(kTransfer));
  if (!leader.ok()) {
    const bool unreachable = absl::IsUnavailable(leader.status()) ||
                             absl::IsDeadlineExceeded(leader.status());
    const bool usage = absl::IsInvalidArgument(leader.status());
    return context.Fail(
        unreachable ? kUnreachable
        : usage     ? kUsage
                    : kNo,
        absl::StrCat("group ", group, " is still led by ", found->leader,
                     " as far as is known: ", leader.status().message()));
  }
  if (context.options.json) {
    context.Print(
        {{"group", group}, {"from", found->leader}, {"leader", *leader}});
  } else {
    context.io.out << "group " << group << ": " << *leader << ", was "
                   << found->leader << std::endl;
  }
  return kOk;
}

namespace {

int RingOfKey(const Context& context, const ClusterAnswers& answers,
              const ClusterView& view, const std::string& key) {
  if (key.empty() || key.size() > kv::kMaxKeyBytes) {
    return context.Fail(kUsage,
                        absl::StrCat("a key has 1 to ", kv::kMaxKeyBytes,
                                     " bytes, this one has ", key.size()));
  }
  const uint32_t slot = kv::SlotOf(key);
  for (const v1::SlotRange& range : answers.map->slots()) {
    if (slot < range.first() || slot > range.last()) continue;
    const GroupView* group = view.FindGroup(range.group());
    const std::string leader = group == nullptr ? "" : group->leader;
    if (context.options.json) {
      context.Print(
          {{"key", ValueJson(key)},
           {"slot", slot},
           {"group", range.group()},
           {"leader", leader.empty() ? Json(nullptr) : Json(leader)}});
    } else {
      context.io.out << "slot " << slot << ", group " << range.group()
                     << ", leader " << (leader.empty() ? "none" : leader)
                     << std::endl;
    }
    return kOk;
  }
  return context.Fail(
      kDegraded, absl::StrCat("the map gives slot ", slot, " to no group"));
}

}  // namespace

int Ring(Context& context, const std::optional<std::string>& key) {
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) return BadConfig(context, client.status());
  const ClusterAnswers answers =
      (*client)->Ask(std::min(kPerServer, context.Timeout(kPerServer)));
  const ClusterView view = BuildView(answers, (*client)->file());
  if (!answers.map.has_value()) {
    return context.Fail(kUnreachable, NoMap(view));
  }
  if (key.has_value()) return RingOfKey(context, answers, view, *key);

  std::map<uint64_t, int> ranges;
  for (const v1::SlotRange& range : answers.map->slots()) {
    ++ranges[range.group()];
  }
  Table table({{"GROUP", Table::Align::kRight},
               {"SLOTS", Table::Align::kRight},
               {"SHARE", Table::Align::kRight},
               {"RANGES", Table::Align::kRight},
               {"LEADER"}});
  Json json = {{"epoch", view.epoch}, {"slots", kv::kSlotCount}};
  json["groups"] = Json::array();
  for (const GroupView& group : view.groups) {
    const double share = static_cast<double>(group.slots) / kv::kSlotCount;
    table.Add({absl::StrCat(group.id), absl::StrCat(group.slots),
               absl::StrFormat("%.1f %%", 100 * share),
               absl::StrCat(ranges[group.id]),
               group.leader.empty() ? "none" : group.leader});
    json["groups"].push_back(
        {{"id", group.id},
         {"slots", group.slots},
         {"share", share},
         {"ranges", ranges[group.id]},
         {"leader",
          group.leader.empty() ? Json(nullptr) : Json(group.leader)}});
  }
  Show(context, table.Format(context.UseColor()), json);
  return kOk;
}

}  // namespace kv739::command
