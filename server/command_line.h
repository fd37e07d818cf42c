// What kv739d was asked to do.
#ifndef KV739_SERVER_COMMAND_LINE_H_
#define KV739_SERVER_COMMAND_LINE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace kv739::server {

struct CommandLine {
  enum class Action : uint8_t {
    kRunNode,        // cluster, listen and data are given
    kRunSupervisor,  // cluster and data_root are given
    kPrintSettings,
    kPrintVersion,
    kPrintHelp,
  };
  Action action = Action::kPrintHelp;
  std::string cluster;  // path
  std::string listen;   // host:port
  std::string data;
  bool join = false;
  // Of a server that joins and is not in the file; 0: as for a further server
  // of its host.
  uint16_t metrics_port = 0;
  uint16_t http_port = 0;
  std::string data_root = "data";
  std::string settings;  // path; empty: defaults
};

// INVALID_ARGUMENT says what is wrong, with the nearest known flag for an
// unknown one.
absl::StatusOr<CommandLine> ParseCommandLine(int argc, const char* const* argv);

// The ways to call it, three lines.
std::string UsageText();
// The text of --help.
std::string HelpText();
// "kv739d 0.1.0 (1a2b3c4d)"
std::string VersionText();

}  // namespace kv739::server

#endif  // KV739_SERVER_COMMAND_LINE_H_
