// What fork() leaves of the library in a child.
//
// A child has none of the library's threads, so what was made before the fork
// is dead in it. And gRPC 1.51 shares its epoll set with the child: one that
// used the network would have the parent handed pointers of the child's. So a
// child of a process in which gRPC was in use opens nothing.
#ifndef KV739_CLIENT_FORK_H_
#define KV739_CLIENT_FORK_H_

#include <cstdint>

namespace kv739::client {

// How many forks this process is away from the one that loaded the library.
uint64_t ForkCount();
// gRPC was in use when some fork on the way here happened.
bool ForkedFromNetworkUser();

}  // namespace kv739::client

#endif  // KV739_CLIENT_FORK_H_
