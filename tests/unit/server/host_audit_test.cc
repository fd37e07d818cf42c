// Audits through whole hosts: stores that are damaged behind their backs.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/records.h"
#include "server/host.h"
#include "tests/support/host_cluster.h"

namespace kv739::server {
namespace {

using testing::HostCluster;

constexpr raft::GroupId kGroup{0};

Operation Make(OpKind kind, std::string key, std::string value = "") {
  Operation operation;
  operation.kind = kind;
  operation.key = std::move(key);
  operation.value = std::move(value);
  return operation;
}

class HostAuditTest : public ::testing::Test {
 protected:
  static HostOptions Options() {
    HostOptions options;
    options.audit.collect_ticks = 100;
    return options;
  }
  explicit HostAuditTest(HostOptions options = Options())
      : cluster(5, options) {
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(
          cluster.Call(Make(OpKind::kPut, absl::StrCat("key", i), "v")).code,
          ReplyCode::kOk);
    }
    leader = cluster.ElectLeader(kGroup);
    cluster.Tick(10);
  }

  // Another value in the store of this node alone.
  void Damage(int node) {
    std::string key;
    kv::SetDataKey(kGroup, "key7", &key);
    std::string record;
    ASSERT_TRUE(*cluster.engine(node)->Get(key, &record));
    record.back() ^= 1;
    auto batch = cluster.engine(node)->NewBatch();
    batch->Put(key, record);
    ASSERT_TRUE(cluster.engine(node)->Apply(batch.get()).ok());
  }
  using Found = std::shared_ptr<std::optional<absl::StatusOr<AuditResult>>>;
  Found Ask(int node) {
    auto found = std::make_shared<Found::element_type>();
    cluster.host(node)->Check(kGroup,
                              [found](auto r) { *found = std::move(r); });
    return found;
  }
  // Followers of an idle group hear of a commit with the next heartbeat.
  absl::StatusOr<AuditResult> Check(int node, int ticks = 10) {
    const Found found = Ask(node);
    cluster.Tick(ticks);
    EXPECT_TRUE(found->has_value());
    return found->value_or(absl::UnknownError("no answer"));
  }
  std::string ReadStale(int node) {
    Operation read = Make(OpKind::kGetStale, "key7");
    const uint64_t tag = read.tag = ++tag_;
    cluster.Submit(node, std::move(read));
    return cluster.answers()->Of(tag).value;
  }
  ReplicaStats Stats(int node) { return cluster.Stats(node).replicas.at(0); }

  HostCluster cluster;
  int leader = 0;

 private:
  uint64_t tag_ = 5000;
};

TEST_F(HostAuditTest, EqualReplicasAreClean) {
  const auto result = Check(leader);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->Clean());
  ASSERT_EQ(result->replicas.size(), 5u);
  for (const AuditedReplica& replica : result->replicas) {
    EXPECT_EQ(replica.finding, AuditedReplica::Finding::kEqual);
    EXPECT_EQ(replica.keys, 20u);
  }
  EXPECT_EQ(Stats(leader).audits, 1u);
  EXPECT_EQ(Stats(leader).audit_mismatches, 0u);
}

TEST_F(HostAuditTest, ADamagedFollowerIsFoundAndRebuilt) {
  const int damaged = (leader + 1) % 5;
  Damage(damaged);
  EXPECT_NE(ReadStale(damaged), "v");
  const auto result = Check(leader);
  ASSERT_TRUE(result.ok()) << result.status();
  ASSERT_EQ(result->Convicted().size(), 1u);
  EXPECT_EQ(cluster.NodeOf(result->Convicted()[0]), damaged);
  EXPECT_EQ(Stats(leader).audit_mismatches, 1u);
  cluster.Tick(100);
  for (int node = 0; node < 5; ++node) {
    EXPECT_EQ(Stats(node).received.done, node == damaged ? 1 : 0) << node;
    EXPECT_EQ(Stats(node).fault, "");
    EXPECT_TRUE(Stats(node).core.fit);
  }
  EXPECT_EQ(ReadStale(damaged), "v");
  const auto again = Check(leader);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(absl::StrContains(again->Describe(), "5 of 5"))
      << again->Describe();
}

TEST_F(HostAuditTest, ADamagedLeaderGivesUpItsLeadershipAndIsRebuilt) {
  Damage(leader);
  ASSERT_TRUE(Check(leader).ok());
  cluster.Tick(100);
  const int next = cluster.ElectLeader(kGroup);
  EXPECT_NE(next, leader);
  EXPECT_EQ(cluster.Call(Make(OpKind::kGet, "key7")).value, "v");
  EXPECT_EQ(ReadStale(leader), "v");
  const auto again = Check(next);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_TRUE(absl::StrContains(again->Describe(), "5 of 5"))
      << again->Describe();
}

TEST_F(HostAuditTest, OnlyALeaderChecks) {
  const auto result = Check((leader + 1) % 5);
  EXPECT_EQ(result.status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(HostAuditTest, WhoIsAwayIsNotWaitedForLong) {
  cluster.Isolate((leader + 1) % 5, true);
  const auto result = Check(leader, 110);
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_TRUE(result->Clean());
  EXPECT_TRUE(absl::StrContains(result->Describe(), "4 of 5"));
}

TEST_F(HostAuditTest, AnAuditOfALeaderThatIsReplacedHasNoResult) {
  cluster.Isolate(leader, true);
  const Found found = Ask(leader);
  cluster.Tick(99);
  ASSERT_TRUE(found->has_value());
  EXPECT_EQ((*found)->status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(HostAuditTest, WritesMeanwhileChangeNothing) {
  const Found found = Ask(leader);
  for (int i = 0; i < 50; ++i) {
    Operation put = Make(OpKind::kPut, "key7", absl::StrCat(i));
    put.tag = 100 + i;
    cluster.Submit(leader, std::move(put));
    if (i % 10 == 0) cluster.Tick();
  }
  cluster.Tick(10);
  ASSERT_TRUE(found->has_value() && (*found)->ok());
  EXPECT_TRUE((**found)->Clean()) << (**found)->Describe();
}

class HostAuditIntervalTest : public HostAuditTest {
 protected:
  static HostOptions WithInterval() {
    HostOptions options = Options();
    options.audit.interval_ticks = 100;
    return options;
  }
  HostAuditIntervalTest() : HostAuditTest(WithInterval()) {}
};

TEST_F(HostAuditIntervalTest, AuditsComeByThemselves) {
  const uint64_t before = Stats(leader).audits;
  cluster.Tick(505);
  EXPECT_GE(Stats(leader).audits, before + 4);
  EXPECT_LE(Stats(leader).audits, before + 6);
}

}  // namespace
}  // namespace kv739::server
