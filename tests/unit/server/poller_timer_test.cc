// A timer on a poller's thread.
#include "server/poller_timer.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>

namespace kv739::server {
namespace {

class Rings {
 public:
  std::function<void()> Ring() {
    return [this] {
      const std::lock_guard lock(mutex_);
      ++count_;
      at_ = Poller::NowNanos();
      changed_.notify_all();
    };
  }
  // When the last of so many rang.
  uint64_t Await(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return count_ >= count; });
    return at_;
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int count_ = 0;
  uint64_t at_ = 0;
};

TEST(PollerTimer, RingsEachTimeAndNotBefore) {
  Poller poller;
  poller.Start();
  Rings rings;
  const auto timer = MakePollerTimer(&poller, rings.Ring());
  for (int i = 1; i <= 20; ++i) {
    const uint64_t at = Poller::NowNanos() + 300'000;
    timer->Set(at);
    EXPECT_GE(rings.Await(i), at);
  }
  // A time that is over already.
  timer->Set(1);
  rings.Await(21);
  EXPECT_EQ(rings.count(), 21);
}

TEST(PollerTimer, TheLastTimeCounts) {
  Poller poller;
  poller.Start();
  Rings rings;
  const auto timer = MakePollerTimer(&poller, rings.Ring());
  const uint64_t hour = uint64_t{3600} * 1'000'000'000;
  timer->Set(Poller::NowNanos() + hour);
  timer->Set(Poller::NowNanos() + 1'000);
  rings.Await(1);
  timer->Set(Poller::NowNanos() + 1'000);
  rings.Await(2);
}

TEST(PollerTimer, SetBeforeThePollerRuns) {
  Poller poller;
  Rings rings;
  const auto timer = MakePollerTimer(&poller, rings.Ring());
  timer->Set(Poller::NowNanos() + 1'000);
  poller.Start();
  rings.Await(1);
}

TEST(PollerTimer, DestroyedItRingsNoMoreAndThePollerGoesOn) {
  Poller poller;
  poller.Start();
  Rings gone, other;
  auto timer = MakePollerTimer(&poller, gone.Ring());
  timer->Set(Poller::NowNanos() + uint64_t{3600} * 1'000'000'000);
  timer.reset();
  const auto next = MakePollerTimer(&poller, other.Ring());
  next->Set(Poller::NowNanos() + 1'000);
  other.Await(1);
  EXPECT_EQ(gone.count(), 0);
}

TEST(PollerTimer, MayOutliveThePoller) {
  Rings rings;
  std::unique_ptr<WakeTimer> timer;
  {
    Poller poller;
    poller.Start();
    timer = MakePollerTimer(&poller, rings.Ring());
  }
  timer->Set(Poller::NowNanos() + 1'000);
}

}  // namespace
}  // namespace kv739::server
