#include "tests/support/host_cluster.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/replica_store.h"

namespace kv739::testing {
namespace {

class CountingRandom : public raft::Random {
 public:
  explicit CountingRandom(uint64_t seed) : state_(seed) {}
  uint64_t Next() override {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ >> 33;
  }

 private:
  uint64_t state_;
};

std::string MakeRoot() {
  std::string pattern = absl::StrCat(::testing::TempDir(), "/hosts.XXXXXX");
  EXPECT_NE(mkdtemp(pattern.data()), nullptr);
  return pattern;
}

}  // namespace

const server::Reply& Answers::Of(uint64_t tag) const {
  static const server::Reply none;
  auto it = replies_.find(tag);
  if (it == replies_.end() || it->second.size() != 1) {
    ADD_FAILURE() << "operation " << tag << " has "
                  << (it == replies_.end() ? 0 : it->second.size())
                  << " answers";
    return none;
  }
  return it->second.front();
}

class HostCluster::NodeTransport : public server::Transport {
 public:
  NodeTransport(HostCluster* cluster, int self)
      : cluster_(cluster), self_(self) {}
  void Send(raft::NodeId to,
            std::vector<server::GroupMessage> messages) override {
    const int receiver = cluster_->NodeOf(to);
    if (cluster_->nodes_[self_]->down()) return;
    if (cluster_->send_hook_) {
      for (const server::GroupMessage& message : messages) {
        cluster_->send_hook_(self_, receiver, message);
      }
    }
    cluster_->network_[{self_, receiver}].push_back(
        {self_, receiver, std::move(messages), std::nullopt});
  }
  void SendToNode(raft::NodeId to, server::NodeMessage message) override {
    const int receiver = cluster_->NodeOf(to);
    if (cluster_->nodes_[self_]->down()) return;
    cluster_->network_[{self_, receiver}].push_back(
        {self_, receiver, {}, std::move(message)});
  }
  bool Connected(raft::NodeId peer) const override {
    const Node& node = *cluster_->nodes_[cluster_->NodeOf(peer)];
    return node.host != nullptr && !node.isolated &&
           !cluster_->nodes_[self_]->isolated;
  }
  void SetMapEpoch(uint64_t) override {}

 private:
  HostCluster* cluster_;
  int self_;
};

// Runs one job at a time, when asked to.
class HostCluster::Jobs : public server::Background {
 public:
  void Run(Job job) override { jobs_.push_back(std::move(job)); }
  bool RunOne() {
    if (jobs_.empty()) return false;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    job();
    return true;
  }

 private:
  std::deque<Job> jobs_;
};

// Completes one task at a time, when asked to.
class HostCluster::NodeLog : public wal::LogWriter {
 public:
  NodeLog(wal::Wal* wal, const Node* node) : wal_(wal), node_(node) {}
  void Submit(wal::WalTask task) override { tasks_.push_back(std::move(task)); }
  void ReadAsync(raft::GroupId group, raft::Index first, raft::Index last,
                 uint64_t max_bytes, wal::ReadCallback done) override {
    done(wal_->Read(group, first, last, max_bytes));
  }
  bool busy() const override { return !tasks_.empty(); }
  uint64_t log_bytes(raft::GroupId group) const override {
    return wal_->log_bytes(group);
  }
  bool CompleteOne() {
    if (tasks_.empty()) return false;
    wal::WalTask task = std::move(tasks_.front());
    tasks_.pop_front();
    const absl::Status status = wal_->Append(task.writes);
    if (node_->down()) return false;
    EXPECT_TRUE(status.ok()) << status;
    if (status.ok()) task.done();
    return true;
  }
  bool Maintain() {
    if (!wal_->wants_maintenance()) return false;
    const absl::Status status = wal_->Maintain();
    EXPECT_TRUE(node_->down() || status.ok()) << status;
    return status.ok();
  }

 private:
  wal::Wal* wal_;
  const Node* node_;
  std::deque<wal::WalTask> tasks_;
};

class HostCluster::NodeTimer : public server::WakeTimer {
 public:
  NodeTimer(Node* node, std::function<void()> wake) : node_(node) {
    node_->ring = std::move(wake);
  }
  ~NodeTimer() override { node_->rings_at = 0; }
  void Set(uint64_t at_nanos) override { node_->rings_at = at_nanos; }

