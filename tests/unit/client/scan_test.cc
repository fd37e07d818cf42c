// Scans by the handle-based calls, against servers in this process: pages that
// are followed through all groups, redirects, what is refused.
#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "client/lib739kv.h"
#include "kv/types.h"
#include "tests/support/fake_kv_server.h"

namespace kv739 {
namespace {

using testing::ErrorReaction;
using testing::FakeCluster;
using testing::Reaction;
using testing::Seen;

constexpr int kPatient = 60'000;
constexpr int kKeys = 200;

using Pairs = std::map<std::string, std::string>;

std::string Bytes(const char* bytes, size_t length) { return {bytes, length}; }

void AddPage(const kv739_scan_result* page, Pairs* pairs) {
  for (size_t n = 0; n < kv739_scan_result_count(page); ++n) {
    size_t key_length = 0;
    size_t length = 0;
    const char* key = kv739_scan_result_key(page, n, &key_length);
    const char* value = kv739_scan_result_value(page, n, &length);
    EXPECT_EQ(key[key_length], '\0');
    EXPECT_EQ(value[length], '\0');
    EXPECT_GT(kv739_scan_result_version(page, n), 0u);
    EXPECT_TRUE(
        pairs->emplace(Bytes(key, key_length), Bytes(value, length)).second);
  }
}

class ScanTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const kv739_options options = {sizeof(options), kPatient, 0};
    ASSERT_EQ(kv739_open(cluster_.config_file().c_str(), &options, &client_),
              KV739_OK)
        << kv739_last_error();
    for (int i = 0; i < kKeys; ++i) {
      const std::string key = "key" + std::to_string(i);
      const std::string value = std::string("\0v", 2) + std::to_string(i);
      ASSERT_GE(kv739_client_put(client_, key.data(), key.size(), value.data(),
                                 value.size(), 0, nullptr),
                0);
      all_[key] = value;
    }
  }
  void TearDown() override { kv739_close(client_); }

  Pairs ScanAll(const std::string& prefix, size_t max_keys = 0, int flags = 0) {
    Pairs pairs;
    kv739_scan_cursor cursor = {};
    for (int more = 1; more != 0;) {
      kv739_scan_result* page = nullptr;
      const int code = kv739_client_scan(client_, prefix.data(), prefix.size(),
                                         max_keys, flags, &cursor, 0, &page);
      EXPECT_EQ(code, KV739_OK) << kv739_last_error();
      if (code != KV739_OK) break;
      if (max_keys > 0) {
        EXPECT_LE(kv739_scan_result_count(page), max_keys);
      }
      AddPage(page, &pairs);
      more = kv739_scan_result_more(page);
      kv739_scan_result_free(page);
    }
    return pairs;
  }

  FakeCluster cluster_{10};
  kv739_client* client_ = nullptr;
  Pairs all_;
};

TEST_F(ScanTest, PagesGoThroughAllGroupsToTheEnd) {
  EXPECT_EQ(ScanAll(""), all_);
  EXPECT_EQ(ScanAll("", 3), all_);
  EXPECT_EQ(ScanAll("key1").size(), 111u);
  EXPECT_TRUE(ScanAll("none").empty());
  Pairs keys = ScanAll("", 0, KV739_SCAN_KEYS_ONLY);
  EXPECT_EQ(keys.size(), all_.size());
  for (const auto& [key, value] : keys) EXPECT_EQ(value, "");
}

TEST_F(ScanTest, BehindTheEndThereIsNothing) {
  kv739_scan_cursor cursor = {};
  cursor.slot = kv::kSlotCount;
  kv739_scan_result* page = nullptr;
  ASSERT_EQ(kv739_client_scan(client_, nullptr, 0, 0, 0, &cursor, 0, &page),
            KV739_OK);
  EXPECT_EQ(kv739_scan_result_count(page), 0u);
  EXPECT_EQ(kv739_scan_result_more(page), 0);
  EXPECT_STREQ(kv739_scan_result_key(page, 0, nullptr), "");
  EXPECT_EQ(cursor.slot, kv::kSlotCount);
  kv739_scan_result_free(page);
}

TEST_F(ScanTest, ACursorBeginsAtAKeyThatNeedNotBeThere) {
  for (const std::string key : {"key7", "nobody"}) {
    kv739_scan_cursor cursor;
    ASSERT_EQ(kv739_scan_cursor_set(&cursor, key.data(), key.size()), KV739_OK);
    EXPECT_EQ(cursor.slot, kv::SlotOf(key));
    kv739_scan_result* page = nullptr;
    ASSERT_EQ(kv739_client_scan(client_, nullptr, 0, 1, 0, &cursor, 0, &page),
              KV739_OK);
    Pairs pairs;
    AddPage(page, &pairs);
    if (key == "key7") {
      EXPECT_EQ(pairs, (Pairs{{key, all_[key]}}));
    }
    for (const auto& [found, value] : pairs) {
      EXPECT_LE(std::pair(kv::SlotOf(key), key),
                std::pair(kv::SlotOf(found), found));
    }
    kv739_scan_result_free(page);
  }
}

