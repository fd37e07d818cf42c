// Between nodes: messages of no group, the map's epoch, and peers that come,
// go and move.
#include <algorithm>
#include <atomic>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/v1/raft.pb.h"
#include "tests/unit/server/raw_peer.h"
#include "tests/unit/server/rpc_nodes.h"

namespace kv739::server {
namespace {

using raft::NodeId;
using ::testing::ElementsAre;
using ::testing::Pair;
namespace wire = ::raft::v1;
using Kind = NodeMessage::Kind;

class RpcPeersTest : public RpcNodesTest {
 protected:
  Transport* transport(uint64_t id) { return nodes_[id].server->transport(); }
  // A newer map of the same nodes, changed by `change`.
  std::shared_ptr<const kv::ClusterMap> NewerMap(
      const std::function<void(kv::ClusterMap*)>& change = nullptr) {
    auto map = std::make_shared<kv::ClusterMap>(*map_);
    ++map->epoch;
    if (change) change(map.get());
    map_ = map;
    return map;
  }
  bool Knows(uint64_t node, uint64_t peer) {
    for (const PeerState& state : nodes_[node].server->Peers()) {
      if (state.id == NodeId(peer)) return true;
    }
    return false;
  }
};

TEST_F(RpcPeersTest, NodeMessagesArrive) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  std::string payload("a\0b", 3);
  transport(1)->SendToNode(NodeId(2), {Kind::kMap, payload});
  transport(1)->SendToNode(NodeId(2), {Kind::kDirectoryChange, ""});
  transport(1)->SendToNode(
      NodeId(2), {Kind::kAudit, std::string(kMaxNodeMessageBytes, 'x')});
  const auto messages = handler(2).TakeNodeMessages(3);
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0].first, NodeId(1));
  EXPECT_EQ(messages[0].second.kind, Kind::kMap);
  EXPECT_EQ(messages[0].second.payload, payload);
  EXPECT_EQ(messages[1].second.kind, Kind::kDirectoryChange);
  EXPECT_EQ(messages[1].second.payload, "");
  EXPECT_EQ(messages[2].second.payload.size(), kMaxNodeMessageBytes);
  transport(2)->SendToNode(NodeId(1), {Kind::kAudit, "back"});
  EXPECT_EQ(handler(1).TakeNodeMessages(1)[0].second.payload, "back");
}

TEST_F(RpcPeersTest, TooLargeOnesAndThoseForNobodyAreDropped) {
  MakePorts(2);
  Start(1);
  transport(1)->SendToNode(NodeId(2), {Kind::kAudit, "nobody is there"});
  transport(1)->SendToNode(NodeId(99), {Kind::kAudit, "nobody"});
  EXPECT_EQ(StateOf(1, 2).dropped_messages, 1u);
  Start(2);
  AwaitConnected(1, 2);
  transport(1)->SendToNode(
      NodeId(2), {Kind::kMap, std::string(kMaxNodeMessageBytes + 1, 'x')});
  EXPECT_EQ(StateOf(1, 2).dropped_messages, 2u);
  transport(1)->SendToNode(NodeId(2), {Kind::kMap, "small"});
  EXPECT_EQ(handler(2).TakeNodeMessages(1)[0].second.payload, "small");
  EXPECT_EQ(StateOf(1, 2).connects, 1u);
}

TEST_F(RpcPeersTest, TheEpochIsToldWhenAStreamComesUp) {
  MakePorts(2);
  Start(1);
  Start(2);
  EXPECT_THAT(handler(1).AwaitEpochs(1), ElementsAre(Pair(NodeId(2), 5u)));
  EXPECT_THAT(handler(2).AwaitEpochs(1), ElementsAre(Pair(NodeId(1), 5u)));
  // Whoever hears of the epoch can answer.
  EXPECT_TRUE(transport(1)->Connected(NodeId(2)));
  EXPECT_TRUE(transport(2)->Connected(NodeId(1)));
  EXPECT_FALSE(transport(1)->Connected(NodeId(3)));
  Stop(2);
  Start(2);
  EXPECT_EQ(handler(1).AwaitEpochs(2)[1], std::pair(NodeId(2), uint64_t{5}));
}

