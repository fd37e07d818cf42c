// The contract of Engine, held against every engine; then what is RocksDB's
// alone: locks, damage, full write buffers.
#include "kv/engine.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

namespace fs = std::filesystem;
using Pairs = std::vector<std::pair<std::string, std::string>>;

Pairs All(const View& view, absl::string_view begin, absl::string_view end) {
  Pairs pairs;
  EXPECT_TRUE(view.Scan(begin, end,
                        [&](absl::string_view key, absl::string_view value) {
                          pairs.emplace_back(std::string(key),
                                             std::string(value));
                          return true;
                        })
                  .ok());
  return pairs;
}

void Put(Engine* engine, absl::string_view key, absl::string_view value) {
  const auto batch = engine->NewBatch();
  batch->Put(key, value);
  ASSERT_TRUE(engine->Apply(batch.get()).ok());
}

std::string Read(const Engine& engine, absl::string_view key) {
  std::string value;
  const absl::StatusOr<bool> found = engine.Get(key, &value);
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() && *found ? value : "(none)";
}

std::string ReadDurable(const Engine& engine, absl::string_view key) {
  std::string value;
  const absl::StatusOr<bool> found = engine.GetDurable(key, &value);
  EXPECT_TRUE(found.ok()) << found.status();
  return found.ok() && *found ? value : "(none)";
}

// Reads these together and sees that what is done is right; how many were.
size_t CheckTogether(const Engine& engine,
                     const std::map<std::string, std::string>& expected,
                     const std::set<std::string>& keys) {
  std::vector<LentValue> values(keys.size());
  std::vector<KeyRead> reads;
  for (const std::string& key : keys) {
    reads.push_back({{key, HashKey(key)}, &values[reads.size()]});
  }
  engine.ReadTogether(absl::MakeSpan(reads));
  size_t done = 0;
  for (const KeyRead& read : reads) {
    if (!read.done) continue;
    ++done;
    const auto it = expected.find(std::string(read.key.bytes));
    EXPECT_EQ(read.found, it != expected.end()) << read.key.bytes;
    if (!read.found || it == expected.end()) continue;
    EXPECT_EQ(read.value->bytes(), absl::string_view(it->second));
  }
  return done;
}

class EngineTest : public testing::TestWithParam<TestEngine::Kind> {
 protected:
  TestEngine engine_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, EngineTest,
                         testing::Values(TestEngine::Kind::kMemory,
                                         TestEngine::Kind::kRocks,
                                         TestEngine::Kind::kBuffered,
                                         TestEngine::Kind::kDirect),
                         KindName);

TEST_P(EngineTest, BatchTakesEffectInItsOrder) {
  const auto batch = engine_->NewBatch();
  EXPECT_EQ(Read(*engine_.get(), "a"), "(none)");
  batch->Put("a", "1");
  batch->Put("b", "");
  batch->Put("c", std::string("\0\xff", 2));
  batch->Put("a", "2");
  batch->Put("d", "gone");
  batch->Delete("d");
  batch->Delete("missing");
  const uint64_t bytes = batch->bytes();
  EXPECT_GT(bytes, 10u);
  ASSERT_TRUE(engine_->Apply(batch.get()).ok());
  EXPECT_EQ(batch->bytes(), bytes);
  EXPECT_EQ(Read(*engine_.get(), "a"), "2");
  EXPECT_EQ(Read(*engine_.get(), "b"), "");
  EXPECT_EQ(Read(*engine_.get(), "c"), std::string("\0\xff", 2));
  EXPECT_EQ(Read(*engine_.get(), "d"), "(none)");
  batch->Clear();
  EXPECT_LT(batch->bytes(), bytes);
  batch->Put("e", "5");
  ASSERT_TRUE(engine_->Apply(batch.get()).ok());
  EXPECT_EQ(All(*engine_->NewView(), "", "z").size(), 4u);
}

TEST_P(EngineTest, RangesHoldTheirBeginAndNotTheirEnd) {
  for (const char* key : {"a", "b", "ba", "c", "d"})
    Put(engine_.get(), key, key);
  EXPECT_EQ(All(*engine_->NewView(), "b", "c"),
            (Pairs{{"b", "b"}, {"ba", "ba"}}));
  EXPECT_EQ(All(*engine_->NewView(), "c", "b"), Pairs());
  const auto batch = engine_->NewBatch();
  batch->DeleteRange("b", "c");
  batch->Put("bb", "after the range was deleted");
  ASSERT_TRUE(engine_->Apply(batch.get()).ok());
  EXPECT_EQ(Read(*engine_.get(), "ba"), "(none)");
  EXPECT_EQ(Read(*engine_.get(), "bb"), "after the range was deleted");
  EXPECT_EQ(Read(*engine_.get(), "c"), "c");
}

