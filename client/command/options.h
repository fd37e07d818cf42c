// What every verb knows: where the cluster file is, how to show results, how
// long to wait.
#ifndef KV739_CLIENT_COMMAND_OPTIONS_H_
#define KV739_CLIENT_COMMAND_OPTIONS_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"

namespace kv739::command {

// Reads a variable of the environment; nullptr when it is not set.
using GetEnv = std::function<const char*(const char*)>;

struct Options {
  std::string config;  // -c; empty: searched
  bool json = false;
  int timeout_ms = 0;  // 0: the verb's own
  std::string color = "auto";
};

// The cluster file to use: `given`, else $KV739_CONFIG, ./config,
// ~/.config/kv739/config, /etc/kv739/config, the first that is there. The
// first two are taken as they are. NOT_FOUND names the places.
absl::StatusOr<std::string> FindConfig(const std::string& given,
                                       const GetEnv& env);

// auto: on a terminal, unless NO_COLOR is set to something or TERM is dumb.
bool UseColor(const std::string& when, bool terminal, const GetEnv& env);

// Where the shell's history is: $XDG_STATE_HOME or ~/.local/state, then
// kv739/history. Empty when there is no home.
std::string HistoryPath(const GetEnv& env);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_OPTIONS_H_
