#include "server/node_questions.h"

#include <grpcpp/create_channel.h>

#include <chrono>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/credentials.h"

namespace kv739::server {
namespace {

using Stub = ::raft::v1::Raft::Stub;

// A connection of its own: a shared one would still be waiting before its next
// attempt.
std::unique_ptr<Stub> Connect(const kv::Address& to) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  return ::raft::v1::Raft::NewStub(
      grpc::CreateCustomChannel(to.ToString(), MakePeerCredentials(), arguments));
}

void SetDeadline(grpc::ClientContext* context, absl::Duration timeout) {
  context->set_deadline(std::chrono::system_clock::now() +
                        absl::ToChronoMilliseconds(timeout));
  // Whoever does not listen now does not answer.
  context->set_wait_for_ready(false);
}

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

absl::StatusOr<InquiryAnswer> Inquire(const kv::Address& to,
                                      const kv::Address& own,
                                      absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(&context, timeout);
  ::raft::v1::InquireRequest request;
  request.set_address(own.ToString());
  ::raft::v1::InquireResponse response;
  const grpc::Status status =
      Connect(to)->Inquire(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  auto map = kv::DecodeClusterMap(response.map());
  if (!map.ok()) return map.status();
  return InquiryAnswer{*std::move(map), response.met()};
}

absl::StatusOr<JoinAnswer> AskToJoin(const kv::Address& to,
                                     const JoinQuestion& question,
                                     absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(&context, timeout);
  ::raft::v1::JoinRequest request;
  request.set_cluster_id(question.cluster_id);
  request.set_node(question.node.id.value());
  request.set_address(question.node.address.ToString());
  request.set_metrics_port(question.node.metrics_port);
  request.set_http_port(question.node.http_port);
  ::raft::v1::JoinResponse response;
  const grpc::Status status = Connect(to)->Join(&context, request, &response);
  if (!status.ok()) return FromGrpc(status);
  JoinAnswer answer;
  answer.leader = response.leader();
  if (response.map().empty()) return answer;
  auto map = kv::DecodeClusterMap(response.map());
  if (!map.ok()) return absl::UnavailableError(map.status().message());
  answer.map = *std::move(map);
  return answer;
}

}  // namespace

ServerQuestions OverTheNetwork() { return {Inquire, AskToJoin}; }

}  // namespace kv739::server