TEST_P(EngineTest, ScanStopsWhenTold) {
  for (const char* key : {"a", "b", "c"}) Put(engine_.get(), key, key);
  int visits = 0;
  ASSERT_TRUE(engine_->NewView()
                  ->Scan("a", "z",
                         [&](absl::string_view, absl::string_view) {
                           return ++visits < 2;
                         })
                  .ok());
  EXPECT_EQ(visits, 2);
}

TEST_P(EngineTest, ViewStaysAsItWas) {
  Put(engine_.get(), "a", "1");
  const auto view = engine_->NewView();
  Put(engine_.get(), "a", "2");
  Put(engine_.get(), "b", "2");
  ASSERT_TRUE(engine_->Flush().ok());
  std::string value;
  EXPECT_TRUE(*view->Get("a", &value));
  EXPECT_EQ(value, "1");
  EXPECT_FALSE(*view->Get("b", &value));
  EXPECT_EQ(All(*view, "", "z"), (Pairs{{"a", "1"}}));
  EXPECT_EQ(All(*engine_->NewView(), "", "z").size(), 2u);
}

TEST_P(EngineTest, DurableIsWhatWasFlushed) {
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "(none)");
  Put(engine_.get(), "a", "1");
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "(none)");
  ASSERT_TRUE(engine_->Flush().ok());
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "1");
  Put(engine_.get(), "a", "2");
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "1");
  EXPECT_EQ(Read(*engine_.get(), "a"), "2");
  const auto batch = engine_->NewBatch();
  batch->Delete("a");
  ASSERT_TRUE(engine_->Apply(batch.get()).ok());
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "1");
  ASSERT_TRUE(engine_->Flush().ok());
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "(none)");
}

TEST_P(EngineTest, CrashLeavesWhatWasDurable) {
  Put(engine_.get(), "a", "1");
  ASSERT_TRUE(engine_->Flush().ok());
  Put(engine_.get(), "a", "2");
  Put(engine_.get(), "b", "2");
  engine_.Crash();
  EXPECT_EQ(All(*engine_->NewView(), "", "z"), (Pairs{{"a", "1"}}));
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "1");
  Put(engine_.get(), "b", "3");
  EXPECT_EQ(Read(*engine_.get(), "b"), "3");
  EXPECT_EQ(ReadDurable(*engine_.get(), "b"), "(none)");
}

TEST_P(EngineTest, ClosingInOrderLosesNothing) {
  Put(engine_.get(), "a", "1");
  engine_.Restart();
  EXPECT_EQ(Read(*engine_.get(), "a"), "1");
  EXPECT_EQ(ReadDurable(*engine_.get(), "a"), "1");
}

// Against a map, with flushes and crashes between.
TEST_P(EngineTest, BehavesLikeAMap) {
  std::mt19937_64 random(739);
  std::map<std::string, std::string> now;
  // What a crash may leave: the state of the last flush, or a later one where
  // what is applied becomes durable by itself.
  std::vector<Pairs> durable = {{}};
  size_t together = 0;
  for (int round = 0; round < 300; ++round) {
    const auto batch = engine_->NewBatch();
    for (int n = random() % 20; n >= 0; --n) {
      const std::string key = absl::StrCat("k", random() % 50);
      const uint64_t what = random() % 10;
      if (what < 6) {
        const std::string value(random() % 2000, 'a' + random() % 26);
        batch->Put(key, value);
        now[key] = value;
      } else if (what < 9) {
        batch->Delete(key);
        now.erase(key);
      } else {
        const std::string end = absl::StrCat("k", random() % 50);
        if (end <= key) continue;
        batch->DeleteRange(key, end);
        now.erase(now.lower_bound(key), now.lower_bound(end));
      }
    }
    ASSERT_TRUE(engine_->Apply(batch.get()).ok());
    std::set<std::string> keys;
    for (uint64_t n = random() % (kMaxReadTogether + 1); n > 0; --n) {
      keys.insert(absl::StrCat("k", random() % 50));
    }
    together += CheckTogether(*engine_.operator->(), now, keys);
    ASSERT_EQ(All(*engine_->NewView(), "", "z"), Pairs(now.begin(), now.end()));
    if (GetParam() == TestEngine::Kind::kDirect) {
      durable.emplace_back(now.begin(), now.end());
    }
    if (random() % 20 == 0) {
      ASSERT_TRUE(engine_->Flush().ok());
      durable = {Pairs(now.begin(), now.end())};
    }
    if (random() % 60 == 0) {
      engine_.Crash();
      const Pairs left = All(*engine_->NewView(), "", "z");
      ASSERT_THAT(durable, testing::Contains(left));
      durable = {left};
      now = {left.begin(), left.end()};
    }
  }
  if (GetParam() != TestEngine::Kind::kMemory) {
    EXPECT_GT(together, 1000u);
  }
}

