// Scans at the replica host: whose slots, which limits, how many at once, and
// that they are reads like the others.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/host.h"
#include "server/scan_queue.h"
#include "tests/support/host_cluster.h"

namespace kv739::server {
namespace {

using testing::HostCluster;

constexpr raft::GroupId kGroup{0};

Operation Put(const std::string& key, const std::string& value) {
  Operation operation;
  operation.kind = OpKind::kPut;
  operation.key = key;
  operation.value = value;
  return operation;
}

Operation Scan(uint32_t slot, const std::string& from = "",
               uint32_t max_keys = 0) {
  Operation operation;
  operation.kind = OpKind::kScan;
  operation.scan = std::make_shared<kv::ScanRequest>();
  operation.scan->slot = slot;
  operation.scan->from = from;
  operation.scan->max_keys = max_keys;
  return operation;
}

void Fill(HostCluster& cluster, int keys) {
  for (int i = 0; i < keys; ++i) {
    const Reply reply =
        cluster.Call(Put(absl::StrCat("key", i), absl::StrCat(i)));
    ASSERT_EQ(reply.code, ReplyCode::kOk) << reply.message;
  }
}

uint64_t Answered(HostCluster& cluster, int node, OpKind kind, ReplyCode code) {
  return cluster.Stats(node)
      .replies[static_cast<int>(kind)][static_cast<int>(code)];
}

TEST(ScanHost, PagesLeadToTheEndThroughAllGroups) {
  HostCluster cluster(10);
  ASSERT_EQ(cluster.map().groups.size(), 2u);
  Fill(cluster, 300);
  std::map<std::string, std::string> all;
  uint32_t slot = 0;
  std::string from;
  int turns_of_group = 0;
  for (bool more = true; more;) {
    const raft::GroupId owner =
        cluster.map().OwnerOf(static_cast<kv::Slot>(slot));
    const Reply reply = cluster.Call(Scan(slot, from, 50));
    ASSERT_EQ(reply.code, ReplyCode::kOk) << reply.message;
    ASSERT_NE(reply.page, nullptr);
    EXPECT_LE(reply.page->entries.size(), 50u);
    for (const kv::ScanPage::Entry& entry : reply.page->entries) {
      EXPECT_EQ(cluster.map().OwnerOf(kv::SlotOf(entry.key)), owner);
      EXPECT_TRUE(all.emplace(entry.key, entry.value).second) << entry.key;
    }
    more = reply.page->more;
    slot = reply.page->next_slot;
    from = reply.page->next_from;
    if (more && from.empty()) {
      EXPECT_NE(cluster.map().OwnerOf(static_cast<kv::Slot>(slot)), owner);
      ++turns_of_group;
    }
  }
  EXPECT_EQ(all.size(), 300u);
  EXPECT_EQ(all["key7"], "7");
  EXPECT_GT(turns_of_group, 2);
}

TEST(ScanHost, LimitsAreNamed) {
  HostCluster cluster(5);
  Operation scan = Scan(4095);
  EXPECT_EQ(cluster.Call(scan).code, ReplyCode::kOk);
  // The group of slot 0 is asked, as there is no other.
  scan.scan->slot = 4096;
  const int leader = cluster.ElectLeader(kGroup);
  scan.tag = 7;
  cluster.Submit(leader, scan);
  EXPECT_EQ(cluster.answers()->Of(7).code, ReplyCode::kInvalidArgument);
  EXPECT_EQ(cluster.answers()->Of(7).message,
            "slot 4096: the last one is 4095");
  EXPECT_EQ(cluster.answers()->Of(7).page, nullptr);
  Reply reply = cluster.Call(Scan(0, std::string(257, 'k')));
  EXPECT_EQ(reply.code, ReplyCode::kInvalidArgument);
  EXPECT_EQ(reply.message, "`from` has 257 bytes; the limit of keys is 256");
  scan = Scan(0);
  scan.scan->prefix = std::string(257, 'k');
  EXPECT_EQ(cluster.Call(scan).message,
            "the prefix has 257 bytes; the limit of keys is 256");
}

TEST(ScanHost, FollowersNameTheLeaderAndServeWhatMayBeStale) {
  HostCluster cluster(5);
  Fill(cluster, 3);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(20);
  const int other = (leader + 1) % 5;
  Operation scan = Scan(0);
  scan.tag = 7;
  cluster.Submit(other, scan);
  EXPECT_EQ(cluster.answers()->Of(7).code, ReplyCode::kNotLeader);
  EXPECT_EQ(cluster.answers()->Of(7).leader,
            cluster.map().nodes[leader].address.ToString());
  scan = Scan(0);
  scan.kind = OpKind::kScanStale;
  scan.tag = 8;
  cluster.Submit(other, scan);
  ASSERT_EQ(cluster.answers()->Of(8).code, ReplyCode::kOk);
  EXPECT_EQ(cluster.answers()->Of(8).page->entries.size(), 3u);
}

TEST(ScanHost, SlotsOfOtherGroupsAreRefused) {
  HostCluster cluster(10);
  uint32_t slot = 0;
  while (cluster.map().OwnerOf(static_cast<kv::Slot>(slot)) == kGroup) ++slot;
  Operation scan = Scan(slot);
  scan.tag = 7;
  cluster.Submit(0, scan);  // a member of group 0
  EXPECT_EQ(cluster.answers()->Of(7).code, ReplyCode::kWrongGroup);
}

// As a get: a leader that nobody follows any more must not answer.
TEST(ScanHost, ALeaderAloneDoesNotAnswer) {
  HostCluster cluster(5);
  Fill(cluster, 1);
  const int old = cluster.ElectLeader(kGroup);
  cluster.Isolate(old, true);
  Operation scan = Scan(0);
  scan.tag = 7;
  cluster.Submit(old, scan);
  EXPECT_FALSE(cluster.answers()->Has(7));
  // The others go on; what they wrote is not in an answer of the old one.
  cluster.Tick(100);
  EXPECT_NE(cluster.answers()->Of(7).code, ReplyCode::kOk);
  cluster.Isolate(old, false);
  cluster.Tick(50);
  EXPECT_EQ(cluster.Call(Scan(0)).page->entries.size(), 1u);
}

TEST(ScanHost, WhatWasAnsweredBeforeIsSeen) {
  HostCluster cluster(5);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(cluster.Call(Put("a", absl::StrCat(i))).code, ReplyCode::kOk);
    if (i % 5 == 4) cluster.Crash(cluster.ElectLeader(kGroup));
    const Reply reply = cluster.Call(Scan(0));
    ASSERT_EQ(reply.code, ReplyCode::kOk) << reply.message;
    ASSERT_EQ(reply.page->entries.size(), 1u);
    EXPECT_EQ(reply.page->entries[0].value, absl::StrCat(i));
    for (int n = 0; n < 5; ++n) {
      if (!cluster.running(n)) cluster.Restart(n);
    }
  }
}

// A turn serves so many; the others come in later ones, which an idle server
// sees to, and none is forgotten or refused.
TEST(ScanHost, AFloodIsServedInSeveralTurns) {
  HostCluster cluster(3);
  Fill(cluster, 300);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(20);
  cluster.StallBackground(leader, true);
  std::vector<Operation> scans;
  constexpr uint64_t kFirst = 9'000'000;
  constexpr uint64_t kScans = 40;
  for (uint64_t i = 0; i < kScans; ++i) {
    Operation scan = Scan(0);
    scan.tag = kFirst + i;
    scan.sink = cluster.answers();
    scans.push_back(scan);
  }
  const uint64_t before =
      Answered(cluster, leader, OpKind::kScan, ReplyCode::kOk);
  cluster.host(leader)->Submit(scans);
  cluster.Settle();
  const uint64_t at_once =
      Answered(cluster, leader, OpKind::kScan, ReplyCode::kOk) - before;
  EXPECT_GE(at_once * 300, ScanQueue::kTurnWork);
  EXPECT_LT(at_once, kScans) << "the first turn has served all of them";
  cluster.StallBackground(leader, false);
  cluster.Settle();
  for (uint64_t i = 0; i < kScans; ++i) {
    ASSERT_TRUE(cluster.answers()->Has(kFirst + i)) << i;
    EXPECT_EQ(cluster.answers()->Of(kFirst + i).page->entries.size(), 300u);
  }
}

TEST(ScanHost, TooManyThatWaitAreRefused) {
  HostCluster cluster(3);
  Fill(cluster, 300);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(20);
  std::vector<Operation> scans;
  constexpr uint64_t kFirst = 9'000'000;
  const uint64_t count = ScanQueue::kMaxWaiting + 10;
  for (uint64_t i = 0; i < count; ++i) {
    Operation scan = Scan(0);
    scan.tag = kFirst + i;
    scan.sink = cluster.answers();
    scans.push_back(scan);
  }
  cluster.host(leader)->Submit(scans);
  cluster.Settle();
  cluster.Tick(300);
  uint64_t refused = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const Reply& reply = cluster.answers()->Of(kFirst + i);
    if (reply.code == ReplyCode::kOk) continue;
    ++refused;
    EXPECT_EQ(reply.code, ReplyCode::kOverloaded);
    EXPECT_EQ(reply.message, "more than 1024 scans wait");
  }
  EXPECT_EQ(refused, 10u);
}

TEST(ScanHost, TheEndOfTheServerAnswersWhatWaits) {
  HostCluster cluster(3);
  Fill(cluster, 300);
  const int leader = cluster.ElectLeader(kGroup);
  cluster.Tick(20);
  cluster.StallBackground(leader, true);
  std::vector<Operation> scans;
  for (uint64_t i = 0; i < 40; ++i) {
    Operation scan = Scan(0);
    scan.tag = 9'000'000 + i;
    scan.sink = cluster.answers();
    scans.push_back(scan);
  }
  cluster.host(leader)->Submit(scans);
  cluster.Settle();
  cluster.host(leader)->Stop();
  uint64_t refused = 0;
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(cluster.answers()->Has(9'000'000 + i)) << i;
    refused +=
        cluster.answers()->Of(9'000'000 + i).code == ReplyCode::kUnavailable;
  }
  EXPECT_GT(refused, 0u);
}

}  // namespace
}  // namespace kv739::server
