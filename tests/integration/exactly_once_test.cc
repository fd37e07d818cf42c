// A write that is sent again is done once.
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

class ExactlyOnceTest : public ClusterTest {
 protected:
  // Runs `call(stub, context)` at the leader of the moment until it is not
  // refused for want of a leader. Returns the last status.
  template <typename Call>
  grpc::Status AtLeader(Call call) {
    grpc::Status status;
    Eventually([&] {
      const int leader = cluster().LeaderOf(cluster().only_group());
      if (leader < 0) return false;
      grpc::ClientContext context;
      SetDeadline(context);
      status = call(*cluster().KeyValueStub(leader), &context);
      return status.error_code() != grpc::StatusCode::UNAVAILABLE;
    });
    return status;
  }

  uint64_t OpenSession() {
    v1::OpenSessionRequest request;
    request.set_group(cluster().only_group());
    v1::OpenSessionResponse response;
    grpc::Status status = AtLeader([&](auto& stub, auto* context) {
      return stub.OpenSession(context, request, &response);
    });
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_NE(response.session(), 0u);
    return response.session();
  }

  static v1::AppendRequest Append(const std::string& value, uint64_t session,
                                  uint64_t sequence, uint64_t floor = 0) {
    v1::AppendRequest request;
    request.set_key("counter");
    request.set_value(value);
    request.mutable_id()->set_session(session);
    request.mutable_id()->set_sequence(sequence);
    request.mutable_id()->set_floor(floor);
    return request;
  }
  grpc::Status Send(const v1::AppendRequest& request,
                    v1::WriteResponse* response) {
    return AtLeader([&](auto& stub, auto* context) {
      return stub.Append(context, request, response);
    });
  }
};

TEST_F(ExactlyOnceTest, ARetryGetsItsFirstAnswerFromTheNextLeaderToo) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  const uint64_t session = OpenSession();
  v1::WriteResponse first;
  v1::WriteResponse second;
  ASSERT_TRUE(Send(Append("a", session, 1), &first).ok());
  ASSERT_TRUE(Send(Append("b", session, 2), &second).ok());
  EXPECT_FALSE(first.existed());
  EXPECT_EQ(second.old_value(), "a");

  auto expect_first_answers = [&] {
    v1::WriteResponse again;
    grpc::Status status = Send(Append("a", session, 1), &again);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_FALSE(again.existed());
    EXPECT_EQ(again.version(), first.version());
    status = Send(Append("b", session, 2), &again);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(again.old_value(), "a");
    EXPECT_EQ(again.version(), second.version());
    EXPECT_EQ(OpenClient()->Get("counter").seen, "ab");
  };
  expect_first_answers();

  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  cluster().KillHard(leader);
  expect_first_answers();
  ASSERT_TRUE(cluster().Restart(leader).ok());

  cluster().KillHardAll();
  for (int i = 0; i < cluster().size(); ++i) {
    ASSERT_TRUE(cluster().Restart(i).ok());
  }
  expect_first_answers();

  // Below the floor a sequence is answered for good, and never done.
  v1::WriteResponse response;
  ASSERT_TRUE(Send(Append("c", session, 3, 3), &response).ok());
  EXPECT_EQ(response.old_value(), "ab");
  EXPECT_EQ(Send(Append("b", session, 2, 3), &response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  // A session that nobody opened.
  EXPECT_EQ(Send(Append("x", session + 12345, 1), &response).error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(OpenClient()->Get("counter").seen, "abc");
}

TEST_F(ExactlyOnceTest, AppendsUnderLeaderKillsAreThereOnce) {
  ASSERT_NO_FATAL_FAILURE(StartCluster());
  Workload workload(cluster().config(), {.clients = 8,
                                         .keys = 8,
                                         .gets_percent = 10,
                                         .appends = true,
                                         .pace = absl::Milliseconds(10)});
  ASSERT_TRUE(workload.Start().ok());
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(workload.WaitForWrites(150));
    const int leader = cluster().WaitForLeader(cluster().only_group());
    ASSERT_GE(leader, 0);
    cluster().KillHard(leader);
    ASSERT_TRUE(workload.WaitForWrites(100));
    ASSERT_TRUE(cluster().Restart(leader).ok());
  }
  ASSERT_TRUE(workload.WaitForWrites(150));
  workload.Stop();
  PrintTally(workload.operations());
  auto client = OpenClient();
  for (const std::string& key : workload.keys()) {
    Answer get = client->Get(key);
    ASSERT_TRUE(get.ok()) << get;
    const auto violation = CheckAppends(workload.operations(), key, get.seen);
    EXPECT_FALSE(violation.has_value()) << violation->text;
  }
}

}  // namespace
}  // namespace kv739::test
