// The drivers: threads and callbacks around the loops. What they count and
// when they end; times are the loops' and tested there.
#include "client/command/bench_driver.h"

#include <gtest/gtest.h>

#include <atomic>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"

namespace kv739::bench {
namespace {

constexpr uint64_t kLong = 3600'000'000'000;  // longer than any test

LoopOptions Loop(int in_flight, double rate = 0) {
  LoopOptions options;
  options.in_flight = in_flight;
  options.rate = rate;
  options.begin = options.measure_from = NowNanos();
  options.end = options.begin + kLong;
  return options;
}

// How many operations run at once, and a signal after so many.
class Counter {
 public:
  explicit Counter(uint64_t enough) : enough_(enough) {}
  void Begin() {
    const int now = running_.fetch_add(1) + 1;
    int most = most_.load();
    while (now > most && !most_.compare_exchange_weak(most, now)) {
    }
  }
  void End() {
    running_.fetch_sub(1);
    if (ended_.fetch_add(1) + 1 == enough_) reached.Notify();
  }
  int most() const { return most_; }
  int running() const { return running_; }
  uint64_t ended() const { return ended_; }
  absl::Notification reached;

 private:
  const uint64_t enough_;
  std::atomic<int> running_ = 0;
  std::atomic<int> most_ = 0;
  std::atomic<uint64_t> ended_ = 0;
};

class FakeThreads : public BlockingTarget {
 public:
  explicit FakeThreads(uint64_t enough) : counter(enough) {}
  Result Run(const Operation& o) override {
    counter.Begin();
    std::this_thread::yield();
    counter.End();
    return o.number % 10 == 3 ? Result{Outcome::kFailed, "three"} : Result();
  }
  Counter counter;
};

// Answers on a thread of its own, last in first out; refuses some at once.
class FakeAsync : public AsyncTarget {
 public:
  explicit FakeAsync(uint64_t enough) : counter(enough) {
    thread_ = std::thread([this] { Answer(); });
  }
  ~FakeAsync() override {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
    }
    thread_.join();
  }
  bool Start(Call* call, Result* result) override {
    if (++starts_ % 11 == 0) {
      *result = {Outcome::kFailed, "refused"};
      return false;
    }
    counter.Begin();
    absl::MutexLock lock(&mutex_);
    waiting_.push_back(call);
    return true;
  }
  void Hold(bool hold) {
    absl::MutexLock lock(&mutex_);
    hold_ = hold;
  }
  void AwaitWaiting(size_t count) {
    const auto there = [this, count] {
      mutex_.AssertReaderHeld();
      return waiting_.size() == count;
    };
    absl::MutexLock lock(&mutex_, absl::Condition(&there));
  }
  Counter counter;

 private:
  void Answer() {
    const auto woken = [this] {
      mutex_.AssertReaderHeld();
      return closed_ || (!hold_ && !waiting_.empty());
    };
    while (true) {
      Call* call = nullptr;
      {
        absl::MutexLock lock(&mutex_, absl::Condition(&woken));
        if (waiting_.empty()) return;
        call = waiting_.back();
        waiting_.pop_back();
      }
      counter.End();
      call->Done({});
    }
  }

