// etcd's v3 API as a target.
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/command/bench_unary.h"
#include "etcd.grpc.pb.h"

namespace kv739::bench {
namespace {

class EtcdApi {
 public:
  using PutRequest = etcdserverpb::PutRequest;
  using PutResponse = etcdserverpb::PutResponse;
  using GetRequest = etcdserverpb::RangeRequest;
  using GetResponse = etcdserverpb::RangeResponse;
  using ScanRequest = etcdserverpb::RangeRequest;
  using ScanResponse = etcdserverpb::RangeResponse;

  explicit EtcdApi(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(etcdserverpb::KV::NewStub(channel)) {}

  static std::optional<int> Route(const Operation&) { return 0; }
  auto StartPut(int, grpc::ClientContext* context, const PutRequest& request,
                grpc::CompletionQueue* queue) {
    return stub_->AsyncPut(context, request, queue);
  }
  auto StartGet(int, grpc::ClientContext* context, const GetRequest& request,
                grpc::CompletionQueue* queue) {
    return stub_->AsyncRange(context, request, queue);
  }
  auto StartScan(int route, grpc::ClientContext* context,
                 const ScanRequest& request, grpc::CompletionQueue* queue) {
    return StartGet(route, context, request, queue);
  }
  static void Fill(const Operation& o, ScanRequest* request) {
    request->set_key(o.from);
    request->set_range_end(std::string(1, '\0'));  // to the last key
    request->set_limit(o.left);
  }
  // All that there is, up to the limit.
  static Result PageOf(ScanResponse* response) {
    Result result;
    result.keys = static_cast<uint32_t>(response->kvs_size());
    return result;
  }
  static bool Found(const GetResponse& response) {
    return response.kvs_size() > 0;
  }
  // etcd reports writes that it has proposed and lost sight of under several
  // codes; these are about requests that it did not take.
  static bool MaybeApplied(const grpc::Status& status,
                           const grpc::ClientContext&) {
    switch (status.error_code()) {
      case grpc::StatusCode::INVALID_ARGUMENT:
      case grpc::StatusCode::RESOURCE_EXHAUSTED:
      case grpc::StatusCode::FAILED_PRECONDITION:
      case grpc::StatusCode::PERMISSION_DENIED:
      case grpc::StatusCode::UNAUTHENTICATED:
      case grpc::StatusCode::UNIMPLEMENTED:
        return false;
      default:
        return true;
    }
  }
  static void Failed(const Operation&, int, const grpc::Status&,
                     const grpc::ClientContext&) {}

 private:
  const std::unique_ptr<etcdserverpb::KV::Stub> stub_;
};

}  // namespace

absl::StatusOr<EtcdTarget> NewEtcdTarget(
    const std::vector<std::string>& endpoints, absl::Duration timeout,
    int in_flight) {
  std::shared_ptr<grpc::Channel> chosen;
  EtcdTarget target;
  std::string why = "no etcd endpoint answers";
  for (const std::string& endpoint : endpoints) {
    std::shared_ptr<grpc::Channel> channel = ConnectTo(endpoint);
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
    etcdserverpb::StatusResponse response;
    const grpc::Status status =
        etcdserverpb::Maintenance::NewStub(channel)->Status(&context, {},
                                                            &response);
    if (!status.ok()) {
      absl::StrAppend(
          &why, "; ", endpoint, ": ",
          command::Shorten(
              absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                           status.error_message()),
              timeout)
              .message());
      continue;
    }
    const bool leads = response.leader() == response.header().member_id();
    if (chosen == nullptr || leads) {
      chosen = std::move(channel);
      target.endpoint = endpoint;
      target.version = response.version();
    }
    if (leads) break;
  }
  if (chosen == nullptr) return absl::UnavailableError(why);
  target.target = std::make_unique<UnaryTarget<EtcdApi>>(
      std::make_unique<EtcdApi>(chosen), timeout, in_flight);
  return target;
}

}  // namespace kv739::bench
