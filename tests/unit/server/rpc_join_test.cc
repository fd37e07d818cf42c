// Inquire and Join: a server asks another one before it serves itself.
#include <thread>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/node_client.h"
#include "tests/unit/server/rpc_nodes.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;
using Done = absl::AnyInvocable<void(absl::StatusOr<JoinAnswer>)>;

class RpcJoinTest : public RpcFixture {
 protected:
  RpcServerOptions Options() {
    RpcServerOptions options = TestOptions();
    options.node.inquire = [this](std::string address) {
      const std::lock_guard lock(mutex_);
      asked_.push_back(address);
      return InquireAnswer{7390, std::string(2 << 20, 'm'),
                           address == "10.0.0.1:5"};
    };
    options.node.join = [this](JoinCall call, Done done) {
      std::unique_lock lock(mutex_);
      calls_.push_back(std::move(call));
      done_.push_back(std::move(done));
      changed_.notify_all();
    };
    return options;
  }
  std::string address() { return absl::StrCat("127.0.0.1:", server_->port()); }
  Done TakeDone() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, absl::ToChronoSeconds(kPatience),
                                  [this] { return !done_.empty(); }));
    Done done = std::move(done_.back());
    done_.pop_back();
    return done;
  }
  static JoinCall Sample() {
    JoinCall call;
    call.cluster_id = 7390;
    call.node = raft::NodeId(~uint64_t{0});
    call.address = "[::1]:50051";
    call.metrics_port = 65535;
    call.http_port = 8080;
    return call;
  }

  size_t asked() {
    const std::lock_guard lock(mutex_);
    return asked_.size();
  }

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<std::string> asked_;
  std::vector<JoinCall> calls_;
  std::vector<Done> done_;
};

TEST_F(RpcJoinTest, InquireAnswersWhatTheNodeKnows) {
  Start(Options());
  for (const char* own : {"10.0.0.1:5", "10.0.0.2:5"}) {
    const auto answer = InquireAt(address(), own, kPatience);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_EQ(answer->cluster_id, 7390u);
    EXPECT_EQ(answer->map, std::string(2 << 20, 'm'));
    EXPECT_EQ(answer->met, own == std::string("10.0.0.1:5"));
  }
  EXPECT_EQ(asked(), 2u);
  for (const std::string& own :
       {std::string(), std::string("nowhere"), std::string(5000, 'x') + ":1"}) {
    EXPECT_EQ(InquireAt(address(), own, kPatience).status().code(),
              absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(asked(), 2u);
}

TEST_F(RpcJoinTest, NobodyThereAndNobodyReady) {
  const std::string nobody = absl::StrCat("127.0.0.1:", FreePort());
  EXPECT_EQ(InquireAt(nobody, "a:1", kPatience).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(JoinAt(nobody, Sample(), kPatience).status().code(),
            absl::StatusCode::kUnavailable);
  // Bound and not started.
  auto server = RpcServer::Create(Options());
  ASSERT_TRUE(server.ok());
  EXPECT_EQ(InquireAt(absl::StrCat("127.0.0.1:", (*server)->port()), "a:1",
                      absl::Milliseconds(50))
                .status()
                .code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST_F(RpcJoinTest, JoinGoesThereAndBack) {
  Start(Options());
  absl::StatusOr<JoinAnswer> answer;
  std::thread joining([&] { answer = JoinAt(address(), Sample(), kPatience); });
  // Later, and on another thread.
  TakeDone()(JoinAnswer{"", "the map"});
  joining.join();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->map, "the map");
  EXPECT_EQ(answer->leader, "");
  ASSERT_EQ(calls_.size(), 1u);
  EXPECT_EQ(calls_[0].cluster_id, 7390u);
  EXPECT_EQ(calls_[0].node, Sample().node);
  EXPECT_EQ(calls_[0].address, "[::1]:50051");
  EXPECT_EQ(calls_[0].metrics_port, 65535);
  EXPECT_EQ(calls_[0].http_port, 8080);

  std::thread again([&] { answer = JoinAt(address(), Sample(), kPatience); });
  TakeDone()(JoinAnswer{"leader:1", ""});
  again.join();
  ASSERT_TRUE(answer.ok());
  EXPECT_EQ(answer->leader, "leader:1");

  std::thread refused([&] { answer = JoinAt(address(), Sample(), kPatience); });
  TakeDone()(absl::FailedPreconditionError("has left"));
  refused.join();
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr("has left"));
  EXPECT_THAT(std::string(answer.status().message()), HasSubstr(address()));
}

TEST_F(RpcJoinTest, JoinsThatMakeNoSenseAreNotAsked) {
  Start(Options());
  auto end_of = [this](const std::function<void(JoinCall*)>& spoil) {
    JoinCall call = Sample();
    spoil(&call);
    return JoinAt(address(), call, kPatience).status().code();
  };
  EXPECT_EQ(end_of([](JoinCall* c) { c->cluster_id = 1; }),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(end_of([](JoinCall* c) { c->node = raft::NodeId(); }),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(end_of([](JoinCall* c) { c->address = "nowhere"; }),
            absl::StatusCode::kInvalidArgument);
  const auto stub = ::raft::v1::Raft::NewStub(channel_);
  ::raft::v1::JoinRequest request;
  request.set_cluster_id(7390);
  request.set_node(5);
  request.set_address("a:1");
  request.set_http_port(65536);
  ::raft::v1::JoinResponse response;
  grpc::ClientContext context;
  SetPatience(&context);
  EXPECT_EQ(stub->Join(&context, request, &response).error_code(),
            grpc::INVALID_ARGUMENT);
  EXPECT_TRUE(calls_.empty());
}

TEST_F(RpcJoinTest, WithoutSomeoneToAskItIsUnavailable) {
  Start();
  EXPECT_EQ(InquireAt(address(), "a:1", kPatience).status().code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(JoinAt(address(), Sample(), kPatience).status().code(),
            absl::StatusCode::kUnavailable);
}

TEST_F(RpcJoinTest, TheAnswerMayComeAfterTheEnd) {
  Start(Options());
  absl::StatusOr<JoinAnswer> answer;
  std::thread joining(
      [&answer, to = address()] { answer = JoinAt(to, Sample(), kPatience); });
  Done done = TakeDone();
  Stop(absl::Now());
  joining.join();
  EXPECT_FALSE(answer.ok());
  done(JoinAnswer{"", "too late"});
}

}  // namespace
}  // namespace kv739::server