TEST_P(EngineTest, ReadersAndViewsBesideAWriter) {
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::vector<std::thread> readers;
  const auto batch = engine_->NewBatch();
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!stop) {
        // Both keys are written together: a view never sees them differ.
        const auto view = engine_->NewView();
        std::string a = "none", b = "none";
        ASSERT_TRUE(view->Get("a", &a).ok());
        ASSERT_TRUE(view->Get("b", &b).ok());
        ASSERT_EQ(a, b);
        Read(*engine_.get(), "a");
        ++reads;
      }
    });
  }
  for (int i = 0; i < 500 || reads < 100; ++i) {
    batch->Clear();
    batch->Put("a", absl::StrCat(i));
    batch->Put("b", absl::StrCat(i));
    ASSERT_TRUE(engine_->Apply(batch.get()).ok());
    if (i % 100 == 0) {
      ASSERT_TRUE(engine_->Flush().ok());
    }
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

TEST(RocksEngine, IsOpenedOnceInAProcess) {
  TempDir dir;
  const auto first = OpenRocksEngine(dir.path(), SmallEngine());
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(OpenRocksEngine(dir.path(), SmallEngine()).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(RocksEngine, IsOpenedByOneProcess) {
  TempDir dir;
  const std::string lock = dir.path() + "/LOCK";
  int ready[2];
  int done[2];
  ASSERT_EQ(pipe(ready), 0);
  ASSERT_EQ(pipe(done), 0);
  const pid_t child = fork();
  if (child == 0) {
    // Holds the lock as RocksDB does, with nothing but system calls: this is
    // a fork of a program with threads.
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    const int fd = open(lock.c_str(), O_RDWR | O_CREAT, 0600);
    char byte = fcntl(fd, F_SETLK, &whole) == 0 ? 'y' : 'n';
    const bool told = write(ready[1], &byte, 1) == 1;
    const bool waited = read(done[0], &byte, 1) == 1;
    _exit(told && waited ? 0 : 1);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_EQ(byte, 'y');
  const auto second = OpenRocksEngine(dir.path(), SmallEngine());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition)
      << second.status();
  ASSERT_EQ(write(done[1], "x", 1), 1);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(OpenRocksEngine(dir.path(), SmallEngine()).ok());
  for (int fd : {ready[0], ready[1], done[0], done[1]}) close(fd);
}

void MakeStore(const std::string& dir) {
  auto engine = OpenRocksEngine(dir, SmallEngine());
  ASSERT_TRUE(engine.ok()) << engine.status();
  for (int i = 0; i < 1000; ++i) {
    Put(engine->get(), absl::StrCat("key", i), std::string(100, 'a' + i % 26));
  }
}

std::vector<fs::path> FilesLike(const std::string& dir,
                                absl::string_view part) {
  std::vector<fs::path> files;
  for (const auto& file : fs::directory_iterator(dir)) {
    if (absl::StrContains(file.path().filename().string(), part)) {
      files.push_back(file.path());
    }
  }
  return files;
}

// One after the other: what is missing is told, nothing is made anew.
TEST(RocksEngine, MissingFilesAreDataLoss) {
  for (const char* part : {"CURRENT", "MANIFEST-", ".sst"}) {
    TempDir dir;
    MakeStore(dir.path());
    const auto files = FilesLike(dir.path(), part);
    ASSERT_FALSE(files.empty()) << part;
    for (const fs::path& file : files) fs::remove(file);
    const auto engine = OpenRocksEngine(dir.path(), SmallEngine());
    EXPECT_EQ(engine.status().code(), absl::StatusCode::kDataLoss)
        << part << ": " << engine.status();
    EXPECT_TRUE(absl::StrContains(engine.status().message(), dir.path()));
  }
}

// Nothing that RocksDB recovers can contradict itself where there is nothing to
// recover: no log of its own, with or without holes (D6), and one column family
// that cannot fall behind another (D5).
TEST(RocksEngine, HasNoLogAndOneColumnFamily) {
  TempDir dir;
  auto engine = OpenRocksEngine(dir.path(), SmallEngine());
  ASSERT_TRUE(engine.ok()) << engine.status();
  const auto expect_empty_logs = [&] {
    for (const fs::path& file : FilesLike(dir.path(), ".log")) {
      if (!std::isdigit(file.filename().string()[0])) continue;
      EXPECT_EQ(fs::file_size(file), 0u) << file;
    }
  };
  for (int round = 0; round < 3; ++round) {
    const auto batch = (*engine)->NewBatch();
    for (int i = 0; i < 100; ++i) {
      batch->Put(absl::StrCat("key", i), std::string(1'000, 'a' + round));
    }
    batch->DeleteRange("key5", "key6");
    ASSERT_TRUE((*engine)->Apply(batch.get()).ok());
    expect_empty_logs();
    ASSERT_TRUE((*engine)->Flush().ok());
    expect_empty_logs();
  }
  engine->reset();
  std::vector<std::string> families;
  const rocksdb::Status listed = rocksdb::DB::ListColumnFamilies(
      rocksdb::DBOptions(), dir.path(), &families);
  ASSERT_TRUE(listed.ok()) << listed.ToString();
  EXPECT_THAT(families, testing::ElementsAre("default"));
}

TEST(RocksEngine, DamagedDataIsDataLossAndNeverAWrongAnswer) {
  TempDir dir;
  MakeStore(dir.path());
  const auto files = FilesLike(dir.path(), ".sst");
  ASSERT_EQ(files.size(), 1u);
  std::fstream file(files[0], std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(100);  // in the first block of data
  file.write("\xde\xad\xbe\xef", 4);
  file.close();
  const auto engine = OpenRocksEngine(dir.path(), SmallEngine());
  ASSERT_TRUE(engine.ok()) << engine.status();
  std::string value;
  EXPECT_EQ((*engine)->Get("key0", &value).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(CheckTogether(**engine, {}, {"key0", "key1"}), 0u);
  EXPECT_EQ(
      (*engine)
          ->NewView()
          ->Scan("", "z",
                 [](absl::string_view, absl::string_view) { return true; })
          .code(),
      absl::StatusCode::kDataLoss);
}

TEST(RocksEngine, DirectoryThatCannotBeMadeIsAnError) {
  TempDir dir;
  std::ofstream(dir.path() + "/file") << "x";
  EXPECT_FALSE(OpenRocksEngine(dir.path() + "/file", SmallEngine()).ok());
  EXPECT_FALSE(OpenRocksEngine(dir.path() + "/file/db", SmallEngine()).ok());
  EXPECT_TRUE(OpenRocksEngine(dir.path() + "/a/b/c", SmallEngine()).ok());
}

// A writer that is faster than the disk is told so; what was taken is there
// and what was refused is not.
TEST(RocksEngine, FullWriteBuffersRefuseAndDoNotWait) {
  TempDir dir;
  EngineOptions options;
  options.write_buffer_bytes = 64 << 10;
  const auto opened = OpenRocksEngine(dir.path(), options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  Engine& engine = **opened;
  const std::string value(60 << 10, 'x');
  int refused = 0;
  int i = 0;
  for (; refused == 0 && i < 5000; ++i) {
    const auto batch = engine.NewBatch();
    batch->Put(absl::StrCat("key", i), value);
    const absl::Status status = engine.Apply(batch.get());
    if (status.ok()) continue;
    ++refused;
    ASSERT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_EQ(Read(engine, absl::StrCat("key", i)), "(none)");
  }
  ASSERT_GT(refused, 0);
  EXPECT_TRUE(engine.background_error().ok());
  // Flush waits for room, and then there is some.
  ASSERT_TRUE(engine.Flush().ok());
  for (int n = 0; n + 1 < i; ++n) {
    ASSERT_EQ(Read(engine, absl::StrCat("key", n)), value);
  }
}

}  // namespace
}  // namespace kv739::kv
