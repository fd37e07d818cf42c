// Nodes that talk without gRPC around them, so that sanitizers see all of it.
#include "server/tcp_transport.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "server/acceptor.h"

namespace kv739::server {
namespace {

using raft::NodeId;

class Node : public PeerHandler {
 public:
  Node(uint64_t id, const std::string& listen) : id_(id) {
    auto listening = ListenOn(listen);
    EXPECT_TRUE(listening.ok()) << listening.status();
    port_ = listening->port;
    TcpTransport::Options options;
    options.cluster_id = 7;
    options.self = NodeId(id);
    options.incarnation = 100 + id;
    options.check_peer = [](NodeId, uint64_t) { return absl::OkStatus(); };
    options.max_queue_bytes = 1 << 20;
    transport_ =
        std::make_unique<TcpTransport>(&poller_, &epoch_, std::move(options));
    Acceptor::Options doors;
    doors.on_peer = [this](Socket socket, const PeerIdentity& identity) {
      transport_->Accept(std::move(socket), identity);
    };
    doors.on_bad_peer = [](int, const absl::Status&) {};
    doors.on_other = [](Socket, int) {};
    acceptor_ = std::make_unique<Acceptor>(
        &poller_, std::move(listening->sockets), std::move(doors));
    poller_.SetTurnEnd([this] { transport_->EndTurn(); });
    acceptor_->Start();
    poller_.Start();
  }
  ~Node() override {
    poller_.Stop();
    acceptor_->Stop();
    transport_->Stop();
  }
  void Start(const std::vector<TcpTransport::Peer>& peers) {
    transport_->Start(this, peers);
  }
  std::string address() const { return absl::StrCat("localhost:", port_); }
  uint64_t id() const { return id_; }
  TcpTransport& transport() { return *transport_; }

  void OnPeerMessages(NodeId from,
                      std::vector<GroupMessage> messages) override {
    const std::lock_guard lock(mutex_);
    for (const GroupMessage& message : messages) {
      const uint64_t round = std::get<raft::Heartbeat>(message.message).round;
      // By sender and sending thread, in order.
      uint64_t& last = last_[{from.value(), message.group.value()}];
      EXPECT_GT(round, last);
      last = round;
    }
    changed_.notify_all();
  }
  void OnNodeMessage(NodeId, NodeMessage) override { Count(&node_messages_); }
  void OnPeerEpoch(NodeId, uint64_t) override { Count(&epochs_); }
  void OnPeerGone(NodeId) override { Count(&gone_); }
  uint64_t Last(uint64_t from, uint64_t group) {
    const std::lock_guard lock(mutex_);
    return last_[{from, group}];
  }
  void AwaitEpochs(int count) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60),
                                  [&] { return epochs_ >= count; }));
  }
  void Await(uint64_t from, uint64_t group, uint64_t round) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, std::chrono::seconds(60), [&] {
      return last_[{from, group}] >= round;
    }));
  }

 private:
  void Count(int* what) {
    const std::lock_guard lock(mutex_);
    ++*what;
    changed_.notify_all();
  }

  const uint64_t id_;
  int port_ = 0;
  std::atomic<uint64_t> epoch_{1};
  Poller poller_;
  std::unique_ptr<TcpTransport> transport_;
  std::unique_ptr<Acceptor> acceptor_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> last_;
  int node_messages_ = 0, epochs_ = 0, gone_ = 0;
};

GroupMessage Beat(uint64_t group, uint64_t round) {
  return {raft::GroupId(group),
          raft::Heartbeat{raft::Term(1), raft::Index(1), round}};
}

// Several threads send to and fro while maps change and one node comes and
// goes; what arrives has its order, and in the end everything arrives.
TEST(TcpTransportTest, ManyThreadsSendWhilePeersComeAndGo) {
  Node one(1, "localhost:0");
  auto two = std::make_unique<Node>(2, "localhost:0");
  const std::string address_of_two = two->address();
  const auto peers = std::vector<TcpTransport::Peer>{
      {NodeId(1), one.address()}, {NodeId(2), address_of_two}};
  one.Start(peers);
  two->Start(peers);
  one.AwaitEpochs(1);
  two->AwaitEpochs(1);
  std::atomic<bool> enough{false};
  std::vector<std::thread> threads;
  for (uint64_t group : {1, 2, 3}) {
    threads.emplace_back([&, group] {
      for (uint64_t round = 1; !enough; ++round) {
        one.transport().Send(NodeId(2), {Beat(group, round)});
        if (round % 64 == 0) {
          one.transport().SetMapEpoch(round);
          one.transport().SendToNode(
              NodeId(2), {NodeMessage::Kind::kMap, std::string(1000, 'm')});
          one.transport().States();
          one.transport().Connected(NodeId(2));
        }
        std::this_thread::yield();
      }
    });
  }
  uint64_t back = 0;
  for (int round = 1; round <= 4; ++round) {
    two->Await(1, 1, two->Last(1, 1) + 100);
    // What is sent while there is no connection is lost.
    const uint64_t before = one.Last(2, 9);
    while (one.Last(2, 9) == before) {
      two->transport().Send(NodeId(1), {Beat(9, ++back)});
      std::this_thread::yield();
    }
    if (round % 2 == 0) {
      one.transport().SetPeers({{NodeId(1), one.address()}});
      one.transport().SetPeers(peers);
    } else {
      two.reset();
      two = std::make_unique<Node>(2, address_of_two);
      two->Start(peers);
    }
    two->AwaitEpochs(1);
  }
  enough = true;
  for (std::thread& thread : threads) thread.join();
  for (uint64_t round = 1; two->Last(1, 4) == 0; ++round) {
    one.transport().Send(NodeId(2), {Beat(4, round)});
    std::this_thread::yield();
  }
}

}  // namespace
}  // namespace kv739::server
