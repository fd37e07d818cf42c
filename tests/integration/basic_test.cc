// What every operation does, through lib739kv and through the services, on
// five servers that stay up.
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

class BasicTest : public SharedClusterTest {};

TEST_F(BasicTest, PutsReturnOldValuesAndGetsTheNewest) {
  Answer first = client().Put("old", "one");
  EXPECT_EQ(first.code, 1) << first;
  EXPECT_EQ(first.seen, Stored());
  Answer second = client().Put("old", "two");
  EXPECT_EQ(second.code, 0) << second;
  EXPECT_EQ(second.seen, "one");
  EXPECT_GT(second.version, first.version);
  Answer get = client().Get("old");
  EXPECT_EQ(get.code, 0) << get;
  EXPECT_EQ(get.seen, "two");
  EXPECT_EQ(get.version, second.version);
}

TEST_F(BasicTest, AMissingKeyIsNoFailure) {
  Answer get = client().Get("missing");
  EXPECT_EQ(get.code, 1) << get;
  EXPECT_EQ(get.seen, Stored());
  EXPECT_EQ(client().Delete("missing").code, 1);
}

TEST_F(BasicTest, AnEmptyValueIsNotMissing) {
  EXPECT_EQ(client().Put("empty", "").code, 1);
  Answer get = client().Get("empty");
  EXPECT_EQ(get.code, 0) << get;
  EXPECT_EQ(get.seen, "");
  Answer put = client().Put("empty", "full");
  EXPECT_EQ(put.code, 0) << put;
  EXPECT_EQ(put.seen, "");
}

TEST_F(BasicTest, KeysAndValuesAreBytes) {
  std::string every;
  for (int byte = 0; byte < 256; ++byte)
    every.push_back(static_cast<char>(byte));
  EXPECT_EQ(client().Put(every, every + every).code, 1);
  EXPECT_EQ(client().Get(every).seen, every + every);
  // A zero byte ends no key, and a prefix is another key.
  const std::string zero("a\0b", 3);
  EXPECT_EQ(client().Put(zero, "zero").code, 1);
  EXPECT_EQ(client().Get("a").code, 1);
  EXPECT_EQ(client().Get(zero).seen, "zero");
}

TEST_F(BasicTest, DeleteAppendAndCompareAndSwap) {
  EXPECT_EQ(client().Append("dac", "ab").code, 1);
  Answer append = client().Append("dac", "cd");
  EXPECT_EQ(append.code, 0) << append;
  EXPECT_EQ(append.seen, "ab");
  Answer get = client().Get("dac");
  EXPECT_EQ(get.seen, "abcd");

  Answer wrong = client().Cas("dac", get.version + 1, "x");
  EXPECT_EQ(wrong.code, 1) << wrong;
  EXPECT_EQ(wrong.seen, "abcd");
  EXPECT_EQ(wrong.version, get.version);
  Answer swapped = client().Cas("dac", get.version, "swapped");
  EXPECT_EQ(swapped.code, 0) << swapped;
  EXPECT_GT(swapped.version, get.version);
  EXPECT_EQ(client().Get("dac").seen, "swapped");
  EXPECT_EQ(client().Cas("dac", 0, "x").code, 1);

  Answer del = client().Delete("dac");
  EXPECT_EQ(del.code, 0) << del;
  EXPECT_EQ(del.seen, "swapped");
  EXPECT_EQ(client().Get("dac").code, 1);
  // 0 asks for a key that is not there; its version is new all the same.
  Answer made = client().Cas("dac", 0, "again");
  EXPECT_EQ(made.code, 0) << made;
  EXPECT_GT(made.version, swapped.version);
}

