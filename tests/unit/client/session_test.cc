#include "client/session.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace kv739::client {
namespace {

TEST(SessionTrackerTest, NumbersFromOneOnceOpen) {
  SessionTracker tracker;
  EXPECT_FALSE(tracker.CanBegin());
  tracker.Open(7);
  EXPECT_TRUE(tracker.CanBegin());
  EXPECT_EQ(tracker.Floor(), 1u);
  EXPECT_EQ(tracker.Begin(), 1u);
  EXPECT_EQ(tracker.Begin(), 2u);
  EXPECT_EQ(tracker.Floor(), 1u);
}

TEST(SessionTrackerTest, TheFloorIsTheLowestThatIsOut) {
  SessionTracker tracker;
  tracker.Open(7);
  for (int i = 0; i < 4; ++i) tracker.Begin();
  tracker.End(7, 2);
  EXPECT_EQ(tracker.Floor(), 1u);
  tracker.End(7, 1);
  EXPECT_EQ(tracker.Floor(), 3u);
  tracker.End(7, 4);
  tracker.End(7, 3);
  EXPECT_EQ(tracker.Floor(), 5u) << "the next to be given";
  EXPECT_EQ(tracker.Begin(), 5u);
}

TEST(SessionTrackerTest, TheSpanIsBounded) {
  SessionTracker tracker;
  tracker.Open(7);
  for (uint64_t i = 0; i < kSessionSpan; ++i) {
    ASSERT_TRUE(tracker.CanBegin());
    tracker.Begin();
  }
  EXPECT_FALSE(tracker.CanBegin());
  // All but the first are done: the span is what counts.
  for (uint64_t i = 2; i <= kSessionSpan; ++i) tracker.End(7, i);
  EXPECT_FALSE(tracker.CanBegin());
  tracker.End(7, 1);
  EXPECT_TRUE(tracker.CanBegin());
  EXPECT_EQ(tracker.Begin(), kSessionSpan + 1);
}

TEST(SessionTrackerTest, ForeignAndRepeatedEndsChangeNothing) {
  SessionTracker tracker;
  tracker.Open(7);
  tracker.Begin();
  tracker.End(6, 1);
  tracker.End(7, 0);
  tracker.End(7, 2);
  EXPECT_EQ(tracker.Floor(), 1u);
  tracker.Close();
  EXPECT_FALSE(tracker.CanBegin());
  tracker.Open(8);
  EXPECT_EQ(tracker.Begin(), 1u);
  tracker.End(7, 1);
  EXPECT_EQ(tracker.Floor(), 1u) << "a write of the older session ended";
  tracker.End(8, 1);
  tracker.End(8, 1);
  EXPECT_EQ(tracker.Floor(), 2u);
}

TEST(SessionTrackerTest, AgreesWithASet) {
  std::mt19937_64 random(1);
  SessionTracker tracker;
  tracker.Open(9);
  std::set<kv::Sequence> out;
  kv::Sequence next = 1;
  for (int step = 0; step < 100'000; ++step) {
    if (random() % 2 == 0 && tracker.CanBegin()) {
      ASSERT_EQ(tracker.Begin(), next);
      out.insert(next++);
    } else if (!out.empty()) {
      auto it = out.lower_bound(*out.begin() + random() % 64);
      if (it == out.end()) it = out.begin();
      tracker.End(9, *it);
      out.erase(it);
    }
    ASSERT_EQ(tracker.Floor(), out.empty() ? next : *out.begin());
  }
}

}  // namespace
}  // namespace kv739::client
