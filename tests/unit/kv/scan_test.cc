// Pages of scans: what they hold, where they end, and that they agree with a
// plain map whatever was written, cut, merged and written out in between.
#include "kv/scan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/records.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

constexpr raft::GroupId kGroup{7};

using SlotKey = std::pair<uint32_t, std::string>;
using Model = std::map<SlotKey, std::string>;

class ScanTest : public testing::TestWithParam<TestEngine::Kind> {
 protected:
  ScanPage Page(const ScanRequest& request) {
    ScanPage page;
    const absl::Status status =
        group_.machine().Scan(*group_.engine().NewView(), request, &page);
    EXPECT_TRUE(status.ok()) << status;
    return page;
  }
  // All pages; every one of them is checked against its bounds.
  Model All(ScanRequest request, int* pages = nullptr) {
    Model all;
    SlotKey last;
    for (bool more = true; more;) {
      const ScanPage page = Page(request);
      uint64_t bytes = 0;
      for (const ScanPage::Entry& entry : page.entries) {
        const SlotKey key(SlotOf(entry.key), entry.key);
        EXPECT_TRUE(last < key) << "the order of the store";
        last = key;
        EXPECT_TRUE(all.emplace(key, entry.value).second);
        EXPECT_GT(entry.version, 0u);
        bytes += entry.key.size() + entry.value.size() + kScanEntryOverhead;
      }
      EXPECT_EQ(page.bytes, bytes);
      EXPECT_LE(page.seeks, kMaxScanSeeks);
      if (request.max_keys > 0) {
        EXPECT_LE(page.entries.size(), request.max_keys);
      }
      if (pages != nullptr) ++*pages;
      more = page.more;
      EXPECT_TRUE(!more || SlotKey(request.slot, request.from) <
                               SlotKey(page.next_slot, page.next_from))
          << "no page leads nowhere";
      request.slot = page.next_slot;
      request.from = page.next_from;
    }
    return all;
  }
  void Put(const std::string& key, const std::string& value) {
    group_.Do(Op::kPut, key, value);
    model_[{SlotOf(key), key}] = value;
  }
  void Delete(const std::string& key) {
    group_.Do(Op::kDelete, key);
    model_.erase({SlotOf(key), key});
  }
  Model ModelFrom(const ScanRequest& request) const {
    Model expected;
    for (auto it = model_.lower_bound({request.slot, request.from});
         it != model_.end() && it->first.first < request.end_slot; ++it) {
      if (!absl::StartsWith(it->first.second, request.prefix)) continue;
      expected[it->first] = request.keys_only ? "" : it->second;
    }
    return expected;
  }

  TestGroup group_{GetParam(), kGroup};
  Model model_;
};

INSTANTIATE_TEST_SUITE_P(All, ScanTest,
                         testing::Values(TestEngine::Kind::kMemory,
                                         TestEngine::Kind::kRocks,
                                         TestEngine::Kind::kBuffered,
                                         TestEngine::Kind::kDirect),
                         KindName);

TEST_P(ScanTest, AnEmptyGroupHasOneEmptyPage) {
  const ScanPage page = Page({});
  EXPECT_TRUE(page.entries.empty());
  EXPECT_FALSE(page.more);
  EXPECT_EQ(page.next_slot, kSlotCount);
}

TEST_P(ScanTest, NeighboursAndSessionsAreNotSeen) {
  for (uint64_t other : {6, 8}) {
    const raft::GroupId id(other);
    ASSERT_TRUE(StateMachine::Create(&group_.engine(), id, ThreeVoters()).ok());
    const auto machine = StateMachine::Open(&group_.engine(), id);
    ASSERT_TRUE(machine.ok());
    TestLog log;
    Command put;
    put.op = Op::kPut;
    put.key = "stranger";
    put.value = "v";
    log.Add(put);
    ASSERT_TRUE((*machine)->Apply(log.entries(), nullptr).ok());
  }
  const SessionId session = group_.OpenSession();
  group_.Do(Op::kPut, "own", "v", session, 1, 1);
  const Model all = All({});
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all.begin()->first.second, "own");
}

