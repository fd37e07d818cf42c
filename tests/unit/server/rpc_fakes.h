// What the tests of the gRPC side share: a handler that answers as it is
// told, and a server around it on a free port.
#ifndef KV739_TESTS_UNIT_SERVER_RPC_FAKES_H_
#define KV739_TESTS_UNIT_SERVER_RPC_FAKES_H_

#include <grpcpp/create_channel.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "server/rpc_server.h"

namespace kv739::server {

// Bound on every wait of a test; reached only when the test fails.
inline constexpr absl::Duration kPatience = absl::Seconds(60);

class FakeHandler : public RequestHandler {
 public:
  explicit FakeHandler(std::shared_ptr<const kv::ClusterMap> map)
      : map_(std::move(map)) {}

  using Answer = std::function<Reply(const Operation&)>;
  using Transfer =
      std::function<absl::StatusOr<raft::NodeId>(raft::GroupId, raft::NodeId)>;

  // Answers each operation; without it they are kept for Take(). What the
  // functions share with the test is guarded by Sync().
  void SetAnswer(Answer answer) {
    const std::lock_guard lock(mutex_);
    answer_ = std::move(answer);
  }
  void SetTransfer(Transfer transfer) {
    const std::lock_guard lock(mutex_);
    transfer_ = std::move(transfer);
  }
  // Orders what the test does with what the functions did and will do.
  void Sync() { const std::lock_guard lock(mutex_); }
  HostStats stats;  // set before Start()

  void Submit(std::vector<Operation> operations) override {
    std::vector<std::pair<std::shared_ptr<ReplySink>, Reply>> replies;
    {
      const std::lock_guard lock(mutex_);
      largest_submit_ = std::max(largest_submit_, operations.size());
      for (Operation& operation : operations) {
        if (!answer_) {
          operations_.push_back(std::move(operation));
          continue;
        }
        Reply reply = answer_(operation);
        reply.tag = operation.tag;
        reply.kind = operation.kind;
        replies.emplace_back(std::move(operation.sink), std::move(reply));
      }
    }
    changed_.notify_all();
    for (auto& [sink, reply] : replies) sink->Deliver(std::move(reply));
    for (auto& [sink, reply] : replies) sink->Flush();
  }
  void OnPeerMessages(raft::NodeId from,
                      std::vector<GroupMessage> messages) override {
    std::unique_lock lock(mutex_);
    for (GroupMessage& message : messages) {
      messages_.push_back({from, std::move(message)});
    }
    changed_.notify_all();
  }
  void OnNodeMessage(raft::NodeId from, NodeMessage message) override {
    std::unique_lock lock(mutex_);
    node_messages_.push_back({from, std::move(message)});
    changed_.notify_all();
  }
  void OnPeerEpoch(raft::NodeId peer, uint64_t map_epoch) override {
    std::unique_lock lock(mutex_);
    epochs_.push_back({peer, map_epoch});
    changed_.notify_all();
  }
  void OnPeerGone(raft::NodeId peer) override {
    std::unique_lock lock(mutex_);
    gone_.push_back(peer);
    changed_.notify_all();
  }
  void Tick() override {
    std::unique_lock lock(mutex_);
    ++ticks_;
    changed_.notify_all();
  }
  void CollectStats(absl::AnyInvocable<void(HostStats)> done) override {
    done(stats);
  }
  void TransferLeadership(
      raft::GroupId group, raft::NodeId target,
      absl::AnyInvocable<void(absl::StatusOr<raft::NodeId>)> done) override {
    absl::StatusOr<raft::NodeId> leader = raft::NodeId();
    {
      const std::lock_guard lock(mutex_);
      leader = transfer_(group, target);
    }
    done(std::move(leader));
  }
  std::shared_ptr<const kv::ClusterMap> map() const override {
    std::unique_lock lock(mutex_);
    return map_;
  }
  bool AllGroupsHaveLeader() override {
    std::unique_lock lock(mutex_);
    return has_leader_;
  }

  // ---- the test's side ----

