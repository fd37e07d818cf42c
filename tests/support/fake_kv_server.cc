#include "tests/support/fake_kv_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kv739::testing {

Reaction ErrorReaction(v1::ErrorCode code, const std::string& leader,
                       uint64_t map_epoch) {
  Reaction reaction;
  reaction.what = Reaction::kError;
  reaction.error.set_code(code);
  reaction.error.set_message("scripted");
  reaction.error.set_leader(leader);
  reaction.error.set_map_epoch(map_epoch);
  return reaction;
}

// The writing side of one stream; written to by its handler and by Release().
struct FakeCluster::Stream {
  using Rpc = grpc::ServerReaderWriter<v1::ResultBatch, v1::OperationBatch>;

  std::mutex mutex;
  Rpc* rpc ABSL_GUARDED_BY(mutex) = nullptr;  // nullptr: it has ended

  void Write(const v1::ResultBatch& batch) {
    const std::lock_guard lock(mutex);
    if (rpc != nullptr) rpc->Write(batch);
  }
};

struct FakeCluster::Held {
  std::shared_ptr<Stream> stream;
  v1::OperationResult result;
};

class FakeCluster::Node final : public v1::KeyValue::Service,
                                public v1::Cluster::Service,
                                public v1::Admin::Service {
 public:
  Node(FakeCluster* cluster, int index) : cluster_(cluster), index_(index) {}
  ~Node() override {
    Stop();
    close(reserved_);
  }

  // On the port that it had before, or on a free one.
  void Start() {
    const std::lock_guard lock(mutex_);
    if (port_ == 0) ReservePort();
    grpc::ServerBuilder builder;
    builder.AddListeningPort(absl::StrCat("127.0.0.1:", port_),
                             grpc::InsecureServerCredentials());
    builder.SetMaxReceiveMessageSize(16 << 20);
    // As kv739d: clients look every 10 s whether it is still there.
    builder.AddChannelArgument(
        GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 4'000);
    builder.RegisterService(static_cast<v1::KeyValue::Service*>(this));
    builder.RegisterService(static_cast<v1::Cluster::Service*>(this));
    builder.RegisterService(static_cast<v1::Admin::Service*>(this));
    server_ = builder.BuildAndStart();
    Check(server_ != nullptr);
  }

  void Stop() {
    const std::lock_guard lock(mutex_);
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
    server_ = nullptr;
  }

  int port() const { return port_; }

  grpc::Status Stream(grpc::ServerContext*,
                      FakeCluster::Stream::Rpc* rpc) override {
    const auto stream = std::make_shared<FakeCluster::Stream>();
    {
      const std::lock_guard lock(stream->mutex);
      stream->rpc = rpc;
    }
    grpc::Status status;
    v1::OperationBatch batch;
    while (rpc->Read(&batch)) {
      if (!cluster_->Handle(index_, batch, stream)) {
        status = grpc::Status(grpc::StatusCode::UNAVAILABLE, "dropped");
        break;
      }
    }
    const std::lock_guard lock(stream->mutex);
    stream->rpc = nullptr;
    return status;
  }

  grpc::Status GetMap(grpc::ServerContext*, const v1::GetMapRequest*,
                      v1::GetMapResponse* response) override {
    *response = cluster_->MapResponse(index_);
    return grpc::Status::OK;
  }

  grpc::Status GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                         v1::GetStatusResponse* response) override {
    *response = cluster_->StatusResponse(index_);
    return grpc::Status::OK;
  }

  grpc::Status RemoveServer(grpc::ServerContext*,
                            const v1::RemoveServerRequest* request,
                            v1::RemoveServerResponse* response) override {
    return cluster_->Remove(index_, *request, response);
  }

  grpc::Status StartServer(grpc::ServerContext*,
                           const v1::StartServerRequest* request,
                           v1::StartServerResponse* response) override {
    Starter starter;
    {
      const std::lock_guard lock(cluster_->mutex_);
      starter = cluster_->starter_;
    }
    if (starter) return starter(index_, *request, response);
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION,
                        "without a supervisor");
  }

  grpc::Status Die(grpc::ServerContext*, const v1::DieRequest*,
                   v1::DieResponse*) override {
    const std::lock_guard lock(cluster_->mutex_);
    if (cluster_->refuse_die_) {
      return grpc::Status(grpc::StatusCode::PERMISSION_DENIED, "not from here");
    }
    // The answer must be out before the server waits for its handlers.
    cluster_->stoppers_.emplace_back([this] { Stop(); });
    return grpc::Status::OK;
  }

 private:
  static void Check(bool ok) {
    if (ok) return;
    perror("the fake server cannot listen");
    abort();
  }

  // A socket that is bound and does not listen keeps the port from others
  // while the server is stopped; connections are refused then.
  void ReservePort() {
    reserved_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(reserved_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    Check(bind(reserved_, raw, size) == 0 &&
          getsockname(reserved_, raw, &size) == 0);
    port_ = ntohs(address.sin_port);
  }

  FakeCluster* const cluster_;
  const int index_;
  int reserved_ = -1;
  std::mutex mutex_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_ ABSL_GUARDED_BY(mutex_);
};