TEST_F(RpcPeersTest, IdleStreamsTellOfANewEpoch) {
  MakePorts(3);
  for (uint64_t id : {1, 2, 3}) Start(id);
  for (uint64_t id : {1, 2, 3}) handler(id).AwaitEpochs(2);
  transport(2)->SetMapEpoch(6);
  EXPECT_EQ(handler(1).AwaitEpochs(3)[2], std::pair(NodeId(2), uint64_t{6}));
  EXPECT_EQ(handler(3).AwaitEpochs(3)[2], std::pair(NodeId(2), uint64_t{6}));
  // Not back, and not again.
  transport(2)->SetMapEpoch(4);
  transport(2)->SetMapEpoch(6);
  Send(2, 1, {Beat(1)});
  handler(1).TakeMessages(1);
  EXPECT_EQ(handler(1).AwaitEpochs(0).size(), 3u);
}

TEST_F(RpcPeersTest, TheLastOfManyEpochsIsTold) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  std::vector<std::thread> threads;
  constexpr uint64_t kLast = 2000;
  for (uint64_t i : {0, 1}) {
    threads.emplace_back([this, i] {
      for (uint64_t e = 6 + i; e <= kLast; e += 2) {
        transport(1)->SetMapEpoch(e);
        if (e % 64 == 0 && e < kLast / 2) Send(1, 2, {Append(10000)});
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Await(2, [&] { return handler(2).AwaitEpochs(1).back().second == kLast; });
  uint64_t before = 0;
  for (const auto& [peer, epoch] : handler(2).AwaitEpochs(1)) {
    EXPECT_GT(epoch, before);
    before = epoch;
  }
}

TEST_F(RpcPeersTest, TheHandlersMapIsFollowedAtTicks) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  handler(1).SetMap(NewerMap());
  EXPECT_EQ(handler(2).AwaitEpochs(2)[1], std::pair(NodeId(1), uint64_t{6}));
}

TEST_F(RpcPeersTest, NewNodesAreConnectedToAndGoneOnesLetGo) {
  MakePorts(3);
  const auto all = map_;
  map_ = NewerMap([](kv::ClusterMap* map) { map->nodes.pop_back(); });
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  EXPECT_FALSE(Knows(1, 3));
  // Node 3 has the newer map first; the others open, and know it later.
  map_ = all;
  map_ = NewerMap([](kv::ClusterMap* map) { map->epoch += 10; });
  Start(3);
  for (uint64_t id : {1, 2}) nodes_[id].server->SetPeers(map_);
  Await(1, [&] { return Knows(1, 3) && Knows(2, 3); });
  AwaitConnected(1, 3);
  AwaitConnected(2, 3);
  Send(3, 1, {Beat(31)});
  EXPECT_EQ(RoundOf(handler(1).TakeMessages(1)[0].second), 31u);
  // Between the others nothing was broken off.
  EXPECT_EQ(StateOf(1, 2).connects, 1u);

  // Older maps count for nothing.
  auto old = std::make_shared<kv::ClusterMap>(*all);
  old->nodes.clear();
  nodes_[1].server->SetPeers(old);
  handler(1).AwaitTicks(2);
  EXPECT_TRUE(StateOf(1, 2).connected);

  const auto without = NewerMap(
      [](kv::ClusterMap* map) { map->nodes.erase(map->nodes.begin() + 1); });
  for (uint64_t id : {1, 3}) nodes_[id].server->SetPeers(without);
  Await(1, [&] { return !Knows(1, 2) && !Knows(3, 2); });
  Await(2,
        [&] { return !StateOf(2, 1).connected && !StateOf(2, 3).connected; });
  EXPECT_TRUE(StateOf(1, 3).connected);
  // It tries again and again, and is refused without harm.
  const uint64_t refused = nodes_[3].server->Refusals()[2];
  Await(3, [&] { return nodes_[3].server->Refusals()[2] >= refused + 2; });
}

TEST_F(RpcPeersTest, ANodeThatMovesIsFound) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  Stop(2);
  const int port = FreePort();
  NewerMap([port](kv::ClusterMap* map) {
    map->nodes[1].address.port = static_cast<uint16_t>(port);
  });
  Start(2);
  nodes_[1].server->SetPeers(map_);
  Await(1, [&] {
    return StateOf(1, 2).address == map_->nodes[1].address.ToString() &&
           StateOf(1, 2).connected;
  });
  Send(1, 2, {Beat(7)});
  EXPECT_EQ(RoundOf(handler(2).TakeMessages(1)[0].second), 7u);
}

TEST_F(RpcPeersTest, PeersMayChangeWhileMessagesFlow) {
  MakePorts(3);
  for (uint64_t id : {1, 2, 3}) Start(id);
  AwaitConnected(1, 2);
  AwaitConnected(1, 3);
  std::atomic<bool> enough{false};
  std::vector<std::thread> senders;
  for (uint64_t from : {1, 2, 3}) {
    senders.emplace_back([&, from, transport = transport(from)] {
      for (uint64_t i = 0; !enough; ++i) {
        for (uint64_t to : {1, 2, 3}) {
          if (to == from) continue;
          transport->Send(NodeId(to), {Beat(i), Append(100)});
          if (i % 16 == 0) {
            transport->SendToNode(NodeId(to), {Kind::kAudit, "audit"});
          }
          transport->Connected(NodeId(to));
        }
        std::this_thread::yield();
      }
    });
  }
  const auto all = map_;
  for (int round = 0; round < 10; ++round) {
    NewerMap([&](kv::ClusterMap* map) {
      map->nodes = all->nodes;
      if (round % 2 == 0) map->nodes.pop_back();
    });
    for (uint64_t id : {1, 2}) nodes_[id].server->SetPeers(map_);
    Await(1, [&] { return Knows(1, 3) == (round % 2 != 0); });
  }
  AwaitConnected(1, 3);
  enough = true;
  for (std::thread& sender : senders) sender.join();
  EXPECT_EQ(StateOf(1, 2).connects, 1u);
  handler(1).TakeMessages(0);
  handler(3).TakeMessages(0);
  Send(1, 3, {Beat(~uint64_t{0})});
  Await(3, [&] {
    const auto messages = handler(3).TakeMessages(0);
    return std::any_of(messages.begin(), messages.end(), [](const auto& m) {
      const auto* beat = std::get_if<raft::Heartbeat>(&m.second.message);
      return beat != nullptr && beat->round == ~uint64_t{0};
    });
  });
}

TEST_F(RpcPeersTest, WhoHasLeftIsToldAndThenLetGo) {
  MakePorts(3);
  for (uint64_t id : {1, 2, 3}) Start(id);
  AwaitConnected(1, 2);
  AwaitConnected(1, 3);
  AwaitConnected(2, 3);
  NewerMap(
      [](kv::ClusterMap* map) { map->nodes[1].state = kv::NodeState::kLeft; });
  for (uint64_t id : {1, 3}) handler(id).SetMap(map_);
  // The stream is still there for the map to go over it.
  handler(1).AwaitTicks(2);
  handler(3).AwaitTicks(2);
  EXPECT_TRUE(transport(1)->Connected(NodeId(2)));
  transport(1)->SendToNode(NodeId(2), {Kind::kMap, "the newest"});
  EXPECT_EQ(handler(2).TakeNodeMessages(1)[0].second.payload, "the newest");
  // Node 1 does not open it again once it has ended, and shows it no more.
  Await(1, [&] { return !Knows(1, 2); });
  // A server that has left comes once more, with an old map, and may ask.
  Stop(2);
  const auto newer = map_;
  auto old = std::make_shared<kv::ClusterMap>(*map_);
  old->nodes[1].state = kv::NodeState::kActive;
  --old->epoch;
  map_ = old;
  Start(2);
  map_ = newer;
  Await(2, [&] { return StateOf(2, 3).connected; });
  EXPECT_EQ(handler(2).AwaitEpochs(1)[0], std::pair(NodeId(3), newer->epoch));
  EXPECT_FALSE(StateOf(2, 1).connected);
}

TEST_F(RpcPeersTest, ANodeMayTakeThePlaceAndTheAddressOfAnother) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  Stop(2);
  NewerMap([](kv::ClusterMap* map) {
    map->nodes.push_back(map->nodes[1]);
    map->nodes[1].state = kv::NodeState::kLeft;
    map->nodes[2].id = NodeId(3);
  });
  Start(3);
  nodes_[1].server->SetPeers(map_);
  Await(1, [&] { return Knows(1, 3) && StateOf(1, 3).connected; });
  // Metrics go by the address.
  EXPECT_FALSE(Knows(1, 2));
  Send(3, 1, {Beat(9)});
  EXPECT_EQ(RoundOf(handler(1).TakeMessages(1)[0].second), 9u);
}