 private:
  Node* const node_;
};

// Streams move in Settle().
class HostCluster::NodeFetcher : public server::SnapshotFetcher {
 public:
  NodeFetcher(HostCluster* cluster, int self)
      : cluster_(cluster), self_(self) {}
  void Fetch(raft::NodeId from, server::SnapshotRequest request,
             std::shared_ptr<server::SnapshotSink> sink) override {
    auto stream = std::make_unique<Stream>();
    stream->from = cluster_->NodeOf(from);
    stream->to = self_;
    stream->request = std::move(request);
    stream->sink = std::move(sink);
    cluster_->streams_.push_back(std::move(stream));
    ++cluster_->streams_opened_;
  }
  void Cancel(const server::SnapshotSink* sink) override {
    for (auto& stream : cluster_->streams_) {
      if (stream->sink.get() == sink) stream->cancelled = true;
    }
  }

 private:
  HostCluster* const cluster_;
  const int self_;
};

// What a node answers as long as it runs.
class HostCluster::NodeSink : public server::ReplySink {
 public:
  NodeSink(const Node* node, std::shared_ptr<server::ReplySink> sink)
      : node_(node), sink_(std::move(sink)) {}
  void Deliver(server::Reply reply) override {
    if (!node_->down()) sink_->Deliver(std::move(reply));
  }
  void Flush() override {
    if (!node_->down()) sink_->Flush();
  }

