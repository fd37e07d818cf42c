// What the tests of real processes share: a cluster per test or per program,
// and checks of answers.
#ifndef KV739_TESTS_INTEGRATION_CLUSTER_TEST_H_
#define KV739_TESTS_INTEGRATION_CLUSTER_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "kv739/v1/kv.grpc.pb.h"
#include "tests/support/client.h"
#include "tests/support/cluster.h"
#include "tests/support/history.h"
#include "tests/support/workload.h"

namespace kv739::test {

// The whole program failed in something so far.
inline bool ProgramFailed() {
  return ::testing::UnitTest::GetInstance()->Failed();
}

// A server that is away is replaced soon.
inline constexpr char kSoonReplaced[] = R"(membership:
  replace_after_s: 3
storage:
  wal_segment_bytes: 8MiB
  write_buffer_bytes: 8MiB
  block_cache_bytes: 16MiB
)";

// One cluster for each test.
class ClusterTest : public ::testing::Test {
 protected:
  void StartCluster(int servers = 5, std::string settings = kTestSettings) {
    StartClusterWith({.servers = servers,
                      .settings = std::move(settings),
                      .failed = ProgramFailed});
  }
  void StartClusterWith(ClusterOptions options) {
    cluster_ = std::make_unique<Cluster>(std::move(options));
    const absl::Status started = cluster_->Start();
    ASSERT_TRUE(started.ok()) << started.message();
  }
  Cluster& cluster() { return *cluster_; }
  std::unique_ptr<Client> OpenClient(int timeout_ms = 20'000) {
    auto client = Client::Open(cluster().config(), timeout_ms);
    if (client.ok()) return *std::move(client);
    ADD_FAILURE() << client.status().message();
    return nullptr;
  }

 private:
  std::unique_ptr<Cluster> cluster_;
};

// One cluster of five for all tests of a program that leave it as it was.
class SharedClusterTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    cluster_ = new Cluster({.failed = ProgramFailed});
    const absl::Status started = cluster_->Start();
    ASSERT_TRUE(started.ok()) << started.message();
    auto client = Client::Open(cluster_->config(), 20'000);
    ASSERT_TRUE(client.ok()) << client.status().message();
    client_ = client->release();
  }
  static void TearDownTestSuite() {
    delete client_;
    delete cluster_;
    client_ = nullptr;
    cluster_ = nullptr;
  }
  void SetUp() override { ASSERT_NE(client_, nullptr); }
  static Cluster& cluster() { return *cluster_; }
  static Client& client() { return *client_; }

 private:
  static inline Cluster* cluster_ = nullptr;
  static inline Client* client_ = nullptr;
};

// Reads every key of a workload that has stopped and adds the reads to its
// history.
inline std::vector<Operation> WithFinalReads(const Workload& workload,
                                             Client& client) {
  std::vector<Operation> operations = workload.operations();
  for (const std::string& key : workload.keys()) {
    Operation get{.kind = Kind::kGet, .client = -1, .key = key};
    get.start = Now();
    const Answer answer = client.Get(key, 60'000);
    get.end = Now();
    EXPECT_TRUE(answer.ok()) << key << ": " << answer;
    get.outcome = OutcomeOf(answer.code);
    if (answer.ok()) get.seen = answer.seen;
    operations.push_back(std::move(get));
  }
  return operations;
}

inline void PrintTally(const std::vector<Operation>& operations) {
  const Tally writes = Count(operations, false);
  const Tally gets = Count(operations, true);
  std::printf(
      "writes: %ld done, %ld unknown, %ld refused; gets: %ld done, %ld not\n",
      writes.done, writes.unknown, writes.refused, gets.done,
      gets.unknown + gets.refused);
}

// The Error in the trailer of a unary call; without a code when there is none.
inline v1::Error ErrorOf(const grpc::ClientContext& context) {
  v1::Error error;
  const auto& trailers = context.GetServerTrailingMetadata();
  auto found = trailers.find("kv739-error-bin");
  if (found != trailers.end()) {
    EXPECT_TRUE(error.ParseFromArray(found->second.data(),
                                     static_cast<int>(found->second.size())));
  }
  return error;
}

inline void SetDeadline(grpc::ClientContext& context,
                        absl::Duration timeout = absl::Seconds(20)) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + timeout));
}

}  // namespace kv739::test

#endif  // KV739_TESTS_INTEGRATION_CLUSTER_TEST_H_