  std::atomic<uint64_t> starts_ = 0;
  absl::Mutex mutex_;
  std::deque<Call*> waiting_ ABSL_GUARDED_BY(mutex_);
  bool hold_ ABSL_GUARDED_BY(mutex_) = false;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class DriverTest : public ::testing::Test {
 protected:
  std::unique_ptr<Source> MakeSource(const std::string& workload, int seed) {
    return NewMixSource(*MixOf(workload), {16, 8}, &keys_, &values_, seed);
  }
  void ExpectCounted(const LoopStats& stats, uint64_t ended) {
    uint64_t well = 0;
    for (const Histogram& kind : stats.latency) well += kind.count();
    EXPECT_EQ(well + stats.failures.count(), ended);
    EXPECT_GT(well, 0u);
    EXPECT_GT(stats.failed, 0u);
  }

  KeySpace keys_{1000};
  const Values values_{8, 1};
};

TEST_F(DriverTest, ThreadsClosedLoop) {
  FakeThreads target(5000);
  std::vector<std::unique_ptr<Source>> sources;
  std::vector<std::unique_ptr<LoadLoop>> loops;
  for (const int in_flight : {3, 2, 2}) {
    sources.push_back(MakeSource("a", in_flight));
    loops.push_back(
        std::make_unique<LoadLoop>(Loop(in_flight), sources.back().get()));
  }
  Driver driver(&target, std::move(loops), 7);
  driver.Start();
  target.counter.reached.WaitForNotification();
  EXPECT_FALSE(driver.finished());
  driver.Stop();
  driver.Join();
  EXPECT_TRUE(driver.finished());
  EXPECT_LE(target.counter.most(), 7);
  const LoopStats stats = driver.stats();
  EXPECT_EQ(stats.first_error, "three");
  const Driver::Progress progress = driver.progress();
  EXPECT_EQ(progress.done, target.counter.ended());
  EXPECT_GT(progress.last_success, 0u);
  // Those that ended after Stop() began before it.
  ExpectCounted(stats, target.counter.ended());
}

// Every thread of a lane takes its turn at what arrives.
TEST_F(DriverTest, ThreadsOpenLoop) {
  FakeThreads target(2000);
  const auto source = MakeSource("get", 1);
  std::vector<std::unique_ptr<LoadLoop>> loops;
  loops.push_back(std::make_unique<LoadLoop>(Loop(8, 20'000), source.get()));
  Driver driver(&target, std::move(loops), 8);
  driver.Start();
  target.counter.reached.WaitForNotification();
  driver.Stop();
  driver.Join();
  EXPECT_LE(target.counter.most(), 8);
  const LoopStats stats = driver.stats();
  EXPECT_GE(stats.arrivals, 2000u);
  ExpectCounted(stats, stats.arrivals - stats.dropped);
}

TEST_F(DriverTest, AsyncClosedLoop) {
  FakeAsync target(5000);
  const auto source = MakeSource("f", 1);
  Driver driver(&target, std::make_unique<LoadLoop>(Loop(50), source.get()),
                50);
  driver.Start();
  target.counter.reached.WaitForNotification();
  driver.Stop();
  driver.Join();
  EXPECT_LE(target.counter.most(), 50);
  EXPECT_EQ(target.counter.running(), 0);
  ExpectCounted(driver.stats(), driver.progress().done);
}

TEST_F(DriverTest, AsyncOpenLoop) {
  FakeAsync target(3000);
  const auto source = MakeSource("put", 1);
  Driver driver(&target,
                std::make_unique<LoadLoop>(Loop(20, 20'000), source.get()), 20);
  driver.Start();
  target.counter.reached.WaitForNotification();
  driver.Stop();
  driver.Join();
  const LoopStats stats = driver.stats();
  ExpectCounted(stats, stats.arrivals - stats.dropped);
  EXPECT_LE(target.counter.most(), 20);
}

// While nothing is answered, arrivals wait and no more than allowed are in
// flight; afterwards they are served; and the end waits for what is in flight.
TEST_F(DriverTest, AsyncTargetThatPauses) {
  FakeAsync target(500);
  target.Hold(true);
  const auto source = MakeSource("get", 1);
  Driver driver(&target,
                std::make_unique<LoadLoop>(Loop(5, 5'000), source.get()), 5);
  driver.Start();
  target.AwaitWaiting(5);
  target.Hold(false);
  target.counter.reached.WaitForNotification();
  target.Hold(true);
  target.AwaitWaiting(5);
  driver.Stop();
  EXPECT_FALSE(driver.finished());
  target.Hold(false);
  driver.Join();
  EXPECT_EQ(target.counter.running(), 0);
  EXPECT_EQ(target.counter.most(), 5);
}

TEST_F(DriverTest, FillingEndsByItself) {
  FakeAsync target(1);
  const auto source = NewFillSource({16, 8}, &keys_, &values_, 1);
  LoopOptions options = Loop(16);
  options.end = LoadLoop::kNever;
  Driver driver(&target, std::make_unique<LoadLoop>(options, source.get()), 16);
  driver.Start();
  driver.Join();
  EXPECT_TRUE(source->Exhausted());
  const LoopStats stats = driver.stats();
  EXPECT_EQ(stats.latency[static_cast<int>(Kind::kInsert)].count(), 1000u);
  EXPECT_GT(stats.failed, 0u) << "refused ones are repeated";
}

TEST_F(DriverTest, EndsWhenItIsDestroyed) {
  FakeAsync target(10);
  const auto source = MakeSource("get", 1);
  Driver driver(&target, std::make_unique<LoadLoop>(Loop(4), source.get()), 4);
  driver.Start();
  target.counter.reached.WaitForNotification();
}

}  // namespace
}  // namespace kv739::bench