TEST_F(BasicTest, TheLargestValueFitsAndOneByteMoreDoesNot) {
  std::string big(KV739_MAX_VALUE, '\0');
  for (size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 7);
  EXPECT_EQ(client().Put("big", big).code, 1);
  EXPECT_EQ(client().Get("big").seen, big);
  Answer again = client().Put("big", big);
  EXPECT_EQ(again.code, 0) << again;
  EXPECT_EQ(again.seen, big);

  Answer over = client().Put("big", big + "x");
  EXPECT_EQ(over.code, KV739_E_INVALID);
  EXPECT_EQ(kv739_maybe_applied(over.code), 0);
  EXPECT_THAT(over.error, AllOf(HasSubstr("1024000"), HasSubstr("1024001")));
  Answer append = client().Append("big", "x");
  EXPECT_LT(append.code, 0);
  EXPECT_EQ(OutcomeOf(append.code), Outcome::kRefused) << append;
  EXPECT_THAT(append.error, HasSubstr("1024000"));
  EXPECT_EQ(client().Get("big").seen, big);
  EXPECT_EQ(client().Delete("big").code, 0);
}

TEST_F(BasicTest, KeysHaveOneTo256Bytes) {
  const std::string longest(KV739_MAX_KEY, 'k');
  EXPECT_EQ(client().Put(longest, "v").code, 1);
  EXPECT_EQ(client().Get(longest).seen, "v");
  Answer longer = client().Put(longest + "k", "v");
  EXPECT_EQ(longer.code, KV739_E_INVALID);
  EXPECT_THAT(longer.error, AllOf(HasSubstr("256"), HasSubstr("257")));
  EXPECT_EQ(client().Get(longest + "k").code, KV739_E_INVALID);
  EXPECT_EQ(client().Put("", "v").code, KV739_E_INVALID);
  EXPECT_EQ(client().Get("").code, KV739_E_INVALID);
}

// The servers check for themselves: not every client is lib739kv.
TEST_F(BasicTest, ServersRefuseWhatIsOverTheLimits) {
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  auto stub = cluster().KeyValueStub(leader);
  struct Case {
    std::string key;
    size_t value;
    std::string limit;
  };
  for (const Case& c :
       std::vector<Case>{{"", 1, "empty"},
                         {std::string(257, 'k'), 1, "256"},
                         {"server-limit", 1'024'001, "1024000"}}) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::PutRequest request;
    request.set_key(c.key);
    request.set_value(std::string(c.value, 'v'));
    v1::WriteResponse response;
    grpc::Status status = stub->Put(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
        << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(c.limit));
    EXPECT_EQ(ErrorOf(context).code(), v1::INVALID_ARGUMENT);
  }
  EXPECT_EQ(client().Get("server-limit").code, 1);
}

TEST_F(BasicTest, AFollowerNamesTheLeader) {
  ASSERT_EQ(client().Put("redirect", "v").code, 1);
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  for (int i = 0; i < cluster().size(); ++i) {
    v1::GetRequest request;
    request.set_key("redirect");
    v1::GetResponse response;
    v1::Error error;
    // A follower learns of its leader by the next heartbeat at the latest.
    const bool answered = Eventually([&] {
      grpc::ClientContext context;
      SetDeadline(context);
      grpc::Status status =
          cluster().KeyValueStub(i)->Get(&context, request, &response);
      error = ErrorOf(context);
      return status.ok() || !error.leader().empty();
    });
    ASSERT_TRUE(answered);
    if (i == leader) {
      EXPECT_EQ(response.value(), "v");
    } else {
      EXPECT_EQ(error.code(), v1::NOT_LEADER);
      EXPECT_EQ(error.leader(), cluster().address(leader));
    }
  }
}

TEST_F(BasicTest, StaleReadsComeFromAnyReplica) {
  ASSERT_EQ(client().Put("stale", "v").code, 1);
  ASSERT_TRUE(cluster().WaitForEqualReplicas(cluster().only_group()).ok());
  for (int i = 0; i < cluster().size(); ++i) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetRequest request;
    request.set_key("stale");
    request.set_consistency(v1::STALE);
    v1::GetResponse response;
    grpc::Status status =
        cluster().KeyValueStub(i)->Get(&context, request, &response);
    ASSERT_TRUE(status.ok()) << status.error_message();
    EXPECT_TRUE(response.found());
    EXPECT_EQ(response.value(), "v");
  }
}

