// A line on the terminal that says how far long work is, and goes away with
// it. Writes nothing where there is no terminal.
#ifndef KV739_CLIENT_COMMAND_PROGRESS_H_
#define KV739_CLIENT_COMMAND_PROGRESS_H_

#include <functional>
#include <string>

#include "client/command/context.h"

namespace kv739::command {

// Runs `work` and returns what it returns. Meanwhile, on a thread of its own,
// shows what `tell` says, again and again; `tell` asks servers and may take a
// second. Not used in tests of what is printed: those have no terminal.
int WithProgress(const Context& context, const std::function<int()>& work,
                 const std::function<std::string()>& tell);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_PROGRESS_H_
