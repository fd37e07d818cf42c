// Who is asked first: what is timed, and what follows from it.
#include "raft/thrift.h"

#include <gtest/gtest.h>

#include <functional>

namespace kv739::raft {
namespace {

TEST(IndexTimer, TimesOneThingAtATime) {
  IndexTimer timer;
  EXPECT_EQ(timer.Reached(Index(5), 100), std::nullopt);
  timer.Start(Index(5), 100);
  timer.Start(Index(9), 150);
  EXPECT_EQ(timer.Elapsed(170), 70u);
  EXPECT_EQ(timer.Reached(Index(4), 200), std::nullopt);
  EXPECT_EQ(timer.Reached(Index(6), 250), 150u);
  EXPECT_EQ(timer.Reached(Index(9), 300), std::nullopt);
  EXPECT_EQ(timer.Elapsed(300), 0u);
}

TEST(IndexTimer, WhatIsTakenBackIsNotTimed) {
  IndexTimer timer;
  timer.Start(Index(5), 100);
  timer.Retreat(Index(5));
  EXPECT_EQ(timer.Elapsed(170), 70u);
  timer.Retreat(Index(4));
  EXPECT_EQ(timer.Elapsed(170), 0u);
}

TEST(Pace, IsAMovingAverageOrWhatAnAnswerTakesAlready) {
  Pace pace;
  EXPECT_EQ(pace.AckNanos(0), 0u);
  pace.Sent(Index(1), 1000);
  EXPECT_EQ(pace.AckNanos(1300), 300u);
  pace.Observe(Index(1), Index(1), 1800);
  EXPECT_EQ(pace.AckNanos(1800), 800u);
  for (uint64_t i = 2; i < 100; ++i) {
    pace.Sent(Index(i), i * 10000);
    pace.Observe(Index(i), Index(i), i * 10000 + 400);
  }
  EXPECT_NEAR(static_cast<double>(pace.AckNanos(990000)), 400, 10);
  pace.Sent(Index(100), 1'000'000);
  EXPECT_NEAR(static_cast<double>(pace.AckNanos(1'000'100)), 400, 10);
  EXPECT_EQ(pace.AckNanos(1'005'000), 5000u) << "it stalls";
  pace.Observe(Index(99), Index(99), 1'005'000);  // sent again from there
  EXPECT_NEAR(static_cast<double>(pace.AckNanos(1'005'000)), 400, 10);
}

class ThriftTest : public ::testing::Test {
 protected:
  // Commits batches one after the other; how many were asked for by few.
  int Run(int batches, const std::function<uint64_t(bool few)>& nanos) {
    int by_few = 0;
    for (int i = 0; i < batches; ++i) {
      const bool few = thrift_.asks_few();
      by_few += few ? 1 : 0;
      thrift_.Proposed(++index_, now_);
      now_ += nanos(few);
      thrift_.Committed(index_, now_);
    }
    return by_few;
  }

  Thrift thrift_;
  Index index_{10};
  uint64_t now_ = 5'000'000;
};

constexpr int kTrial = Thrift::kTurn + Thrift::kSettling;

TEST_F(ThriftTest, AsksAllUntilATrialSaysOtherwise) {
  EXPECT_FALSE(thrift_.asks_few());
  EXPECT_EQ(Run(kTrial, [](bool) { return 1000; }), 0);
  EXPECT_TRUE(thrift_.asks_few());
  EXPECT_EQ(Run(kTrial, [](bool) { return 1000; }), kTrial);
  EXPECT_EQ(Run(kTrial, [](bool) { return 1000; }), 0);
  EXPECT_FALSE(thrift_.asks_few()) << "no gain, no change";
}

TEST_F(ThriftTest, KeepsTheFasterWay) {
  const auto few_is_faster = [](bool few) { return few ? 900 : 1000; };
  Run(3 * kTrial, few_is_faster);
  EXPECT_TRUE(thrift_.asks_few());
  EXPECT_GT(Run(20'000, few_is_faster), 19'000);

  const auto all_is_faster = [](bool few) { return few ? 1000 : 900; };
  Run(2 * static_cast<int>(Thrift::kMaxRest), all_is_faster);
  EXPECT_FALSE(thrift_.asks_few());
  EXPECT_LT(Run(20'000, all_is_faster), 1'000);
}

TEST_F(ThriftTest, TriesSeldomWhereItIsInVain) {
  const auto all_is_faster = [](bool few) { return few ? 2000 : 1000; };
  Run(50'000, all_is_faster);
  EXPECT_LE(Run(100'000, all_is_faster), 13 * kTrial);
  EXPECT_GE(Run(100'000, all_is_faster), 10 * kTrial) << "but goes on trying";
}

// What slows everything down is no reason, and neither is what comes once.
TEST_F(ThriftTest, DriftAndStallsDoNotDecide) {
  int batches = 0;
  Run(10 * kTrial, [&](bool) { return 1000 + 10 * batches++; });
  EXPECT_FALSE(thrift_.asks_few());
  Run(3 * static_cast<int>(Thrift::kMaxRest), [&](bool) {
    return ++batches % 150 == 0 ? 1'000'000 : 1000;  // stalls at some turn
  });
  EXPECT_FALSE(thrift_.asks_few());
}

// The first entry of a leader may be there before any time has passed.
TEST_F(ThriftTest, BatchesThatTookNoTimeAreNoMeasureForTheOthers) {
  Run(1, [](bool) { return 0; });
  Run(3 * kTrial, [](bool few) { return few ? 900'000 : 1'000'000; });
  EXPECT_TRUE(thrift_.asks_few());
}

TEST_F(ThriftTest, BatchesThatOverlapAreTimedOneAtATime) {
  for (int i = 0; i < 3 * kTrial; ++i) {
    const uint64_t nanos = thrift_.asks_few() ? 900 : 1000;
    thrift_.Proposed(index_ + 1, now_);
    thrift_.Proposed(index_ + 2, now_ + 500);
    thrift_.Proposed(index_ + 2, now_ + 600);  // nothing new
    index_ = index_ + 2;
    thrift_.Committed(index_, now_ += nanos);
  }
  EXPECT_TRUE(thrift_.asks_few());
}

}  // namespace
}  // namespace kv739::raft
