// Exit codes of kv739d, and errors that say which one they end it with.
#ifndef KV739_SERVER_EXIT_CODE_H_
#define KV739_SERVER_EXIT_CODE_H_

#include "absl/status/status.h"

namespace kv739::server {

enum ExitCode : int {
  kExitStopped = 0,    // stopped in order
  kExitFailure = 1,    // anything else
  kExitUsage = 2,      // bad arguments or configuration
  kExitDirectory = 3,  // data directory in use or damaged
};

absl::Status WithExit(absl::Status status, ExitCode code);
// kExitFailure for an error without one.
ExitCode ExitCodeOf(const absl::Status& status);

}  // namespace kv739::server

#endif  // KV739_SERVER_EXIT_CODE_H_
