// The loops, in virtual time against servers that answer, fail and pause as
// told: one thread, no clock, always the same.
#include "client/command/bench_loop.h"

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <memory>
#include <vector>

namespace kv739::bench {
namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;

// Every operation that starts at `time` ends after answer(time).
class World {
 public:
  explicit World(const LoopOptions& options,
                 const std::string& workload = "get")
      : keys_(1000),
        values_(8, 1),
        source_(NewMixSource(*MixOf(workload), {16, 8}, &keys_, &values_, 1)),
        loop_(options, source_.get()),
        end_(options.end) {}

  std::function<uint64_t(uint64_t now)> answer = [](uint64_t) {
    return 2 * kMs;
  };
  std::function<Result(uint64_t now)> result = [](uint64_t) {
    return Result();
  };

  const LoopStats& Run() {
    while (true) {
      TakeAll();
      uint64_t next =
          loop_.over(now_) ? LoadLoop::kNever : loop_.NextTake(now_);
      if (!flying_.empty()) next = std::min(next, flying_.begin()->first);
      if (next == LoadLoop::kNever) break;
      now_ = std::max(now_, next);
      while (!flying_.empty() && flying_.begin()->first <= now_) {
        Operation o = std::move(flying_.begin()->second);
        flying_.erase(flying_.begin());
        if (loop_.Done(now_, &o, result(now_))) Fly(std::move(o));
      }
    }
    EXPECT_EQ(loop_.in_flight(), 0);
    loop_.Stop(std::max(now_, end_));
    return loop_.stats();
  }
  size_t most_in_flight() const { return most_; }
  LoadLoop& loop() { return loop_; }
  std::vector<uint64_t> starts;

 private:
  void TakeAll() {
    Operation o;
    while (loop_.Take(now_, &o)) {
      starts.push_back(now_);
      Fly(std::move(o));
    }
  }
  void Fly(Operation o) {
    flying_.emplace(now_ + answer(now_), std::move(o));
    most_ = std::max(most_, flying_.size());
  }

