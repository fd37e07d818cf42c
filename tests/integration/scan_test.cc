// Scans of real servers: two groups on the same five, by lib739kv and by the
// command.
#include <atomic>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "kv/types.h"
#include "tests/integration/cluster_test.h"

namespace kv739::test {
namespace {

using Pairs = std::map<std::string, std::string>;

class ScanTest : public ClusterTest {
 protected:
  void Start() {
    ASSERT_NO_FATAL_FAILURE(StartClusterWith({.servers = 5,
                                              .groups_per_five = 2,
                                              .settings = kTestSettings,
                                              .failed = ProgramFailed}));
    client_ = OpenClient();
    ASSERT_NE(client_, nullptr);
  }
  void Put(const std::string& key, const std::string& value) {
    const Answer put = client_->Put(key, value);
    ASSERT_TRUE(put.ok()) << key << ": " << put;
    all_[key] = value;
  }
  void PutMany(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_NO_FATAL_FAILURE(
          Put(absl::StrCat("key", i), std::string(i % 300, 'a' + i % 26)));
    }
  }
  // In the order in which they came.
  std::vector<std::string> order_;
  Pairs ScanAll(const std::string& prefix = "", size_t max_keys = 0) {
    Pairs pairs;
    order_.clear();
    kv739_scan_cursor cursor = {};
    for (int more = 1; more != 0;) {
      kv739_scan_result* page = nullptr;
      const int code =
          kv739_client_scan(client_->handle(), prefix.data(), prefix.size(),
                            max_keys, 0, &cursor, 60'000, &page);
      EXPECT_EQ(code, KV739_OK) << kv739_last_error();
      if (code != KV739_OK) break;
      for (size_t n = 0; n < kv739_scan_result_count(page); ++n) {
        size_t length = 0;
        const char* bytes = kv739_scan_result_key(page, n, &length);
        const std::string key(bytes, length);
        bytes = kv739_scan_result_value(page, n, &length);
        EXPECT_TRUE(pairs.emplace(key, std::string(bytes, length)).second)
            << key << " came twice";
        order_.push_back(key);
      }
      more = kv739_scan_result_more(page);
      kv739_scan_result_free(page);
    }
    return pairs;
  }
  Pairs WithPrefix(const std::string& prefix) const {
    Pairs some;
    for (const auto& pair : all_) {
      if (absl::StartsWith(pair.first, prefix)) some.insert(pair);
    }
    return some;
  }
  CommandResult Run(std::vector<std::string> words) {
    words.insert(words.begin(), {CommandProgram(), "-c", cluster().config()});
    auto result = RunCommand(words, kPatience);
    if (result.ok()) return *result;
    ADD_FAILURE() << result.status().message();
    return {.code = -1000};
  }

  std::unique_ptr<Client> client_;
  Pairs all_;
};

TEST_F(ScanTest, AllKeysOfAllGroupsOnceInTheStoresOrder) {
  ASSERT_NO_FATAL_FAILURE(Start());
  EXPECT_TRUE(ScanAll().empty());
  ASSERT_NO_FATAL_FAILURE(PutMany(3000));
  EXPECT_EQ(ScanAll(), all_);
  for (size_t n = 1; n < order_.size(); ++n) {
    ASSERT_LT(std::pair(kv::SlotOf(order_[n - 1]), order_[n - 1]),
              std::pair(kv::SlotOf(order_[n]), order_[n]));
  }
  EXPECT_EQ(ScanAll("", 7), all_);
  for (const char* prefix : {"key1", "key29", "key2999", "none"}) {
    EXPECT_EQ(ScanAll(prefix), WithPrefix(prefix)) << prefix;
  }
  // The same after everything was written out and read again from the files.
  cluster().KillHardAll();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(cluster().Restart(i).ok());
  EXPECT_EQ(ScanAll(), all_);
}

// consistency.md: what was answered before a page was asked for, is in it.
TEST_F(ScanTest, WhatWasAnsweredIsSeenAlsoAfterLeadersHaveChanged) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(PutMany(100));
  for (int round = 0; round < 6; ++round) {
    for (int i = 0; i < 10; ++i) {
      ASSERT_NO_FATAL_FAILURE(
          Put(absl::StrCat("key", i), absl::StrCat("round ", round)));
    }
    const Answer gone = client_->Delete(absl::StrCat("key", 50 + round));
    ASSERT_EQ(gone.code, 0) << gone;
    all_.erase(absl::StrCat("key", 50 + round));
    const uint64_t group = round % 2;
    const int leader = cluster().LeaderOf(group);
    if (round < 3) {
      if (leader >= 0) {
        cluster().TransferLeader(group, (leader + 1) % 5).IgnoreError();
      }
    } else if (leader >= 0) {
      cluster().KillHard(leader);
    }
    EXPECT_EQ(ScanAll("", 20), all_) << "round " << round;
    if (leader >= 0 && !cluster().running(leader)) {
      ASSERT_TRUE(cluster().Restart(leader).ok());
    }
  }
}

// consistency.md: a key that is there throughout is given exactly once,
// whatever else is written meanwhile.
TEST_F(ScanTest, KeysThatStayAreGivenOnceWhileOthersComeAndGo) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(PutMany(500));
  std::atomic<bool> over{false};
  std::thread writer([&] {
    const auto client = OpenClient();
    for (int i = 0; !over; ++i) {
      const std::string key = absl::StrCat("other", i % 100);
      const Answer answer =
          i % 3 == 2 ? client->Delete(key) : client->Put(key, "v");
      EXPECT_TRUE(answer.ok()) << answer;
    }
  });
  for (int round = 0; round < 20; ++round) {
    Pairs seen = ScanAll("", 25);
    std::erase_if(seen, [](const auto& pair) {
      return absl::StartsWith(pair.first, "other");
    });
    EXPECT_EQ(seen, all_);
  }
  over = true;
  writer.join();
}

