#include "server/node_client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/create_channel.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/credentials.h"
#include "server/grpc_status.h"

namespace kv739::server {
namespace {

namespace wire = ::raft::v1;

// The largest map is far below that.
constexpr int kMaxAnswerBytes = 16 << 20;

class Asking {
 public:
  Asking(const std::string& address, absl::Duration timeout)
      : address_(address), stub_(wire::Raft::NewStub(MakeChannel(address))) {
    context_.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
  }
  wire::Raft::Stub* stub() { return stub_.get(); }
  grpc::ClientContext* context() { return &context_; }
  absl::Status Error(const grpc::Status& status) const {
    const absl::Status plain = FromGrpcStatus(status);
    return absl::Status(plain.code(),
                        absl::StrCat(address_, ": ", plain.message()));
  }

 private:
  static std::shared_ptr<grpc::Channel> MakeChannel(
      const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
    return grpc::CreateCustomChannel(address, MakePeerCredentials(), arguments);
  }

  const std::string address_;
  const std::unique_ptr<wire::Raft::Stub> stub_;
  grpc::ClientContext context_;
};

}  // namespace

absl::StatusOr<InquireAnswer> InquireAt(const std::string& address,
                                        const std::string& own_address,
                                        absl::Duration timeout) {
  Asking asking(address, timeout);
  wire::InquireRequest request;
  request.set_address(own_address);
  wire::InquireResponse response;
  const grpc::Status status =
      asking.stub()->Inquire(asking.context(), request, &response);
  if (!status.ok()) return asking.Error(status);
  return InquireAnswer{response.cluster_id(),
                       std::move(*response.mutable_map()), response.met()};
}

absl::StatusOr<JoinAnswer> JoinAt(const std::string& address,
                                  const JoinCall& call,
                                  absl::Duration timeout) {
  Asking asking(address, timeout);
  wire::JoinRequest request;
  request.set_cluster_id(call.cluster_id);
  request.set_node(call.node.value());
  request.set_address(call.address);
  request.set_metrics_port(call.metrics_port);
  request.set_http_port(call.http_port);
  wire::JoinResponse response;
  const grpc::Status status =
      asking.stub()->Join(asking.context(), request, &response);
  if (!status.ok()) return asking.Error(status);
  return JoinAnswer{std::move(*response.mutable_leader()),
                    std::move(*response.mutable_map())};
}

}  // namespace kv739::server
