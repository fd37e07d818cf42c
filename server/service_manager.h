// Tells systemd how far the server is (sd_notify(3), without its library).
#ifndef KV739_SERVER_SERVICE_MANAGER_H_
#define KV739_SERVER_SERVICE_MANAGER_H_

#include "absl/strings/string_view.h"

namespace kv739::server {

// "READY=1", "STOPPING=1". Does nothing when nobody listens, that is unless
// NOTIFY_SOCKET is set. Never blocks. False when it could not be said.
bool TellServiceManager(absl::string_view state);

}  // namespace kv739::server

#endif  // KV739_SERVER_SERVICE_MANAGER_H_
