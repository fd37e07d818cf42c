// Writes at the replica host that wait for others before they are proposed.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/host.h"
#include "tests/support/host_cluster.h"

namespace kv739::server {
namespace {

using testing::HostCluster;

constexpr raft::GroupId kGroup{0};

class GatheringHost : public ::testing::Test {
 protected:
  explicit GatheringHost(uint32_t from = 16) : cluster_(5, Options(from)) {
    leader_ = cluster_.ElectLeader(kGroup);
    cluster_.HoldTimers(true);
  }

  static HostOptions Options(uint32_t from) {
    HostOptions options;
    options.gather_from = from;
    // There is a timer then, with gathering or without.
    options.raft.hold_back_nanos = 2'000'000;
    return options;
  }

  std::vector<Operation> Puts(int count) {
    std::vector<Operation> puts;
    for (int i = 0; i < count; ++i) {
      Operation operation;
      operation.kind = OpKind::kPut;
      operation.key = absl::StrCat("key", next_tag_);
      operation.value = "v";
      operation.tag = next_tag_++;
      operation.sink = cluster_.answers();
      operation.start_nanos = cluster_.clock().MonotonicNanos();
      puts.push_back(std::move(operation));
    }
    return puts;
  }
  // Tags from `first` on.
  int Answered(uint64_t first) {
    int answered = 0;
    for (uint64_t tag = first; tag < next_tag_; ++tag) {
      answered += cluster_.answers()->Has(tag) ? 1 : 0;
    }
    return answered;
  }
  void Submit(int count) {
    cluster_.host(leader_)->Submit(Puts(count));
    cluster_.Settle();
  }
  // So many that the next ones wait for a third of them.
  void Load() {
    const uint64_t first = next_tag_;
    Submit(60);
    ASSERT_EQ(Answered(first), 60);
  }

  HostCluster cluster_;
  int leader_ = -1;
  uint64_t next_tag_ = 1'000;
};

TEST_F(GatheringHost, ABatchWaitsForItsShare) {
  Load();
  const uint64_t first = next_tag_;
  Submit(1);
  Submit(10);
  EXPECT_EQ(Answered(first), 0);
  Submit(15);
  EXPECT_EQ(Answered(first), 26);
}

TEST_F(GatheringHost, AndNotBeyondItsTime) {
  Load();
  const uint64_t first = next_tag_;
  Submit(2);
  EXPECT_EQ(Answered(first), 0);
  cluster_.HoldTimers(false);
  cluster_.Settle();
  EXPECT_EQ(Answered(first), 2);
  // No others came: the next ones are not kept.
  cluster_.HoldTimers(true);
  Submit(1);
  EXPECT_EQ(Answered(first), 3);
}

// The timer of the first wait rings within the second one.
TEST_F(GatheringHost, AWaitEndsAlsoWhenTheTimerWasOfAnother) {
  Load();
  const uint64_t first = next_tag_;
  Submit(1);
  Submit(59);
  ASSERT_EQ(Answered(first), 60);
  cluster_.clock().Advance(2'000'000);
  Submit(2);
  ASSERT_EQ(Answered(first), 60);
  cluster_.HoldTimers(false);
  cluster_.Settle();
  EXPECT_EQ(Answered(first), 62);
}

// Nor do they end the wait of writes.
TEST_F(GatheringHost, ReadsDoNotWait) {
  Load();
  Submit(1);
  Operation get;
  get.kind = OpKind::kGet;
  get.key = "key1000";
  get.tag = next_tag_++;
  get.sink = cluster_.answers();
  std::vector<Operation> gets;
  gets.push_back(std::move(get));
  cluster_.host(leader_)->Submit(std::move(gets));
  cluster_.Settle();
  EXPECT_EQ(cluster_.answers()->Of(next_tag_ - 1).value, "v");
  EXPECT_FALSE(cluster_.answers()->Has(next_tag_ - 2));
}

TEST_F(GatheringHost, ALeaderThatHandsOverAnswersThoseThatWait) {
  Load();
  const uint64_t first = next_tag_;
  Submit(3);
  ASSERT_EQ(Answered(first), 0);
  cluster_.host(leader_)->TransferLeadership(kGroup, raft::NodeId(),
                                             [](auto) {});
  cluster_.Settle();
  cluster_.Tick(5);
  EXPECT_EQ(Answered(first), 3);
}

class GatheringHostOff : public GatheringHost {
 protected:
  GatheringHostOff() : GatheringHost(0) {}
};

TEST_F(GatheringHostOff, NothingWaits) {
  Load();
  const uint64_t first = next_tag_;
  Submit(1);
  EXPECT_EQ(Answered(first), 1);
}

}  // namespace
}  // namespace kv739::server
