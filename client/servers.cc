#include "client/servers.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/node_stream.h"
#include "client/wire.h"
#include "kv739/v1/cluster.grpc.pb.h"

namespace kv739::client {
namespace {

// Servers that an error lists.
constexpr size_t kMaxListed = 20;

template <typename Response>
struct Asked {
  std::string address;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Response>> rpc;
  Response response;
  grpc::Status status;
};

// One question to many servers at once; returns when all have ended.
template <typename Response, typename Ask>
std::vector<std::unique_ptr<Asked<Response>>> AskAll(
    Servers* servers, const std::vector<std::string>& addresses, Ask ask) {
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<Asked<Response>>> all;
  for (const std::string& address : addresses) {
    auto asked = std::make_unique<Asked<Response>>();
    asked->address = address;
    servers->Limit(kAskTimeout, &asked->context);
    const auto stub = v1::Cluster::NewStub(servers->To(address));
    asked->rpc = ask(stub.get(), &asked->context, &queue);
    asked->rpc->Finish(&asked->response, &asked->status, asked.get());
    all.push_back(std::move(asked));
  }
  void* tag = nullptr;
  bool ok = false;
  for (size_t i = 0; i < all.size(); ++i) queue.Next(&tag, &ok);
  queue.Shutdown();
  while (queue.Next(&tag, &ok)) {
  }
  return all;
}

}  // namespace

std::shared_ptr<grpc::Channel> Servers::To(const std::string& address) {
  std::shared_ptr<grpc::Channel>& channel = channels_[address];
  if (channel == nullptr) {
    channel = grpc::CreateCustomChannel(ChannelTarget(address),
                                        grpc::InsecureChannelCredentials(),
                                        ChannelSettings());
  }
  return channel;
}

void Servers::Limit(std::chrono::milliseconds at_most,
                    grpc::ClientContext* context) const {
  context->set_deadline(std::min(Clock::now() + at_most, deadline_));
}

bool Servers::Refresh() {
  const auto all = AskAll<v1::GetMapResponse>(
      this, MapSources(map_, client_->file_map()),
      [](v1::Cluster::Stub* stub, grpc::ClientContext* context,
         grpc::CompletionQueue* queue) {
        return stub->AsyncGetMap(context, {}, queue);
      });
  std::vector<uint64_t> clusters;
  for (const auto& asked : all) {
    if (!asked->status.ok()) continue;
    std::unique_ptr<kv::ClusterMap> map = ReadMap(asked->response);
    if (map == nullptr) continue;
    clusters.push_back(map->cluster_id);
    client_->LearnMap(*std::move(map));
  }
  map_ = client_->KnownMap();
  return std::count(clusters.begin(), clusters.end(), map_.cluster_id) > 0;
}

std::map<std::string, v1::GetStatusResponse> Servers::Statuses(
    const std::vector<std::string>& addresses, size_t* silent) {
  if (silent != nullptr) *silent = 0;
  std::map<std::string, v1::GetStatusResponse> statuses;
  for (const auto& asked : AskAll<v1::GetStatusResponse>(
           this, addresses,
           [](v1::Cluster::Stub*stub, grpc::ClientContext*context,
              grpc::CompletionQueue*queue) {
             return stub->AsyncGetStatus(context, {}, queue);
           })) {
    if (asked->status.ok()) {
      statuses[asked->address] = std::move(asked->response);
    } else if (silent != nullptr &&
               asked->status.error_code() != grpc::StatusCode::UNAVAILABLE) {
      ++*silent;
    }
  }
  return statuses;
}

bool Servers::Pause() {
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
      deadline_ - Clock::now());
  if (left.count() <= 0) return false;
  closed_ = !client_->PauseFor(std::min(left, next_look_));
  next_look_ = std::min(next_look_ * 2, kLastLook);
  return !closed_;
}

int Servers::GiveUp(const std::string& waiting, std::string* message) const {
  if (closed_) {
    *message = absl::StrCat("the client was closed: ", waiting);
    return KV739_E_CLOSED;
  }
  *message = absl::StrCat("not done within ", timeout_ms_, " ms: ", waiting);
  return KV739_E_UNKNOWN;
}

int UnknownServer(const std::string& server, const kv::ClusterMap& map,
                  std::string* message) {
  std::vector<std::string> known;
  for (const kv::NodeInfo& node : map.nodes) {
    if (node.state == kv::NodeState::kLeft) continue;
    if (known.size() == kMaxListed) {
      known.push_back("...");
      break;
    }
    known.push_back(node.address.ToString());
  }
  *message = absl::StrCat("no server \"", server, "\" in the cluster; it has ",
                          absl::StrJoin(known, ", "));
  return KV739_E_INVALID;
}

int Refusal(const std::string& server, const grpc::Status& status,
            std::string* message) {
  *message = absl::StrCat("server ", server, ": ", status.error_message());
  switch (status.error_code()) {
    case grpc::StatusCode::PERMISSION_DENIED:
      return KV739_E_DENIED;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
      return KV739_E_INVALID;
    case grpc::StatusCode::UNAVAILABLE:
      return KV739_E_UNAVAILABLE;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return KV739_E_UNKNOWN;
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::ALREADY_EXISTS:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
    case grpc::StatusCode::UNIMPLEMENTED:
      return KV739_E_REFUSED;
    default:
      return KV739_E_INTERNAL;
  }
}

bool IsPassing(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::DEADLINE_EXCEEDED:
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::CANCELLED:
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return true;
    default:
      return false;
  }
}

}  // namespace kv739::client
