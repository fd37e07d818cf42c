// Unary calls, cluster, admin and health against a fake handler.
#include <grpcpp/generic/generic_stub.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "server/listen_address.h"
#include "server/operation_codec.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;

class RpcServiceTest : public RpcFixture {
 protected:
  void Start(RpcServerOptions options = TestOptions()) {
    RpcFixture::Start(std::move(options));
    stub_ = v1::KeyValue::NewStub(channel_);
  }

  std::unique_ptr<v1::KeyValue::Stub> stub_;
};

TEST_F(RpcServiceTest, GetCarriesKeyAndValue) {
  handler_.SetAnswer([](const Operation& operation) {
    EXPECT_EQ(operation.kind, OpKind::kGet);
    EXPECT_EQ(operation.key, "k");
    EXPECT_GT(operation.start_nanos, 0u);
    Reply reply;
    reply.found = true;
    reply.value = std::string("v\0w", 3);
    reply.version = 77;
    return reply;
  });
  Start();
  grpc::ClientContext context;
  SetPatience(&context);
  v1::GetRequest request;
  request.set_key("k");
  v1::GetResponse response;
  const grpc::Status status = stub_->Get(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(response.found());
  EXPECT_EQ(response.value(), std::string("v\0w", 3));
  EXPECT_EQ(response.version(), 77u);
}

TEST_F(RpcServiceTest, StaleGetIsAKindOfItsOwn) {
  handler_.SetAnswer([](const Operation& operation) {
    EXPECT_EQ(operation.kind, OpKind::kGetStale);
    return Reply();
  });
  Start();
  grpc::ClientContext context;
  SetPatience(&context);
  v1::GetRequest request;
  request.set_consistency(v1::STALE);
  v1::GetResponse response;
  EXPECT_TRUE(stub_->Get(&context, request, &response).ok());
  EXPECT_FALSE(response.found());
}

TEST_F(RpcServiceTest, ScansCarryAllTheirFields) {
  kv::ScanRequest seen;
  OpKind kind = OpKind::kGet;
  handler_.SetAnswer([&](const Operation& operation) {
    seen = *operation.scan;
    kind = operation.kind;
    Reply reply;
    reply.page = std::make_shared<kv::ScanPage>();
    reply.page->entries = {{"a", "1", 7}, {"b", "", 9}};
    reply.page->more = true;
    reply.page->next_slot = 12;
    reply.page->next_from = "c";
    return reply;
  });
  Start();
  v1::ScanRequest request;
  request.set_slot(11);
  request.set_from("from");
  request.set_prefix("prefix");
  request.set_max_keys(100);
  request.set_max_bytes(1000);
  request.set_keys_only(true);
  for (const auto consistency : {v1::LINEARIZABLE, v1::STALE}) {
    request.set_consistency(consistency);
    grpc::ClientContext context;
    SetPatience(&context);
    v1::ScanResponse response;
    const grpc::Status status = stub_->Scan(&context, request, &response);
    handler_.Sync();
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(kind,
              consistency == v1::STALE ? OpKind::kScanStale : OpKind::kScan);
    EXPECT_EQ(seen.slot, 11u);
    EXPECT_EQ(seen.from, "from");
    EXPECT_EQ(seen.prefix, "prefix");
    EXPECT_EQ(seen.max_keys, 100u);
    EXPECT_EQ(seen.max_bytes, 1000u);
    EXPECT_TRUE(seen.keys_only);
    ASSERT_EQ(response.entries_size(), 2);
    EXPECT_EQ(response.entries(0).key(), "a");
    EXPECT_EQ(response.entries(0).value(), "1");
    EXPECT_EQ(response.entries(1).version(), 9u);
    EXPECT_TRUE(response.more());
    EXPECT_EQ(response.next_slot(), 12u);
    EXPECT_EQ(response.next_from(), "c");
  }
}

TEST_F(RpcServiceTest, WritesCarryAllTheirFields) {
  Operation seen;
  handler_.SetAnswer([&](const Operation& operation) {
    seen.kind = operation.kind;
    seen.key = operation.key;
    seen.value = operation.value;
    seen.expected = operation.expected;
    seen.session = operation.session;
    seen.sequence = operation.sequence;
    seen.floor = operation.floor;
    Reply reply;
    reply.found = true;
    reply.value = "old";
    reply.version = 9;
    reply.swapped = operation.kind == OpKind::kCompareAndSwap;
    return reply;
  });
  Start();
  auto fill = [](auto* request) {
    request->set_key("key");
    request->mutable_id()->set_session(11);
    request->mutable_id()->set_sequence(12);
    request->mutable_id()->set_floor(10);
  };
  auto check = [&](OpKind kind, const std::string& value,
                   const grpc::Status& status,
                   const v1::WriteResponse& response) {
    handler_.Sync();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(seen.kind, kind);
    EXPECT_EQ(seen.key, "key");
    EXPECT_EQ(seen.value, value);
    EXPECT_EQ(seen.session, 11u);
    EXPECT_EQ(seen.sequence, 12u);
    EXPECT_EQ(seen.floor, 10u);
    EXPECT_TRUE(response.existed());
    EXPECT_EQ(response.old_value(), "old");
    EXPECT_EQ(response.version(), 9u);
    EXPECT_EQ(response.swapped(), kind == OpKind::kCompareAndSwap);
    handler_.Sync();
  };
  {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::PutRequest request;
    fill(&request);
    request.set_value("put");
    v1::WriteResponse response;
    check(OpKind::kPut, "put", stub_->Put(&context, request, &response),
          response);
  }
  {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::DeleteRequest request;
    fill(&request);
    v1::WriteResponse response;
    check(OpKind::kDelete, "", stub_->Delete(&context, request, &response),
          response);
  }
  {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::AppendRequest request;
    fill(&request);
    request.set_value("append");
    v1::WriteResponse response;
    check(OpKind::kAppend, "append",
          stub_->Append(&context, request, &response), response);
  }
  {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::CompareAndSwapRequest request;
    fill(&request);
    request.set_value("cas");
    request.set_expected_version(8);
    v1::WriteResponse response;
    check(OpKind::kCompareAndSwap, "cas",
          stub_->CompareAndSwap(&context, request, &response), response);
    EXPECT_EQ(seen.expected, 8u);
  }
}

TEST_F(RpcServiceTest, OpenSessionNamesTheGroup) {
  handler_.SetAnswer([](const Operation& operation) {
    EXPECT_EQ(operation.kind, OpKind::kOpenSession);
    EXPECT_EQ(operation.group, raft::GroupId(3));
    Reply reply;
    reply.session = 99;
    return reply;
  });
  Start();
  grpc::ClientContext context;
  SetPatience(&context);
  v1::OpenSessionRequest request;
  request.set_group(3);
  v1::OpenSessionResponse response;
  EXPECT_TRUE(stub_->OpenSession(&context, request, &response).ok());
  EXPECT_EQ(response.session(), 99u);
}

TEST_F(RpcServiceTest, ErrorsAreStatusesWithTheErrorInTheTrailer) {
  ReplyCode code = ReplyCode::kOk;
  handler_.SetAnswer([&](const Operation&) {
    Reply reply;
    reply.code = code;
    reply.message = "because";
    reply.leader = "localhost:50052";
    reply.map_epoch = 8;
    reply.group = raft::GroupId(2);
    return reply;
  });
  Start();
  const struct {
    ReplyCode reply;
    grpc::StatusCode status;
    v1::ErrorCode error;
  } kCases[] = {
      {ReplyCode::kInvalidArgument, grpc::INVALID_ARGUMENT,
       v1::INVALID_ARGUMENT},
      {ReplyCode::kNotLeader, grpc::UNAVAILABLE, v1::NOT_LEADER},
      {ReplyCode::kWrongGroup, grpc::FAILED_PRECONDITION, v1::WRONG_GROUP},
      {ReplyCode::kOverloaded, grpc::RESOURCE_EXHAUSTED, v1::OVERLOADED},
      {ReplyCode::kUnavailable, grpc::UNAVAILABLE, v1::UNAVAILABLE},
      {ReplyCode::kUnknown, grpc::UNKNOWN, v1::UNKNOWN},
      {ReplyCode::kSessionUnknown, grpc::FAILED_PRECONDITION,
       v1::SESSION_UNKNOWN},
      {ReplyCode::kSequenceRefused, grpc::FAILED_PRECONDITION,
       v1::SEQUENCE_REFUSED},
      {ReplyCode::kValueTooLarge, grpc::INVALID_ARGUMENT, v1::VALUE_TOO_LARGE},
      {ReplyCode::kInternal, grpc::INTERNAL, v1::INTERNAL},
  };
  for (const auto& c : kCases) {
    code = c.reply;
    handler_.Sync();
    grpc::ClientContext context;
    SetPatience(&context);
    v1::WriteResponse response;
    const grpc::Status status =
        stub_->Put(&context, v1::PutRequest(), &response);
    EXPECT_EQ(status.error_code(), c.status);
    EXPECT_EQ(status.error_message(), "because");
    const auto& trailers = context.GetServerTrailingMetadata();
    auto it = trailers.find(kErrorTrailer);
    ASSERT_NE(it, trailers.end());
    v1::Error error;
    ASSERT_TRUE(error.ParseFromArray(it->second.data(),
                                     static_cast<int>(it->second.size())));
    EXPECT_EQ(error.code(), c.error);
    EXPECT_EQ(error.message(), "because");
    EXPECT_EQ(error.leader(), "localhost:50052");
    EXPECT_EQ(error.map_epoch(), 8u);
    EXPECT_EQ(error.group(), 2u);
  }
}

TEST_F(RpcServiceTest, ManyCallsAtOnceGrowThePoolAndBeyondItAreRefused) {
  RpcServerOptions options = TestOptions();
  options.key_value.armed_calls = 2;
  options.key_value.max_calls = 10;
  Start(options);
  constexpr int kRunning = 8;  // max_calls - armed_calls
  std::vector<std::thread> threads;
  std::atomic<int> answered{0};
  for (int i = 0; i < kRunning; ++i) {
    threads.emplace_back([&] {
      grpc::ClientContext context;
      SetPatience(&context);
      v1::WriteResponse response;
      if (stub_->Put(&context, v1::PutRequest(), &response).ok()) ++answered;
    });
  }
  std::vector<Operation> operations;
  while (operations.size() < kRunning) {
    for (Operation& operation : handler_.Take(1)) {
      operations.push_back(std::move(operation));
    }
  }
  for (int i = 0; i < 5; ++i) {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::WriteResponse response;
    EXPECT_EQ(stub_->Put(&context, v1::PutRequest(), &response).error_code(),
              grpc::RESOURCE_EXHAUSTED);
  }
  for (Operation& operation : operations) {
    operation.sink->Deliver(Reply{.kind = OpKind::kPut});
    operation.sink->Flush();
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(answered, kRunning);
}

TEST_F(RpcServiceTest, CallObjectsDoNotMixUpValues) {
  handler_.SetAnswer([](const Operation& operation) {
    Reply reply;
    reply.found = !operation.key.empty();
    reply.value = operation.key;
    return reply;
  });
  RpcServerOptions options = TestOptions();
  options.key_value.armed_calls = 1;
  Start(options);
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::GetRequest request;
    // Every third is large, every other one empty.
    const std::string key =
        i % 2 == 0 ? "" : std::string(i % 3 == 0 ? 100000 : 5, 'a' + i % 26);
    request.set_key(key);
    v1::GetResponse response;
    ASSERT_TRUE(stub_->Get(&context, request, &response).ok());
    ASSERT_EQ(response.value(), key);
    ASSERT_EQ(response.found(), !key.empty());
  }
}

TEST_F(RpcServiceTest, ATooLargeMessageFailsItsCallAlone) {
  handler_.SetAnswer([](const Operation&) { return Reply(); });
  Start();
  v1::PutRequest request;
  request.set_value(std::string(18 << 20, 'x'));
  {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::WriteResponse response;
    const grpc::Status status = stub_->Put(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED);
    EXPECT_THAT(status.error_message(), HasSubstr("larger than max"));
  }
  request.set_value(std::string(1'024'000, 'x'));
  grpc::ClientContext context;
  SetPatience(&context);
  v1::WriteResponse response;
  EXPECT_TRUE(stub_->Put(&context, request, &response).ok());
}

TEST_F(RpcServiceTest, AClientThatGoesAwayLeavesItsOperationUnharmed) {
  Start();
  {
    grpc::ClientContext context;
    SetPatience(&context);
    std::thread canceller([&] {
      std::vector<Operation> operations = handler_.Take(1);
      context.TryCancel();
      operations[0].sink->Deliver(Reply());
      operations[0].sink->Flush();
    });
    v1::GetResponse response;
    stub_->Get(&context, v1::GetRequest(), &response);
    canceller.join();
  }
  handler_.SetAnswer([](const Operation&) { return Reply(); });
  grpc::ClientContext context;
  SetPatience(&context);
  v1::GetResponse response;
  EXPECT_TRUE(stub_->Get(&context, v1::GetRequest(), &response).ok());
}

TEST_F(RpcServiceTest, TicksComeByThemselves) {
  Start();
  handler_.AwaitTicks(10);
}

TEST_F(RpcServiceTest, MapIsGivenInSlotRanges) {
  Start();
  auto stub = v1::Cluster::NewStub(channel_);
  grpc::ClientContext context;
  SetPatience(&context);
  v1::GetMapResponse response;
  ASSERT_TRUE(stub->GetMap(&context, v1::GetMapRequest(), &response).ok());
  EXPECT_EQ(response.cluster_id(), 7390u);
  EXPECT_EQ(response.epoch(), 5u);
  ASSERT_EQ(response.nodes_size(), 1);
  EXPECT_EQ(response.nodes(0).address(), "127.0.0.1:4711");
  ASSERT_EQ(response.slots_size(), 1);
  EXPECT_EQ(response.slots(0).first(), 0u);
  EXPECT_EQ(response.slots(0).last(), kv::kSlotCount - 1);
}

TEST(EncodeMapTest, RangesEndWhereTheOwnerChanges) {
  kv::ClusterMap map = MakeMap({1, 2});
  for (int slot = 10; slot < 20; ++slot) map.slots[slot] = raft::GroupId(1);
  v1::GetMapResponse out;
  EncodeMap(map, &out);
  ASSERT_EQ(out.slots_size(), 3);
  EXPECT_EQ(out.slots(0).last(), 9u);
  EXPECT_EQ(out.slots(1).first(), 10u);
  EXPECT_EQ(out.slots(1).last(), 19u);
  EXPECT_EQ(out.slots(1).group(), 1u);
  EXPECT_EQ(out.slots(2).first(), 20u);
  EXPECT_EQ(out.slots(2).group(), 0u);
}

TEST_F(RpcServiceTest, StatusShowsReplicas) {
  ReplicaStats replica;
  replica.group = raft::GroupId(4);
  replica.core.soft.role = raft::Role::kLeader;
  replica.core.soft.leader = raft::NodeId(1);
  replica.core.hard.term = raft::Term(6);
  replica.core.commit = raft::Index(20);
  replica.core.peers.push_back({.id = raft::NodeId(2),
                                .match = raft::Index(19),
                                .recently_active = true});
  handler_.stats.replicas.push_back(replica);
  handler_.stats.map_epoch = 5;
  Start();
  auto stub = v1::Cluster::NewStub(channel_);
  grpc::ClientContext context;
  SetPatience(&context);
  v1::GetStatusResponse response;
  ASSERT_TRUE(
      stub->GetStatus(&context, v1::GetStatusRequest(), &response).ok());
  EXPECT_EQ(response.node(), 1u);
  EXPECT_EQ(response.pid(), getpid());
  EXPECT_TRUE(response.healthy());
  EXPECT_FALSE(response.version().empty());
  ASSERT_EQ(response.replicas_size(), 1);
  EXPECT_EQ(response.replicas(0).role(), v1::LEADER);
  EXPECT_EQ(response.replicas(0).term(), 6u);
  ASSERT_EQ(response.replicas(0).peers_size(), 1);
  EXPECT_EQ(response.replicas(0).peers(0).match(), 19u);
}

// ---- admin ----

TEST(IsLoopbackPeerTest, KnowsLoopbackInAllSpellings) {
  for (const char* peer :
       {"ipv4:127.0.0.1:5", "ipv4:127.9.9.9:5", "ipv6:[::1]:5",
        "ipv6:%5B::1%5D:5", "ipv6:[::ffff:127.0.0.1]:5", "unix:/tmp/x"}) {
    EXPECT_TRUE(IsLoopbackPeer(peer)) << peer;
  }
  for (const char* peer :
       {"ipv4:10.0.0.1:5", "ipv4:1.127.0.1:5", "ipv6:[::10]:5",
        "ipv6:%5B2001:db8::1%5D:5", "ipv6:[::ffff:10.0.0.1]:5", "", "::1"}) {
    EXPECT_FALSE(IsLoopbackPeer(peer)) << peer;
  }
}

class RpcAdminTest : public RpcFixture {
 protected:
  RpcServerOptions Options() {
    RpcServerOptions options = TestOptions();
    options.admin.stop = [this] { stopped_.Notify(); };
    options.admin.exit_now = [this] { exited_.Notify(); };
    return options;
  }
  grpc::Status Die(bool clean) {
    auto stub = v1::Admin::NewStub(channel_);
    grpc::ClientContext context;
    SetPatience(&context);
    v1::DieRequest request;
    request.set_clean(clean);
    v1::DieResponse response;
    return stub->Die(&context, request, &response);
  }
  absl::Notification stopped_;
  absl::Notification exited_;
};

TEST_F(RpcAdminTest, CleanDieAnswersThenStops) {
  Start(Options());
  EXPECT_TRUE(Die(true).ok());
  EXPECT_TRUE(stopped_.WaitForNotificationWithTimeout(kPatience));
  EXPECT_FALSE(exited_.HasBeenNotified());
}

TEST_F(RpcAdminTest, UncleanDieExitsAtOnce) {
  Start(Options());
  EXPECT_TRUE(Die(false).ok());
  EXPECT_TRUE(exited_.WaitForNotificationWithTimeout(kPatience));
  EXPECT_FALSE(stopped_.HasBeenNotified());
}

TEST_F(RpcAdminTest, DieCanBeSwitchedOff) {
  RpcServerOptions options = Options();
  options.admin.allow_die = false;
  Start(options);
  EXPECT_EQ(Die(true).error_code(), grpc::PERMISSION_DENIED);
  EXPECT_EQ(Die(false).error_code(), grpc::PERMISSION_DENIED);
  EXPECT_FALSE(exited_.HasBeenNotified());
  EXPECT_FALSE(stopped_.HasBeenNotified());
}

TEST_F(RpcAdminTest, TransferFindsTheTargetByItsAddress) {
  raft::NodeId wanted;
  absl::StatusOr<raft::NodeId> answer = raft::NodeId(1);
  handler_.SetTransfer([&](raft::GroupId group, raft::NodeId target) {
    EXPECT_EQ(group, raft::GroupId(0));
    wanted = target;
    return answer;
  });
  Start(Options());
  auto stub = v1::Admin::NewStub(channel_);
  auto transfer = [&](const std::string& target,
                      v1::TransferLeaderResponse* response) {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::TransferLeaderRequest request;
    request.set_target(target);
    handler_.Sync();
    const grpc::Status status =
        stub->TransferLeader(&context, request, response);
    handler_.Sync();
    return status;
  };
  v1::TransferLeaderResponse response;
  EXPECT_TRUE(transfer("127.0.0.1:4711", &response).ok());
  EXPECT_EQ(response.leader(), "127.0.0.1:4711");
  EXPECT_EQ(wanted, raft::NodeId(1));
  EXPECT_TRUE(transfer("", &response).ok());
  EXPECT_EQ(wanted, raft::NodeId());
  EXPECT_EQ(transfer("elsewhere:1", &response).error_code(), grpc::NOT_FOUND);
  answer = absl::AbortedError("no");
  EXPECT_EQ(transfer("", &response).error_code(), grpc::ABORTED);
}

// ---- health ----

using HealthResponse = grpc::health::v1::HealthCheckResponse;

class RpcHealthTest : public RpcFixture {
 protected:
  int Check(const std::string& service) {
    auto stub = grpc::health::v1::Health::NewStub(channel_);
    grpc::ClientContext context;
    SetPatience(&context);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthResponse response;
    const grpc::Status status = stub->Check(&context, request, &response);
    return status.ok() ? static_cast<int>(response.status())
                       : -static_cast<int>(status.error_code());
  }
};

TEST_F(RpcHealthTest, EachServiceHasItsOwn) {
  handler_.SetHasLeader(false);
  Start();
  EXPECT_EQ(Check(""), HealthResponse::NOT_SERVING);
  EXPECT_EQ(Check("kv739.v1.KeyValue"), HealthResponse::NOT_SERVING);
  EXPECT_EQ(Check("kv739.v1.Cluster"), HealthResponse::SERVING);
  EXPECT_EQ(Check("kv739.v1.Admin"), HealthResponse::SERVING);
  EXPECT_EQ(Check("raft.v1.Raft"), HealthResponse::SERVING);
  EXPECT_EQ(Check("nonsense"), -static_cast<int>(grpc::NOT_FOUND));
}

TEST_F(RpcHealthTest, WatchersSeeEachChangeAndTheStop) {
  handler_.SetHasLeader(false);
  Start();
  auto stub = grpc::health::v1::Health::NewStub(channel_);
  grpc::ClientContext context;
  SetPatience(&context);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("kv739.v1.KeyValue");
  auto reader = stub->Watch(&context, request);
  HealthResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthResponse::NOT_SERVING);
  handler_.SetHasLeader(true);
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthResponse::SERVING);
  server_->BeginStop();
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthResponse::NOT_SERVING);
  Stop(absl::Now() + kPatience);
  EXPECT_FALSE(reader->Read(&response));
  EXPECT_EQ(reader->Finish().error_code(), grpc::UNAVAILABLE);
}