TEST_F(ScanTest, FollowsLeadersAndTriesAgain) {
  cluster_.SetLeader(raft::GroupId(0), 3);
  cluster_.SetLeader(raft::GroupId(1), 8);
  cluster_.SetScript([n = 0](const Seen& seen) mutable {
    if (seen.kind != v1::Operation::kScan) return Reaction{};
    switch (++n % 4) {
      case 0:
        return Reaction{Reaction::kDrop, {}};
      case 1:
        return ErrorReaction(v1::OVERLOADED);
      default:
        return Reaction{};
    }
  });
  EXPECT_EQ(ScanAll("key1", 20).size(), 111u);
}

TEST_F(ScanTest, AnErrorLeavesTheCursorAsItWas) {
  cluster_.SetScript([](const Seen& seen) {
    return seen.kind == v1::Operation::kScan
               ? ErrorReaction(v1::INVALID_ARGUMENT)
               : Reaction{};
  });
  kv739_scan_cursor cursor;
  ASSERT_EQ(kv739_scan_cursor_set(&cursor, "key7", 4), KV739_OK);
  auto* page = reinterpret_cast<kv739_scan_result*>(this);
  EXPECT_EQ(kv739_client_scan(client_, nullptr, 0, 0, 0, &cursor, 0, &page),
            KV739_E_INVALID);
  EXPECT_EQ(page, nullptr);
  EXPECT_EQ(Bytes(cursor.from, cursor.from_length), "key7");
  EXPECT_STRNE(kv739_last_error(), "");
}

TEST_F(ScanTest, AsynchronousPagesFollowEachOther) {
  struct Walk {
    kv739_client* client;
    Pairs pairs;
    int code = KV739_OK;
    std::promise<void> over;

    void Go(const kv739_scan_cursor& cursor) {
      code = kv739_client_scan_async(client, "key", 3, 7, 0, &cursor, 0, Done,
                                     this);
      if (code != KV739_OK) over.set_value();
    }
    static void Done(void* context, int code, const kv739_scan_result* page) {
      auto* walk = static_cast<Walk*>(context);
      walk->code = code;
      if (code == KV739_OK) {
        AddPage(page, &walk->pairs);
        if (kv739_scan_result_more(page) != 0) {
          kv739_scan_cursor next;
          kv739_scan_result_cursor(page, &next);
          walk->Go(next);
          return;
        }
      }
      walk->over.set_value();
    }
  };
  Walk walk{client_, {}, KV739_OK, {}};
  walk.Go({});
  walk.over.get_future().wait();
  EXPECT_EQ(walk.code, KV739_OK);
  EXPECT_EQ(walk.pairs, all_);
}

TEST_F(ScanTest, BadArguments) {
  const std::string long_prefix(KV739_MAX_KEY + 1, 'p');
  kv739_scan_cursor cursor = {};
  const auto scan = [&](const void* prefix, size_t length, int flags,
                        kv739_scan_cursor* at) {
    return kv739_client_scan(client_, prefix, length, 0, flags, at, 0, nullptr);
  };
  EXPECT_EQ(scan(nullptr, 0, 0, &cursor), KV739_OK);
  EXPECT_EQ(scan(nullptr, 1, 0, &cursor), KV739_E_INVALID);
  EXPECT_EQ(scan(nullptr, 0, 2, &cursor), KV739_E_INVALID);
  EXPECT_EQ(scan(nullptr, 0, 0, nullptr), KV739_E_INVALID);
  EXPECT_EQ(scan(long_prefix.data(), long_prefix.size(), 0, &cursor),
            KV739_E_INVALID);
  cursor.from_length = KV739_MAX_KEY + 1;
  EXPECT_EQ(scan(nullptr, 0, 0, &cursor), KV739_E_INVALID);
  cursor.from_length = 0;
  cursor.slot = kv::kSlotCount + 1;
  EXPECT_EQ(scan(nullptr, 0, 0, &cursor), KV739_E_INVALID);
  cursor.slot = kv::kSlotCount;
  const auto never = [](void*, int, const kv739_scan_result*) { FAIL(); };
  EXPECT_EQ(kv739_client_scan_async(client_, nullptr, 0, 0, 0, &cursor, 0,
                                    never, nullptr),
            KV739_E_INVALID);
  cursor = {};
  EXPECT_EQ(kv739_client_scan_async(client_, nullptr, 0, 0, 0, &cursor, 0,
                                    nullptr, nullptr),
            KV739_E_INVALID);
  EXPECT_EQ(kv739_scan_cursor_set(&cursor, "", 0), KV739_E_INVALID);
  EXPECT_EQ(kv739_scan_cursor_set(nullptr, "k", 1), KV739_E_INVALID);
  EXPECT_EQ(kv739_scan_result_count(nullptr), 0u);
  kv739_scan_result_free(nullptr);
}

}  // namespace
}  // namespace kv739
