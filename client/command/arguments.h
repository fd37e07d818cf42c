// The command line: global options, verbs and theirs. The shell reads its
// lines by the same rules.
#ifndef KV739_CLIENT_COMMAND_ARGUMENTS_H_
#define KV739_CLIENT_COMMAND_ARGUMENTS_H_

#include <functional>
#include <string>
#include <vector>

#include "client/command/context.h"

namespace kv739::command {

struct Parsed {
  Options options;
  // Runs the verb; empty when there is none.
  std::function<int(Context&)> verb;
};

// Parses `words` (without the program's name) onto `options`. Returns true
// when `parsed` is set; otherwise all has been said on io (help and version on
// out, errors on err) and *exit is the exit code. In the shell, options of the
// whole run (-c, --color, --version) and the verb `shell` are not there.
bool Parse(std::vector<std::string> words, const Options& options,
           bool in_shell, const Io& io, Parsed* parsed, int* exit);

// All verbs, sorted.
std::vector<std::string> Verbs(bool in_shell);

// The whole command: parses, runs, returns the exit code.
int Run(std::vector<std::string> words, const Io& io);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_ARGUMENTS_H_