  void SetMap(std::shared_ptr<const kv::ClusterMap> map) {
    std::unique_lock lock(mutex_);
    map_ = std::move(map);
  }
  void SetHasLeader(bool has) {
    std::unique_lock lock(mutex_);
    has_leader_ = has;
  }
  // Waits until `count` operations are there and takes them all.
  std::vector<Operation> Take(size_t count) {
    std::unique_lock lock(mutex_);
    auto enough = [&] { return operations_.size() >= count; };
    EXPECT_TRUE(
        changed_.wait_for(lock, absl::ToChronoSeconds(kPatience), enough));
    return std::exchange(operations_, {});
  }
  std::vector<std::pair<raft::NodeId, GroupMessage>> TakeMessages(
      size_t count) {
    std::unique_lock lock(mutex_);
    auto enough = [&] { return messages_.size() >= count; };
    EXPECT_TRUE(
        changed_.wait_for(lock, absl::ToChronoSeconds(kPatience), enough))
        << messages_.size() << " messages of " << count;
    return std::exchange(messages_, {});
  }
  std::vector<std::pair<raft::NodeId, NodeMessage>> TakeNodeMessages(
      size_t count) {
    std::unique_lock lock(mutex_);
    auto enough = [&] { return node_messages_.size() >= count; };
    EXPECT_TRUE(
        changed_.wait_for(lock, absl::ToChronoSeconds(kPatience), enough))
        << node_messages_.size() << " messages of " << count;
    return std::exchange(node_messages_, {});
  }
  // Waits until so many epochs have been told of in all, and gives them.
  std::vector<std::pair<raft::NodeId, uint64_t>> AwaitEpochs(size_t count) {
    std::unique_lock lock(mutex_);
    auto enough = [&] { return epochs_.size() >= count; };
    EXPECT_TRUE(
        changed_.wait_for(lock, absl::ToChronoSeconds(kPatience), enough))
        << epochs_.size() << " epochs of " << count;
    return epochs_;
  }
  // Waits until so many peers have gone in all, and gives them.
  std::vector<raft::NodeId> AwaitGone(size_t count) {
    std::unique_lock lock(mutex_);
    auto enough = [&] { return gone_.size() >= count; };
    EXPECT_TRUE(
        changed_.wait_for(lock, absl::ToChronoSeconds(kPatience), enough))
        << gone_.size() << " of " << count;
    return gone_;
  }
  void AwaitTicks(uint64_t count) {
    std::unique_lock lock(mutex_);
    const uint64_t target = ticks_ + count;
    auto enough = [&] { return ticks_ >= target; };
    EXPECT_TRUE(
        changed_.wait_for(lock, absl::ToChronoSeconds(kPatience), enough));
  }
  size_t largest_submit() {
    std::unique_lock lock(mutex_);
    return largest_submit_;
  }

 private:
  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::shared_ptr<const kv::ClusterMap> map_;
  Answer answer_;
  Transfer transfer_;
  std::vector<Operation> operations_;
  std::vector<std::pair<raft::NodeId, GroupMessage>> messages_;
  std::vector<std::pair<raft::NodeId, NodeMessage>> node_messages_;
  std::vector<std::pair<raft::NodeId, uint64_t>> epochs_;
  std::vector<raft::NodeId> gone_;
  uint64_t ticks_ = 0;
  size_t largest_submit_ = 0;
  bool has_leader_ = true;
};

// Nodes 1, 2, ... at the given ports of 127.0.0.1, all in group 0.
inline kv::ClusterMap MakeMap(const std::vector<int>& ports) {
  kv::ClusterMap map;
  map.cluster_id = 7390;
  map.epoch = 5;
  map.groups.push_back({raft::GroupId(0), {}});
  for (size_t i = 0; i < ports.size(); ++i) {
    const raft::NodeId id(i + 1);
    map.nodes.push_back(
        {id, {"127.0.0.1", static_cast<uint16_t>(ports[i])}, 9090, 8080});
    map.groups[0].members.push_back(id);
  }
  map.slots.assign(kv::kSlotCount, raft::GroupId(0));
  return map;
}

inline RpcServerOptions TestOptions() {
  RpcServerOptions options;
  options.listen = "127.0.0.1:0";
  options.tick_ms = 5;
  options.transport.cluster_id = 7390;
  options.transport.self = raft::NodeId(1);
  options.transport.incarnation = 100;
  options.transport.check_peer = [](raft::NodeId, uint64_t) {
    return absl::OkStatus();
  };
  return options;
}

inline std::shared_ptr<grpc::Channel> ChannelTo(int port) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxSendMessageSize(-1);
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                   grpc::InsecureChannelCredentials(),
                                   arguments);
}

inline void SetPatience(grpc::ClientContext* context) {
  context->set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
}

// A server with a fake handler, serving.
class RpcFixture : public ::testing::Test {
 protected:
  RpcFixture()
      : handler_(std::make_shared<const kv::ClusterMap>(MakeMap({4711}))) {}
  ~RpcFixture() override { Stop(absl::Now()); }

  void Start(RpcServerOptions options = TestOptions()) {
    absl::StatusOr<std::unique_ptr<RpcServer>> server =
        RpcServer::Create(std::move(options));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    server_->Start(&handler_);
    channel_ = ChannelTo(server_->port());
  }
  void Stop(absl::Time deadline) {
    if (server_ != nullptr) server_->Shutdown(deadline);
    server_.reset();
  }

  FakeHandler handler_;
  std::unique_ptr<RpcServer> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_RPC_FAKES_H_