  KeySpace keys_;
  const Values values_;
  std::unique_ptr<Source> source_;
  LoadLoop loop_;
  const uint64_t end_;
  uint64_t now_ = 0;
  std::multimap<uint64_t, Operation> flying_;  // by when they end
  size_t most_ = 0;
};

LoopOptions Seconds(uint64_t seconds, int in_flight, double rate = 0) {
  LoopOptions options;
  options.in_flight = in_flight;
  options.rate = rate;
  options.measure_from = kSecond;
  options.end = kSecond + seconds * kSecond;
  options.seed = 3;
  return options;
}

const Histogram& Reads(const LoopStats& stats) {
  return stats.latency[static_cast<int>(Kind::kRead)];
}

// The servers stand still from second 5 to second 6.
uint64_t WithPause(uint64_t now) {
  const uint64_t end = now + 2 * kMs;
  const bool paused = end > 5 * kSecond && now < 6 * kSecond;
  return paused ? 6 * kSecond + 2 * kMs - now : 2 * kMs;
}

TEST(ClosedLoop, KeepsItsNumberInFlight) {
  World world(Seconds(10, 10));
  const LoopStats& stats = world.Run();
  EXPECT_EQ(world.most_in_flight(), 10u);
  EXPECT_EQ(Reads(stats).count(), 10 * 10 * 1000u / 2);
  EXPECT_EQ(Reads(stats).min(), 2 * kMs);
  EXPECT_EQ(Reads(stats).max(), 2 * kMs);
  EXPECT_EQ(stats.late + stats.dropped + stats.arrivals, 0u);
}

TEST(OpenLoop, ArrivalsComeAtTheirRate) {
  for (const bool poisson : {false, true}) {
    LoopOptions options = Seconds(10, 100, 5000);
    options.poisson = poisson;
    World world(options);
    const LoopStats& stats = world.Run();
    EXPECT_EQ(Reads(stats).count(), stats.arrivals);
    EXPECT_NEAR(static_cast<double>(stats.arrivals), 50'000, poisson ? 900 : 1);
    EXPECT_EQ(stats.late + stats.dropped, 0u);
    EXPECT_EQ(Reads(stats).max(), 2 * kMs);
    // Evenly spaced or not: variance of the distances over their mean squared
    // is 1 for Poisson arrivals and 0 for even ones.
    double sum = 0;
    double squares = 0;
    for (size_t i = 1; i < world.starts.size(); ++i) {
      const auto gap =
          static_cast<double>(world.starts[i] - world.starts[i - 1]);
      sum += gap;
      squares += gap * gap;
    }
    const auto n = static_cast<double>(world.starts.size() - 1);
    const double variation = squares * n / (sum * sum) - 1;
    EXPECT_NEAR(variation, poisson ? 1 : 0, 0.05);
  }
}

// A second in which nothing is answered, in ten: who measures only what is in
// flight sees it in a few operations, who counts from the intended start in
// everyone's who came meanwhile.
TEST(OpenLoop, FeelsAPauseThatAClosedLoopHides) {
  World closed(Seconds(10, 10));
  closed.answer = WithPause;
  const LoopStats& hidden = closed.Run();
  EXPECT_LT(Reads(hidden).Percentile(99.9), 2 * kMs + kMs / 10);
  EXPECT_GT(Reads(hidden).max(), kSecond - 2 * kMs);

  World open(Seconds(10, 10, 2500));  // half of what the closed one reached
  open.answer = WithPause;
  const LoopStats& felt = open.Run();
  EXPECT_GT(Reads(felt).Percentile(99.9), 970 * kMs);
  EXPECT_GT(Reads(felt).Percentile(99), 900 * kMs);
  EXPECT_LT(Reads(felt).max(), kSecond + 10 * kMs);
  EXPECT_LT(Reads(felt).Percentile(50), 2 * kMs + kMs / 10);
  // All came late who came while the ten waited and until the rest was done.
  EXPECT_GT(felt.late, 2400u);
  EXPECT_EQ(felt.dropped, 0u);
  EXPECT_EQ(Reads(felt).count(), felt.arrivals);
}

TEST(OpenLoop, DropsWhatTheBacklogDoesNotHold) {
  LoopOptions options = Seconds(2, 1, 1000);  // twice what one place carries
  options.max_backlog = 100;
  World world(options);
  const LoopStats& stats = world.Run();
  EXPECT_NEAR(static_cast<double>(stats.arrivals), 2000, 200);
  EXPECT_EQ(Reads(stats).count() + stats.dropped, stats.arrivals);
  EXPECT_NEAR(static_cast<double>(Reads(stats).count()), 1000, 60);
  // 100 wait before it, at 2 ms each.
  EXPECT_LE(Reads(stats).max(), 204 * kMs);
  EXPECT_GT(Reads(stats).Percentile(50), 190 * kMs);
}

TEST(OpenLoop, ThatIsStoppedDropsWhatWaits) {
  LoopOptions options = Seconds(100, 1, 1000);
  options.begin = options.measure_from = 0;
  World world(options);
  Operation o;
  ASSERT_TRUE(world.loop().Take(kSecond, &o));
  EXPECT_FALSE(world.loop().Take(kSecond, &o));
  world.loop().Stop(kSecond);
  EXPECT_TRUE(world.loop().over(kSecond));
  EXPECT_FALSE(world.loop().Done(kSecond + 1, &o, Result()));
  EXPECT_EQ(world.loop().stats().dropped + 1, world.loop().stats().arrivals);
  EXPECT_FALSE(world.loop().Take(kSecond + 2, &o));
}

// With a place free, what arrived before the end begins, if a little late.
TEST(OpenLoop, TheLastArrivalIsNotLost) {
  LoopOptions options = Seconds(1, 10, 1000);
  World world(options);
  Operation o;
  uint64_t taken = 0;
  const uint64_t late = options.end + kMs / 10;
  while (world.loop().Take(options.end - 50 * kMs, &o)) {
    world.loop().Done(options.end - 50 * kMs, &o, Result());
  }
  while (world.loop().Take(late, &o)) {
    world.loop().Done(late, &o, Result());
    ++taken;
  }
  EXPECT_GT(taken, 10u);
  EXPECT_TRUE(world.loop().over(late));
  world.loop().Stop(late);
  EXPECT_EQ(world.loop().stats().dropped, 0u);
}

TEST(ClosedLoop, RestsAfterAFailure) {
  World world(Seconds(10, 4));
  world.answer = [](uint64_t) { return kMs / 1000; };  // refused at once
  world.result = [](uint64_t now) {
    return Result{now % 2 == 0 ? Outcome::kFailed : Outcome::kUnknown, "why"};
  };
  const LoopStats& stats = world.Run();
  EXPECT_EQ(Reads(stats).count(), 0u);
  EXPECT_EQ(stats.failures.count(), stats.failed + stats.unknown);
  EXPECT_EQ(stats.first_error, "why");
  // Four places, each once in ten milliseconds.
  EXPECT_NEAR(static_cast<double>(stats.failures.count()), 4 * 1000, 10);
}

TEST(Loop, ReadModifyWriteIsOneOperationOfTwoParts) {
  World world(Seconds(10, 1), "f");
  const LoopStats& stats = world.Run();
  const Histogram& both =
      stats.latency[static_cast<int>(Kind::kReadModifyWrite)];
  EXPECT_EQ(both.min(), 4 * kMs);
  EXPECT_EQ(both.max(), 4 * kMs);
  EXPECT_EQ(Reads(stats).max(), 2 * kMs);
  // But for the ones at both ends.
  EXPECT_NEAR(static_cast<double>(both.count() * 4 + Reads(stats).count() * 2),
              10'000, 4);
}

TEST(Loop, WhatIsNotThereIsAnAnswer) {
  World world(Seconds(1, 1));
  world.result = [](uint64_t) { return Result{Outcome::kNotFound, ""}; };
  const LoopStats& stats = world.Run();
  EXPECT_EQ(stats.not_found, 500u);
  EXPECT_EQ(Reads(stats).count(), 500u);
  EXPECT_EQ(stats.failures.count(), 0u);
}

TEST(Loop, FillingEndsWithTheLastKey) {
  const KeySpace keys(100);
  const Values values(8, 1);
  const auto source = NewFillSource({16, 8}, &keys, &values, 1);
  LoopOptions options;
  options.in_flight = 8;
  options.end = LoadLoop::kNever;
  LoadLoop loop(options, source.get());
  uint64_t now = 0;
  uint64_t failures = 0;
  std::vector<Operation> flying;
  while (true) {
    Operation o;
    while (loop.Take(now, &o)) flying.push_back(o);
    if (loop.over(now)) break;
    if (flying.empty()) {
      const uint64_t next = loop.NextTake(now);
      ASSERT_NE(next, LoadLoop::kNever);
      ASSERT_GT(next, now);
      now = next;
      continue;
    }
    now += kMs;
    const bool fails = now / kMs % 7 == 0;
    failures += fails;
    loop.Done(now, &flying.back(),
              fails ? Result{Outcome::kFailed, "x"} : Result());
    flying.pop_back();
  }
  EXPECT_GT(failures, 0u);
  EXPECT_EQ(loop.stats().failures.count(), failures);
  EXPECT_EQ(loop.stats().latency[static_cast<int>(Kind::kInsert)].count(),
            100u);
}

// Pages that begin where the one before has ended, until there are as many keys
// as the scan is to have, or no more.
TEST(Loop, AScanIsAllOfItsPages) {
  LoopOptions options;
  options.in_flight = 1;
  options.end = kSecond;
  KeySpace keys(1000);
  const Values values(8, 1);
  Mix mix;
  mix.percent[static_cast<int>(Kind::kScan)] = 100;
  const auto source = NewMixSource(mix, {16, 8}, &keys, &values, 1);
  LoadLoop loop(options, source.get());
  Operation scan;
  uint64_t got = 0;
  uint64_t now = 0;
  for (int n = 0; n < 100; ++n) {
    ASSERT_TRUE(loop.Take(now, &scan));
    ASSERT_EQ(scan.kind, Kind::kScan);
    EXPECT_FALSE(scan.write);
    EXPECT_EQ(scan.from, scan.key);
    EXPECT_GE(scan.left, 1u);
    EXPECT_LE(scan.left, kMaxScanLength);
    const uint32_t wanted = scan.left;
    Result page;
    page.keys = (wanted - 1) / 2;  // perhaps none
    page.more = true;
    page.slot = 77;
    page.from = "next";
    ASSERT_TRUE(loop.Done(now + 1, &scan, page));
    EXPECT_EQ(scan.left, wanted - page.keys);
    EXPECT_EQ(scan.slot, 77u);
    EXPECT_EQ(scan.from, "next");
    // It has all; or the keys are at an end.
    page.more = n % 2 == 0;
    page.keys = page.more ? scan.left : 0;
    got += (wanted - 1) / 2 + page.keys;
    now += 1000;
    EXPECT_FALSE(loop.Done(now, &scan, page));
  }
  loop.Stop(kSecond);
  const LoopStats& stats = loop.stats();
  EXPECT_EQ(stats.scanned, got);
  const Histogram& latency = stats.latency[static_cast<int>(Kind::kScan)];
  EXPECT_EQ(latency.count(), 100u);
  EXPECT_NEAR(latency.mean(), 1000, 20);
}

}  // namespace
}  // namespace kv739::bench
