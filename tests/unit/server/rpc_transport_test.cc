// Connections between nodes: two or three servers in one process.
#include <map>
#include <memory>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "raft/v1/raft.pb.h"
#include "tests/unit/server/raw_peer.h"
#include "tests/unit/server/rpc_nodes.h"

namespace kv739::server {
namespace {

using raft::NodeId;
using ::testing::HasSubstr;
namespace wire = ::raft::v1;

using RpcTransportTest = RpcNodesTest;

TEST_F(RpcTransportTest, MessagesArriveInOrderInBothDirections) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  constexpr uint64_t kCount = 4000;
  std::thread there([&] {
    for (uint64_t i = 0; i < kCount; i += 2) {
      Send(1, 2, {Beat(i), Beat(i + 1)});
    }
  });
  std::thread back([&] {
    for (uint64_t i = 0; i < kCount; ++i) Send(2, 1, {Beat(i)});
  });
  there.join();
  back.join();
  for (uint64_t to : {2, 1}) {
    const auto messages = handler(to).TakeMessages(kCount);
    ASSERT_EQ(messages.size(), kCount);
    for (uint64_t i = 0; i < kCount; ++i) {
      ASSERT_EQ(messages[i].first, NodeId(3 - to));
      ASSERT_EQ(RoundOf(messages[i].second), i);
    }
  }
  // What is sent together travels together; and the first words, and maybe a
  // few that say that we are there.
  const PeerState state = StateOf(1, 2);
  EXPECT_EQ(state.sent_messages, kCount);
  EXPECT_LT(state.sent_batches, kCount / 2 + 20);
  EXPECT_EQ(state.queue_bytes, 0u);
  EXPECT_EQ(state.connects, 1u);
  EXPECT_EQ(StateOf(2, 1).received_messages, kCount);
}

TEST_F(RpcTransportTest, ThreeNodesHaveAConnectionForEachPair) {
  MakePorts(3);
  for (uint64_t id : {3, 1, 2}) Start(id);
  AwaitConnected(1, 2);
  AwaitConnected(1, 3);
  AwaitConnected(2, 3);
  for (uint64_t from : {1, 2, 3}) {
    for (uint64_t to : {1, 2, 3}) {
      if (from != to) Send(from, to, {Beat(10 * from + to)});
    }
  }
  for (uint64_t to : {1, 2, 3}) {
    for (const auto& [from, message] : handler(to).TakeMessages(2)) {
      EXPECT_EQ(RoundOf(message), 10 * from.value() + to);
    }
  }
}

TEST_F(RpcTransportTest, LargeMessagesGoInSeveralBatches) {
  MakePorts(2);
  Start(1);
  Start(2);
  AwaitConnected(1, 2);
  std::vector<GroupMessage> messages;
  for (int i = 0; i < 30; ++i) messages.push_back(Append(1'024'000));
  Send(1, 2, std::move(messages));
  const auto received = handler(2).TakeMessages(30);
  for (const auto& [from, message] : received) {
    const auto& append = std::get<raft::AppendEntries>(message.message);
    EXPECT_GE(append.entries[0].data->size(), 1'024'000u);
  }
  // 4 MiB and what passes it, each.
  EXPECT_GE(StateOf(1, 2).sent_batches, 6u);
}

TEST_F(RpcTransportTest, ComesBackWithinASecondWhicheverSideRestarts) {
  MakePorts(2);
  Start(1);
  Start(2);
  std::map<uint64_t, size_t> gone;  // told to each
  for (uint64_t restarted : {1, 2, 1, 2}) {
    AwaitConnected(1, 2);
    const uint64_t other = 3 - restarted;
    Stop(restarted);
    EXPECT_EQ(handler(other).AwaitGone(++gone[other]).back(),
              raft::NodeId(restarted));
    gone.erase(restarted);  // it has a handler of its own
    Await(other, [&] { return !StateOf(other, restarted).connected; });
    Start(restarted);
    const absl::Time start = absl::Now();
    AwaitConnected(1, 2);
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
    EXPECT_LT(absl::Now() - start, absl::Seconds(5));
#endif
    RecordProperty(
        "reconnect_ms",
        static_cast<int>(absl::ToInt64Milliseconds(absl::Now() - start)));
    Send(restarted, other, {Beat(1)});
    handler(other).TakeMessages(1);
    Send(other, restarted, {Beat(2)});
    handler(restarted).TakeMessages(1);
  }
}

TEST_F(RpcTransportTest, AnotherClusterIsRefused) {
  MakePorts(2);
  Start(2);
  RpcServerOptions options = Options(1);
  options.transport.cluster_id = 1;
  Start(1, options);
  Await(2, [&] { return nodes_[2].server->Refusals()[0] >= 2; });
  EXPECT_FALSE(StateOf(1, 2).connected);
  EXPECT_FALSE(StateOf(2, 1).connected);
  EXPECT_GE(StateOf(2, 1).refused, 2u);
}

TEST_F(RpcTransportTest, AnotherIncarnationIsRefused) {
  MakePorts(2);
  RpcServerOptions options = Options(2);
  options.transport.check_peer = [](NodeId peer, uint64_t incarnation) {
    EXPECT_EQ(peer, NodeId(1));
    return incarnation == 101 ? absl::OkStatus()
                              : absl::FailedPreconditionError("not 101");
  };
  Start(2, options);
  RpcServerOptions changed = Options(1);
  changed.transport.incarnation = 999;
  Start(1, changed);
  Await(2, [&] { return nodes_[2].server->Refusals()[3] >= 1; });
  EXPECT_FALSE(StateOf(2, 1).connected);
  Stop(1);
  Start(1);
  AwaitConnected(1, 2);
}

TEST_F(RpcTransportTest, TheOpeningSideChecksToo) {
  MakePorts(2);
  RpcServerOptions options = Options(1);
  options.transport.check_peer = [](NodeId, uint64_t incarnation) {
    return incarnation == 102 ? absl::OkStatus()
                              : absl::FailedPreconditionError("not 102");
  };
  Start(1, options);
  RpcServerOptions changed = Options(2);
  changed.transport.incarnation = 999;
  Start(2, changed);
  Await(1, [&] { return nodes_[1].server->Refusals()[3] >= 2; });
  EXPECT_FALSE(StateOf(1, 2).connected);
  // The accepting side had nothing against the other, and yet.
  EXPECT_FALSE(StateOf(2, 1).connected);
  EXPECT_EQ(StateOf(2, 1).connects, 0u);
  EXPECT_TRUE(handler(2).AwaitEpochs(0).empty());
}

TEST_F(RpcTransportTest, AnotherNodeAtTheAddressIsRefused) {
  MakePorts(3);
  Start(1);
  // Node 3 took the place of node 2.
  RpcServerOptions options = Options(3);
  options.listen = map_->nodes[1].address.ToString();
  Start(3, options);
  Await(3, [&] { return nodes_[3].server->Refusals()[1] >= 2; });
  EXPECT_FALSE(StateOf(1, 2).connected);
}

// Speaks to node 2 as one wishes.
class RpcRawPeerTest : public RpcTransportTest {
 protected:
  RpcRawPeerTest() {
    MakePorts(2);
    Start(2);
  }
  int port() const { return map_->nodes[1].address.port; }
  static PeerIdentity Us() { return {7390, NodeId(1), NodeId(2), 101}; }
  static std::string Beats(std::vector<uint64_t> rounds) {
    wire::PeerBatch batch;
    for (uint64_t round : rounds) {
      batch.add_messages()->mutable_heartbeat()->set_round(round);
    }
    return RawPeer::Batch(batch);
  }
  // Why a connection that begins so is refused.
  std::string RefusalOf(const PeerIdentity& identity) {
    RawPeer peer(port());
    peer.Say(RawPeer::Opening(identity));
    return peer.Refusal();
  }
};

TEST_F(RpcRawPeerTest, RefusalsNameBothValues) {
  PeerIdentity identity = Us();
  identity.cluster_id = 12;
  std::string why = RefusalOf(identity);
  EXPECT_THAT(why, HasSubstr("12"));
  EXPECT_THAT(why, HasSubstr("7390"));

  identity = Us();
  identity.to = NodeId(77);
  why = RefusalOf(identity);
  EXPECT_THAT(why, HasSubstr("means node 77"));
  EXPECT_THAT(why, HasSubstr("this is node 2"));

  identity = Us();
  identity.from = NodeId(88);
  EXPECT_THAT(RefusalOf(identity), HasSubstr("88"));

  EXPECT_NE(RefusalOf(PeerIdentity()), "");
  EXPECT_EQ(nodes_[2].server->Refusals()[0], 2u);
  EXPECT_EQ(nodes_[2].server->Refusals()[1], 1u);
  EXPECT_EQ(nodes_[2].server->Refusals()[2], 1u);
}

TEST_F(RpcRawPeerTest, MessagesOfARefusedConnectionDoNotArrive) {
  PeerIdentity bad = Us();
  bad.to = NodeId(77);
  RawPeer refused(port());
  refused.Say(RawPeer::Opening(bad) + Beats({4}));
  EXPECT_TRUE(refused.Ended());
  RawPeer peer(port());
  peer.Say(RawPeer::Opening(Us()) + Beats({5}));
  const auto messages = handler(2).TakeMessages(1);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(RoundOf(messages[0].second), 5u);
}

TEST_F(RpcRawPeerTest, ASecondHelloEndsTheConnection) {
  PeerIdentity other = Us();
  other.incarnation = 5;
  RawPeer peer(port());
  peer.Say(RawPeer::Opening(Us()) +
           EncodeFrame({FrameType::kHello, 0, EncodeHelloPayload(other)}) +
           Beats({1}));
  EXPECT_TRUE(peer.Ended());
  handler(2).AwaitTicks(2);
  EXPECT_TRUE(handler(2).TakeMessages(0).empty());
}

TEST_F(RpcRawPeerTest, NonsenseInABatchIsCountedAndTheRestArrives) {
  wire::PeerBatch batch;
  batch.add_messages();
  batch.add_messages()->mutable_append_entries()->add_entries();
  batch.add_messages()->mutable_heartbeat()->set_round(6);
  RawPeer peer(port());
  peer.Say(RawPeer::Opening(Us()) + RawPeer::Batch(batch));
  const auto messages = handler(2).TakeMessages(1);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(StateOf(2, 1).malformed_messages, 2u);
}

// A byte at a time, so that every cut comes up, in the opening too.
TEST_F(RpcRawPeerTest, BytesMayComeOneByOne) {
  RawPeer peer(port());
  const std::string bytes = RawPeer::Opening(Us()) + Beats({1}) + Beats({2, 3});
  for (char byte : bytes) {
    ASSERT_TRUE(peer.Say(std::string(1, byte)));
    std::this_thread::yield();
  }
  const auto messages = handler(2).TakeMessages(3);
  ASSERT_EQ(messages.size(), 3u);
  for (uint64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(RoundOf(messages[i].second), i + 1);
  }
}

// Each byte of a frame changed in turn: what was sent before it arrives, the
// connection ends, and nothing else happens.
TEST_F(RpcRawPeerTest, ADamagedFrameEndsTheConnectionAndIsCounted) {
  const std::string good = Beats({2});
  const uint64_t before = StateOf(2, 1).malformed_messages;
  uint64_t damaged = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x40);
    // A longer length waits for bytes that do not come.
    bad += std::string(i < 4 ? 5 << 20 : 0, 'x');
    RawPeer peer(port());
    peer.Say(RawPeer::Opening(Us()) + Beats({1}));
    ASSERT_EQ(handler(2).TakeMessages(1).size(), 1u);
    peer.Say(bad);
    EXPECT_TRUE(peer.Ended()) << i;
    ++damaged;
  }
  EXPECT_TRUE(handler(2).TakeMessages(0).empty());
  Await(2,
        [&] { return StateOf(2, 1).malformed_messages == before + damaged; });
  RawPeer peer(port());
  peer.Say(RawPeer::Opening(Us()) + Beats({9}));
  EXPECT_EQ(RoundOf(handler(2).TakeMessages(1)[0].second), 9u);
}