// Speaks to node 2 as one wishes.
class RpcRawNodeMessageTest : public RpcPeersTest {
 protected:
  RpcRawNodeMessageTest() {
    MakePorts(2);
    Start(2);
    peer_.emplace(map_->nodes[1].address.port);
    peer_->Say(RawPeer::Opening({7390, NodeId(1), NodeId(2), 101}, 5));
    const auto answer = peer_->Hear();
    EXPECT_TRUE(answer.has_value());
    EXPECT_EQ(answer->type, FrameType::kHello);
    EXPECT_EQ(answer->map_epoch, 5u);
  }
  void Say(const wire::PeerBatch& batch = {}, uint64_t epoch = 5) {
    peer_->Say(RawPeer::Batch(batch, epoch));
  }
  std::optional<RawPeer> peer_;
};

TEST_F(RpcRawNodeMessageTest, UnknownKindsAreSkipped) {
  wire::PeerBatch batch;
  for (uint32_t kind : {0u, 6u, 257u, 3u, 4u}) {
    wire::NodeMessage* message = batch.add_node_messages();
    message->set_kind(kind);
    message->set_payload("x");
  }
  Say(batch);
  const auto messages = handler(2).TakeNodeMessages(2);
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[0].second.kind, Kind::kAudit);
  EXPECT_EQ(messages[1].second.kind, Kind::kDiskLow);
  EXPECT_EQ(StateOf(2, 1).malformed_messages, 3u);
  EXPECT_TRUE(StateOf(2, 1).connected);
}

