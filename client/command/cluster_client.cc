#include "client/command/cluster_client.h"

#include <grpcpp/client_context.h>
#include <grpcpp/completion_queue.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "kv739/v1/cluster.grpc.pb.h"

namespace kv739::command {
namespace {

// Servers that are asked, one naming the next, for the directory's leader.
constexpr int kMaxHops = 4;

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

void SetDeadline(absl::Duration timeout, grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

// Both questions to one server, in flight at the same time.
struct Question {
  std::unique_ptr<v1::Cluster::Stub> stub;
  grpc::ClientContext status_context;
  grpc::ClientContext map_context;
  v1::GetStatusRequest status_request;
  v1::GetMapRequest map_request;
  v1::GetStatusResponse status_response;
  v1::GetMapResponse map_response;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::GetStatusResponse>>
      status_call;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::GetMapResponse>> map_call;
  grpc::Status status;
  grpc::Status map_status;
};

}  // namespace

absl::Status Shorten(const absl::Status& status, absl::Duration timeout) {
  if (status.ok()) return status;
  if (absl::IsDeadlineExceeded(status)) {
    return absl::Status(
        status.code(),
        absl::StrCat("no answer within ", absl::FormatDuration(timeout)));
  }
  if (!absl::IsUnavailable(status)) return status;
  // gRPC strings its layers together with colons, the cause comes last.
  absl::string_view message = status.message();
  const size_t colon = message.rfind(": ");
  if (colon != absl::string_view::npos) message.remove_prefix(colon + 2);
  std::string words(message);
  if (words.size() > 1 && absl::ascii_isupper(words[0]) &&
      absl::ascii_islower(words[1])) {
    words[0] = absl::ascii_tolower(words[0]);
  }
  return absl::Status(status.code(), words);
}

std::shared_ptr<grpc::Channel> ClusterClient::ChannelTo(
    const std::string& address) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    grpc::ChannelArguments arguments;
    // Servers are named by us, not by the environment's proxies; and a server
    // that comes back is seen at once, not after a long back-off.
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    // Also how long one attempt to connect may take: longer than any question
    // here, so that it is the question's deadline that ends the wait.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 10'000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
    channel = grpc::CreateCustomChannel(
        address, grpc::InsecureChannelCredentials(), arguments);
  }
  return channel;
}

void ClusterClient::AskServers(absl::Duration each,
                               std::vector<ServerAnswer>* servers,
                               std::optional<v1::GetMapResponse>* map) {
  std::vector<Question> questions(servers->size());
  // Not the callback API: it would leave threads behind that go on polling, and
  // would take turns with those of a benchmark in this process.
  grpc::CompletionQueue queue;
  for (size_t i = 0; i < questions.size(); ++i) {
    Question& q = questions[i];
    q.stub = v1::Cluster::NewStub(ChannelTo((*servers)[i].address));
    SetDeadline(each, &q.status_context);
    SetDeadline(each, &q.map_context);
    q.status_call =
        q.stub->AsyncGetStatus(&q.status_context, q.status_request, &queue);
    q.status_call->Finish(&q.status_response, &q.status, &q);
    q.map_call = q.stub->AsyncGetMap(&q.map_context, q.map_request, &queue);
    q.map_call->Finish(&q.map_response, &q.map_status, &q);
  }
  void* tag = nullptr;
  bool ok = false;
  for (size_t open = 2 * questions.size(); open > 0; --open) {
    queue.Next(&tag, &ok);
  }
  for (size_t i = 0; i < questions.size(); ++i) {
    Question& q = questions[i];
    (*servers)[i].status = Shorten(FromGrpc(q.status), each);
    // Nobody polls between two questions, so this channel would not notice that
    // the server is back.
    if (absl::IsUnavailable((*servers)[i].status)) {
      absl::MutexLock lock(&mutex_);
      channels_.erase((*servers)[i].address);
    }
    (*servers)[i].response.Swap(&q.status_response);
    if (q.map_status.ok() &&
        (!map->has_value() || q.map_response.epoch() > (*map)->epoch())) {
      *map = std::move(q.map_response);
    }
  }
}

ClusterAnswers ClusterClient::Ask(absl::Duration each) {
  ClusterAnswers answers;
  std::set<std::string> asked;
  for (const kv::ServerLine& line : file_.servers) {
    const std::string address = line.address.ToString();
    answers.servers.push_back({address, absl::OkStatus(), {}});
    asked.insert(address);
  }
  AskServers(each, &answers.servers, &answers.map);
  if (!answers.map.has_value()) return answers;

  std::vector<ServerAnswer> more;
  for (const v1::Node& node : answers.map->nodes()) {
    if (node.state() == v1::LEFT) continue;
    if (asked.insert(node.address()).second) {
      more.push_back({node.address(), absl::OkStatus(), {}});
    }
  }
  if (!more.empty()) {
    AskServers(each, &more, &answers.map);
    std::move(more.begin(), more.end(), std::back_inserter(answers.servers));
  }
  return answers;
}

absl::Status ClusterClient::Ping(const std::string& address,
                                 absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(timeout, &context);
  v1::GetStatusResponse response;
  const std::unique_ptr<v1::Cluster::Stub> stub =
      v1::Cluster::NewStub(ChannelTo(address));
  return Shorten(FromGrpc(stub->GetStatus(&context, {}, &response)), timeout);
}

absl::StatusOr<std::string> ClusterClient::TransferLeader(
    const std::string& leader, uint64_t group, const std::string& target,
    absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(timeout, &context);
  v1::TransferLeaderRequest request;
  request.set_group(group);
  request.set_target(target);
  v1::TransferLeaderResponse response;
  const std::unique_ptr<v1::Admin::Stub> stub =
      v1::Admin::NewStub(ChannelTo(leader));
  const absl::Status status =
      FromGrpc(stub->TransferLeader(&context, request, &response));
  if (!status.ok()) return Shorten(status, timeout);
  return response.leader();
}

absl::Status ClusterClient::SetMembers(const std::string& first,
                                       const v1::SetMembersRequest& request,
                                       absl::Duration timeout) {
  std::string at = first;
  for (int hop = 0; hop < kMaxHops; ++hop) {
    grpc::ClientContext context;
    SetDeadline(timeout, &context);
    v1::SetMembersResponse response;
    const std::unique_ptr<v1::Admin::Stub> stub =
        v1::Admin::NewStub(ChannelTo(at));
    const absl::Status status =
        FromGrpc(stub->SetMembers(&context, request, &response));
    if (!status.ok()) return Shorten(status, timeout);
    if (response.epoch() != 0) return absl::OkStatus();
    if (response.leader().empty() || response.leader() == at) break;
    at = response.leader();
  }
  return absl::UnavailableError("group 0, which has the map, has no leader");
}

absl::StatusOr<v1::CheckResponse> ClusterClient::Check(
    const std::string& leader, const v1::CheckRequest& request,
    absl::Duration timeout) {
  grpc::ClientContext context;
  SetDeadline(timeout, &context);
  v1::CheckResponse response;
  const std::unique_ptr<v1::Admin::Stub> stub =
      v1::Admin::NewStub(ChannelTo(leader));
  const absl::Status status =
      FromGrpc(stub->Check(&context, request, &response));
  if (!status.ok()) return Shorten(status, timeout);
  return response;
}

}  // namespace kv739::command
