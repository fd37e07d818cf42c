#include "client/command/options.h"

#include <filesystem>
#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kv739::command {
namespace {

std::string Variable(const GetEnv& env, const char* name) {
  const char* value = env(name);
  return value == nullptr ? "" : value;
}

// A folder of the XDG base directories, or "" when there is no home.
std::string XdgFolder(const GetEnv& env, const char* variable,
                      const char* below_home) {
  const std::string set = Variable(env, variable);
  if (!set.empty()) return set;
  const std::string home = Variable(env, "HOME");
  return home.empty() ? "" : absl::StrCat(home, "/", below_home);
}

}  // namespace

absl::StatusOr<std::string> FindConfig(const std::string& given,
                                       const GetEnv& env) {
  if (!given.empty()) return given;
  if (std::string set = Variable(env, "KV739_CONFIG"); !set.empty()) return set;
  std::vector<std::string> places = {"./config"};
  const std::string home = XdgFolder(env, "XDG_CONFIG_HOME", ".config");
  if (!home.empty()) places.push_back(home + "/kv739/config");
  places.push_back("/etc/kv739/config");
  for (const std::string& place : places) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(place, ignored)) return place;
  }
  return absl::NotFoundError(
      absl::StrCat("no cluster file: give one with -c FILE or KV739_CONFIG, or "
                   "have one of ",
                   absl::StrJoin(places, ", ")));
}

bool UseColor(const std::string& when, bool terminal, const GetEnv& env) {
  if (when == "always") return true;
  if (when == "never") return false;
  return terminal && Variable(env, "NO_COLOR").empty() &&
         Variable(env, "TERM") != "dumb";
}

std::string HistoryPath(const GetEnv& env) {
  const std::string state = XdgFolder(env, "XDG_STATE_HOME", ".local/state");
  return state.empty() ? "" : state + "/kv739/history";
}

}  // namespace kv739::command