TEST_F(RpcHealthTest, WatcherOfAnUnknownServiceIsTold) {
  Start();
  auto stub = grpc::health::v1::Health::NewStub(channel_);
  grpc::ClientContext context;
  SetPatience(&context);
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("nonsense");
  auto reader = stub->Watch(&context, request);
  HealthResponse response;
  ASSERT_TRUE(reader->Read(&response));
  EXPECT_EQ(response.status(), HealthResponse::SERVICE_UNKNOWN);
  context.TryCancel();
}

// ---- reflection ----

// A blocking wait for one step of an asynchronous call.
bool Step(grpc::CompletionQueue* queue) {
  void* tag;
  bool ok = false;
  return queue->Next(&tag, &ok) && ok;
}

TEST_F(RpcServiceTest, ReflectionListsTheServices) {
  Start();
  grpc::GenericStub stub(channel_);
  grpc::CompletionQueue queue;
  grpc::ClientContext context;
  SetPatience(&context);
  auto call = stub.PrepareCall(
      &context,
      "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  ASSERT_TRUE(Step(&queue));
  // ServerReflectionRequest{list_services: ""}, field 7.
  const grpc::Slice slice(std::string("\x3a\x00", 2));
  call->Write(grpc::ByteBuffer(&slice, 1), nullptr);
  ASSERT_TRUE(Step(&queue));
  grpc::ByteBuffer answer;
  call->Read(&answer, nullptr);
  ASSERT_TRUE(Step(&queue));
  grpc::Slice whole;
  ASSERT_TRUE(answer.DumpToSingleSlice(&whole).ok());
  const std::string bytes(reinterpret_cast<const char*>(whole.begin()),
                          whole.size());
  for (const char* name :
       {"kv739.v1.KeyValue", "kv739.v1.Cluster", "kv739.v1.Admin",
        "raft.v1.Raft", "grpc.health.v1.Health"}) {
    EXPECT_THAT(bytes, HasSubstr(name));
  }
  context.TryCancel();
  grpc::Status status;
  call->Finish(&status, nullptr);
  Step(&queue);
}

// ---- the port ----

TEST_F(RpcServiceTest, APortInUseIsSaid) {
  Start();
  RpcServerOptions options = TestOptions();
  const std::string port = std::to_string(server_->port());
  options.listen = "127.0.0.1:" + port;
  const absl::Status status = RpcServer::Create(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("port " + port + " in use"));
}

TEST(ListenAddressTest, LocalhostMeansLoopback) {
  const auto addresses = ResolveHostPort("localhost:4711");
  ASSERT_TRUE(addresses.ok()) << addresses.status();
  ASSERT_FALSE(addresses->empty());
  for (const SocketAddress& address : *addresses) {
    char host[NI_MAXHOST];
    ASSERT_EQ(getnameinfo(reinterpret_cast<const sockaddr*>(&address.storage),
                          address.size, host, sizeof host, nullptr, 0,
                          NI_NUMERICHOST),
              0);
    EXPECT_TRUE(std::string(host) == "127.0.0.1" || std::string(host) == "::1")
        << host;
  }
  const auto listening = ListenOn("localhost:0");
  ASSERT_TRUE(listening.ok()) << listening.status();
  EXPECT_EQ(listening->sockets.size(), 1u);
  EXPECT_GT(listening->port, 0);
  EXPECT_EQ(
      ListenOn(absl::StrCat("localhost:", listening->port)).status().code(),
      absl::StatusCode::kFailedPrecondition);
}

TEST(ListenAddressTest, NonsenseIsRefused) {
  for (const char* text : {"", "localhost", ":5", "localhost:", "localhost:x",
                           "localhost:65536", "localhost:-1"}) {
    EXPECT_EQ(ListenOn(text).status().code(),
              absl::StatusCode::kInvalidArgument)
        << text;
  }
}

TEST_F(RpcServiceTest, GarbageOnThePortDoesNoHarm) {
  handler_.SetAnswer([](const Operation&) { return Reply(); });
  Start();
  uint32_t random = 12345;
  for (int i = 0; i < 20; ++i) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(
        connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    std::string bytes = i % 3 == 0   ? "GET / HTTP/1.1\r\n\r\n"
                        : i % 3 == 1 ? "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                     : "";
    for (int j = 0; j < 3000; ++j) {
      random = random * 1664525 + 1013904223;
      bytes.push_back(static_cast<char>(random >> 24));
    }
    (void)!send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    close(fd);
  }
  grpc::ClientContext context;
  SetPatience(&context);
  v1::GetResponse response;
  EXPECT_TRUE(stub_->Get(&context, v1::GetRequest(), &response).ok());
}

// ---- stop ----

TEST_F(RpcServiceTest, StopWaitsForCallsUnderWay) {
  Start();
  grpc::Status status;
  std::thread caller([&] {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::WriteResponse response;
    status = stub_->Put(&context, v1::PutRequest(), &response);
  });
  std::vector<Operation> operations = handler_.Take(1);
  absl::Notification answered;
  std::thread answerer([&] {
    handler_.AwaitTicks(5);
    answered.Notify();
    operations[0].sink->Deliver(Reply{.kind = OpKind::kPut});
    operations[0].sink->Flush();
  });
  server_->Shutdown(absl::Now() + kPatience);
  EXPECT_TRUE(answered.HasBeenNotified());
  caller.join();
  answerer.join();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

TEST_F(RpcServiceTest, StopCancelsWhatIsNeverAnswered) {
  Start();
  grpc::Status status;
  std::thread caller([&] {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::WriteResponse response;
    status = stub_->Put(&context, v1::PutRequest(), &response);
  });
  std::vector<Operation> operations = handler_.Take(1);
  Stop(absl::Now());
  caller.join();
  EXPECT_FALSE(status.ok());
  // The answer comes when the server is gone.
  operations[0].sink->Deliver(Reply{.kind = OpKind::kPut});
  operations[0].sink->Flush();
}

TEST(RpcServerTest, ItMayGoBeforeItServes) {
  absl::StatusOr<std::unique_ptr<RpcServer>> server =
      RpcServer::Create(TestOptions());
  ASSERT_TRUE(server.ok()) << server.status();
  (*server)->transport()->Send(raft::NodeId(2), {});
}

}  // namespace
}  // namespace kv739::server
