// What is the write buffer's alone; the contract of Engine is held against it
// in engine_test.cc.
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/buffer_table.h"
#include "kv/engine.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

using Change = BufferTable::Change;
using Where = BufferTable::Where;

RecordRef Record(absl::string_view key, absl::string_view value) {
  return RecordRef::Make(HashKey(key), key, value, false);
}

void Put(BufferTable* table, absl::string_view key, absl::string_view value) {
  const std::vector<Change> changes = {{Record(key, value), {}}};
  table->Apply(changes);
}

std::string Find(const BufferTable& table, absl::string_view key) {
  RecordRef record;
  switch (table.Find({key, HashKey(key)}, &record)) {
    case Where::kHere:
      return record->deleted() ? "(deleted)" : std::string(record->value());
    case Where::kHidden:
      return "(hidden)";
    case Where::kBelow:
      break;
  }
  return "(below)";
}

TEST(BufferTable, AGenerationHasOneRecordOfAKey) {
  BufferTable table(1 << 20);
  Put(&table, "a", "1");
  Put(&table, "b", "1");
  const uint64_t cost = table.active_cost();
  Put(&table, "a", "2");
  EXPECT_EQ(table.active_cost(), cost);
  const auto frozen = table.Freeze();
  ASSERT_EQ(frozen.size(), 1u);
  ASSERT_EQ(frozen[0]->records.size(), 2u);
  EXPECT_EQ(frozen[0]->records[0]->value(), "2");
  Put(&table, "a", "3");
  EXPECT_EQ(frozen[0]->records[0]->value(), "2");
  EXPECT_EQ(Find(table, "a"), "3");
}

// Keys that differ and have the same hash, in every place that a record can be.
TEST(BufferTable, EqualHashesAreNotEqualKeys) {
  constexpr uint64_t kHash = 739;
  BufferTable table(1 << 20);
  const auto put = [&](absl::string_view key, absl::string_view value) {
    const std::vector<Change> changes = {
        {RecordRef::Make(kHash, key, value, false), {}}};
    table.Apply(changes);
  };
  const auto find = [&](absl::string_view key) {
    RecordRef record;
    if (table.Find({key, kHash}, &record) != Where::kHere) return std::string();
    EXPECT_EQ(record->key(), key);
    return std::string(record->value());
  };
  put("a", "1");
  put("b", "2");
  table.Freeze();  // "a" is superseded while it is frozen, "b" is not
  put("a", "3");
  put("c", "4");
  const std::vector<uint64_t> hashes(100, kHash);
  table.Prefetch(hashes);
  EXPECT_EQ(find("a"), "3");
  EXPECT_EQ(find("b"), "2");
  EXPECT_EQ(find("c"), "4");
  EXPECT_EQ(find("d"), "");
  table.WrittenOut();
  table.Prefetch(hashes);
  put("b", "5");  // in the place of a clean one
  table.Prefetch(hashes);
  EXPECT_EQ(find("a"), "3");
  EXPECT_EQ(find("b"), "5");
  EXPECT_EQ(find("c"), "4");
  const auto frozen = table.Freeze();
  ASSERT_EQ(frozen.size(), 1u);
  EXPECT_EQ(frozen[0]->records.size(), 3u);
}

