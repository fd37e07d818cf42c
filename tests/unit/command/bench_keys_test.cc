// The shapes of the distributions, and what the workloads are made of.
#include "client/command/bench_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "client/command/bench_workload.h"

namespace kv739::bench {
namespace {

constexpr int kDraws = 1'000'000;

TEST(Zeta, TheShortWayEqualsTheSum) {
  for (const uint64_t n : {1u, 2u, 9999u, 10'000u, 10'001u, 1'000'000u}) {
    double sum = 0;
    for (uint64_t i = 1; i <= n; ++i) {
      sum += std::pow(static_cast<double>(i), -0.99);
    }
    EXPECT_NEAR(Zeta(n, 0.99), sum, sum * 1e-9) << n;
  }
  // YCSB's constant for ten billion items.
  EXPECT_NEAR(Zeta(10'000'000'000, 0.99), 26.46902820178302, 1e-4);
}

// The generator's first items have their exact probabilities; the others are
// an approximation that keeps the sum of a range.
TEST(Zipfian, HasTheShape) {
  constexpr uint64_t kItems = 1000;
  Random random(1);
  const Zipfian zipfian(kItems);
  std::vector<int> count(kItems);
  for (int i = 0; i < kDraws; ++i) ++count.at(zipfian.Item(random.Unit()));
  const double zeta = Zeta(kItems, Zipfian::kTheta);
  for (int item = 0; item < 2; ++item) {
    const double expected = kDraws * std::pow(item + 1, -0.99) / zeta;
    EXPECT_NEAR(count[item], expected, 5 * std::sqrt(expected)) << item;
  }
  for (const uint64_t first : {10u, 100u, 500u}) {
    double sum = 0;
    for (uint64_t i = 0; i < first; ++i) sum += count[i];
    EXPECT_NEAR(sum / kDraws, Zeta(first, 0.99) / zeta, 0.03) << first;
  }
}

TEST(Zipfian, GrowsByOneAsIfMadeAnew) {
  Zipfian grown(20'000);
  for (uint64_t n = 20'001; n <= 20'100; ++n) grown.Resize(n);
  const Zipfian made(20'100);
  for (double unit = 0; unit < 1; unit += 1.0 / 512) {
    EXPECT_NEAR(static_cast<double>(grown.Item(unit)),
                static_cast<double>(made.Item(unit)), 1)
        << unit;
  }
}

TEST(Zipfian, FewItems) {
  Random random(1);
  for (const uint64_t items : {1u, 2u, 3u}) {
    const Zipfian zipfian(items);
    std::set<uint64_t> seen;
    for (int i = 0; i < 10'000; ++i) seen.insert(zipfian.Item(random.Unit()));
    EXPECT_EQ(seen.size(), items);
    EXPECT_EQ(*seen.rbegin(), items - 1);
  }
}

std::vector<int> Draw(Distribution distribution, KeySpace* keys) {
  Random random(739);
  KeyChooser chooser(distribution, keys);
  std::vector<int> count(keys->visible());
  for (int i = 0; i < kDraws; ++i) ++count.at(chooser.Next(&random));
  return count;
}

TEST(KeyChooser, Uniform) {
  KeySpace keys(1000);
  for (const int count : Draw(Distribution::kUniform, &keys)) {
    EXPECT_NEAR(count, 1000, 6 * std::sqrt(1000.0));
  }
}

TEST(KeyChooser, ZipfianIsScattered) {
  KeySpace keys(1000);
  std::vector<int> count = Draw(Distribution::kZipfian, &keys);
  const auto top = std::max_element(count.begin(), count.end());
  EXPECT_NE(top, count.begin()) << "the most popular key is not the first";
  // Of ten billion items the first gets 1 in 26.5; some of the others fall on
  // its key too.
  const double first = kDraws / Zeta(10'000'000'000, 0.99);
  EXPECT_GT(*top, first * 0.99);
  EXPECT_LT(*top, first * 1.2);
  std::sort(count.rbegin(), count.rend());
  EXPECT_GT(count.back(), 0) << "every key is asked for";
  double hot = 0;
  for (int i = 0; i < 100; ++i) hot += count[i];
  EXPECT_GT(hot / kDraws, 0.25) << "a tenth of the keys";
  EXPECT_LT(hot / kDraws, 0.45);
}

TEST(KeyChooser, LatestFollowsTheNewestKey) {
  KeySpace keys(1000);
  std::vector<int> count = Draw(Distribution::kLatest, &keys);
  EXPECT_EQ(std::max_element(count.begin(), count.end()) - count.begin(), 999);
  KeyChooser chooser(Distribution::kLatest, &keys);
  Random random(1);
  for (int i = 0; i < 100; ++i) keys.Inserted(keys.NewKey());
  std::map<uint64_t, int> after;
  for (int i = 0; i < 10'000; ++i) ++after[chooser.Next(&random)];
  EXPECT_EQ(after.rbegin()->first, 1099u);
  EXPECT_GT(after[1099], 10'000 / 10);
}

TEST(KeySpace, KeysAreVisibleWhenAllBelowAreInserted) {
  KeySpace keys(10);
  EXPECT_EQ(keys.NewKey(), 10u);
  EXPECT_EQ(keys.NewKey(), 11u);
  EXPECT_EQ(keys.NewKey(), 12u);
  keys.Inserted(12);
  keys.Inserted(11);
  EXPECT_EQ(keys.visible(), 10u);
  keys.Inserted(10);
  EXPECT_EQ(keys.visible(), 13u);
  EXPECT_EQ(keys.initial(), 10u);
}

TEST(Workload, MixesAreThoseOfYcsb) {
  KeySpace keys(100);
  const Values values(10, 1);
  const std::map<std::string, std::array<double, kKinds>> expected = {
      {"put", {0, 1, 0, 0}},        {"get", {1, 0, 0, 0}},
      {"a", {0.5, 0.5, 0, 0}},      {"b", {0.95, 0.05, 0, 0}},
      {"c", {1, 0, 0, 0}},          {"d", {0.95, 0, 0.05, 0}},
      {"e", {0, 0, 0.05, 0, 0.95}}, {"f", {0.5, 0, 0, 0.5}},
  };
  for (const auto& [name, share] : expected) {
    const auto mix = MixOf(name);
    ASSERT_TRUE(mix.ok()) << name;
    const auto source = NewMixSource(*mix, {16, 10}, &keys, &values, 7);
    std::array<int, kKinds> count = {};
    uint64_t lengths = 0;
    Operation o;
    for (int i = 0; i < 20'000; ++i) {
      ASSERT_TRUE(source->Next(&o));
      ++count[static_cast<int>(o.kind)];
      EXPECT_EQ(o.write, o.kind == Kind::kUpdate || o.kind == Kind::kInsert);
      EXPECT_EQ(o.key.size(), 16u);
      if (o.kind == Kind::kScan) {
        EXPECT_TRUE(o.left >= 1 && o.left <= kMaxScanLength) << o.left;
        lengths += o.left;
      } else if (o.kind != Kind::kRead) {
        EXPECT_EQ(o.value.size(), 10u);
      }
      source->Ended(o, Outcome::kOk);
    }
    for (int kind = 0; kind < kKinds; ++kind) {
      EXPECT_NEAR(count[kind] / 20'000.0, share[kind], 0.015)
          << name << " " << kKindNames[kind];
    }
    EXPECT_FALSE(source->Exhausted());
    if (const int scans = count[static_cast<int>(Kind::kScan)]; scans > 0) {
      EXPECT_NEAR(static_cast<double>(lengths) / scans, 50.5, 1);
    }
  }
  EXPECT_EQ(MixOf("x").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Workload, KeysHaveTheirSize) {
  std::string key;
  FormatKey(7, 16, &key);
  EXPECT_EQ(key, "bench00000000007");
  FormatKey(1234567, 8, &key);
  EXPECT_EQ(key, "bench1234567");
  EXPECT_EQ(KeysOfSize(8), 1000);
}

TEST(Workload, FillingPutsEachKeyOnceAndRepeatsFailures) {
  const KeySpace keys(50);
  const Values values(1, 1);
  const auto source = NewFillSource({16, 1}, &keys, &values, 1);
  std::map<uint64_t, int> seen;
  Operation o;
  while (source->Next(&o)) {
    EXPECT_TRUE(o.write);
    const bool fails = o.number % 10 == 3 && seen[o.number] < 2;
    ++seen[o.number];
    source->Ended(o, !fails               ? Outcome::kOk
                     : o.number % 20 == 3 ? Outcome::kFailed
                                          : Outcome::kUnknown);
  }
  EXPECT_TRUE(source->Exhausted());
  EXPECT_EQ(seen.size(), 50u);
  for (const auto& [number, times] : seen) {
    EXPECT_EQ(times, number % 10 == 3 ? 3 : 1) << number;
  }
}

TEST(Workload, ValuesDoNotCompressAway) {
  const Values values(4096, 1);
  Random random(1);
  const absl::string_view value = values.Pick(&random);
  ASSERT_EQ(value.size(), 4096u);
  std::set<std::string> pieces;
  for (size_t i = 0; i + 4 <= value.size(); i += 4) {
    pieces.insert(std::string(value.substr(i, 4)));
  }
  EXPECT_GT(pieces.size(), 1000u) << "of 1024 pieces";
  EXPECT_NE(values.Pick(&random).data(), value.data());
}

}  // namespace
}  // namespace kv739::bench