TEST_F(RpcRawPeerTest, AHugeLengthOrAnotherVersionEndsTheConnection) {
  for (const bool huge : {true, false}) {
    std::string frame = Beats({2});
    if (huge) {
      frame[3] = '\x7f';
    } else {
      frame[5] = kPeerProtocolVersion + 1;
    }
    RawPeer peer(port());
    peer.Say(RawPeer::Opening(Us()) + frame);
    EXPECT_TRUE(peer.Ended());
  }
  // From the first word on.
  std::string opening = RawPeer::Opening(Us());
  opening[kPeerMagic.size() + 5] = kPeerProtocolVersion + 1;
  RawPeer peer(port());
  peer.Say(opening);
  EXPECT_THAT(peer.Refusal(), HasSubstr("version"));
  EXPECT_EQ(nodes_[2].server->Refusals()[4], 1u);
  EXPECT_TRUE(handler(2).TakeMessages(0).empty());
}

TEST_F(RpcRawPeerTest, ANewerConnectionTakesThePlaceOfTheOlder) {
  RawPeer older(port());
  older.Say(RawPeer::Opening(Us()));
  auto answer = older.Hear();
  ASSERT_TRUE(answer.has_value());
  ASSERT_EQ(answer->type, FrameType::kHello);
  const auto theirs = DecodeHelloPayload(answer->payload);
  ASSERT_TRUE(theirs.ok());
  EXPECT_EQ(*theirs, (PeerIdentity{7390, NodeId(2), NodeId(1), 102}));
  RawPeer newer(port());
  newer.Say(RawPeer::Opening(Us()));
  ASSERT_TRUE(newer.Hear().has_value());
  EXPECT_FALSE(StateOf(2, 1).connected);
  newer.Say(RawPeer::Batch({}));  // has checked the answer
  EXPECT_TRUE(older.Ended());
  Await(2, [&] { return StateOf(2, 1).connected; });
  Send(2, 1, {Beat(3)});
  answer = newer.Hear();
  ASSERT_TRUE(answer.has_value());
  const wire::PeerBatch batch = answer->batch();
  ASSERT_EQ(batch.messages_size(), 1);
  EXPECT_EQ(batch.messages(0).heartbeat().round(), 3u);
}