TEST_F(RpcRawNodeMessageTest, ATooLargeOneEndsTheConnection) {
  wire::PeerBatch batch;
  wire::NodeMessage* message = batch.add_node_messages();
  message->set_kind(1);
  message->set_payload(std::string(kMaxNodeMessageBytes + 1, 'x'));
  Say(batch);
  EXPECT_TRUE(peer_->Ended());
  EXPECT_TRUE(handler(2).TakeNodeMessages(0).empty());
}

TEST_F(RpcRawNodeMessageTest, EachChangeOfTheEpochIsToldOnce) {
  for (uint64_t epoch : {7, 7, 8, 8, 8, 6}) Say({}, epoch);
  EXPECT_THAT(handler(2).AwaitEpochs(3),
              ElementsAre(Pair(NodeId(1), 7u), Pair(NodeId(1), 8u),
                          Pair(NodeId(1), 6u)));
}

// The peer takes nothing, so that what is sent to it waits.
TEST_F(RpcRawNodeMessageTest, OfWaitingMapsTheNewestIsKept) {
  Say();
  Await(2, [&] { return StateOf(2, 1).connected; });
  // More than the connection itself takes.
  for (int i = 0; i < 32; ++i) Send(2, 1, {Append(1'000'000)});
  const std::string body(kMaxNodeMessageBytes - 8, 'x');
  const uint64_t before = StateOf(2, 1).queue_bytes;
  EXPECT_GT(before, 1u << 20);
  for (int i = 0; i < 100; ++i) {
    transport(2)->SendToNode(NodeId(1), {Kind::kMap, body + std::to_string(i)});
    transport(2)->SendToNode(NodeId(1), {Kind::kAudit, "a"});
  }
  EXPECT_LT(StateOf(2, 1).queue_bytes, before + (2 << 20));
  EXPECT_EQ(StateOf(2, 1).dropped_messages, 0u);
  std::vector<std::string> maps;
  int audits = 0;
  while (audits < 100) {
    const auto heard = peer_->Hear();
    ASSERT_TRUE(heard.has_value());
    const wire::PeerBatch batch = heard->batch();
    for (const wire::NodeMessage& message : batch.node_messages()) {
      if (message.kind() == 1) maps.push_back(message.payload());
      if (message.kind() == 3) ++audits;
    }
  }
  ASSERT_EQ(maps.size(), 1u);
  EXPECT_EQ(maps[0], body + "99");
  Await(2, [&] { return StateOf(2, 1).queue_bytes == 0; });
}

}  // namespace
}  // namespace kv739::server