FakeCluster::FakeCluster(int count) {
  kv::ClusterFile file;
  char path[] = "/tmp/kv739-fake-XXXXXX";
  close(mkstemp(path));
  config_file_ = path;
  std::ofstream out(config_file_);
  for (int i = 0; i < count; ++i) {
    nodes_.push_back(std::make_unique<Node>(this, i));
    nodes_.back()->Start();
    addresses_.push_back(absl::StrCat("127.0.0.1:", nodes_.back()->port()));
    out << addresses_.back() << "\n";
  }
  out.close();
  const std::lock_guard lock(mutex_);
  map_ = kv::InitialClusterMap(*kv::ReadClusterFile(config_file_));
  for (size_t i = 0; i < map_.groups.size(); ++i) {
    leaders_[map_.groups[i].id.value()] = static_cast<int>(i) * 5;
  }
}

FakeCluster::~FakeCluster() {
  std::vector<std::thread> stoppers;
  {
    const std::lock_guard lock(mutex_);
    stoppers.swap(stoppers_);
  }
  for (std::thread& thread : stoppers) thread.join();
  for (const auto& node : nodes_) node->Stop();
  unlink(config_file_.c_str());
}

std::string FakeCluster::address(int server) const {
  return addresses_[server];
}

kv::ClusterMap FakeCluster::map() {
  const std::lock_guard lock(mutex_);
  return map_;
}

void FakeCluster::SetScript(Script script) {
  const std::lock_guard lock(mutex_);
  script_ = std::move(script);
}

void FakeCluster::SetLeader(raft::GroupId group, int server) {
  const std::lock_guard lock(mutex_);
  leaders_[group.value()] = server;
}

void FakeCluster::SetMap(kv::ClusterMap map) {
  const std::lock_guard lock(mutex_);
  map_ = std::move(map);
}

void FakeCluster::Stop(int server) { nodes_[server]->Stop(); }
void FakeCluster::Start(int server) { nodes_[server]->Start(); }

void FakeCluster::Release() {
  std::vector<Held> held;
  {
    const std::lock_guard lock(mutex_);
    held.swap(held_);
  }
  std::map<std::shared_ptr<Stream>, v1::ResultBatch> batches;
  for (Held& h : held) {
    *batches[h.stream].add_results() = std::move(h.result);
  }
  for (const auto& [stream, batch] : batches) stream->Write(batch);
}

void FakeCluster::ForgetSessions() {
  const std::lock_guard lock(mutex_);
  sessions_.clear();
}

void FakeCluster::RefuseDie(bool refuse) {
  const std::lock_guard lock(mutex_);
  refuse_die_ = refuse;
}

void FakeCluster::RefuseRemoval(const std::string& why) {
  const std::lock_guard lock(mutex_);
  refuse_removal_ = why;
}

void FakeCluster::SetMapsUntilLeft(int maps) {
  const std::lock_guard lock(mutex_);
  maps_until_left_ = maps;
}

void FakeCluster::SetApplied(int server, uint64_t applied) {
  const std::lock_guard lock(mutex_);
  applied_[server] = applied;
}

void FakeCluster::SetHealthy(int server, bool healthy) {
  const std::lock_guard lock(mutex_);
  unhealthy_[server] = !healthy;
}

void FakeCluster::SetStarter(Starter starter) {
  const std::lock_guard lock(mutex_);
  starter_ = std::move(starter);
}