TEST_P(ScanTest, AGroupThatIsGoneIsNotEmpty) {
  ScanPage page;
  const absl::Status status =
      ScanGroup(*group_.engine().NewView(), raft::GroupId(99), {}, &page);
  EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_P(ScanTest, AViewStaysAsItIs) {
  Put("a", "1");
  const std::unique_ptr<View> view = group_.engine().NewView();
  Put("a", "2");
  Put("b", "1");
  ScanPage page;
  ASSERT_TRUE(group_.machine().Scan(*view, {}, &page).ok());
  ASSERT_EQ(page.entries.size(), 1u);
  EXPECT_EQ(page.entries[0].value, "1");
  EXPECT_EQ(All({}), model_);
}

TEST_P(ScanTest, PagesEndAtTheirBounds) {
  for (int i = 0; i < 2500; ++i) Put(absl::StrCat("key", i), "v");
  ScanRequest request;
  EXPECT_EQ(Page(request).entries.size(), kMaxScanKeys);
  request.max_keys = kMaxScanKeys + 1;
  EXPECT_EQ(Page(request).entries.size(), kMaxScanKeys);
  request.max_keys = 3;
  const ScanPage three = Page(request);
  ASSERT_EQ(three.entries.size(), 3u);
  EXPECT_TRUE(three.more);
  // One page of three again, then all that is left: no key twice, none lost.
  request.slot = three.next_slot;
  request.from = three.next_from;
  request.max_keys = 0;
  EXPECT_EQ(All(request).size(), 2497u);
  // By bytes.
  request = {};
  request.max_bytes = 10 * (kScanEntryOverhead + 1);
  const ScanPage few = Page(request);
  EXPECT_LE(few.bytes, request.max_bytes);
  EXPECT_GE(few.entries.size(), 7u);
  request.max_bytes = 1;
  EXPECT_EQ(Page(request).entries.size(), 1u) << "one entry always fits";
  int pages = 0;
  request.max_bytes = 0;
  EXPECT_EQ(All(request, &pages), model_);
  EXPECT_EQ(pages, 3);
}

TEST_P(ScanTest, LargeValuesMakeShortPages) {
  const std::string large(kMaxValueBytes, 'v');
  for (int i = 0; i < 8; ++i) Put(absl::StrCat("key", i), large);
  ScanRequest request;
  EXPECT_EQ(Page(request).entries.size(), 1u);
  EXPECT_EQ(All(request), model_);
  // They are read, though not sent.
  request.keys_only = true;
  const ScanPage page = Page(request);
  EXPECT_EQ(page.entries.size(), kMaxScanReadBytes / kMaxValueBytes);
  EXPECT_EQ(page.entries[0].value, "");
  EXPECT_EQ(All(request), ModelFrom(request));
}

TEST_P(ScanTest, APrefixThatMatchesNothingIsLookedForInBoundedPages) {
  for (int i = 0; i < 4000; ++i) Put(absl::StrCat("key", i), "v");
  Put("needle", "v");
  for (const char* prefix : {"needle", "none", "a", "z", "kez", "key399"}) {
    ScanRequest request;
    request.prefix = prefix;
    int pages = 0;
    EXPECT_EQ(All(request, &pages), ModelFrom(request)) << prefix;
    EXPECT_GT(pages, 1) << prefix;
    EXPECT_LT(pages, 20) << prefix;
  }
}

TEST_P(ScanTest, EndsBeforeASlotOfAnotherGroup) {
  for (int i = 0; i < 2000; ++i) Put(absl::StrCat("key", i), "v");
  ScanRequest request;
  request.slot = 100;
  request.end_slot = 300;
  const ScanPage page = Page(request);
  EXPECT_TRUE(page.more);
  EXPECT_EQ(page.next_slot, 300u);
  EXPECT_EQ(page.next_from, "");
  EXPECT_EQ(page.entries.size(), ModelFrom(request).size());
  request.prefix = "none";
  EXPECT_EQ(Page(request).next_slot, 300u);
}

TEST_P(ScanTest, ADamagedValueIsNotGivenOut) {
  Put("a", "1");
  std::string key;
  SetDataKey(kGroup, "a", &key);
  const auto batch = group_.engine().NewBatch();
  batch->Put(key, "rubbish");
  ASSERT_TRUE(group_.engine().Apply(batch.get()).ok());
  ScanPage page;
  EXPECT_TRUE(absl::IsDataLoss(
      group_.machine().Scan(*group_.engine().NewView(), {}, &page)));
}

// Few keys and many changes, so that generations overlap; views cut them at
// random, restarts and flushes write them out.
TEST_P(ScanTest, AgreesWithAMap) {
  std::mt19937_64 random(GetParam() == TestEngine::Kind::kMemory ? 1 : 2);
  const auto key = [&] {
    return absl::StrCat(random() % 2 == 0 ? "a" : "key", random() % 400);
  };
  std::vector<std::pair<std::unique_ptr<View>, Model>> views;
  for (int step = 0; step < 4000; ++step) {
    switch (random() % 12) {
      case 0:
        Delete(key());
        break;
      case 1: {
        ScanRequest request;
        if (random() % 2 == 0) request.slot = random() % kSlotCount;
        if (random() % 3 == 0) request.from = key();
        if (random() % 2 == 0)
          request.prefix = random() % 2 == 0 ? "a" : "key1";
        request.max_keys = 1 + random() % 50;
        request.keys_only = random() % 4 == 0;
        EXPECT_EQ(All(request), ModelFrom(request));
        break;
      }
      case 2:
        if (views.size() > 5) views.clear();
        views.emplace_back(group_.engine().NewView(), model_);
        break;
      case 3:
        if (!views.empty()) {
          const auto& [view, expected] = views[random() % views.size()];
          ScanPage page;
          ASSERT_TRUE(group_.machine().Scan(*view, {}, &page).ok());
          Model seen;
          for (const ScanPage::Entry& entry : page.entries) {
            seen[{SlotOf(entry.key), entry.key}] = entry.value;
          }
          EXPECT_EQ(seen, expected);
        }
        break;
      case 4:
        if (random() % 100 == 0) {
          views.clear();
          group_.Restart();
        } else if (random() % 10 == 0) {
          ASSERT_TRUE(group_.engine().Flush().ok());
        }
        break;
      default:
        Put(key(), std::string(random() % 200, 'a' + step % 26));
    }
  }
  EXPECT_EQ(All({}), model_);
}

// All keys are replaced by the next number, in order, again and again: a page
// of a moment has two neighbouring numbers at most, the newer ones first.
TEST_P(ScanTest, APageIsOfOneMomentWhateverIsWrittenMeanwhile) {
  constexpr int kKeys = 200;
  constexpr int kRounds = 40;
  std::vector<std::string> keys;
  for (int i = 0; i < kKeys; ++i) Put(absl::StrCat("key", i), "0");
  for (const auto& [key, value] : model_) keys.push_back(key.second);
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (int round = 1; round <= kRounds; ++round) {
      for (const std::string& key : keys) {
        group_.Do(Op::kPut, key, std::to_string(round));
      }
    }
    over = true;
  });
  int last = 0;
  do {
    ScanPage page;
    const absl::Status status =
        ScanGroup(*group_.engine().NewView(), kGroup, {}, &page);
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_EQ(page.entries.size(), static_cast<size_t>(kKeys));
    const int first = std::stoi(page.entries.front().value);
    EXPECT_GE(first, last);
    bool older = false;
    for (const ScanPage::Entry& entry : page.entries) {
      const int number = std::stoi(entry.value);
      older = older || number == first - 1;
      EXPECT_EQ(number, older ? first - 1 : first);
    }
    last = first;
  } while (!over);
  writer.join();
}

}  // namespace
}  // namespace kv739::kv
