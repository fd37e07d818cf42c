// Streams between nodes: two or three servers in one process.
#include <map>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/v1/raft.grpc.pb.h"
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
  // What waits together travels together.
  const PeerState state = StateOf(1, 2);
  EXPECT_EQ(state.sent_messages, kCount);
  EXPECT_LT(state.sent_batches, kCount / 2);
  EXPECT_EQ(state.queue_bytes, 0u);
  EXPECT_EQ(state.connects, 1u);
  EXPECT_EQ(StateOf(2, 1).received_messages, kCount);
}

TEST_F(RpcTransportTest, ThreeNodesHaveAStreamForEachPair) {
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

// Speaks to node 1 as one wishes.
class RpcRawPeerTest : public RpcTransportTest {
 protected:
  RpcRawPeerTest() {
    MakePorts(2);
    Start(2);
    stub_ = wire::Raft::NewStub(ChannelTo(map_->nodes[1].address.port));
  }
  wire::PeerBatch Hello() {
    wire::PeerBatch batch;
    batch.set_cluster_id(7390);
    batch.set_from(1);
    batch.set_to(2);
    batch.set_from_incarnation(101);
    return batch;
  }
  // What the call ends with after these words.
  grpc::Status Say(const std::vector<wire::PeerBatch>& batches) {
    grpc::ClientContext context;
    SetPatience(&context);
    auto call = stub_->Exchange(&context);
    for (const wire::PeerBatch& batch : batches) call->Write(batch);
    wire::PeerBatch answer;
    while (call->Read(&answer)) {
    }
    return call->Finish();
  }
  std::unique_ptr<wire::Raft::Stub> stub_;
};

TEST_F(RpcRawPeerTest, RefusalsNameBothValues) {
  wire::PeerBatch batch = Hello();
  batch.set_cluster_id(12);
  grpc::Status status = Say({batch});
  EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("12"));
  EXPECT_THAT(status.error_message(), HasSubstr("7390"));

  batch = Hello();
  batch.set_to(77);
  status = Say({batch});
  EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("means node 77"));
  EXPECT_THAT(status.error_message(), HasSubstr("this is node 2"));

  batch = Hello();
  batch.set_from(88);
  status = Say({batch});
  EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("88"));

  status = Say({wire::PeerBatch()});
  EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_EQ(nodes_[2].server->Refusals()[0], 2u);
  EXPECT_EQ(nodes_[2].server->Refusals()[1], 1u);
  EXPECT_EQ(nodes_[2].server->Refusals()[2], 1u);
}

TEST_F(RpcRawPeerTest, MessagesOfARefusedBatchDoNotArrive) {
  wire::PeerBatch bad = Hello();
  bad.set_to(77);
  bad.add_messages()->mutable_timeout_now();
  Say({bad});
  grpc::ClientContext context;
  SetPatience(&context);
  auto call = stub_->Exchange(&context);
  wire::PeerBatch good = Hello();
  good.add_messages()->mutable_heartbeat()->set_round(5);
  call->Write(good);
  const auto messages = handler(2).TakeMessages(1);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(RoundOf(messages[0].second), 5u);
  context.TryCancel();
}

TEST_F(RpcRawPeerTest, AnIdentityThatChangesEndsTheStream) {
  wire::PeerBatch other = Hello();
  other.set_from_incarnation(5);
  other.add_messages()->mutable_timeout_now();
  EXPECT_FALSE(Say({Hello(), other}).ok());
  handler(2).AwaitTicks(2);
  EXPECT_TRUE(handler(2).TakeMessages(0).empty());
}

TEST_F(RpcRawPeerTest, NonsenseInABatchIsCountedAndTheRestArrives) {
  wire::PeerBatch batch = Hello();
  batch.add_messages();
  batch.add_messages()->mutable_append_entries()->add_entries();
  batch.add_messages()->mutable_heartbeat()->set_round(6);
  grpc::ClientContext context;
  SetPatience(&context);
  auto call = stub_->Exchange(&context);
  call->Write(batch);
  const auto messages = handler(2).TakeMessages(1);
  ASSERT_EQ(messages.size(), 1u);
  EXPECT_EQ(StateOf(2, 1).malformed_messages, 2u);
  context.TryCancel();
}

TEST_F(RpcRawPeerTest, ANewerStreamTakesThePlaceOfTheOlder) {
  grpc::ClientContext older_context;
  SetPatience(&older_context);
  auto older = stub_->Exchange(&older_context);
  older->Write(Hello());
  wire::PeerBatch answer;
  ASSERT_TRUE(older->Read(&answer));
  EXPECT_EQ(answer.from(), 2u);
  EXPECT_EQ(answer.to(), 1u);
  EXPECT_EQ(answer.from_incarnation(), 102u);
  grpc::ClientContext newer_context;
  SetPatience(&newer_context);
  auto newer = stub_->Exchange(&newer_context);
  newer->Write(Hello());
  ASSERT_TRUE(newer->Read(&answer));
  newer->Write(Hello());  // has checked the answer
  EXPECT_FALSE(older->Read(&answer));
  EXPECT_FALSE(older->Finish().ok());
  Await(2, [&] { return StateOf(2, 1).connected; });
  Send(2, 1, {Beat(3)});
  ASSERT_TRUE(newer->Read(&answer));
  ASSERT_EQ(answer.messages_size(), 1);
  EXPECT_EQ(answer.messages(0).heartbeat().round(), 3u);
  newer_context.TryCancel();
}

// Like a peer that is stopped: its connection stays and takes nothing.
TEST_F(RpcRawPeerTest, TheQueueToASilentPeerIsBounded) {
  Stop(2);
  RpcServerOptions options = Options(2);
  options.transport.max_queue_bytes = 8 << 20;
  Start(2, options);
  grpc::ClientContext context;
  SetPatience(&context);
  context.set_wait_for_ready(true);
  auto call = stub_->Exchange(&context);
  call->Write(Hello());
  wire::PeerBatch answer;
  ASSERT_TRUE(call->Read(&answer));
  EXPECT_FALSE(StateOf(2, 1).connected);
  call->Write(Hello());
  Await(2, [&] { return StateOf(2, 1).connected; });
  for (int i = 0; i < 100; ++i) {
    Send(2, 1, {Append(1'000'000)});
    ASSERT_LE(StateOf(2, 1).queue_bytes, uint64_t{8 << 20});
  }
  EXPECT_GT(StateOf(2, 1).dropped_messages, 50u);
  context.TryCancel();
  Await(2, [&] { return StateOf(2, 1).queue_bytes == 0; });
  EXPECT_FALSE(StateOf(2, 1).connected);
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