std::map<int, int> FakeCluster::asked() {
  const std::lock_guard lock(mutex_);
  return asked_;
}

std::vector<Seen> FakeCluster::seen() {
  const std::lock_guard lock(mutex_);
  return seen_;
}

void FakeCluster::AwaitSeen(size_t count) {
  std::unique_lock lock(mutex_);
  seen_more_.wait(lock, [&] { return seen_.size() >= count; });
}

uint64_t FakeCluster::messages() {
  const std::lock_guard lock(mutex_);
  return messages_;
}

uint64_t FakeCluster::operations() {
  const std::lock_guard lock(mutex_);
  return seen_.size();
}

int FakeCluster::map_fetches() {
  const std::lock_guard lock(mutex_);
  return map_fetches_;
}

int FakeCluster::writes(const std::string& key) {
  const std::lock_guard lock(mutex_);
  auto it = data_.find(key);
  return it == data_.end() ? 0 : it->second.writes;
}

std::optional<std::string> FakeCluster::value(const std::string& key) {
  const std::lock_guard lock(mutex_);
  auto it = data_.find(key);
  if (it == data_.end()) return std::nullopt;
  return it->second.value;
}

void FakeCluster::SetValue(const std::string& key, const std::string& value) {
  const std::lock_guard lock(mutex_);
  data_[key] = {value, next_version_++, 0};
}

std::string FakeCluster::violation() {
  const std::lock_guard lock(mutex_);
  return violation_;
}

// ---- what servers do ----

v1::GetMapResponse FakeCluster::MapResponse(int server) {
  const std::lock_guard lock(mutex_);
  ++map_fetches_;
  ++asked_[server];
  FinishRemovals();
  v1::GetMapResponse response;
  response.set_cluster_id(map_.cluster_id);
  response.set_epoch(map_.epoch);
  for (const kv::NodeInfo& node : map_.nodes) {
    v1::Node* out = response.add_nodes();
    out->set_id(node.id.value());
    out->set_address(node.address.ToString());
    out->set_state(static_cast<v1::NodeState>(node.state));
  }
  for (const kv::GroupInfo& group : map_.groups) {
    v1::Group* out = response.add_groups();
    out->set_id(group.id.value());
    for (raft::NodeId member : group.members) out->add_members(member.value());
    for (raft::NodeId member : group.target) out->add_target(member.value());
  }
  for (uint32_t slot = 0; slot < kv::kSlotCount; ++slot) {
    v1::SlotRange* out = response.add_slots();
    out->set_first(slot);
    out->set_last(slot);
    out->set_group(map_.slots[slot].value());
  }
  return response;
}

void FakeCluster::FinishRemovals() {
  if (maps_until_left_ < 0) return;
  for (kv::NodeInfo& node : map_.nodes) {
    if (node.state != kv::NodeState::kLeaving) continue;
    if (maps_until_left_-- > 0) return;
    node.state = kv::NodeState::kLeft;
    for (kv::GroupInfo& group : map_.groups) std::erase(group.members, node.id);
    ++map_.epoch;
  }
}

v1::GetStatusResponse FakeCluster::StatusResponse(int server) {
  constexpr uint64_t kCommitted = 100;
  const std::lock_guard lock(mutex_);
  ++asked_[server];
  v1::GetStatusResponse response;
  const auto address = kv::Address::Parse(addresses_[server]);
  const kv::NodeInfo* node = map_.FindNode(*address);
  response.set_cluster_id(map_.cluster_id);
  response.set_node(node == nullptr ? 0xdead : node->id.value());
  response.set_address(addresses_[server]);
  response.set_healthy(!unhealthy_[server]);
  if (node == nullptr) return response;
  for (const kv::GroupInfo& group : map_.groups) {
    if (!group.Concerns(node->id)) continue;
    v1::ReplicaStatus* replica = response.add_replicas();
    replica->set_group(group.id.value());
    if (leaders_[group.id.value()] == server) replica->set_role(v1::LEADER);
    replica->set_commit(kCommitted);
    replica->set_applied(applied_.contains(server) ? applied_[server]
                                                   : kCommitted);
  }
  return response;
}