// Like a peer that is stopped: its connection stays and takes nothing.
TEST_F(RpcRawPeerTest, TheQueueToASilentPeerIsBounded) {
  Stop(2);
  RpcServerOptions options = Options(2);
  options.transport.max_queue_bytes = 8 << 20;
  Start(2, options);
  RawPeer peer(port());
  peer.Say(RawPeer::Opening(Us()));
  ASSERT_TRUE(peer.Hear().has_value());
  EXPECT_FALSE(StateOf(2, 1).connected);
  peer.Say(RawPeer::Batch({}));
  Await(2, [&] { return StateOf(2, 1).connected; });
  for (int i = 0; i < 100; ++i) {
    Send(2, 1, {Append(1'000'000)});
    ASSERT_LE(StateOf(2, 1).queue_bytes, uint64_t{8 << 20});
  }
  EXPECT_GT(StateOf(2, 1).dropped_messages, 50u);
  peer.Close();
  Await(2, [&] { return StateOf(2, 1).queue_bytes == 0; });
  EXPECT_FALSE(StateOf(2, 1).connected);
}

// What waited arrives once it is taken, in order and unchanged, and what is
// sent meanwhile goes behind it.
TEST_F(RpcRawPeerTest, ASlowReaderGetsEverythingThatHadRoom) {
  RawPeer peer(port());
  peer.Say(RawPeer::Opening(Us()) + RawPeer::Batch({}));
  ASSERT_TRUE(peer.Hear().has_value());
  Await(2, [&] { return StateOf(2, 1).connected; });
  constexpr uint64_t kCount = 40;
  for (uint64_t i = 0; i < kCount; ++i) {
    Send(2, 1, {Append(1'000'000), Beat(i)});
  }
  EXPECT_GT(StateOf(2, 1).queue_bytes, 0u);
  uint64_t beats = 0;
  while (beats < 2 * kCount) {
    const auto heard = peer.Hear();
    ASSERT_TRUE(heard.has_value());
    const wire::PeerBatch batch = heard->batch();
    for (const wire::GroupMessage& message : batch.messages()) {
      if (!message.has_heartbeat()) continue;
      ASSERT_EQ(message.heartbeat().round(), beats);
      ++beats;
      if (beats <= kCount) Send(2, 1, {Beat(kCount + beats - 1)});
    }
  }
  EXPECT_EQ(StateOf(2, 1).dropped_messages, 0u);
  Await(2, [&] { return StateOf(2, 1).queue_bytes == 0; });
}

