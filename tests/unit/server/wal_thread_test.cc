// The thread that a node runs its log on.
#include "server/wal/wal_thread.h"

#include <atomic>
#include <condition_variable>
#include <latch>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/fake_file_system.h"
#include "tests/support/wal_model.h"

namespace kv739::wal {
namespace {

using raft::GroupId;
using raft::Index;

constexpr char kDir[] = "wal";

// Holds every storage operation while it is closed.
class Gate {
 public:
  void Close() {
    std::lock_guard lock(mu_);
    open_ = false;
  }
  void Open() {
    std::lock_guard lock(mu_);
    open_ = true;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mu_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void AwaitWaiting() {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  bool open_ = true;
  int waiting_ = 0;
};

class WalThreadTest : public testing::Test {
 protected:
  void SetUp() override {
    WalOptions options;
    options.segment_bytes = 16 * kBlockBytes;
    options.cache_bytes = 4000;
    auto wal = Wal::Open(&fs_, kDir, options);
    ASSERT_TRUE(wal.ok());
    wal_ = *std::move(wal);
    while (wal_->wants_maintenance()) ASSERT_TRUE(wal_->Maintain().ok());
  }

  void Start(AppendObserver observer = nullptr) {
    thread_ = WalThread::Start(
        wal_.get(),
        [this](absl::Status status) {
          EXPECT_FALSE(status.ok());
          ++failures_;
          failed_.count_down();
        },
        std::move(observer));
  }

  static WalTask Task(uint64_t group, uint64_t index,
                      absl::AnyInvocable<void()> done) {
    GroupWrite write;
    write.group = GroupId(group);
    write.entries = {MakeEntry(1, index, std::string(200, 'x'))};
    WalTask task;
    task.writes.push_back(std::move(write));
    task.done = std::move(done);
    return task;
  }

  FakeFileSystem fs_;
  std::unique_ptr<Wal> wal_;
  std::atomic<int> failures_{0};
  std::latch failed_{1};
  std::unique_ptr<WalThread> thread_;
};

TEST_F(WalThreadTest, CompletesInOrderAndOnlyWhatIsDurable) {
  Start();
  std::vector<uint64_t> completed;  // on the WAL thread, read after its end
  uint64_t too_early = 0;
  for (uint64_t i = 1; i <= 500; ++i) {
    thread_->Submit(Task(1, i, [&, i] {
      completed.push_back(i);
      if (!wal_->Read(GroupId(1), Index(i), Index(i), 1).ok()) ++too_early;
    }));
    if (i % 7 == 0) {  // nothing to write, still in its turn
      WalTask empty;
      empty.done = [&, i] { completed.push_back(1000 + i); };
      thread_->Submit(std::move(empty));
    }
  }
  thread_.reset();  // completes all
  EXPECT_EQ(too_early, 0u);
  std::vector<uint64_t> expected;
  for (uint64_t i = 1; i <= 500; ++i) {
    expected.push_back(i);
    if (i % 7 == 0) expected.push_back(1000 + i);
  }
  EXPECT_EQ(completed, expected);
  EXPECT_EQ(failures_, 0);
}

// What is submitted while a sync is under way shares the next one.
TEST_F(WalThreadTest, OneSyncForAllThatWaits) {
  Gate gate;
  std::vector<AppendObservation> seen;
  Start([&](const AppendObservation& o) { seen.push_back(o); });
  gate.Close();
  fs_.SetHook([&] { gate.Pass(); });
  std::atomic<int> done{0};
  thread_->Submit(Task(1, 1, [&] { ++done; }));
  gate.AwaitWaiting();
  for (uint64_t g = 2; g <= 41; ++g) {
    thread_->Submit(Task(g, 1, [&] { ++done; }));
  }
  EXPECT_TRUE(thread_->busy());
  EXPECT_EQ(thread_->queued_bytes(), 41u * 200);
  EXPECT_EQ(done, 0);
  gate.Open();
  std::latch last{1};
  WalTask end;
  end.done = [&] { last.count_down(); };
  thread_->Submit(std::move(end));
  last.wait();
  EXPECT_EQ(done, 41);
  EXPECT_EQ(thread_->queued_bytes(), 0u);
  thread_.reset();
  fs_.SetHook(nullptr);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].entries, 1u);
  EXPECT_EQ(seen[1].entries, 40u);
  EXPECT_EQ(seen[1].bytes, 40u * 200);
  EXPECT_GT(seen[1].seconds, 0);
}

// Submitters, readers and maintenance at once; segments come and go.
TEST_F(WalThreadTest, ManySubmittersAndReaders) {
  constexpr int kSubmitters = 4;
  constexpr uint64_t kEach = 400;
  Start();
  WalThread* const log = thread_.get();
  std::atomic<uint64_t> reads_answered{0};
  std::atomic<uint64_t> reads_asked{0};
  std::vector<uint64_t> next(kSubmitters, 1);  // WAL thread only
  std::vector<std::thread> submitters;
  for (int s = 0; s < kSubmitters; ++s) {
    submitters.emplace_back([&, s] {
      for (uint64_t i = 1; i <= kEach; ++i) {
        WalTask task = Task(s, i, [&, s, i] {
          EXPECT_EQ(next[s]++, i);
          if (i % 20 != 0) return;
          ++reads_asked;
          log->ReadAsync(
              GroupId(s), Index(i - 5), Index(i), 1 << 20,
              [&, s](absl::StatusOr<std::vector<raft::Entry>> entries) {
                // Only what was compacted meanwhile may be missing.
                if (entries.ok()) {
                  EXPECT_EQ(*entries->front().data, std::string(200, 'x'));
                } else {
                  EXPECT_NE(s, 0) << entries.status();
                  EXPECT_EQ(entries.status().code(),
                            absl::StatusCode::kOutOfRange);
                }
                ++reads_answered;
              });
        });
        if (s > 0 && i > 100 && i % 10 == 0) {
          task.writes[0].compact =
              raft::LogPosition{raft::Term(1), Index(i - 100)};
        }
        thread_->Submit(std::move(task));
      }
    });
  }
  for (std::thread& thread : submitters) thread.join();
  thread_.reset();
  EXPECT_EQ(failures_, 0);
  for (uint64_t n : next) EXPECT_EQ(n, kEach + 1);
  EXPECT_EQ(reads_answered, reads_asked);
  const WalStats stats = wal_->stats();
  EXPECT_LT(stats.appends, kSubmitters * kEach);
  EXPECT_EQ(stats.entries, kSubmitters * kEach);
}

TEST_F(WalThreadTest, AfterAFailureNothingCompletes) {
  Start();
  std::atomic<int> done{0};
  std::latch first{1};
  thread_->Submit(Task(1, 1, [&] {
    ++done;
    first.count_down();
  }));
  first.wait();
  Gate gate;
  gate.Close();
  fs_.SetHook([&] { gate.Pass(); });
  fs_.FailAt(fs_.operations() + 1);
  thread_->Submit(Task(1, 2, [&] { ++done; }));
  gate.AwaitWaiting();
  thread_->Submit(Task(1, 3, [&] { ++done; }));
  WalTask empty;  // has nothing to write, and waits for those before it
  empty.done = [&] { ++done; };
  thread_->Submit(std::move(empty));
  gate.Open();
  failed_.wait();
  thread_->Submit(Task(1, 4, [&] { ++done; }));
  std::latch read{1};
  thread_->ReadAsync(GroupId(1), Index(1), Index(1), 1, [&](auto entries) {
    EXPECT_FALSE(entries.ok());
    read.count_down();
  });
  read.wait();
  EXPECT_FALSE(thread_->busy());
  thread_.reset();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(failures_, 1);
  fs_.SetHook(nullptr);
}

TEST_F(WalThreadTest, EndsWhenThereWasNothingToDo) {
  Start();
  EXPECT_FALSE(thread_->busy());
  thread_.reset();
  EXPECT_EQ(failures_, 0);
}

// A callback may submit more, also while the thread is being ended.
TEST_F(WalThreadTest, ACallbackMaySubmit) {
  Start();
  int done = 0;
  WalThread* const log = thread_.get();
  thread_->Submit(Task(1, 1, [&] {
    ++done;
    log->Submit(Task(1, 2, [&] { ++done; }));
  }));
  std::latch last{1};
  thread_->Submit(Task(2, 1, [&] { last.count_down(); }));
  last.wait();
  thread_.reset();
  EXPECT_EQ(done, 2);
}

}  // namespace
}  // namespace kv739::wal
