// Replica hosts with real log threads and clients on threads of their own,
// for the thread sanitizer above all: who may touch what, and when, is the
// point, and the history must still be one chain.
#include <gtest/gtest.h>
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "absl/strings/str_cat.h"
#include "kv/cluster_map.h"
#include "server/host.h"
#include "server/replica_store.h"
#include "server/wal/wal_thread.h"

namespace kv739::server {
namespace {

constexpr int kNodes = 3;
constexpr int kClients = 4;
constexpr int kWrites = 60;

class FixedRandom : public raft::Random {
 public:
  explicit FixedRandom(uint64_t seed) : state_(seed) {}
  uint64_t Next() override {
    return state_ = state_ * 6364136223846793005u + 1;
  }

 private:
  uint64_t state_;
};

// Waits for one answer.
class OneAnswer : public ReplySink {
 public:
  void Deliver(Reply reply) override {
    const std::lock_guard lock(mutex_);
    reply_ = std::move(reply);
    done_ = true;
    changed_.notify_all();
  }
  void Flush() override {}
  Reply Wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return std::move(reply_);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  Reply reply_;
};

class Nodes {
 public:
  Nodes() {
    std::string pattern =
        absl::StrCat(::testing::TempDir(), "/host_threads.XXXXXX");
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
    kv::ClusterFile file;
    for (int i = 0; i < kNodes; ++i) {
      kv::ServerLine line;
      line.address = {"localhost", static_cast<uint16_t>(50051 + i)};
      file.servers.push_back(line);
    }
    map_ = std::make_shared<const kv::ClusterMap>(kv::InitialClusterMap(file));
    for (int i = 0; i < kNodes; ++i) Start(i);
    ticker_ = std::thread([this] {
      std::unique_lock lock(stop_mutex_);
      while (!stop_.wait_for(lock, std::chrono::milliseconds(10),
                             [this] { return stopping_; })) {
        for (auto& node : nodes_) node->host->Tick();
      }
    });
  }

  ~Nodes() {
    {
      const std::lock_guard lock(stop_mutex_);
      stopping_ = true;
      stop_.notify_all();
    }
    ticker_.join();
    for (auto& node : nodes_) node->host->Stop();
    for (auto& node : nodes_) node->log.reset();
    nodes_.clear();
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }

  // Tries every node until one leads.
  Reply Call(const Operation& operation) {
    for (int node = 0;; node = (node + 1) % kNodes) {
      auto answer = std::make_shared<OneAnswer>();
      std::vector<Operation> operations(1, operation);
      operations[0].sink = answer;
      nodes_[node]->host->Submit(std::move(operations));
      Reply reply = answer->Wait();
      if (reply.code != ReplyCode::kNotLeader &&
          reply.code != ReplyCode::kUnknown &&
          reply.code != ReplyCode::kUnavailable) {
        return reply;
      }
      std::this_thread::yield();
    }
  }

  Host* host(int node) { return nodes_[node]->host.get(); }

 private:
  // Hands messages over in the sender's thread.
  class DirectTransport : public Transport {
   public:
    DirectTransport(Nodes* nodes, raft::NodeId self)
        : nodes_(nodes), self_(self) {}
    void Send(raft::NodeId to, std::vector<GroupMessage> messages) override {
      for (auto& node : nodes_->nodes_) {
        if (node->id == to && nodes_->ready_.load()) {
          node->host->OnPeerMessages(self_, std::move(messages));
          return;
        }
      }
    }

    void SendToNode(raft::NodeId, NodeMessage) override {}
    bool Connected(raft::NodeId) const override { return true; }
    void SetMapEpoch(uint64_t) override {}

   private:
    Nodes* nodes_;
    raft::NodeId self_;
  };
  struct Node {
    raft::NodeId id;
    std::unique_ptr<kv::MemoryEngine> engine;
    std::unique_ptr<wal::Wal> wal;
    std::unique_ptr<DirectTransport> transport;
    std::unique_ptr<FixedRandom> random;
    std::unique_ptr<MapHolder> maps;
    std::unique_ptr<BackgroundThread> background;
    std::unique_ptr<Host> host;
    std::unique_ptr<wal::WalThread> log;
  };

