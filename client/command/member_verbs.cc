// member, and the parts of server that start servers and take them out.
#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/command/interrupt.h"
#include "client/command/member_view.h"
#include "client/command/progress.h"
#include "client/command/status_model.h"
#include "client/command/text.h"
#include "client/command/verbs.h"

namespace kv739::command {
namespace {

constexpr absl::Duration kPerServer = absl::Seconds(1);
constexpr absl::Duration kBetweenAsks = absl::Milliseconds(200);
constexpr absl::Duration kChange =
    absl::Milliseconds(KV739_MEMBERSHIP_TIMEOUT_MS);
// What the log of group 0 must carry.
constexpr absl::Duration kRecord = absl::Seconds(5);

constexpr size_t kShownChanges = 3;

// What is under way in the cluster, in one line.
std::string Changes(ClusterClient* client) {
  const ClusterView view = BuildView(client->Ask(kPerServer), client->file());
  if (view.changes.empty()) return "waiting";
  const size_t shown = std::min(view.changes.size(), kShownChanges);
  std::string text =
      absl::StrJoin(view.changes.begin(), view.changes.begin() + shown, "; ");
  if (shown < view.changes.size()) {
    absl::StrAppend(&text, "; and ", view.changes.size() - shown, " more");
  }
  return text;
}

// A call of the library that takes long, with what it does on the terminal.
int Run(Context& context, const std::string& address, const char* done,
        const std::function<int(kv739_client*)>& call) {
  absl::StatusOr<kv739_client*> data = context.Data();
  if (!data.ok()) {
    return context.Fail(kUsage, std::string(data.status().message()));
  }
  absl::StatusOr<ClusterClient*> cluster = context.Cluster();
  if (!cluster.ok()) {
    return context.Fail(kUsage, std::string(cluster.status().message()));
  }
  const int code = WithProgress(
      context, [&] { return call(*data); }, [&] { return Changes(*cluster); });
  if (code != KV739_OK) {
    return context.Fail(ExitOf(code), kv739_last_error());
  }
  if (context.options.json) {
    context.Print({{"server", address}, {"done", done}});
  } else {
    context.io.err << address << " " << done << std::endl;
  }
  return kOk;
}

// The id of each name, or what is wrong with one.
absl::Status CheckNames(const v1::GetMapResponse& map,
                        const std::vector<std::string>& names) {
  std::vector<std::string> known;
  for (const v1::Node& node : map.nodes()) {
    if (node.state() != v1::LEFT) known.push_back(node.address());
  }
  std::set<std::string> seen;
  for (const std::string& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const std::string near = Nearest(name, known);
      return absl::InvalidArgumentError(absl::StrCat(
          "no such server: ", Escape(name),
          near.empty() ? "; there are: " + absl::StrJoin(known, ", ")
                       : "; did you mean " + near + "?"));
    }
    if (!seen.insert(name).second) {
      return absl::InvalidArgumentError("named twice: " + name);
    }
  }
  return absl::OkStatus();
}

// The group has these voters, or is to have them.
bool IsTarget(const GroupView& group, const std::vector<std::string>& servers) {
  return std::set<std::string>(group.target.begin(), group.target.end()) ==
         std::set<std::string>(servers.begin(), servers.end());
}

int ExitOf(const absl::Status& status) {
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
    return kUnreachable;
  }
  return absl::IsInvalidArgument(status) || absl::IsNotFound(status) ? kUsage
                                                                     : kNo;
}

// Until the group has these voters and no others. kNo when it is to have
// others now.
int AwaitMembers(const Context& context, ClusterClient* client, uint64_t group,
                 const std::vector<std::string>& servers) {
  const absl::Time end = absl::Now() + context.Timeout(kChange);
  // Who has recorded it may be gone, and the others may not know of it yet.
  const absl::Time known = absl::Now() + kRecord;
  bool seen = false;
  Interrupt interrupt;
  while (true) {
    const ClusterView view = BuildView(client->Ask(kPerServer), client->file());
    if (const GroupView* found = view.FindGroup(group)) {
      const bool wanted = IsTarget(*found, servers);
      if (wanted && !found->changing) return kOk;
      if (!wanted && (seen || absl::Now() >= known)) return kNo;
      seen = seen || wanted;
    }
    if (absl::Now() >= end || interrupt.Wait(kBetweenAsks)) break;
  }
  return kUnknown;
}

}  // namespace