TEST_F(ScanTest, TheCommandPrintsThem) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(Put("b", "x\ny"));
  ASSERT_NO_FATAL_FAILURE(PutMany(1200));
  const CommandResult keys = Run({"scan", "-k", "key"});
  EXPECT_EQ(keys.code, 0) << keys.error;
  std::multiset<std::string> lines;
  for (const auto line : absl::StrSplit(keys.output, '\n', absl::SkipEmpty())) {
    lines.insert(std::string(line));
  }
  EXPECT_EQ(lines.size(), 1200u);
  for (const auto& [key, value] : WithPrefix("key")) {
    EXPECT_EQ(lines.count(key), 1u) << key;
  }
  EXPECT_EQ(Run({"scan", "b"}).output, "b\tx\\ny\n");
  const std::vector<std::string> some = absl::StrSplit(
      Run({"scan", "--limit", "17"}).output, '\n', absl::SkipEmpty());
  EXPECT_EQ(some.size(), 17u);
  const CommandResult none = Run({"scan", "none"});
  EXPECT_EQ(none.code, 0);
  EXPECT_EQ(none.output, "");
  cluster().KillHardAll();
  EXPECT_EQ(Run({"scan", "--timeout", "500"}).code, 3);
}

// Any server takes the unary call, and refuses what is over a limit.
TEST_F(ScanTest, UnaryPages) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_NO_FATAL_FAILURE(PutMany(50));
  v1::ScanRequest request;
  request.set_slot(4096);
  v1::ScanResponse response;
  const auto stub = v1::KeyValue::NewStub(grpc::CreateChannel(
      cluster().address(0), grpc::InsecureChannelCredentials()));
  {
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Status status = stub->Scan(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(status.error_message(), "slot 4096: the last one is 4095");
    EXPECT_EQ(ErrorOf(context).code(), v1::INVALID_ARGUMENT);
  }
  // This one's own state, whoever leads; the groups' slots take turns.
  size_t keys = 0;
  request.set_consistency(v1::STALE);
  request.set_max_keys(10);
  EXPECT_TRUE(Eventually([&] {
    keys = 0;
    request.set_slot(0);
    request.set_from("");
    do {
      grpc::ClientContext context;
      SetDeadline(context);
      const grpc::Status status = stub->Scan(&context, request, &response);
      EXPECT_TRUE(status.ok()) << status.error_message();
      if (!status.ok()) return true;
      EXPECT_LE(response.entries_size(), 10);
      keys += response.entries_size();
      request.set_slot(response.next_slot());
      request.set_from(response.next_from());
    } while (response.more());
    return keys == 50;
  }));
  EXPECT_EQ(keys, 50u);
}

}  // namespace
}  // namespace kv739::test
