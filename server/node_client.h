// Asks another server, once and blocking: for a server that does not serve
// yet. One connection for each call.
//
// Errors: UNAVAILABLE nobody is there; DEADLINE_EXCEEDED nobody answers in
// time, as before a server is ready; others are the answering server's.
// Threads: any.
#ifndef KV739_SERVER_NODE_CLIENT_H_
#define KV739_SERVER_NODE_CLIENT_H_

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/node_service.h"

namespace kv739::server {

// What the server at `address` (host:port) knows of its cluster, and whether
// it has met the one at `own_address`.
absl::StatusOr<InquireAnswer> InquireAt(const std::string& address,
                                        const std::string& own_address,
                                        absl::Duration timeout);

// Asks the server at `address` to let a node join. FAILED_PRECONDITION with
// the reason when that is refused for good.
absl::StatusOr<JoinAnswer> JoinAt(const std::string& address,
                                  const JoinCall& call, absl::Duration timeout);

}  // namespace kv739::server

#endif  // KV739_SERVER_NODE_CLIENT_H_
