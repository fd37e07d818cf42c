// kv739.v1.KeyValue as a target: unary calls to the leader of the key's group.
#include <atomic>
#include <map>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/command/bench_unary.h"
#include "kv/types.h"
#include "kv739/v1/kv.grpc.pb.h"

namespace kv739::bench {
namespace {

// Trailer of unary calls that failed: a serialized v1::Error.
constexpr char kErrorTrailer[] = "kv739-error-bin";

std::optional<v1::Error> ErrorOf(const grpc::ClientContext& context) {
  const auto& trailers = context.GetServerTrailingMetadata();
  const auto found = trailers.find(kErrorTrailer);
  v1::Error error;
  if (found == trailers.end() ||
      !error.ParseFromArray(found->second.data(),
                            static_cast<int>(found->second.size()))) {
    return std::nullopt;
  }
  return error;
}

class Kv739Api {
 public:
  using PutRequest = v1::PutRequest;
  using PutResponse = v1::WriteResponse;
  using GetRequest = v1::GetRequest;
  using GetResponse = v1::GetResponse;
  using ScanRequest = v1::ScanRequest;
  using ScanResponse = v1::ScanResponse;

  // The leaders as the servers see them.
  static absl::StatusOr<std::unique_ptr<Kv739Api>> Create(
      const command::ClusterAnswers& answers);

  std::optional<int> Route(const Operation& o) {
    const int group = group_of_slot_[SlotOf(o)];
    if (group < 0) return std::nullopt;
    return groups_[group]->leader.load(std::memory_order_relaxed);
  }
  auto StartPut(int route, grpc::ClientContext* context, const PutRequest& r,
                grpc::CompletionQueue* queue) {
    return servers_[route].stub->AsyncPut(context, r, queue);
  }
  auto StartGet(int route, grpc::ClientContext* context, const GetRequest& r,
                grpc::CompletionQueue* queue) {
    return servers_[route].stub->AsyncGet(context, r, queue);
  }
  auto StartScan(int route, grpc::ClientContext* context, const ScanRequest& r,
                 grpc::CompletionQueue* queue) {
    return servers_[route].stub->AsyncScan(context, r, queue);
  }
  static bool Found(const GetResponse& response) { return response.found(); }
  static void Fill(const Operation& o, ScanRequest* request) {
    request->set_slot(o.slot);
    request->set_from(o.from);
    request->set_max_keys(o.left);
  }
  static Result PageOf(ScanResponse* response) {
    Result result;
    result.keys = static_cast<uint32_t>(response->entries_size());
    result.more = response->more() && response->next_slot() < kv::kSlotCount;
    result.slot = response->next_slot();
    result.from = std::move(*response->mutable_next_from());
    return result;
  }
  // An error that the server gives is a promise, except for UNKNOWN; one of
  // the connection is none.
  static bool MaybeApplied(const grpc::Status&,
                           const grpc::ClientContext& context) {
    const std::optional<v1::Error> error = ErrorOf(context);
    return !error.has_value() || error->code() == v1::UNKNOWN;
  }
  // The group's next operations go to the leader that the answer names, else
  // to the next member.
  void Failed(const Operation& o, int route, const grpc::Status& status,
              const grpc::ClientContext& context) {
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return;
    const std::optional<v1::Error> error = ErrorOf(context);
    Group& group = *groups_[group_of_slot_[SlotOf(o)]];
    size_t at = 0;
    while (at < group.members.size() && group.members[at] != route) ++at;
    int next = group.members[(at + 1) % group.members.size()];
    for (const int member : group.members) {
      if (error.has_value() && servers_[member].address == error->leader()) {
        next = member;
      }
    }
    int expected = route;
    group.leader.compare_exchange_strong(expected, next);
  }

 private:
  static uint32_t SlotOf(const Operation& o) {
    return o.kind == Kind::kScan ? o.slot : kv::SlotOf(o.key);
  }

  struct Server {
    std::string address;
    std::unique_ptr<v1::KeyValue::Stub> stub;
  };
  struct Group {
    std::vector<int> members;  // in servers_; at least one
    std::atomic<int> leader = 0;
  };

  std::vector<Server> servers_;
  std::vector<std::unique_ptr<Group>> groups_;
  std::vector<int> group_of_slot_ = std::vector<int>(kv::kSlotCount, -1);
};

// Who leads which group, by the highest term.
std::map<uint64_t, uint64_t> LeadersOf(const command::ClusterAnswers& answers) {
  std::map<uint64_t, uint64_t> leaders;
  std::map<uint64_t, uint64_t> terms;
  for (const command::ServerAnswer& answer : answers.servers) {
    if (!answer.status.ok()) continue;
    for (const v1::ReplicaStatus& replica : answer.response.replicas()) {
      if (replica.role() != v1::LEADER) continue;
      if (replica.term() < terms[replica.group()]) continue;
      terms[replica.group()] = replica.term();
      leaders[replica.group()] = answer.response.node();
    }
  }
  return leaders;
}

absl::StatusOr<std::unique_ptr<Kv739Api>> Kv739Api::Create(
    const command::ClusterAnswers& answers) {
  if (!answers.map.has_value()) {
    std::string why = "no server answers";
    for (const command::ServerAnswer& answer : answers.servers) {
      absl::StrAppend(&why, "; ", answer.address, ": ",
                      answer.status.message());
    }
    return absl::UnavailableError(why);
  }
  auto api = std::make_unique<Kv739Api>();
  std::map<uint64_t, int> server_of;
  for (const v1::Node& node : answers.map->nodes()) {
    server_of[node.id()] = static_cast<int>(api->servers_.size());
    api->servers_.push_back(
        {node.address(), v1::KeyValue::NewStub(ConnectTo(node.address()))});
  }
  const std::map<uint64_t, uint64_t> leaders = LeadersOf(answers);
  std::map<uint64_t, int> group_of;
  for (const v1::Group& group : answers.map->groups()) {
    const auto leader = leaders.find(group.id());
    if (leader == leaders.end() || server_of.count(leader->second) == 0) {
      return absl::UnavailableError(
          absl::StrCat("group ", group.id(), " has no leader"));
    }
    auto members = std::make_unique<Group>();
    for (const uint64_t id : group.members()) {
      if (server_of.count(id) > 0) members->members.push_back(server_of[id]);
    }
    members->leader = server_of[leader->second];
    if (members->members.empty()) members->members = {members->leader};
    group_of[group.id()] = static_cast<int>(api->groups_.size());
    api->groups_.push_back(std::move(members));
  }
  for (const v1::SlotRange& range : answers.map->slots()) {
    const auto group = group_of.find(range.group());
    if (group == group_of.end()) continue;
    for (uint32_t slot = range.first();
         slot <= range.last() && slot < kv::kSlotCount; ++slot) {
      api->group_of_slot_[slot] = group->second;
    }
  }
  return api;
}

}  // namespace

absl::StatusOr<std::unique_ptr<AsyncTarget>> NewUnaryTarget(
    command::ClusterClient* cluster, absl::Duration timeout, int in_flight) {
  absl::StatusOr<std::unique_ptr<Kv739Api>> api =
      Kv739Api::Create(cluster->Ask(timeout));
  if (!api.ok()) return api.status();
  return std::make_unique<UnaryTarget<Kv739Api>>(*std::move(api), timeout,
                                                 in_flight);
}

}  // namespace kv739::bench
