// Large batches in order that become a table file of the store, and who sends
// them that way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/engine.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

namespace fs = std::filesystem;

std::string ValueOf(absl::StatusOr<bool> found, const std::string& value) {
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() && *found ? value : "(none)";
}
std::string Read(const Engine& engine, absl::string_view key) {
  std::string value;
  const auto found = engine.Get(key, &value);
  return ValueOf(found, value);
}
std::string Read(const View& view, absl::string_view key) {
  std::string value;
  const auto found = view.Get(key, &value);
  return ValueOf(found, value);
}
std::string ReadDurable(const Engine& engine, absl::string_view key) {
  std::string value;
  const auto found = engine.GetDurable(key, &value);
  return ValueOf(found, value);
}
void Put(Engine* engine, absl::string_view key, absl::string_view value) {
  const auto batch = engine->NewBatch();
  batch->Put(key, value);
  ASSERT_TRUE(engine->Apply(batch.get()).ok());
}
// `count` keys that begin with "a" get this value.
absl::Status Write(Engine* engine, int count, absl::string_view value) {
  return engine->ApplySorted([&](Batch* batch) {
    for (int i = 0; i < count; ++i) {
      batch->Put(absl::StrCat("a", 10'000 + i), value);
    }
  });
}

class DirectWriteTest : public testing::Test {
 protected:
  DirectWriteTest() { Open(); }
  void Open() {
    engine_.reset();
    auto engine = OpenRocksEngine(dir_.path(), SmallEngine());
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }
  std::string left_over() const { return dir_.path() + "/written-out.tmp"; }
  // Any table file of the store.
  std::string TableFile() const {
    for (const auto& entry : fs::directory_iterator(dir_.path())) {
      if (absl::EndsWith(entry.path().string(), ".sst")) return entry.path();
    }
    ADD_FAILURE() << "no table file";
    return "";
  }

  TempDir dir_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(DirectWriteTest, IsDurableOnReturn) {
  ASSERT_TRUE(Write(engine_.get(), 100, "1").ok());
  EXPECT_EQ(Read(*engine_, "a10042"), "1");
  EXPECT_EQ(ReadDurable(*engine_, "a10042"), "1");
  EXPECT_FALSE(fs::exists(left_over()));
  Open();
  EXPECT_EQ(Read(*engine_, "a10099"), "1");
}

// Of what is in memtables, in files and in an earlier write of this kind; and a
// view from before keeps all of it.
TEST_F(DirectWriteTest, TakesThePlaceOfWhatWasThere) {
  Put(engine_.get(), "a10000", "file");
  Put(engine_.get(), "c1", "file");
  ASSERT_TRUE(engine_->Flush().ok());
  ASSERT_TRUE(Write(engine_.get(), 2, "early").ok());
  Put(engine_.get(), "a10002", "memory");
  Put(engine_.get(), "b1", "memory");
  Put(engine_.get(), "b3", "memory");
  const std::unique_ptr<View> before = engine_->NewView();
  const absl::Status status = engine_->ApplySorted([](Batch* batch) {
    batch->DeleteRange("b", "d");
    batch->Put("a10000", "new");
    batch->Delete("a10001");
    batch->Put("b3", "new");  // not hidden by the range that is deleted
    batch->Put("b4", "new");
  });
  ASSERT_TRUE(status.ok()) << status;
  const std::vector<std::pair<std::string, std::string>> now = {
      {"a10000", "new"}, {"a10001", "(none)"}, {"a10002", "memory"},
      {"b1", "(none)"},  {"b3", "new"},        {"b4", "new"},
      {"c1", "(none)"}};
  for (const auto& [key, value] : now) {
    EXPECT_EQ(Read(*engine_, key), value) << key;
    EXPECT_EQ(ReadDurable(*engine_, key), value) << key;
  }
  const std::vector<std::pair<std::string, std::string>> then = {
      {"a10000", "early"}, {"a10001", "early"}, {"a10002", "memory"},
      {"b1", "memory"},    {"b3", "memory"},    {"b4", "(none)"},
      {"c1", "file"}};
  for (const auto& [key, value] : then) {
    EXPECT_EQ(Read(*before, key), value) << key;
  }
  Put(engine_.get(), "a10000", "newest");
  EXPECT_EQ(Read(*engine_, "a10000"), "newest");
}

// A crash may leave the file, as half a file or as a second name of a file of
// the store.
TEST_F(DirectWriteTest, WhatACrashLeftIsRemoved) {
  ASSERT_TRUE(Write(engine_.get(), 100, "1").ok());
  engine_.reset();
  fs::create_hard_link(TableFile(), left_over());
  Open();
  EXPECT_FALSE(fs::exists(left_over()));
  EXPECT_EQ(Read(*engine_, "a10042"), "1");
  // The same without a crash: an error kept it from being removed.
  fs::create_hard_link(TableFile(), left_over());
  ASSERT_TRUE(Write(engine_.get(), 3, "2").ok());
  EXPECT_FALSE(fs::exists(left_over()));
  Open();
  EXPECT_EQ(Read(*engine_, "a10002"), "2");
  EXPECT_EQ(Read(*engine_, "a10003"), "1");
}

TEST_F(DirectWriteTest, AfterAnErrorNothingIsApplied) {
  Put(engine_.get(), "a10000", "old");
  const absl::Status status = engine_->ApplySorted([](Batch* batch) {
    batch->Put("a10000", "new");
    batch->Put("a00000", "new");  // out of order
    batch->Put("b", "new");
  });
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(Read(*engine_, "a10000"), "old");
  EXPECT_EQ(Read(*engine_, "b"), "(none)");
  EXPECT_TRUE(engine_->background_error().ok());
  EXPECT_FALSE(fs::exists(left_over()));
  // Nor where the file cannot be made.
  fs::create_directory(left_over());
  fs::create_directory(left_over() + "/full");
  EXPECT_FALSE(Write(engine_.get(), 1, "new").ok());
  EXPECT_EQ(Read(*engine_, "a10000"), "old");
  fs::remove_all(left_over());
  ASSERT_TRUE(Write(engine_.get(), 1, "new").ok());
  EXPECT_EQ(Read(*engine_, "a10000"), "new");
}

// Counts how changes come, and refuses some.
class CountingEngine : public FailingEngine {
 public:
  using FailingEngine::FailingEngine;
  absl::Status Apply(Batch* batch) override {
    ++batches;
    return FailingEngine::Apply(batch);
  }
  absl::Status ApplySorted(
      absl::FunctionRef<void(Batch* batch)> fill) override {
    absl::Status status = sorted_error;
    if (status.ok()) status = below->ApplySorted(fill);
    if (status.ok()) ++sorted;
    return status;
  }
  Engine* below = nullptr;
  absl::Status sorted_error;
  int batches = 0;
  int sorted = 0;
};

TEST_F(DirectWriteTest, TheBufferSendsWhatIsLargeThatWay) {
  auto owned = std::make_unique<CountingEngine>(engine_.get());
  CountingEngine* const counting = owned.get();
  counting->below = engine_.get();
  BufferOptions options;
  options.direct_bytes = 100'000;
  const auto buffered = NewBufferedEngine(std::move(owned), options);
  const auto write = [&](int count, const std::string& value) {
    const auto batch = buffered->NewBatch();
    batch->DeleteRange("b", "c");
    // Not in order, and some of them twice.
    for (int i = count; i-- > 0;) batch->Put(absl::StrCat("a", i), value);
    for (int i = 0; i < count / 2; ++i) {
      batch->Put(absl::StrCat("a", i), value + "2");
    }
    batch->Put("b7", value);
    ASSERT_TRUE(buffered->Apply(batch.get()).ok());
    ASSERT_TRUE(buffered->Flush().ok());
  };
  write(10, "few");
  EXPECT_EQ(counting->batches, 1);
  EXPECT_EQ(counting->sorted, 0);
  write(3000, "many");
  EXPECT_EQ(counting->batches, 1);
  EXPECT_EQ(counting->sorted, 1);
  EXPECT_EQ(ReadDurable(*engine_, "a2"), "many2");
  EXPECT_EQ(ReadDurable(*engine_, "a2999"), "many");
  EXPECT_EQ(ReadDurable(*engine_, "b7"), "many");
  // What cannot go that way goes the other.
  counting->sorted_error = absl::ResourceExhaustedError("planted");
  write(3000, "more");
  EXPECT_EQ(counting->batches, 2);
  EXPECT_EQ(counting->sorted, 1);
  EXPECT_EQ(ReadDurable(*engine_, "a2999"), "more");
  write(1, "one");
  EXPECT_EQ(Read(*buffered, "a2999"), "more");
  EXPECT_EQ(ReadDurable(*engine_, "a0"), "one");
}

// Compaction goes on beside them, and no file is made that it could not keep
// up with: the store then takes batches, whose writers wait.
TEST_F(DirectWriteTest, ManyOfThem) {
  std::string last;
  for (int round = 0; round < 200; ++round) {
    last = absl::StrCat("round", round, std::string(500, 'x'));
    const absl::Status status = Write(engine_.get(), 50, last);
    if (status.ok()) continue;
    ASSERT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
    const auto batch = engine_->NewBatch();
    for (int i = 0; i < 50; ++i)
      batch->Put(absl::StrCat("a", 10'000 + i), last);
    absl::Status applied = engine_->Apply(batch.get());
    while (absl::IsResourceExhausted(applied)) {
      ASSERT_TRUE(engine_->Flush().ok());
      applied = engine_->Apply(batch.get());
    }
    ASSERT_TRUE(applied.ok()) << applied;
  }
  for (int i = 0; i < 50; ++i) {
    ASSERT_EQ(Read(*engine_, absl::StrCat("a", 10'000 + i)), last);
  }
  Open();
  EXPECT_EQ(Read(*engine_, "a10049"), last);
}

}  // namespace
}  // namespace kv739::kv
