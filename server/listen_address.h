// Where a server listens: names are resolved and ports tried before gRPC gets
// them, since gRPC is content when any one address of a name can be bound and
// does not say why others cannot.
#ifndef KV739_SERVER_LISTEN_ADDRESS_H_
#define KV739_SERVER_LISTEN_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::server {

// Numeric "ip:port" for every address of the host, IPv4 and IPv6, that this
// machine has ("localhost" gives both loopbacks). With port 0 only the first.
//   INVALID_ARGUMENT     not host:port, or the host is not known
//   FAILED_PRECONDITION  the port is in use, or may not be used; says why
absl::StatusOr<std::vector<std::string>> ResolveListenAddress(
    absl::string_view host_port);

}  // namespace kv739::server

#endif  // KV739_SERVER_LISTEN_ADDRESS_H_