TEST_F(BasicTest, AStreamAnswersAsUnaryCallsDo) {
  const int leader = cluster().WaitForLeader(cluster().only_group());
  ASSERT_GE(leader, 0);
  ASSERT_EQ(client().Put("s1", "one").code, 1);
  auto stub = cluster().KeyValueStub(leader);
  grpc::ClientContext context;
  SetDeadline(context);
  auto stream = stub->Stream(&context);
  v1::OperationBatch batch;
  auto add = [&batch](uint64_t tag) {
    v1::Operation* op = batch.add_operations();
    op->set_tag(tag);
    return op;
  };
  add(11)->mutable_get()->set_key("s1");
  add(12)->mutable_get()->set_key("s-missing");
  v1::PutRequest* put = add(13)->mutable_put();
  put->set_key("s2");
  put->set_value("two");
  v1::CompareAndSwapRequest* cas = add(14)->mutable_compare_and_swap();
  cas->set_key("s1");
  cas->set_value("never");
  cas->set_expected_version(1);
  add(15)->mutable_put()->set_key("");
  add(16)->mutable_delete_()->set_key("s-missing");
  v1::AppendRequest* append = add(17)->mutable_append();
  append->set_key("s3");
  append->set_value("three");
  ASSERT_TRUE(stream->Write(batch));
  std::map<uint64_t, v1::OperationResult> results;
  v1::ResultBatch answers;
  while (results.size() < 7 && stream->Read(&answers)) {
    for (const v1::OperationResult& result : answers.results()) {
      EXPECT_TRUE(results.emplace(result.tag(), result).second);
    }
  }
  stream->WritesDone();
  while (stream->Read(&answers)) {
    EXPECT_EQ(answers.results_size(), 0);
  }
  EXPECT_TRUE(stream->Finish().ok());

  ASSERT_EQ(results.size(), 7u);
  EXPECT_TRUE(results[11].get().found());
  EXPECT_EQ(results[11].get().value(), "one");
  EXPECT_EQ(results[11].get().version(), client().Get("s1").version);
  EXPECT_FALSE(results[12].has_error());
  EXPECT_FALSE(results[12].get().found());
  EXPECT_FALSE(results[13].has_error());
  EXPECT_FALSE(results[13].write().existed());
  EXPECT_FALSE(results[14].has_error());
  EXPECT_FALSE(results[14].write().swapped());
  EXPECT_EQ(results[14].write().old_value(), "one");
  EXPECT_EQ(results[15].error().code(), v1::INVALID_ARGUMENT);
  EXPECT_FALSE(results[16].has_error());
  EXPECT_FALSE(results[16].write().existed());
  EXPECT_FALSE(results[17].write().existed());
  EXPECT_EQ(client().Get("s2").seen, "two");
  EXPECT_EQ(client().Get("s2").version, results[13].write().version());
  EXPECT_EQ(client().Get("s3").seen, "three");
  EXPECT_EQ(client().Get("s1").seen, "one");
}

