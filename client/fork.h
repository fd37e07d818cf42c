// Whether the process was forked since something was made. A child has none
// of the library's threads, so what was made before the fork is dead in it.
#ifndef KV739_CLIENT_FORK_H_
#define KV739_CLIENT_FORK_H_

#include <cstdint>

namespace kv739::client {

// How many forks this process is away from the one that first asked.
uint64_t ForkCount();

}  // namespace kv739::client

#endif  // KV739_CLIENT_FORK_H_
