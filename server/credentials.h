// Who may connect, in one place. Plain text today; TLS goes here.
#ifndef KV739_SERVER_CREDENTIALS_H_
#define KV739_SERVER_CREDENTIALS_H_

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>

namespace kv739::server {

inline std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials() {
  return grpc::InsecureServerCredentials();
}
inline std::shared_ptr<grpc::ChannelCredentials> MakePeerCredentials() {
  return grpc::InsecureChannelCredentials();
}

}  // namespace kv739::server

#endif  // KV739_SERVER_CREDENTIALS_H_