TEST_F(BasicTest, ABatchIsManyOperations) {
  constexpr size_t kCount = 300;
  std::vector<std::string> keys;
  std::vector<std::string> values;
  for (size_t i = 0; i < kCount; ++i) {
    keys.push_back(absl::StrCat("batch", i));
    values.push_back(absl::StrCat("value", i));
  }
  std::vector<kv739_slice> key_slices;
  std::vector<kv739_slice> value_slices;
  for (size_t i = 0; i < kCount; ++i) {
    key_slices.push_back({keys[i].data(), keys[i].size()});
    value_slices.push_back({values[i].data(), values[i].size()});
  }
  std::vector<int> codes(kCount, -100);
  ASSERT_EQ(kv739_client_batch_put(client().handle(), key_slices.data(),
                                   value_slices.data(), kCount, 20'000,
                                   codes.data(), nullptr),
            KV739_OK)
      << kv739_last_error();
  EXPECT_THAT(codes, ::testing::Each(1));
  std::vector<kv739_result*> results(kCount, nullptr);
  ASSERT_EQ(kv739_client_batch_get(client().handle(), key_slices.data(), kCount,
                                   20'000, codes.data(), results.data()),
            KV739_OK)
      << kv739_last_error();
  EXPECT_THAT(codes, ::testing::Each(0));
  for (size_t i = 0; i < kCount; ++i) {
    size_t length = 0;
    const char* value = kv739_result_value(results[i], &length);
    EXPECT_EQ(std::string(value, length), values[i]);
    kv739_result_free(results[i]);
  }
}

TEST_F(BasicTest, AsynchronousCallsCallBackOnce) {
  constexpr int kCount = 500;
  struct Shared {
    absl::BlockingCounter left{kCount};
    std::atomic<int> good{0};
  } shared;
  for (int i = 0; i < kCount; ++i) {
    const std::string key = absl::StrCat("async", i);
    const int taken = kv739_client_put_async(
        client().handle(), key.data(), key.size(), "v", 1, 20'000,
        [](void* context, int code, const kv739_result* result) {
          auto* s = static_cast<Shared*>(context);
          if (code == 1 && kv739_result_version(result) > 0) ++s->good;
          s->left.DecrementCount();
        },
        &shared);
    ASSERT_EQ(taken, KV739_OK);
  }
  shared.left.Wait();
  EXPECT_EQ(shared.good, kCount);
}

TEST_F(BasicTest, HealthIsServing) {
  for (int i = 0; i < cluster().size(); ++i) {
    auto health = grpc::health::v1::Health::NewStub(cluster().channel(i));
    for (const char* service : {"", "kv739.v1.KeyValue"}) {
      grpc::ClientContext context;
      SetDeadline(context);
      grpc::health::v1::HealthCheckRequest request;
      request.set_service(service);
      grpc::health::v1::HealthCheckResponse response;
      grpc::Status status = health->Check(&context, request, &response);
      EXPECT_TRUE(status.ok()) << service << status.error_message();
      EXPECT_EQ(response.status(),
                grpc::health::v1::HealthCheckResponse::SERVING)
          << service;
    }
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service("no.such.Service");
    grpc::health::v1::HealthCheckResponse response;
    EXPECT_EQ(health->Check(&context, request, &response).error_code(),
              grpc::StatusCode::NOT_FOUND);
  }
}

TEST_F(BasicTest, LeadershipMovesWhenAsked) {
  const uint64_t group = cluster().only_group();
  const int leader = cluster().WaitForLeader(group);
  ASSERT_GE(leader, 0);
  const int target = (leader + 1) % cluster().size();
  ASSERT_TRUE(cluster().WaitForEqualReplicas(group).ok());
  grpc::ClientContext context;
  SetDeadline(context);
  v1::TransferLeaderRequest request;
  request.set_group(group);
  request.set_target(cluster().address(target));
  v1::TransferLeaderResponse response;
  grpc::Status status =
      cluster().AdminStub(leader)->TransferLeader(&context, request, &response);
  // On a busy machine the transfer may run out of time; then it did not
  // happen, and the answer says so.
  if (status.ok()) {
    EXPECT_EQ(response.leader(), cluster().address(target));
  } else {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::ABORTED)
        << status.error_message();
  }
  EXPECT_GE(cluster().WaitForLeader(group), 0);
  EXPECT_THAT(client().Put("moved", "v").code, AnyOf(0, 1));
}

}  // namespace
}  // namespace kv739::test