grpc::Status FakeCluster::Remove(int server,
                                 const v1::RemoveServerRequest& request,
                                 v1::RemoveServerResponse* response) {
  const std::lock_guard lock(mutex_);
  if (leaders_[0] != server) {
    if (leaders_[0] >= 0) response->set_leader(addresses_[leaders_[0]]);
    return grpc::Status::OK;
  }
  if (!refuse_removal_.empty()) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, refuse_removal_);
  }
  for (kv::NodeInfo& node : map_.nodes) {
    if (node.address.ToString() != request.server()) continue;
    node.state = kv::NodeState::kLeaving;
    for (kv::GroupInfo& group : map_.groups) std::erase(group.target, node.id);
    response->set_epoch(++map_.epoch);
    return grpc::Status::OK;
  }
  return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such server");
}

namespace {

const v1::WriteId* IdOf(const v1::Operation& operation) {
  switch (operation.kind_case()) {
    case v1::Operation::kPut:
      return &operation.put().id();
    case v1::Operation::kDelete:
      return &operation.delete_().id();
    case v1::Operation::kAppend:
      return &operation.append().id();
    case v1::Operation::kCompareAndSwap:
      return &operation.compare_and_swap().id();
    default:
      return nullptr;
  }
}

std::string KeyOf(const v1::Operation& operation) {
  switch (operation.kind_case()) {
    case v1::Operation::kGet:
      return operation.get().key();
    case v1::Operation::kPut:
      return operation.put().key();
    case v1::Operation::kDelete:
      return operation.delete_().key();
    case v1::Operation::kAppend:
      return operation.append().key();
    case v1::Operation::kCompareAndSwap:
      return operation.compare_and_swap().key();
    default:
      return "";
  }
}

}  // namespace

Seen FakeCluster::Look(int server, const v1::Operation& operation) {
  Seen seen;
  seen.server = server;
  seen.kind = operation.kind_case();
  seen.key = KeyOf(operation);
  if (const v1::WriteId* id = IdOf(operation)) {
    seen.session = id->session();
    seen.sequence = id->sequence();
    seen.floor = id->floor();
  }
  if (operation.has_scan()) {
    seen.key = operation.scan().from();
    seen.group = map_.OwnerOf(static_cast<kv::Slot>(operation.scan().slot()));
    return seen;
  }
  seen.group = operation.has_open_session()
                   ? raft::GroupId(operation.open_session().group())
                   : map_.OwnerOf(kv::SlotOf(seen.key));
  return seen;
}

bool FakeCluster::Handle(int server, const v1::OperationBatch& batch,
                         const std::shared_ptr<Stream>& stream) {
  v1::ResultBatch answers;
  bool keep = true;
  {
    const std::lock_guard lock(mutex_);
    ++messages_;
    answers.set_map_epoch(map_.epoch);
    for (const v1::Operation& operation : batch.operations()) {
      const Seen seen = Look(server, operation);
      seen_.push_back(seen);
      seen_more_.notify_all();
      const Reaction reaction = script_ ? script_(seen) : Reaction{};
      v1::OperationResult result;
      switch (reaction.what) {
        case Reaction::kError:
          *result.mutable_error() = reaction.error;
          break;
        case Reaction::kDrop:
          keep = false;
          continue;
        case Reaction::kSilent:
          continue;
        default:
          result = Do(seen, operation);
      }
      result.set_tag(operation.tag());
      if (reaction.what == Reaction::kApplyAndDrop) keep = false;
      if (reaction.what == Reaction::kHold) held_.push_back({stream, result});
      if (reaction.what == Reaction::kHonest ||
          reaction.what == Reaction::kError) {
        *answers.add_results() = std::move(result);
      }
    }
  }
  if (keep && answers.results_size() > 0) stream->Write(answers);
  return keep;
}