 private:
  const Node* const node_;
  const std::shared_ptr<server::ReplySink> sink_;
};

void HostCluster::MakeMap(int size) {
  kv::ClusterFile file;
  for (int i = 0; i < size; ++i) {
    kv::ServerLine line;
    line.address = {"localhost", static_cast<uint16_t>(50051 + i)};
    file.servers.push_back(line);
  }
  map_ = std::make_shared<const kv::ClusterMap>(kv::InitialClusterMap(file));
}

HostCluster::HostCluster(int size, server::HostOptions options)
    : options_(options), root_(MakeRoot()) {
  MakeMap(size);
  for (int i = 0; i < size; ++i) {
    auto node = std::make_unique<Node>();
    node->id = map_->nodes[i].id;
    node->directory = absl::StrCat(root_, "/", i);
    std::filesystem::create_directories(node->directory);
    node->engine = kv::NewMemoryEngine();
    nodes_.push_back(std::move(node));
    OpenLog(i);
    EXPECT_TRUE(server::CreateReplicas(nodes_[i]->engine.get(),
                                       nodes_[i]->wal.get(), *map_,
                                       nodes_[i]->id)
                    .ok());
    Start(i);
  }
}

HostCluster::HostCluster(int size, server::HostOptions options,
                         const Disks& disks)
    : options_(options), disks_(disks) {
  MakeMap(size);
  for (int i = 0; i < size; ++i) {
    auto node = std::make_unique<Node>();
    node->id = map_->nodes[i].id;
    node->steps = std::make_unique<StorageSteps>();
    // Both kinds of disks.
    node->disk = std::make_unique<wal::FakeFileSystem>(i % 2 == 0);
    node->steps->Watch(node->disk.get());
    node->engine = NewSteppingEngine(node->steps.get());
    nodes_.push_back(std::move(node));
  }
}

HostCluster::~HostCluster() {
  for (auto& node : nodes_) node->host.reset();
  streams_.clear();
  if (disks_) return;
  std::error_code ignored;
  std::filesystem::remove_all(root_, ignored);
}

int HostCluster::NodeOf(raft::NodeId id) const {
  for (size_t i = 0; i < map_->nodes.size(); ++i) {
    if (map_->nodes[i].id == id) return static_cast<int>(i);
  }
  return -1;
}

absl::StatusOr<std::unique_ptr<wal::Wal>> HostCluster::OpenWal(int index) {
  wal::WalOptions wal_options;
  if (disks_) {
    wal_options.segment_bytes = disks_->segment_bytes;
    wal_options.spare_segments = disks_->spare_segments;
    wal_options.new_log_id = 739 + index;
    return wal::Wal::Open(nodes_[index]->disk.get(), "wal", wal_options);
  }
  wal_options.segment_bytes = 1 << 20;
  return wal::Wal::Open(wal::FileSystem::Posix(), nodes_[index]->directory,
                        wal_options);
}

void HostCluster::ForgetGroup(int index, raft::GroupId group) {
  auto wal = OpenWal(index);
  ASSERT_TRUE(wal.ok()) << wal.status();
  std::vector<wal::GroupWrite> writes(1);
  writes[0].group = group;
  writes[0].remove_group = true;
  EXPECT_TRUE((*wal)->Append(writes).ok());
  EXPECT_TRUE(kv::StateMachine::Remove(nodes_[index]->engine.get(), group,
                                       nodes_[index]->directory)
                  .ok());
}

void HostCluster::OpenLog(int index) {
  Node& node = *nodes_[index];
  node.wal.reset();
  auto wal = OpenWal(index);
  ASSERT_TRUE(wal.ok()) << wal.status();
  node.wal = *std::move(wal);
}

void HostCluster::Start(int index) {
  OpenLog(index);
  const absl::Status status = StartHost(index);
  ASSERT_TRUE(status.ok()) << status;
}

absl::Status HostCluster::StartHost(int index) {
  Node& node = *nodes_[index];
  node.log = std::make_unique<NodeLog>(node.wal.get(), &node);
  node.transport = std::make_unique<NodeTransport>(this, index);
  node.random = std::make_unique<CountingRandom>(index * 7919 + 17 +
                                                 1'000'003 * node.starts++);
  auto replicas =
      server::LoadReplicas(node.engine.get(), node.wal.get(), node.directory);
  if (!replicas.ok()) return replicas.status();
  server::HostOptions options = options_;
  options.self = node.id;
  server::HostParts parts;
  parts.engine = node.engine.get();
  parts.log = node.log.get();
  parts.transport = node.transport.get();
  parts.clock = &clock_;
  parts.make_timer = [&node](std::function<void()> wake) {
    return std::make_unique<NodeTimer>(&node, std::move(wake));
  };
  node.jobs = std::make_unique<Jobs>();
  parts.background = node.jobs.get();
  node.maps = std::make_unique<server::MapHolder>(
      node.saved_map ? node.saved_map : map_);
  if (disks_) node.maps->Listen([this, index] { SaveMap(index); });
  parts.maps = node.maps.get();
  node.fetcher = std::make_unique<NodeFetcher>(this, index);
  parts.fetcher = node.fetcher.get();
  if (!disks_) parts.install_dir = absl::StrCat(node.directory, "/install");
  parts.random = node.random.get();
  parts.on_failure = [&node](const absl::Status& status) {
    if (!node.down()) ADD_FAILURE() << "replica failed: " << status;
  };
  auto host = server::Host::Create(options, parts, *std::move(replicas));
  if (!host.ok()) return host.status();
  node.host = *std::move(host);
  return absl::OkStatus();
}

// ---- on disks in memory ----

absl::Status HostCluster::MakeReplicas(int index) {
  Node& node = *nodes_[index];
  if (node.initialized) return absl::OkStatus();
  absl::Status status =
      server::CreateReplicas(node.engine.get(), node.wal.get(), *map_, node.id);
  if (!status.ok()) return status;
  const bool stops = node.steps->Next("mark of a new data directory");
  node.initialized = !stops || node.steps->Done();
  return stops ? absl::AbortedError("the machine is down") : absl::OkStatus();
}

// The file `cluster_map`, as server/map_file.h keeps it.
void HostCluster::SaveMap(int index) {
  Node& node = *nodes_[index];
  node.jobs->Run([&node] {
    auto map = node.maps->Get();
    if (node.saved_map != nullptr && map->epoch <= node.saved_map->epoch)
      return;
    if (!node.steps->Next("save of the cluster map") || node.steps->Done()) {
      node.saved_map = std::move(map);
    }
  });
}

bool HostCluster::PowerOn(int index) {
  Node& node = *nodes_[index];
  node.steps->PowerOn();
  node.wal.reset();
  auto wal = OpenWal(index);
  absl::Status status = wal.status();
  if (wal.ok()) {
    node.wal = *std::move(wal);
    status = MakeReplicas(index);
  }
  if (status.ok()) status = StartHost(index);
  if (node.down()) return false;
  EXPECT_TRUE(status.ok()) << "node " << index << " does not start: " << status;
  return status.ok();
}

void HostCluster::PowerOff(int index, const std::function<bool()>& survives) {
  nodes_[index]->steps->Stop();
  Crash(index);
  for (auto& [link, messages] : network_) {
    if (link.second == index) messages.clear();
  }
  std::erase_if(told_epochs_, [&](const auto& told) {
    return told.first.first == index || told.first.second == index;
  });
  nodes_[index]->disk->PowerLoss(survives);
}

void HostCluster::PowerOffWhoIsDown() {
  for (int i = 0; i < size(); ++i) {
    if (nodes_[i]->host != nullptr && nodes_[i]->down()) on_down_(i);
  }
}

void HostCluster::TellEpochs() {
  for (int from = 0; from < size(); ++from) {
    for (int to = 0; to < size(); ++to) {
      const std::pair<int, int> link{from, to};
      if (from == to) continue;
      if (nodes_[from]->host == nullptr || nodes_[to]->host == nullptr ||
          nodes_[from]->isolated || nodes_[to]->isolated) {
        told_epochs_.erase(link);
        continue;
      }
      const uint64_t epoch = nodes_[from]->maps->epoch();
      auto [told, first] = told_epochs_.emplace(link, epoch);
      if (!first && told->second == epoch) continue;
      told->second = epoch;
      nodes_[to]->host->OnPeerEpoch(nodes_[from]->id, epoch);
    }
  }
}

bool HostCluster::DeliverOne() {
  auto link = network_.lower_bound(next_link_);
  if (link == network_.end()) link = network_.begin();
  size_t left = network_.size();
  while (left > 0 && link->second.empty()) {
    if (++link == network_.end()) link = network_.begin();
    --left;
  }
  if (left == 0) return false;
  Message message = std::move(link->second.front());
  link->second.pop_front();
  next_link_ = {link->first.first, link->first.second + 1};
  Node& from = *nodes_[message.from];
  Node& to = *nodes_[message.to];
  if (from.isolated || to.isolated || to.host == nullptr) return true;
  if (message.of_node) {
    to.host->OnNodeMessage(from.id, *std::move(message.of_node));
  } else {
    to.host->OnPeerMessages(from.id, std::move(message.messages));
  }
  return true;
}

std::optional<absl::Status> HostCluster::Move(Stream& stream, bool* held) {
  if (stream.cancelled) return absl::CancelledError("cancelled");
  Node& from = *nodes_[stream.from];
  if (from.host == nullptr || from.isolated || nodes_[stream.to]->isolated) {
    return absl::UnavailableError("connection lost");
  }
  if (stream.cursor == nullptr) {
    auto cursor = from.host->snapshots()->OpenSnapshot(nodes_[stream.to]->id,
                                                       stream.request);
    if (!cursor.ok()) return cursor.status();
    stream.cursor = *std::move(cursor);
    absl::Status status = stream.sink->OnInfo(stream.cursor->info());
    if (!status.ok()) return status;
    return std::nullopt;
  }
  if (stream_fault_) {
    // Asked before the chunk is made, so that a held one is of a later time.
    std::string none;
    if (stream_fault_(stream.from, stream.to, stream.number, &none) ==
        Fault::kHold) {
      *held = true;
      return std::nullopt;
    }
  }
  std::string chunk;
  auto more = stream.cursor->Next(&chunk);
  if (!more.ok()) return more.status();
  if (!*more) return absl::OkStatus();
  stream.cursor->Sent(chunk.size());
  int times = 1;
  if (stream_fault_) {
    const Fault fault =
        stream_fault_(stream.from, stream.to, stream.number, &chunk);
    if (fault == Fault::kCut) return absl::UnavailableError("cut");
    if (fault == Fault::kRepeat) times = 2;
  }
  ++stream.number;
  for (int i = 0; i < times; ++i) {
    absl::Status status = stream.sink->OnChunk(chunk);
    if (!status.ok()) return status;
  }
  return std::nullopt;
}

bool HostCluster::MoveStreams() {
  bool moved = false;
  for (size_t i = 0; i < streams_.size();) {
    bool held = false;
    std::optional<absl::Status> end = Move(*streams_[i], &held);
    moved = moved || !held;
    if (!end) {
      ++i;
      continue;
    }
    std::unique_ptr<Stream> ended = std::move(streams_[i]);
    streams_.erase(streams_.begin() + static_cast<ptrdiff_t>(i));
    ended->cursor.reset();
    ended->sink->OnEnd(*end);
  }
  return moved;
}

kv::StateMachine::StateHash HostCluster::Hash(int node, raft::GroupId group) {
  auto machine = kv::StateMachine::Open(nodes_[node]->engine.get(), group);
  if (!machine.ok()) return {};
  auto hash = (*machine)->Hash();
  EXPECT_TRUE(hash.ok()) << hash.status();
  return hash.ok() ? *hash : kv::StateMachine::StateHash();
}

void HostCluster::Settle() {
  bool moved = true;
  while (moved) {
    moved = DeliverOne();
    PowerOffWhoIsDown();
    moved = MoveStreams() || moved;
    PowerOffWhoIsDown();
    for (auto& node : nodes_) {
      if (node->host != nullptr && !node->stalled) {
        moved = node->log->CompleteOne() || moved;
        PowerOffWhoIsDown();
      }
      if (node->host != nullptr && !node->background_stalled) {
        moved = node->jobs->RunOne() || moved;
        PowerOffWhoIsDown();
      }
      if (disks_ && node->host != nullptr && !node->stalled) {
        moved = node->log->Maintain() || moved;
        PowerOffWhoIsDown();
      }
    }
    if (!moved && !timers_held_) moved = RingNext();
  }
}

bool HostCluster::RingNext() {
  Node* next = nullptr;
  for (auto& node : nodes_) {
    if (node->host == nullptr || node->rings_at == 0) continue;
    if (next == nullptr || node->rings_at < next->rings_at) next = node.get();
  }
  if (next == nullptr) return false;
  const uint64_t now = clock_.MonotonicNanos();
  clock_.Advance(next->rings_at - std::min(now, next->rings_at));
  next->rings_at = 0;
  next->ring();
  PowerOffWhoIsDown();
  return true;
}

void HostCluster::Tick(int count) {
  for (int i = 0; i < count; ++i) {
    clock_.Advance(20'000'000);
    for (auto& node : nodes_) {
      if (node->host != nullptr) node->host->Tick();
      PowerOffWhoIsDown();
    }
    TellEpochs();
    Settle();
  }
}

int HostCluster::ElectLeader(raft::GroupId group) {
  for (int i = 0; i < 2000; ++i) {
    // The leader of the highest term: an isolated one may not know yet that
    // it is none.
    int leader = -1;
    raft::Term term;
    for (size_t n = 0; n < nodes_.size(); ++n) {
      if (nodes_[n]->host == nullptr || nodes_[n]->isolated) continue;
      for (const auto& replica : Stats(static_cast<int>(n)).replicas) {
        if (replica.group == group &&
            replica.core.soft.role == raft::Role::kLeader &&
            replica.core.soft.term > term) {
          leader = static_cast<int>(n);
          term = replica.core.soft.term;
        }
      }
    }
    if (leader >= 0) return leader;
    Tick();
  }
  ADD_FAILURE() << "group " << group << " elects no leader";
  return 0;
}

void HostCluster::Submit(int node, server::Operation operation) {
  if (operation.sink == nullptr) operation.sink = answers_;
  if (disks_) {
    operation.sink =
        std::make_shared<NodeSink>(nodes_[node].get(), operation.sink);
  }
  operation.start_nanos = clock_.MonotonicNanos();
  std::vector<server::Operation> operations;
  operations.push_back(std::move(operation));
  nodes_[node]->host->Submit(std::move(operations));
  Settle();
}

server::Reply HostCluster::Call(server::Operation operation) {
  const raft::GroupId group =
      operation.kind == server::OpKind::kOpenSession
          ? operation.group
          : map_->OwnerOf(operation.scan != nullptr
                              ? static_cast<kv::Slot>(operation.scan->slot)
                              : kv::SlotOf(operation.key));
  const int leader = ElectLeader(group);
  const uint64_t tag = next_tag_++;
  operation.tag = tag;
  Submit(leader, std::move(operation));
  return answers_->Of(tag);
}

std::vector<server::Reply> HostCluster::CallAll(
    std::vector<server::Operation> operations) {
  const int leader =
      ElectLeader(map_->OwnerOf(kv::SlotOf(operations.front().key)));
  const uint64_t first = next_tag_;
  for (server::Operation& operation : operations) {
    operation.tag = next_tag_++;
    operation.sink = answers_;
    operation.start_nanos = clock_.MonotonicNanos();
  }
  nodes_[leader]->host->Submit(std::move(operations));
  Settle();
  std::vector<server::Reply> replies;
  for (uint64_t tag = first; tag < next_tag_; ++tag) {
    replies.push_back(answers_->Of(tag));
  }
  return replies;
}

void HostCluster::Crash(int index) {
  Node& node = *nodes_[index];
  node.host.reset();
  node.jobs.reset();
  // Nobody is told.
  std::erase_if(streams_,
                [&](const auto& stream) { return stream->to == index; });
  for (auto& stream : streams_) {
    if (stream->from == index) stream->cursor.reset();
  }
  node.log.reset();
  node.wal.reset();
  node.engine->Crash();
}

void HostCluster::Restart(int index) { Start(index); }

server::HostStats HostCluster::Stats(int node) {
  server::HostStats result;
  nodes_[node]->host->CollectStats(
      [&](server::HostStats stats) { result = std::move(stats); });
  return result;
}

}  // namespace kv739::testing