// Clients of gRPC and peers come to one port, also while strangers sit there.
TEST_F(RpcRawPeerTest, ClientsAndPeersShareThePort) {
  handler(2).SetAnswer([](const Operation&) { return Reply(); });
  std::vector<std::unique_ptr<RawPeer>> strangers;
  for (int i = 0; i < 200; ++i) {
    strangers.push_back(std::make_unique<RawPeer>(port()));
    ASSERT_TRUE(strangers.back()->connected());
    // Some say nothing, some a part of what a peer says.
    strangers.back()->Say(
        RawPeer::Opening(Us()).substr(0, static_cast<size_t>(i) % 64));
  }
  Start(1);
  AwaitConnected(1, 2);
  auto stub = v1::KeyValue::NewStub(ChannelTo(port()));
  for (uint64_t i = 0; i < 50; ++i) {
    Send(1, 2, {Beat(i)});
    Send(2, 1, {Beat(i)});
    grpc::ClientContext context;
    SetPatience(&context);
    v1::PutRequest request;
    request.set_key("key");
    v1::WriteResponse response;
    const grpc::Status status = stub->Put(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
  EXPECT_EQ(handler(1).TakeMessages(50).size(), 50u);
  EXPECT_EQ(handler(2).TakeMessages(50).size(), 50u);
}

TEST_F(RpcTransportTest, WithoutAConnectionMessagesAreDroppedAndCounted) {
  MakePorts(2);
  Start(1);
  for (int i = 0; i < 10; ++i) Send(1, 2, {Beat(1), Beat(2)});
  EXPECT_EQ(StateOf(1, 2).dropped_messages, 20u);
  Send(1, 99, {Beat(1)});  // not in the map
}

TEST_F(RpcTransportTest, NodesMayStopWhileTheySend) {
  MakePorts(3);
  for (uint64_t id : {1, 2, 3}) Start(id);
  AwaitConnected(1, 2);
  AwaitConnected(2, 3);
  std::atomic<bool> enough{false};
  Transport* transport = nodes_[2].server->transport();
  std::thread sender([&] {
    while (!enough) {
      transport->Send(NodeId(1), {Beat(1), Append(1000)});
      transport->Send(NodeId(3), {Beat(2), Append(1000)});
      std::this_thread::yield();  // the others want the queue too
    }
  });
  Stop(1);
  handler(2).AwaitTicks(5);
  nodes_[2].server->Shutdown(absl::Now());
  enough = true;
  sender.join();
}

}  // namespace
}  // namespace kv739::server