v1::ScanResponse FakeCluster::DoScan(const v1::ScanRequest& request) {
  constexpr int kMostKeys = 10;
  using Place = std::pair<uint32_t, std::string>;
  std::map<Place, const Entry*> places;
  for (const auto& [key, entry] : data_) {
    places[{kv::SlotOf(key), key}] = &entry;
  }
  v1::ScanResponse page;
  const int most = request.max_keys() == 0
                       ? kMostKeys
                       : std::min<int>(kMostKeys, request.max_keys());
  const raft::GroupId group =
      map_.OwnerOf(static_cast<kv::Slot>(request.slot()));
  uint32_t end = request.slot();
  while (end < kv::kSlotCount &&
         map_.OwnerOf(static_cast<kv::Slot>(end)) == group) {
    ++end;
  }
  page.set_more(end < kv::kSlotCount);
  page.set_next_slot(end);
  for (auto it = places.lower_bound({request.slot(), request.from()});
       it != places.end() && it->first.first < end; ++it) {
    const auto& [place, entry] = *it;
    if (!absl::StartsWith(place.second, request.prefix())) continue;
    if (page.entries_size() == most) {
      page.set_more(true);
      page.set_next_slot(place.first);
      page.set_next_from(place.second);
      break;
    }
    v1::ScanResponse::Entry* to = page.add_entries();
    to->set_key(place.second);
    if (!request.keys_only()) to->set_value(entry->value);
    to->set_version(entry->version);
  }
  return page;
}

v1::OperationResult FakeCluster::Do(const Seen& seen,
                                    const v1::Operation& operation) {
  v1::OperationResult result;
  const kv::GroupInfo* group = map_.FindGroup(seen.group);
  const kv::NodeInfo& node = map_.nodes[seen.server];
  bool member = false;
  for (raft::NodeId id : group->members) member = member || id == node.id;
  const int leader = leaders_[seen.group.value()];
  if (!member || leader != seen.server) {
    result.mutable_error()->set_code(member ? v1::NOT_LEADER : v1::WRONG_GROUP);
    result.mutable_error()->set_map_epoch(map_.epoch);
    if (member && leader >= 0) {
      result.mutable_error()->set_leader(addresses_[leader]);
    }
    return result;
  }
  if (operation.has_open_session()) {
    const uint64_t id = next_session_++;
    sessions_[seen.group.value()][id];
    result.mutable_open_session()->set_session(id);
  } else if (operation.has_scan()) {
    *result.mutable_scan() = DoScan(operation.scan());
  } else if (operation.has_get()) {
    auto it = data_.find(seen.key);
    v1::GetResponse* get = result.mutable_get();
    if (it != data_.end()) {
      get->set_found(true);
      get->set_value(it->second.value);
      get->set_version(it->second.version);
    }
  } else {
    return DoWrite(seen, operation);
  }
  return result;
}

v1::OperationResult FakeCluster::DoWrite(const Seen& seen,
                                         const v1::Operation& operation) {
  v1::OperationResult result;
  auto& sessions = sessions_[seen.group.value()];
  auto session = sessions.find(seen.session);
  if (session == sessions.end()) {
    result.mutable_error()->set_code(v1::SESSION_UNKNOWN);
    return result;
  }
  Session& known = session->second;
  if (seen.floor > seen.sequence || seen.sequence == 0) {
    violation_ =
        absl::StrCat("floor ", seen.floor, " above sequence ", seen.sequence);
  }
  known.floor = std::max(known.floor, seen.floor);
  known.answers.erase(known.answers.begin(),
                      known.answers.lower_bound(known.floor));
  if (seen.sequence < known.floor || seen.sequence > known.floor + 8192) {
    result.mutable_error()->set_code(v1::SEQUENCE_REFUSED);
    return result;
  }
  if (auto first = known.answers.find(seen.sequence);
      first != known.answers.end()) {
    *result.mutable_write() = first->second;
    return result;
  }
  v1::WriteResponse* write = result.mutable_write();
  auto it = data_.find(seen.key);
  if (it != data_.end()) {
    write->set_existed(true);
    write->set_old_value(it->second.value);
  }
  const uint64_t version = next_version_++;
  if (operation.has_compare_and_swap()) {
    const uint64_t there = it == data_.end() ? 0 : it->second.version;
    write->set_swapped(there ==
                       operation.compare_and_swap().expected_version());
    write->set_version(write->swapped() ? version : there);
    if (write->swapped()) {
      Entry& entry = data_[seen.key];
      entry.value = operation.compare_and_swap().value();
      entry.version = version;
      ++entry.writes;
    }
  } else if (operation.has_delete_()) {
    write->set_version(version);
    data_.erase(seen.key);
  } else {
    write->set_version(version);
    Entry& entry = data_[seen.key];
    entry.value = operation.has_put()
                      ? operation.put().value()
                      : entry.value + operation.append().value();
    entry.version = version;
    ++entry.writes;
  }
  known.answers[seen.sequence] = *write;
  return result;
}

}  // namespace kv739::testing
