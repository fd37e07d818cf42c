// Which hosts of a cluster file are this one.
#ifndef KV739_SERVER_LOCAL_ADDRESS_H_
#define KV739_SERVER_LOCAL_ADDRESS_H_

#include <string>

namespace kv739::server {

// True for localhost, 127.x.x.x and ::1, and for names and addresses that
// belong to an interface of this host. Asks the resolver and may block.
bool IsLocalHost(const std::string& host);

}  // namespace kv739::server

#endif  // KV739_SERVER_LOCAL_ADDRESS_H_