int MemberList(Context& context) {
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) {
    return context.Fail(kUsage, std::string(client.status().message()));
  }
  const ClusterAnswers answers =
      (*client)->Ask(std::min(kPerServer, context.Timeout(kPerServer)));
  if (!answers.map.has_value()) {
    return context.Fail(kUnreachable, "no server knows the cluster map");
  }
  const MembersView view =
      BuildMembers(answers, BuildView(answers, (*client)->file()));
  if (context.options.json) {
    context.Print(MembersJson(view));
  } else {
    context.io.out << MembersText(view, context.UseColor()) << std::flush;
  }
  return kOk;
}

int MemberSet(Context& context, uint64_t group,
              const std::vector<std::string>& servers, bool wait) {
  absl::StatusOr<ClusterClient*> client = context.Cluster();
  if (!client.ok()) {
    return context.Fail(kUsage, std::string(client.status().message()));
  }
  const ClusterAnswers answers = (*client)->Ask(kPerServer);
  const ClusterView view = BuildView(answers, (*client)->file());
  if (!answers.map.has_value()) {
    return context.Fail(kUnreachable, "no server knows the cluster map");
  }
  const GroupView* found = view.FindGroup(group);
  if (found == nullptr) {
    return context.Fail(kUsage, absl::StrCat("no such group: ", group));
  }
  if (absl::Status s = CheckNames(*answers.map, servers); !s.ok()) {
    return context.Fail(kUsage, std::string(s.message()));
  }
  const GroupView* directory = view.FindGroup(0);
  if (directory == nullptr || directory->leader.empty()) {
    return context.Fail(kUnreachable,
                        "group 0, which has the map, has no leader");
  }
  v1::SetMembersRequest request;
  request.set_group(group);
  request.mutable_servers()->Add(servers.begin(), servers.end());
  // Two operators at once: the second hears of it.
  request.mutable_expected()->Add(found->target.begin(), found->target.end());
  if (absl::Status s = (*client)->SetMembers(directory->leader, request,
                                             context.Timeout(kRecord));
      !s.ok()) {
    return context.Fail(
        static_cast<ExitCode>(ExitOf(s)),
        absl::StrCat("group ", group, " is not changed: ", s.message()));
  }
  if (wait) {
    const int code = WithProgress(
        context, [&] { return AwaitMembers(context, *client, group, servers); },
        [&] { return Changes(*client); });
    if (code == kNo) {
      return context.Fail(
          kNo, absl::StrCat("another change of group ", group,
                            " has taken the place of this one (kv739 status)"));
    }
    if (code != kOk) {
      return context.Fail(kUnknown,
                          absl::StrCat("group ", group,
                                       " is still changing its members; it "
                                       "goes on (kv739 status)"));
    }
  }
  if (context.options.json) {
    context.Print({{"group", group}, {"servers", servers}, {"settled", wait}});
  } else {
    context.io.err << "group " << group
                   << (wait ? " has the voters " : " will have the voters ")
                   << absl::StrJoin(servers, ", ") << std::endl;
  }
  return kOk;
}

int ServerStart(Context& context, const std::string& address, bool is_new) {
  return Run(
      context, address, is_new ? "started and joined" : "started and caught up",
      [&](kv739_client* client) {
        return kv739_client_start(client, address.c_str(), is_new ? 1 : 0,
                                  context.options.timeout_ms);
      });
}

int ServerLeave(Context& context, const std::string& address, bool wait) {
  return Run(context, address, wait ? "left and stopped" : "left",
             [&](kv739_client* client) {
               return kv739_client_leave(client, address.c_str(), wait ? 1 : 0,
                                         context.options.timeout_ms);
             });
}

}  // namespace kv739::command
