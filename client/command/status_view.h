// A ClusterView for people and for programs. Both say the same.
#ifndef KV739_CLIENT_COMMAND_STATUS_VIEW_H_
#define KV739_CLIENT_COMMAND_STATUS_VIEW_H_

#include <nlohmann/json.hpp>
#include <string>

#include "client/command/exit_code.h"
#include "client/command/status_model.h"

namespace kv739::command {

// The verdict in the first line, then groups, members, and servers that are in
// no group or not reachable.
std::string StatusText(const ClusterView& view, bool use_color);
// Ids are strings of 16 hexadecimal digits.
nlohmann::ordered_json StatusJson(const ClusterView& view);
ExitCode StatusExit(const ClusterView& view);

// SERVER, STATE, VERSION, PID, UPTIME, METRICS: one row a server.
std::string ServersText(const ClusterView& view, bool use_color);
nlohmann::ordered_json ServersJson(const ClusterView& view);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_STATUS_VIEW_H_