  void Start(int index) {
    auto node = std::make_unique<Node>();
    node->id = map_->nodes[index].id;
    node->engine = kv::NewMemoryEngine();
    const std::string directory = absl::StrCat(root_, "/", index);
    std::filesystem::create_directories(directory);
    wal::WalOptions wal_options;
    wal_options.segment_bytes = 256 << 10;
    auto wal = wal::Wal::Open(wal::FileSystem::Posix(), directory, wal_options);
    ASSERT_TRUE(wal.ok()) << wal.status();
    node->wal = *std::move(wal);
    ASSERT_TRUE(
        CreateReplicas(node->engine.get(), node->wal.get(), *map_, node->id)
            .ok());
    auto replicas = LoadReplicas(node->engine.get(), node->wal.get(), "");
    ASSERT_TRUE(replicas.ok()) << replicas.status();
    node->log =
        wal::WalThread::Start(node->wal.get(), [](const absl::Status& status) {
          ADD_FAILURE() << "the log failed: " << status;
        });
    node->transport = std::make_unique<DirectTransport>(this, node->id);
    node->random = std::make_unique<FixedRandom>(index * 7919 + 1);
    HostOptions options;
    options.self = node->id;
    HostParts parts;
    parts.engine = node->engine.get();
    parts.log = node->log.get();
    parts.transport = node->transport.get();
    parts.clock = Clock::Real();
    node->maps = std::make_unique<MapHolder>(map_);
    parts.maps = node->maps.get();
    node->background = std::make_unique<BackgroundThread>();
    parts.background = node->background.get();
    parts.install_dir = directory + "/install";
    parts.random = node->random.get();
    parts.on_failure = [](const absl::Status& status) {
      ADD_FAILURE() << "a replica failed: " << status;
    };
    auto host = Host::Create(options, parts, *std::move(replicas));
    ASSERT_TRUE(host.ok()) << host.status();
    node->host = *std::move(host);
    nodes_.push_back(std::move(node));
    ready_.store(static_cast<int>(nodes_.size()) == kNodes);
  }

  std::string root_;
  std::shared_ptr<const kv::ClusterMap> map_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::atomic<bool> ready_{false};
  std::mutex stop_mutex_;
  std::condition_variable stop_;
  bool stopping_ = false;
  std::thread ticker_;
};

TEST(HostThreadsTest, ClientsOnManyThreadsWriteOneChain) {
  Nodes nodes;
  std::mutex mutex;
  std::map<std::string, std::string> old_of;  // value -> value before it
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&, client] {
      Operation open;
      open.kind = OpKind::kOpenSession;
      open.group = raft::GroupId(0);
      const kv::SessionId session = nodes.Call(open).session;
      for (int i = 1; i <= kWrites; ++i) {
        Operation put;
        put.kind = OpKind::kPut;
        put.key = "k";
        put.value = absl::StrCat(client, "-", i);
        put.session = session;
        put.sequence = i;
        put.floor = i;
        Reply reply = nodes.Call(put);
        ASSERT_EQ(reply.code, ReplyCode::kOk) << reply.message;
        Operation get;
        get.kind = i % 2 == 0 ? OpKind::kGet : OpKind::kGetStale;
        get.key = "k";
        EXPECT_EQ(nodes.Call(get).code, ReplyCode::kOk);
        const std::lock_guard lock(mutex);
        old_of[put.value] = reply.found ? reply.value : "";
      }
    });
  }
  // Somebody looks at the same time.
  std::atomic<int> looks{0};
  for (int i = 0; i < 50; ++i) {
    nodes.host(i % kNodes)->CollectStats([&](const HostStats&) { ++looks; });
  }
  for (auto& client : clients) client.join();

  ASSERT_EQ(old_of.size(), static_cast<size_t>(kClients * kWrites));
  std::set<std::string> seen;
  for (const auto& [value, old] : old_of) {
    EXPECT_TRUE(seen.insert(old).second)
        << "'" << old << "' was replaced twice";
    EXPECT_NE(value, old);
  }
  EXPECT_EQ(seen.count(""), 1u);
}

}  // namespace
}  // namespace kv739::server
