#include "server/node_service.h"

#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/cluster_file.h"
#include "server/grpc_status.h"

namespace kv739::server {
namespace {

namespace wire = ::raft::v1;

// Servers ask when they start, and those that miss the others now and then.
constexpr int kArmedCalls = 2;
constexpr int kMaxCalls = 64;

absl::Status CheckAddress(const std::string& address) {
  if (address.size() > NodeService::kMaxAddressBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("an address of ", address.size(), " bytes"));
  }
  return kv::Address::Parse(address).status();
}

absl::Status CheckPort(uint32_t port) {
  if (port <= std::numeric_limits<uint16_t>::max()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("port ", port));
}

// What is wrong with the request by itself.
absl::Status CheckJoin(const wire::JoinRequest& request, uint64_t cluster_id) {
  if (request.cluster_id() != cluster_id) {
    return absl::FailedPreconditionError(
        absl::StrCat("cluster ", absl::Hex(request.cluster_id()),
                     " is meant, this is cluster ", absl::Hex(cluster_id)));
  }
  if (request.node() == 0) return absl::InvalidArgumentError("node 0");
  absl::Status status = CheckAddress(request.address());
  if (status.ok()) status = CheckPort(request.metrics_port());
  if (status.ok()) status = CheckPort(request.http_port());
  return status;
}

}  // namespace

NodeService::NodeService(RpcLoop* loop, wire::Raft::AsyncService* service,
                         Rules rules)
    : rules_(std::move(rules)),
      inquire_(
          loop, kArmedCalls, kMaxCalls,
          [service](auto* context, auto* request, auto* writer, auto* queue,
                    void* tag) {
            service->RequestInquire(context, request, writer, queue, queue,
                                    tag);
          },
          [this](InquirePool::Call* call) { Inquire(call); }),
      join_(
          loop, kArmedCalls, kMaxCalls,
          [service](auto* context, auto* request, auto* writer, auto* queue,
                    void* tag) {
            service->RequestJoin(context, request, writer, queue, queue, tag);
          },
          [this](JoinPool::Call* call) { Join(call); }) {}

void NodeService::Start() {
  inquire_.Start();
  join_.Start();
}

void NodeService::Release() {
  inquire_.Release();
  join_.Release();
}

void NodeService::Inquire(InquirePool::Call* call) {
  absl::Status status = CheckAddress(call->request().address());
  if (status.ok() && !rules_.inquire) {
    status = absl::UnavailableError("nobody to ask here");
  }
  if (!status.ok()) {
    call->Finish(ToGrpcStatus(status));
    return;
  }
  InquireAnswer answer = rules_.inquire(call->request().address());
  call->response().set_cluster_id(answer.cluster_id);
  call->response().set_map(std::move(answer.map));
  call->response().set_met(answer.met);
  call->Finish(grpc::Status::OK);
}

void NodeService::Join(JoinPool::Call* call) {
  const wire::JoinRequest& request = call->request();
  absl::Status status = CheckJoin(request, rules_.cluster_id);
  if (status.ok() && !rules_.join) {
    status = absl::UnavailableError("nobody to ask here");
  }
  if (status.ok() && call->overloaded()) {
    status = absl::ResourceExhaustedError("too many calls are under way");
  }
  if (!status.ok()) {
    call->Finish(ToGrpcStatus(status));
    return;
  }
  JoinCall join;
  join.cluster_id = request.cluster_id();
  join.node = raft::NodeId(request.node());
  join.address = request.address();
  join.metrics_port = static_cast<uint16_t>(request.metrics_port());
  join.http_port = static_cast<uint16_t>(request.http_port());
  rules_.join(std::move(join), [call = call->shared_from_this()](
                                   absl::StatusOr<JoinAnswer> answer) {
    if (!answer.ok()) {
      call->Finish(ToGrpcStatus(answer.status()));
      return;
    }
    call->response().set_leader(std::move(answer->leader));
    call->response().set_map(std::move(answer->map));
    call->Finish(grpc::Status::OK);
  });
}

}  // namespace kv739::server
