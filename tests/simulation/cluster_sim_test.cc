// Clusters of cores under faults, from seeds. KV739_SEEDS=n runs n seeds,
// KV739_SEED=s runs that one and prints what happened.
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/support/sanitizer.h"
#include "tests/support/sim_cluster.h"

namespace kv739::sim {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

TEST(ClusterSimulation, HoldsTheSafetyPropertiesAndRecovers) {
  const uint64_t one = FromEnvironment("KV739_SEED", 0);
  if (one != 0) {
    const SimResult result = Simulate(one, /*trace=*/true);
    std::printf("%s", result.trace.c_str());
    EXPECT_EQ(result.failure, "");
    return;
  }
  const uint64_t seeds = FromEnvironment(
      "KV739_SEEDS", ::kv739::testing::kThreadSanitizer ? 30 : 300);
  SimResult sum;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const SimResult result = Simulate(seed);
    ASSERT_EQ(result.failure, "") << "run again with KV739_SEED=" << seed;
    sum.committed += result.committed;
    sum.leaders += result.leaders;
    sum.reads += result.reads;
    sum.acknowledged += result.acknowledged;
    sum.crashes += result.crashes;
    sum.fetches += result.fetches;
    sum.snapshots += result.snapshots;
    sum.installs += result.installs;
    sum.changes += result.changes;
    sum.unfit += result.unfit;
    sum.rests += result.rests;
  }
  std::printf(
      "%llu seeds: %llu committed, %llu acknowledged, %llu reads, %llu "
      "leaders, %llu crashes, %llu fetches, %llu snapshots asked, %llu "
      "installed, %llu changes of members, %llu times unfit, %llu rests\n",
      static_cast<unsigned long long>(seeds),
      static_cast<unsigned long long>(sum.committed),
      static_cast<unsigned long long>(sum.acknowledged),
      static_cast<unsigned long long>(sum.reads),
      static_cast<unsigned long long>(sum.leaders),
      static_cast<unsigned long long>(sum.crashes),
      static_cast<unsigned long long>(sum.fetches),
      static_cast<unsigned long long>(sum.snapshots),
      static_cast<unsigned long long>(sum.installs),
      static_cast<unsigned long long>(sum.changes),
      static_cast<unsigned long long>(sum.unfit),
      static_cast<unsigned long long>(sum.rests));
  // The runs did what they are for.
  EXPECT_GT(sum.committed, seeds * 20);
  EXPECT_GT(sum.reads, seeds);
  EXPECT_GT(sum.crashes, seeds);
  EXPECT_GT(sum.fetches, seeds / 10);
  EXPECT_GT(sum.installs, seeds / 10);
  EXPECT_GT(sum.changes, seeds);
  EXPECT_GT(sum.unfit, seeds);
  EXPECT_GT(sum.rests, seeds);
}

TEST(ClusterSimulation, SameSeedSameRun) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const SimResult first = Simulate(seed);
    const SimResult second = Simulate(seed, /*trace=*/true);
    EXPECT_EQ(first.digest, second.digest) << "seed " << seed;
    EXPECT_EQ(Simulate(seed, true).trace, second.trace) << "seed " << seed;
  }
  EXPECT_NE(Simulate(1).digest, Simulate(2).digest);
}

}  // namespace
}  // namespace kv739::sim
