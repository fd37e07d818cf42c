// Between absl::Status and grpc::Status: the codes of both are the same
// numbers with the same meaning.
#ifndef KV739_SERVER_GRPC_STATUS_H_
#define KV739_SERVER_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include <string>

#include "absl/status/status.h"

namespace kv739::server {

// A message travels in a header; a longer one would break the call.
inline constexpr size_t kMaxStatusMessageBytes = 2048;

inline grpc::Status ToGrpcStatus(const absl::Status& status) {
  return grpc::Status(
      static_cast<grpc::StatusCode>(status.code()),
      std::string(status.message().substr(0, kMaxStatusMessageBytes)));
}
inline absl::Status FromGrpcStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

}  // namespace kv739::server

#endif  // KV739_SERVER_GRPC_STATUS_H_