// With records in each state, values beyond what is prefetched, and keys that
// are not there.
TEST(BufferTable, PrefetchingChangesNothing) {
  BufferTable table(200'000);
  std::map<std::string, std::string> expected;
  std::mt19937_64 random(7);
  std::vector<uint64_t> hashes;
  for (int n = 0; n < 5000; ++n) {
    const std::string key = absl::StrCat("key", random() % 300);
    hashes.push_back(HashKey(key));
    if (random() % 3 == 0) hashes.push_back(random());
    if (random() % 40 == 0) {
      table.Prefetch(hashes);
      hashes.clear();
    }
    const std::string value(random() % 2000, static_cast<char>('a' + n % 26));
    Put(&table, key, value);
    expected[key] = value;
    if (n % 200 == 199) table.Freeze();
    if (n % 400 == 399) table.WrittenOut();
  }
  table.Prefetch({});
  size_t here = 0;
  for (const auto& [key, value] : expected) {
    const std::string found = Find(table, key);
    if (found != "(below)") {
      ++here;
      EXPECT_EQ(found, value);
    }
  }
  EXPECT_GT(here, 100u);
}

// Cut by a view after each change, with writes between: few are left, and they
// hold what was written.
TEST(BufferTable, ViewsLeaveFewGenerations) {
  BufferTable table(1 << 20);
  std::map<std::string, std::string> expected;
  std::mt19937_64 random(7);
  size_t most = 0;
  for (int n = 0; n < 5000; ++n) {
    const std::string key = absl::StrCat("key", random() % 2000);
    Put(&table, key, absl::StrCat(n));
    expected[key] = absl::StrCat(n);
    const auto frozen = table.FreezeForView([] {});
    EXPECT_EQ(frozen.size(), table.frozen_count());
    most = std::max(most, frozen.size());
  }
  EXPECT_LE(most, 8u);
  std::map<std::string, std::string> found;
  uint64_t cost = 0;
  for (const auto& generation : table.Freeze()) {
    std::string last;
    for (const BufferRecord* record : generation->Sorted()) {
      EXPECT_LT(last, record->key());
      last = std::string(record->key());
      found[last] = std::string(record->value());
    }
    cost += generation->cost;
  }
  EXPECT_EQ(found, expected);
  EXPECT_EQ(table.dirty_cost(), cost);
  // They are written out as others are.
  while (table.OldestFrozen() != nullptr) table.WrittenOut();
  EXPECT_EQ(table.dirty_cost(), 0u);
  for (const auto& [key, value] : expected) EXPECT_EQ(Find(table, key), value);
  table.Freeze();
}

// What is being written out is in the engine below as it was taken.
TEST(BufferTable, WhatIsBeingWrittenOutIsNotMerged) {
  BufferTable table(1 << 20);
  Put(&table, "a", "1");
  table.Freeze();
  const auto taken = table.OldestFrozen();
  Put(&table, "a", "2");
  table.FreezeForView([] {});
  EXPECT_EQ(table.OldestFrozen(), taken);
  EXPECT_EQ(taken->Sorted()[0]->value(), "1");
  table.WrittenOut();
  ASSERT_EQ(table.frozen_count(), 1u);
  EXPECT_EQ(table.OldestFrozen()->Sorted()[0]->value(), "2");
}

// A range that was deleted between two generations hides what is below, and
// not what came after it.
TEST(BufferTable, MergingKeepsDeletedRanges) {
  BufferTable table(1 << 20);
  Put(&table, "a", "1");
  Put(&table, "c", "1");
  table.FreezeForView([] {});
  const std::vector<Change> gone = {{RecordRef(), {"a", "c"}}};
  table.Apply(gone);
  table.FreezeForView([] {});
  Put(&table, "b", "2");
  const auto frozen = table.FreezeForView([] {});
  ASSERT_EQ(frozen.size(), 1u);
  ASSERT_EQ(frozen[0]->ranges.size(), 1u);
  std::string seen;
  for (const BufferRecord* record : frozen[0]->Sorted()) {
    absl::StrAppend(&seen, record->key(), record->deleted() ? "-" : "+");
  }
  EXPECT_EQ(seen, "a-b+c+");
}

TEST(BufferTable, WhatIsWrittenOutStaysAsLongAsItFits) {
  BufferTable table(1 << 20);
  for (int i = 0; i < 2000; ++i) Put(&table, absl::StrCat("key", i), "old");
  table.Freeze();
  for (int i = 0; i < 1000; ++i) Put(&table, absl::StrCat("key", i), "new");
  table.WrittenOut();
  EXPECT_EQ(table.OldestFrozen(), nullptr);
  EXPECT_EQ(Find(table, "key0"), "new");
  EXPECT_EQ(Find(table, "key1999"), "old");
  // Not those that were superseded before they were clean.
  EXPECT_LT(table.cached_cost(), 1000 * (BufferRecord::kOverhead + 50));
  table.Freeze();
  table.WrittenOut();
  EXPECT_EQ(table.dirty_cost(), 0u);
  EXPECT_EQ(Find(table, "key0"), "new");
}

TEST(BufferTable, TheOldestGoFirstAndNoneThatIsDirty) {
  constexpr uint64_t kCache = 8 << 10;
  BufferTable table(kCache);
  for (int generation = 0; generation < 10; ++generation) {
    for (int i = 0; i < 20; ++i) {
      Put(&table, absl::StrCat("key", generation, "-", i),
          std::string(100, 'x'));
    }
    table.Freeze();
    if (generation < 9) table.WrittenOut();
    EXPECT_LE(table.cached_cost(), kCache);
  }
  EXPECT_EQ(Find(table, "key0-0"), "(below)");
  EXPECT_NE(Find(table, "key8-0"), "(below)");
  EXPECT_NE(Find(table, "key9-0"), "(below)");
}

// Places of records that were superseded count too, or a busy key beside a
// quiet one would fill the memory.
TEST(BufferTable, HotKeysDoNotFillTheMemory) {
  constexpr uint64_t kCache = 64 << 10;
  BufferTable table(kCache);
  Put(&table, "quiet", "1");
  int generations = 0;
  while (Find(table, "quiet") != "(below)") {
    for (int i = 0; i < 10; ++i) Put(&table, absl::StrCat("hot", i), "1");
    table.Freeze();
    table.WrittenOut();
    EXPECT_LE(table.cached_cost(), kCache);
    ASSERT_LT(++generations, 10000);
  }
  EXPECT_GT(generations, 50);
  EXPECT_EQ(Find(table, "hot0"), "1");
}

TEST(BufferTable, ADeletedRangeHidesWhatIsBelowUntilItIsWrittenOut) {
  BufferTable table(1 << 20);
  Put(&table, "b", "1");
  const std::vector<Change> changes = {{RecordRef(), {"a", "c"}},
                                       {Record("bb", "2"), {}}};
  table.Apply(changes);
  EXPECT_EQ(Find(table, "a"), "(hidden)");
  EXPECT_EQ(Find(table, "b"), "(deleted)");
  EXPECT_EQ(Find(table, "bb"), "2");
  EXPECT_EQ(Find(table, "c"), "(below)");
  table.Freeze();
  EXPECT_EQ(Find(table, "a"), "(hidden)");
  table.WrittenOut();
  EXPECT_EQ(Find(table, "a"), "(below)");
  EXPECT_EQ(Find(table, "b"), "(deleted)");
}

TEST(BufferTable, ForgetsARange) {
  BufferTable table(1 << 20);
  for (const char* key : {"a", "b", "c"}) Put(&table, key, key);
  table.Freeze();
  table.WrittenOut();
  table.Forget("b", "c");
  EXPECT_EQ(Find(table, "a"), "a");
  EXPECT_EQ(Find(table, "b"), "(below)");
  EXPECT_EQ(Find(table, "c"), "c");
  Put(&table, "b", "2");
  EXPECT_EQ(Find(table, "b"), "2");
}

TEST(BufferTableDeathTest, ARangeThatIsWrittenToIsNotForgotten) {
  BufferTable table(1 << 20);
  Put(&table, "b", "1");
  EXPECT_DEATH(table.Forget("a", "c"), "written to while it is replaced");
}

// An engine whose writes wait at a gate, and that counts them.
class GatedEngine : public FailingEngine {
 public:
  using FailingEngine::FailingEngine;

  absl::Status Apply(Batch* batch) override {
    std::unique_lock lock(mutex_);
    ++applies_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    return FailingEngine::Apply(batch);
  }
  void Open(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void WaitForApply(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return applies_ >= count; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  int applies_ = 0;
};

class BufferedEngineTest : public testing::Test {
 protected:
  absl::Status Write(absl::string_view key, absl::string_view value) {
    const auto batch = engine_->NewBatch();
    batch->Put(key, value);
    return engine_->Apply(batch.get());
  }
  static std::string Read(const Engine& engine, absl::string_view key) {
    std::string value;
    const absl::StatusOr<bool> found = engine.Get(key, &value);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && *found ? value : "(none)";
  }
  std::string Read(absl::string_view key) { return Read(*engine_, key); }
  static BufferOptions Bounded() {
    BufferOptions options = SmallBuffer();
    options.max_dirty_bytes = 192 << 10;
    return options;
  }

  TestEngine below_{TestEngine::Kind::kMemory};
  GatedEngine* gated_ = new GatedEngine(below_.get());
  std::unique_ptr<Engine> engine_ =
      NewBufferedEngine(std::unique_ptr<Engine>(gated_), Bounded());
};

TEST_F(BufferedEngineTest, ChangesReachTheEngineWhenThereAreEnough) {
  ASSERT_TRUE(Write("a", "1").ok());
  EXPECT_EQ(Read(*below_.get(), "a"), "(none)");
  ASSERT_TRUE(Write("b", std::string(64 << 10, 'x')).ok());
  gated_->WaitForApply(1);
  ASSERT_TRUE(engine_->Flush().ok());
  EXPECT_EQ(Read(*below_.get(), "a"), "1");
}

TEST_F(BufferedEngineTest, RefusesWhenTheEngineDoesNotKeepUp) {
  gated_->Open(false);
  const std::string value(8 << 10, 'x');
  absl::Status status;
  int i = 0;
  for (; i < 1000 && status.ok(); ++i) {
    status = Write(absl::StrCat("key", i), value);
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  // 192 KiB, and the one that crossed the line.
  EXPECT_LE(i, 26);
  EXPECT_GE(i, 20);
  EXPECT_EQ(Read(absl::StrCat("key", i - 1)), "(none)");
  EXPECT_EQ(Read(absl::StrCat("key", i - 2)), value);
  gated_->Open(true);
  ASSERT_TRUE(engine_->Flush().ok());
  EXPECT_TRUE(Write("more", "1").ok());
}

// A write that fails below is no loss: it is there, and written out later.
TEST_F(BufferedEngineTest, AFailedWriteOutIsTriedAgain) {
  ASSERT_TRUE(Write("a", "1").ok());
  gated_->write_error = absl::InternalError("planted");
  EXPECT_EQ(engine_->Flush().message(), "planted");
  EXPECT_EQ(Read("a"), "1");
  ASSERT_TRUE(Write("a", "2").ok());
  gated_->write_error = absl::OkStatus();
  ASSERT_TRUE(engine_->Flush().ok());
  EXPECT_EQ(Read(*below_.get(), "a"), "2");
}

// What is applied between the freezing of a view and a later write-out is not
// seen by it, and neither is half of a write-out that is under way.
TEST_F(BufferedEngineTest, AViewBesideAWriteOut) {
  ASSERT_TRUE(Write("a", "1").ok());
  ASSERT_TRUE(Write("b", "1").ok());
  gated_->Open(false);
  std::thread flush([&] { EXPECT_TRUE(engine_->Flush().ok()); });
  gated_->WaitForApply(1);
  ASSERT_TRUE(Write("a", "2").ok());
  const auto view = engine_->NewView();
  ASSERT_TRUE(Write("b", "3").ok());
  gated_->Open(true);
  flush.join();
  ASSERT_TRUE(engine_->Flush().ok());
  std::string a, b;
  EXPECT_TRUE(*view->Get("a", &a));
  EXPECT_TRUE(*view->Get("b", &b));
  EXPECT_EQ(a + b, "21");
  std::string seen;
  ASSERT_TRUE(view->Scan("", "z",
                         [&](absl::string_view key, absl::string_view value) {
                           absl::StrAppend(&seen, key, value);
                           return true;
                         })
                  .ok());
  EXPECT_EQ(seen, "a2b1");
  EXPECT_EQ(Read("b"), "3");
}

TEST_F(BufferedEngineTest, AnIngestionTakesThePlaceOfWhatWasCached) {
  TempDir dir;
  ASSERT_TRUE(Write("b1", "old").ok());
  ASSERT_TRUE(Write("b2", "old").ok());
  ASSERT_TRUE(engine_->Flush().ok());
  ASSERT_TRUE(Write("b1", "newer").ok());
  ASSERT_TRUE(Write("c", "other").ok());
  auto ingestion = engine_->NewIngestion("b", "c", dir.path());
  ASSERT_TRUE(ingestion.ok()) << ingestion.status();
  ASSERT_TRUE((*ingestion)->Put("b3", "ingested").ok());
  EXPECT_EQ(Read("b1"), "newer");
  ASSERT_TRUE((*ingestion)->Commit().ok());
  EXPECT_EQ(Read("b1"), "(none)");
  EXPECT_EQ(Read("b2"), "(none)");
  EXPECT_EQ(Read("b3"), "ingested");
  EXPECT_EQ(Read("c"), "other");
}

// Writers of two ranges, flushes, views and readers at once. Each writer sets
// all of its keys to one number, so views and the store below never see two.
TEST_F(BufferedEngineTest, EverythingAtOnce) {
  constexpr int kKeys = 40;
  constexpr int kRounds = 300;
  std::atomic<int> writing{2};
  const auto check = [&](const View& view, const std::string& prefix) {
    std::map<std::string, int> values;
    ASSERT_TRUE(view.Scan(prefix, prefix + "~",
                          [&](absl::string_view, absl::string_view value) {
                            ++values[std::string(value)];
                            return true;
                          })
                    .ok());
    ASSERT_LE(values.size(), 1u);
    if (!values.empty()) {
      ASSERT_EQ(values.begin()->second, kKeys);
    }
  };
  std::vector<std::thread> threads;
  for (const char* prefix : {"a", "b"}) {
    threads.emplace_back([&, prefix] {
      const auto batch = engine_->NewBatch();
      for (int round = 0; round < kRounds; ++round) {
        batch->Clear();
        for (int i = 0; i < kKeys; ++i) {
          batch->Put(absl::StrCat(prefix, i),
                     absl::StrCat(round, std::string(100, '.')));
        }
        absl::Status status;
        do {
          status = engine_->Apply(batch.get());
        } while (absl::IsResourceExhausted(status) && engine_->Flush().ok());
        ASSERT_TRUE(status.ok()) << status;
        std::string value;
        ASSERT_TRUE(*engine_->Get(absl::StrCat(prefix, 7), &value));
        ASSERT_EQ(value, absl::StrCat(round, std::string(100, '.')));
      }
      --writing;
    });
  }
  threads.emplace_back([&] {
    while (writing > 0) {
      ASSERT_TRUE(engine_->Flush().ok());
    }
  });
  threads.emplace_back([&] {
    while (writing > 0) {
      const auto view = engine_->NewView();
      check(*view, "a");
      check(*view, "b");
      check(*below_->NewView(), "a");
    }
  });
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE(engine_->Flush().ok());
  check(*below_->NewView(), "a");
  check(*below_->NewView(), "b");
}

}  // namespace
}  // namespace kv739::kv
