// kv739, the command: what it can do is in arguments.cc.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "client/command/arguments.h"
#include "client/command/text.h"

int main(int argc, char** argv) {
  // Errors of connections are told by us, in our words.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  // Debian's abseil looks for deadlocks at every lock of gRPC's otherwise.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  kv739::command::InitLocale();
  const kv739::command::Io io{std::cin,
                              std::cout,
                              std::cerr,
                              isatty(STDIN_FILENO) == 1,
                              isatty(STDOUT_FILENO) == 1,
                              [](const char* name) { return getenv(name); },
                              isatty(STDERR_FILENO) == 1};
  return kv739::command::Run(std::vector<std::string>(argv + 1, argv + argc),
                             io);
}
