#include "client/command/status_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "client/command/table.h"
#include "client/command/text.h"

namespace kv739::command {
namespace {

using Json = nlohmann::ordered_json;
using Align = Table::Align;

std::string Id(uint64_t id) { return absl::StrFormat("%016x", id); }

std::string VerdictName(Verdict verdict) {
  switch (verdict) {
    case Verdict::kOk:
      return "ok";
    case Verdict::kDegraded:
      return "degraded";
    case Verdict::kUnreachable:
      return "unreachable";
  }
  return "";
}

// A thousand groups say the same thing a thousand times; --json has it all.
constexpr size_t kShownProblems = 8;
constexpr size_t kShownChanges = 16;
// With more groups than these the members of those with all in place are left
// out.
constexpr size_t kShownWholeGroups = 32;

// What the cluster can still stand, in the words of the verdict line.
std::string Margin(const ClusterView& view) {
  int least = view.groups.empty() ? 0 : view.groups.front().can_lose;
  for (const GroupView& group : view.groups) {
    least = std::min(least, group.can_lose);
  }
  return absl::StrCat("every group can lose ", Count(least, "server"));
}

std::string VerdictLine(const ClusterView& view, bool use_color) {
  if (view.verdict == Verdict::kUnreachable) {
    return Paint("UNREACHABLE", Color::kRed, use_color) + ": " +
           absl::StrJoin(view.problems, "; ");
  }
  const auto spares =
      std::count_if(view.servers.begin(), view.servers.end(),
                    [](const ServerView& server) { return server.spare; });
  std::string line = absl::StrCat(
      "cluster ", Id(view.cluster_id), " · epoch ", view.epoch, " · ",
      Count(view.servers.size(), "server"), " · ",
      Count(view.groups.size(), "group"),
      spares == 0 ? "" : absl::StrCat(", ", Count(spares, "spare")), " · ");
  if (view.verdict == Verdict::kOk) {
    return absl::StrCat(line, Paint("OK", Color::kGreen, use_color), ": ",
                        Margin(view));
  }
  const size_t shown = std::min(view.problems.size(), kShownProblems);
  absl::StrAppend(&line, Paint("DEGRADED", Color::kRed, use_color), ": ",
                  absl::StrJoin(view.problems.begin(),
                                view.problems.begin() + shown, "; "));
  if (shown < view.problems.size()) {
    absl::StrAppend(&line, "; and ", view.problems.size() - shown, " more");
  }
  return line;
}

std::string GroupsText(const ClusterView& view, bool use_color) {
  Table table({{"GROUP", Align::kRight},
               {"LEADER"},
               {"TERM", Align::kRight},
               {"COMMIT", Align::kRight},
               {"APPLIED", Align::kRight},
               {"LOG", Align::kRight},
               {"LOG SIZE", Align::kRight},
               {"SLOTS", Align::kRight},
               {"CAN LOSE", Align::kRight}});
  for (const GroupView& group : view.groups) {
    const bool led = !group.leader.empty();
    table.Add({absl::StrCat(group.id), led ? group.leader : "none",
               absl::StrCat(group.term), absl::StrCat(group.commit),
               absl::StrCat(group.applied),
               led ? absl::StrCat(group.log_entries) : "-",
               led ? Bytes(group.log_bytes) : "-", absl::StrCat(group.slots),
               absl::StrCat(group.can_lose)},
              led ? Color::kNone : Color::kRed);
  }
  return table.Format(use_color);
}

// What is to be said of a member beside its numbers.
std::string NoteOf(const MemberView& member) {
  std::vector<std::string> notes;
  if (!member.reason.empty()) notes.push_back(member.reason);
  if (!member.fault.empty()) notes.push_back("does not serve: " + member.fault);
  if (member.place == "joining") notes.push_back("joining");
  if (member.place == "leaving") notes.push_back("leaving");
  if (member.receiving.has_value()) {
    const TransferView& t = *member.receiving;
    notes.push_back(absl::StrCat("receives a snapshot: ", t.percent, " %, ",
                                 Bytes(t.bytes)));
  } else if (member.needs_snapshot) {
    notes.push_back("needs a snapshot");
  }
  if (member.silent_ms > 0) {
    notes.push_back(absl::StrCat(
        "silent for ",
        absl::FormatDuration(absl::Trunc(absl::Milliseconds(member.silent_ms),
                                         absl::Milliseconds(100)))));
  }
  return absl::StrJoin(notes, "; ");
}

// Nothing is to be said of its members.
bool IsWhole(const GroupView& group) {
  return !group.leader.empty() && !group.changing &&
         std::all_of(group.members.begin(), group.members.end(),
                     [](const MemberView& member) {
                       return member.reachable && member.state != "missing" &&
                              member.place == "voter" && NoteOf(member).empty();
                     });
}

std::string MembersText(const ClusterView& view, bool use_color) {
  Table table({{"GROUP", Align::kRight},
               {"MEMBER"},
               {"STATE"},
               {"TERM", Align::kRight},
               {"COMMIT", Align::kRight},
               {"APPLIED", Align::kRight},
               {"LAG", Align::kRight},
               {"NOTE"}});
  size_t left_out = 0;
  for (const GroupView& group : view.groups) {
    if (view.groups.size() > kShownWholeGroups && IsWhole(group)) {
      ++left_out;
      continue;
    }
    for (const MemberView& member : group.members) {
      const bool known = member.reachable && member.state != "missing";
      const auto number = [known](uint64_t n) {
        return known ? absl::StrCat(n) : std::string("-");
      };
      table.Add(
          {absl::StrCat(group.id), member.server, member.state,
           number(member.term), number(member.commit), number(member.applied),
           member.lag.has_value() ? absl::StrCat(*member.lag) : "-",
           NoteOf(member)},
          !known || !member.fault.empty() ? Color::kRed
          : member.place != "voter"       ? Color::kYellow
                                          : Color::kNone);
    }
  }
  std::string text =
      left_out == view.groups.size() ? "" : table.Format(use_color);
  if (left_out > 0) {
    absl::StrAppend(&text, Count(left_out, "group"),
                    " with all members in place not shown\n");
  }
  return text;
}

Json TransferJson(const TransferView& transfer) {
  return {{"peer", transfer.peer},
          {"bytes", transfer.bytes},
          {"keys", transfer.keys},
          {"percent", transfer.percent},
          {"seconds", transfer.seconds}};
}

Json MemberJson(const MemberView& member) {
  Json json = {{"server", member.server}, {"reachable", member.reachable}};
  if (!member.reason.empty()) json["reason"] = member.reason;
  json["state"] = member.state;
  if (member.reachable && member.state != "missing") {
    json["term"] = member.term;
    json["commit"] = member.commit;
    json["applied"] = member.applied;
    json["last_index"] = member.last_index;
  }
  json["lag"] = member.lag.has_value() ? Json(*member.lag) : Json(nullptr);
  json["place"] = member.place;
  json["learner"] = member.learner;
  json["needs_snapshot"] = member.needs_snapshot;
  json["silent_ms"] = member.silent_ms;
  if (member.receiving.has_value()) {
    json["receiving"] = TransferJson(*member.receiving);
  }
  if (!member.fault.empty()) json["fault"] = member.fault;
  return json;
}

Json GroupJson(const GroupView& group) {
  Json json = {
      {"id", group.id},
      {"leader", group.leader.empty() ? Json(nullptr) : Json(group.leader)},
      {"term", group.term},
      {"commit", group.commit},
      {"applied", group.applied},
      {"log_entries", group.log_entries},
      {"log_bytes", group.log_bytes},
      {"slots", group.slots},
      {"can_lose", group.can_lose},
      {"changing", group.changing},
      {"automatic", group.automatic},
      {"joint", group.joint},
      {"target", group.target},
      {"sending", Json::array()},
      {"members", Json::array()}};
  for (const TransferView& transfer : group.sending) {
    json["sending"].push_back(TransferJson(transfer));
  }
  for (const MemberView& member : group.members) {
    json["members"].push_back(MemberJson(member));
  }
  return json;
}

std::string StateOf(const ServerView& server) {
  if (server.membership == "left") return "left";
  if (!server.reachable) return "unreachable";
  if (server.stopping) return "stopping";
  if (!server.healthy) return "unhealthy";
  if (server.membership == "leaving") return "leaving";
  return server.spare ? "spare" : "up";
}

}  // namespace

std::string StatusText(const ClusterView& view, bool use_color) {
  std::string text = VerdictLine(view, use_color) + "\n";
  const size_t shown = std::min(view.changes.size(), kShownChanges);
  for (size_t i = 0; i < shown; ++i) {
    absl::StrAppend(&text, Paint(view.changes[i], Color::kYellow, use_color),
                    "\n");
  }
  if (shown < view.changes.size()) {
    absl::StrAppend(&text, "and ", view.changes.size() - shown,
                    " more changes\n");
  }
  if (!view.groups.empty()) {
    absl::StrAppend(&text, "\n", GroupsText(view, use_color), "\n",
                    MembersText(view, use_color));
  }
  const bool someone_apart = std::any_of(
      view.servers.begin(), view.servers.end(), [](const ServerView& s) {
        return s.spare || !s.reachable ||
               (!s.membership.empty() && s.membership != "active");
      });
  if (view.groups.empty() || someone_apart) {
    absl::StrAppend(&text, "\n", ServersText(view, use_color));
  }
  return text;
}

Json StatusJson(const ClusterView& view) {
  Json json = {{"verdict", VerdictName(view.verdict)},
               {"problems", view.problems},
               {"changes", view.changes},
               {"cluster_id", Id(view.cluster_id)},
               {"epoch", view.epoch},
               {"servers", ServersJson(view)},
               {"groups", Json::array()}};
  for (const GroupView& group : view.groups) {
    json["groups"].push_back(GroupJson(group));
  }
  return json;
}

ExitCode StatusExit(const ClusterView& view) {
  switch (view.verdict) {
    case Verdict::kOk:
      return kOk;
    case Verdict::kDegraded:
      return kDegraded;
    case Verdict::kUnreachable:
      return kUnreachable;
  }
  return kUnreachable;
}

std::string ServersText(const ClusterView& view, bool use_color) {
  Table table({{"SERVER"},
               {"STATE"},
               {"VERSION"},
               {"PID", Align::kRight},
               {"UPTIME", Align::kRight},
               {"METRICS"},
               {"NOTE"}});
  for (const ServerView& server : view.servers) {
    const bool up = server.reachable;
    table.Add({server.address, StateOf(server), up ? server.version : "-",
               up ? absl::StrCat(server.pid) : "-",
               up ? absl::FormatDuration(absl::Trunc(
                        absl::Seconds(server.uptime_seconds), absl::Seconds(1)))
                  : "-",
               server.metrics_url, server.reason},
              up ? Color::kNone : Color::kRed);
  }
  return table.Format(use_color);
}

Json ServersJson(const ClusterView& view) {
  Json json = Json::array();
  for (const ServerView& server : view.servers) {
    Json row = {{"server", server.address},
                {"id", server.id == 0 ? Json(nullptr) : Json(Id(server.id))},
                {"reachable", server.reachable}};
    if (!server.reason.empty()) row["reason"] = server.reason;
    row["state"] = StateOf(server);
    row["spare"] = server.spare;
    row["membership"] =
        server.membership.empty() ? Json(nullptr) : Json(server.membership);
    row["metrics"] = server.metrics_url;
    if (server.reachable) {
      row["version"] = server.version;
      row["pid"] = server.pid;
      row["uptime_seconds"] = server.uptime_seconds;
      row["map_epoch"] = server.map_epoch;
      row["healthy"] = server.healthy;
      row["stopping"] = server.stopping;
    }
    json.push_back(std::move(row));
  }
  return json;
}

}  // namespace kv739::command
