// When writes wait for others, and for how long.
#include "server/write_gathering.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

namespace kv739::server {
namespace {

constexpr uint64_t kMicro = 1'000;
constexpr uint64_t kMilli = 1'000'000;

// Batches of `count` writes, `every` apart, none left behind.
uint64_t Steady(WriteGathering* gathering, size_t count, uint64_t every,
                uint64_t now) {
  for (int i = 0; i < 50; ++i) {
    EXPECT_FALSE(gathering->Waits(count, 0, now));
    gathering->Proposed(count, now);
    gathering->Answered(now += every);
  }
  return now;
}

TEST(WriteGathering, NothingWaitsWhereFewAreInFlight) {
  WriteGathering gathering(16);
  uint64_t now = kMilli;
  for (size_t under_way = 0; under_way < 15; ++under_way) {
    EXPECT_FALSE(gathering.Waits(1, under_way, now += kMicro));
    gathering.Proposed(1, now);
  }
}

TEST(WriteGathering, WaitsForItsShareOfWhatIsInFlight) {
  WriteGathering gathering(16);
  const uint64_t now = Steady(&gathering, 60, 600 * kMicro, kMilli);
  EXPECT_FALSE(gathering.Waits(60, 0, now));
  EXPECT_EQ(gathering.expected(), 60u);
  EXPECT_TRUE(gathering.Waits(1, 0, now));
  EXPECT_TRUE(gathering.Waits(19, 20, now));
  EXPECT_FALSE(gathering.Waits(20, 20, now));
}

// They come 10 us apart: 20 of 60 within 200 us, and twice that is waited.
TEST(WriteGathering, WaitsTwiceAsLongAsTheyNeedToCome) {
  WriteGathering gathering(16);
  uint64_t now = Steady(&gathering, 60, 600 * kMicro, kMilli);
  EXPECT_TRUE(gathering.Waits(1, 0, now));
  EXPECT_GT(gathering.wait_ends(), now + 300 * kMicro);
  EXPECT_LT(gathering.wait_ends(), now + 500 * kMicro);
  const uint64_t ends = gathering.wait_ends();
  EXPECT_TRUE(gathering.Waits(5, 0, ends - 1));
  EXPECT_EQ(gathering.wait_ends(), ends);  // not longer for those that came
  // In vain: these are all.
  EXPECT_FALSE(gathering.Waits(5, 0, ends));
  EXPECT_EQ(gathering.expected(), 5u);
  gathering.Proposed(5, ends);
  EXPECT_FALSE(gathering.Waits(1, 0, ends + kMicro));
}

TEST(WriteGathering, NeverWaitsLongerThanTheLimit) {
  WriteGathering gathering(16);
  uint64_t now = Steady(&gathering, 60, 3 * kMilli, kMilli);
  EXPECT_FALSE(gathering.Waits(3000, 0, now));
  EXPECT_TRUE(gathering.Waits(1, 0, now));
  EXPECT_EQ(gathering.wait_ends(), now + WriteGathering::kMaxWait);
}

TEST(WriteGathering, AfterAPauseNobodyIsWaitedFor) {
  WriteGathering gathering(16);
  uint64_t now = Steady(&gathering, 60, kMilli, kMilli);
  EXPECT_FALSE(gathering.Waits(1, 0, now + WriteGathering::kMaxWait + 1));
  // Not so while something is under way: its answers will bring more.
  WriteGathering other(16);
  now = Steady(&other, 60, kMilli, kMilli);
  EXPECT_TRUE(other.Waits(1, 1, now + WriteGathering::kMaxWait + 1));
}

TEST(WriteGathering, OfAFormerTermNothingIsLeft) {
  WriteGathering gathering(16);
  const uint64_t now = Steady(&gathering, 60, kMilli, kMilli);
  gathering.Reset();
  EXPECT_FALSE(gathering.Waits(1, 0, now));
}

// A leader whose batches take `kTakes`, and clients of whom each comes back
// some time after its answer, one after the other.
struct Outcome {
  double mean_batch = 0;
  double mean_latency_us = 0;
};
Outcome ClosedLoop(size_t clients, size_t from) {
  constexpr uint64_t kTakes = 600 * kMicro;
  constexpr uint64_t kApart = 12 * kMicro;
  WriteGathering gathering(from);
  std::deque<uint64_t> coming;                                     // when
  std::deque<std::pair<uint64_t, std::vector<uint64_t>>> batches;  // until
  std::vector<uint64_t> waiting;
  size_t under_way = 0;
  for (size_t i = 0; i < clients; ++i) coming.push_back(i * kApart);
  uint64_t writes = 0, proposals = 0, latency = 0;
  for (uint64_t now = kMicro; now < 400 * kMilli; now += kMicro) {
    while (!coming.empty() && coming.front() <= now) {
      waiting.push_back(now);
      coming.pop_front();
    }
    while (!batches.empty() && batches.front().first <= now) {
      uint64_t back = std::max(now, coming.empty() ? 0 : coming.back());
      for (const uint64_t came : batches.front().second) {
        latency += now - came;
        coming.push_back(back += kApart);
      }
      under_way -= batches.front().second.size();
      batches.pop_front();
      gathering.Answered(now);
    }
    if (waiting.empty()) continue;
    if (gathering.Waits(waiting.size(), under_way, now)) continue;
    gathering.Proposed(waiting.size(), now);
    // The log takes one batch after the other.
    const uint64_t begins = batches.empty() ? now : batches.back().first;
    writes += waiting.size();
    ++proposals;
    under_way += waiting.size();
    batches.push_back({begins + kTakes, std::exchange(waiting, {})});
  }
  return {static_cast<double>(writes) / static_cast<double>(proposals),
          static_cast<double>(latency) / static_cast<double>(writes) / 1000};
}

TEST(WriteGathering, ClientsThatComeBackOneByOneShareBatches) {
  const Outcome alone = ClosedLoop(64, 1'000'000);
  const Outcome together = ClosedLoop(64, 16);
  EXPECT_LT(alone.mean_batch, 3);
  EXPECT_GT(together.mean_batch, 20);
  EXPECT_LT(together.mean_latency_us, alone.mean_latency_us);
}

// Whoever comes at random is not kept by more than a part of what it takes.
TEST(WriteGathering, ASteadyStreamWaitsLittle) {
  WriteGathering gathering(16);
  constexpr uint64_t kEvery = 20 * kMicro, kTakes = 600 * kMicro;
  std::deque<std::pair<uint64_t, size_t>> batches;
  size_t waiting = 0, under_way = 0;
  uint64_t first = 0, longest = 0;
  for (uint64_t now = kMicro; now < 200 * kMilli; now += kMicro) {
    while (!batches.empty() && batches.front().first <= now) {
      under_way -= batches.front().second;
      batches.pop_front();
      gathering.Answered(now);
    }
    if (now % kEvery == 0 && waiting++ == 0) first = now;
    if (waiting == 0 || gathering.Waits(waiting, under_way, now)) continue;
    longest = std::max(longest, now - first);
    gathering.Proposed(waiting, now);
    under_way += waiting;
    batches.push_back({now + kTakes, std::exchange(waiting, 0)});
  }
  EXPECT_LE(longest, kTakes / 2);
}

}  // namespace
}  // namespace kv739::server
