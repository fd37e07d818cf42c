#include "client/command/bench_driver.h"

#include <sys/prctl.h>
#include <time.h>

#include <utility>

#include "absl/time/time.h"

namespace kv739::bench {
namespace {

// Timers are late by 50 µs without it; arrivals would be.
constexpr unsigned long kTimerSlackNanos = 1000;

}  // namespace

uint64_t NowNanos() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<uint64_t>(now.tv_nsec);
}

struct Driver::Place : AsyncTarget::Call {
  Place(Driver* owner, int number) : Call(number), driver(owner) {}
  void Done(Result result) override {
    driver->Continue(this, std::move(result));
  }
  Driver* const driver;
};

Driver::Driver(BlockingTarget* target,
               std::vector<std::unique_ptr<LoadLoop>> loops, int in_flight)
    : blocking_(target), in_flight_(in_flight) {
  for (auto& loop : loops) {
    lanes_.push_back(std::make_unique<Lane>());
    absl::MutexLock lock(&lanes_.back()->mutex);
    lanes_.back()->loop = std::move(loop);
  }
}

Driver::Driver(AsyncTarget* target, std::unique_ptr<LoadLoop> loop,
               int in_flight)
    : async_(target), in_flight_(in_flight) {
  lanes_.push_back(std::make_unique<Lane>());
  Lane* lane = lanes_.front().get();
  absl::MutexLock lock(&lane->mutex);
  lane->loop = std::move(loop);
  for (int i = 0; i < in_flight; ++i) {
    places_.push_back(std::make_unique<Place>(this, i));
    lane->free.push_back(places_.back().get());
  }
}

Driver::~Driver() {
  Stop();
  Join();
}

void Driver::Start() {
  const int threads = blocking_ != nullptr ? in_flight_ : 1;
  running_ = threads;
  for (int i = 0; i < threads; ++i) {
    threads_.emplace_back([this, i] {
      prctl(PR_SET_TIMERSLACK, kTimerSlackNanos);
      if (blocking_ != nullptr) {
        RunThread(lanes_[i % lanes_.size()].get());
      } else {
        RunPacer();
      }
      running_.fetch_sub(1);
    });
  }
}

void Driver::Stop() {
  for (const auto& lane : lanes_) {
    absl::MutexLock lock(&lane->mutex);
    lane->loop->Stop(NowNanos());
    lane->changed.SignalAll();
  }
}

void Driver::Join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  for (const auto& lane : lanes_) {
    absl::MutexLock lock(&lane->mutex);
    lane->loop->Stop(NowNanos());  // counts what still waited at the end
  }
}

Driver::Progress Driver::progress() const {
  return {done_.load(), failed_.load(), last_success_.load()};
}

LoopStats Driver::stats() {
  LoopStats all;
  for (const auto& lane : lanes_) {
    absl::MutexLock lock(&lane->mutex);
    all.Merge(lane->loop->stats());
  }
  return all;
}

bool Driver::WaitToTake(Lane* lane, Operation* operation) {
  while (true) {
    uint64_t now = NowNanos();
    if (lane->loop->Take(now, operation)) return true;
    if (lane->loop->over(now)) return false;
    if (lane->waited_for) {
      lane->changed.Wait(&lane->mutex);
      continue;
    }
    const uint64_t until = lane->loop->NextTake(now);
    lane->waited_for = true;
    lane->waits_until = until;
    if (until == LoadLoop::kNever) {
      lane->changed.Wait(&lane->mutex);
    } else if (until > now) {
      lane->changed.WaitWithTimeout(
          &lane->mutex, absl::Nanoseconds(static_cast<int64_t>(until - now)));
    }
    lane->waited_for = false;
  }
}

void Driver::CountDone(uint64_t now, const Result& result) {
  const bool well =
      result.outcome == Outcome::kOk || result.outcome == Outcome::kNotFound;
  done_.fetch_add(1, std::memory_order_relaxed);
  if (well) {
    last_success_.store(now, std::memory_order_relaxed);
  } else {
    failed_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Driver::RunThread(Lane* lane) {
  Operation operation;
  while (true) {
    {
      absl::MutexLock lock(&lane->mutex);
      const bool taken = WaitToTake(lane, &operation);
      // Another one waits for the time now, or all go home.
      if (taken) {
        lane->changed.Signal();
      } else {
        lane->changed.SignalAll();
        return;
      }
    }
    bool again = true;
    while (again) {
      const Result result = blocking_->Run(operation);
      absl::MutexLock lock(&lane->mutex);
      const uint64_t now = NowNanos();
      again = lane->loop->Done(now, &operation, result);
      if (!again) CountDone(now, result);
    }
  }
}

void Driver::RunPacer() {
  Lane* lane = lanes_.front().get();
  while (true) {
    Place* place = nullptr;
    {
      absl::MutexLock lock(&lane->mutex);
      // The loop gives nothing while no place is free.
      Operation operation;
      if (!WaitToTake(lane, &operation)) break;
      place = lane->free.back();
      lane->free.pop_back();
      place->operation = std::move(operation);
    }
    Result result;
    if (!async_->Start(place, &result)) Continue(place, std::move(result));
  }
  absl::MutexLock lock(&lane->mutex);
  lane->waits_until = LoadLoop::kNever;
  while (lane->free.size() < places_.size()) {
    lane->changed.Wait(&lane->mutex);
  }
}

void Driver::Continue(Place* place, Result result) {
  Lane* lane = lanes_.front().get();
  do {
    absl::MutexLock lock(&lane->mutex);
    const uint64_t now = NowNanos();
    if (!lane->loop->Done(now, &place->operation, result)) {
      CountDone(now, result);
      if (!lane->loop->Take(now, &place->operation)) {
        lane->free.push_back(place);
        // The pacer has to know when it waits for too late a time.
        if (lane->loop->over(now) ||
            lane->loop->NextTake(now) < lane->waits_until) {
          lane->changed.Signal();
        }
        return;
      }
    }
    result = Result();
  } while (!async_->Start(place, &result));
}

}  // namespace kv739::bench
