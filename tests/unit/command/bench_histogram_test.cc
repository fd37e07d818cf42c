// The histogram of latencies: exact where it says so, near where it may be.
#include "client/command/bench_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "client/command/bench_keys.h"

namespace kv739::bench {
namespace {

TEST(Histogram, EmptyIsZero) {
  const Histogram empty;
  EXPECT_EQ(empty.count(), 0u);
  EXPECT_EQ(empty.min(), 0u);
  EXPECT_EQ(empty.max(), 0u);
  EXPECT_EQ(empty.mean(), 0);
  EXPECT_EQ(empty.Percentile(99), 0u);
  EXPECT_TRUE(empty.Points().empty());
}

TEST(Histogram, SmallValuesAreExact) {
  Histogram histogram;
  for (uint64_t i = 1; i <= 100; ++i) histogram.Record(i);
  EXPECT_EQ(histogram.min(), 1u);
  EXPECT_EQ(histogram.max(), 100u);
  EXPECT_DOUBLE_EQ(histogram.mean(), 50.5);
  for (int percent = 1; percent <= 100; ++percent) {
    EXPECT_EQ(histogram.Percentile(percent), static_cast<uint64_t>(percent));
  }
  EXPECT_EQ(histogram.Percentile(0), 1u);
}

// Against sorting, over nine orders of magnitude.
TEST(Histogram, PercentilesAreWithinABucket) {
  Random random(739);
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int i = 0; i < 100'000; ++i) {
    const auto value =
        static_cast<uint64_t>(std::exp(random.Unit() * std::log(1e12)));
    values.push_back(value);
    histogram.Record(value);
  }
  std::sort(values.begin(), values.end());
  for (const double percent : {0.1, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
    const auto rank = static_cast<size_t>(
        std::ceil(percent / 100 * static_cast<double>(values.size())));
    const auto exact = static_cast<double>(values[rank - 1]);
    const auto found = static_cast<double>(histogram.Percentile(percent));
    EXPECT_GE(found, exact) << percent;
    EXPECT_LE(found, exact * (1 + 1.0 / 128) + 1) << percent;
  }
  EXPECT_EQ(histogram.min(), values.front());
  EXPECT_EQ(histogram.max(), values.back());
}

TEST(Histogram, PointsHaveEveryValueOnceAndAscend) {
  Histogram histogram;
  std::vector<uint64_t> values;
  for (int shift = 0; shift < 64; ++shift) {
    for (const int64_t off : {-1, 0, 1}) {
      values.push_back((uint64_t{1} << shift) + static_cast<uint64_t>(off));
    }
  }
  for (const uint64_t value : values) histogram.Record(value);
  uint64_t count = 0;
  uint64_t last = 0;
  for (const Histogram::Point& point : histogram.Points()) {
    // Each value lies in the first bucket whose edge is not below it.
    const auto inside =
        std::count_if(values.begin(), values.end(), [&](uint64_t value) {
          return value <= point.upper && (count == 0 || value > last);
        });
    EXPECT_EQ(static_cast<uint64_t>(inside), point.count) << point.upper;
    if (count > 0) {
      EXPECT_GT(point.upper, last);
    }
    last = point.upper;
    count += point.count;
  }
  EXPECT_EQ(count, values.size());
}

TEST(Histogram, MergingIsRecordingBoth) {
  Random random(1);
  Histogram both;
  Histogram one;
  Histogram other;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t value = random.Below(1 << (i % 30 + 1));
    both.Record(value);
    (i % 3 == 0 ? one : other).Record(value);
  }
  one.Merge(other);
  one.Merge(Histogram());
  EXPECT_EQ(one.count(), both.count());
  EXPECT_EQ(one.min(), both.min());
  EXPECT_EQ(one.max(), both.max());
  EXPECT_DOUBLE_EQ(one.mean(), both.mean());
  for (const double percent : {1.0, 50.0, 99.0}) {
    EXPECT_EQ(one.Percentile(percent), both.Percentile(percent));
  }
}

}  // namespace
}  // namespace kv739::bench
