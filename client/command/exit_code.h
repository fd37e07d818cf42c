// Exit codes of the command, for scripts. Part of its interface: printed by
// --help, never renumbered.
#ifndef KV739_CLIENT_COMMAND_EXIT_CODE_H_
#define KV739_CLIENT_COMMAND_EXIT_CODE_H_

namespace kv739::command {

enum ExitCode : int {
  kOk = 0,
  kNo = 1,           // missing key, compare failed, a ping lost, refused
  kUsage = 2,        // bad arguments, key, value or cluster file
  kUnreachable = 3,  // no server, or no leader, answered in time
  kDegraded = 4,     // it answers, and something is wrong
  kUnknown = 5,      // nobody can say whether the write took effect
};

inline constexpr char kExitCodeHelp[] =
    "Exit codes: 0 ok; 1 no (missing key, compare failed, refused); 2 usage;\n"
    "3 unreachable; 4 degraded; 5 outcome of a write unknown.";

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_EXIT_CODE_H_
