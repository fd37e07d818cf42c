// Worlds that always run; `./run simulate` runs as many as one likes.
#include <gtest/gtest.h>

#include <string>

#include "server/logging.h"
#include "tests/simulation/world.h"
#include "tests/support/sanitizer.h"

namespace kv739::world {
namespace {

using ::kv739::testing::kThreadSanitizer;

class WorldTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    server::LogOptions options;
    options.level = "error";
    ASSERT_TRUE(server::StartLogging(options).ok());
  }

  static Result Run(const Options& options) {
    Result result = Simulate(options);
    EXPECT_EQ(result.failure, "")
        << "seed " << options.seed << ": " << result.profile << "\n"
        << result.last;
    return result;
  }
};

// Nothing fails, and much is done.
TEST_F(WorldTest, Calm) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    Options options;
    options.seed = seed;
    options.seconds = 12;
    options.without.set();
    const Result result = Run(options);
    EXPECT_GT(result.done, 50u);
    EXPECT_EQ(result.unknown, 0u);
    EXPECT_EQ(result.crashes, 0u);
    EXPECT_GT(result.hashes, 0u);
  }
}

TEST_F(WorldTest, AnythingGoesWrong) {
  const uint64_t seeds = kThreadSanitizer ? 4 : 16;
  Result all;
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    Options options;
    options.seed = seed;
    options.seconds = 30;
    const Result result = Run(options);
    all.done += result.done;
    all.crashes += result.crashes;
    all.joins += result.joins;
    all.faults += result.faults;
    all.pages += result.pages;
  }
  EXPECT_GT(all.done, 300 * seeds);
  EXPECT_GT(all.faults, 3 * seeds);
  EXPECT_GT(all.crashes, seeds / 2);
  if (!kThreadSanitizer) {
    EXPECT_GT(all.joins, 0u);
    EXPECT_GT(all.pages, 100u);
  }
}

TEST_F(WorldTest, SameSeedSameTrace) {
  for (uint64_t seed = 100; seed < (kThreadSanitizer ? 101 : 106); ++seed) {
    Options options;
    options.seed = seed;
    options.seconds = 20;
    const Result one = Run(options);
    const Result two = Run(options);
    EXPECT_EQ(one.digest, two.digest) << "seed " << seed;
    EXPECT_EQ(one.events, two.events) << "seed " << seed;
    EXPECT_EQ(one.nanos, two.nanos) << "seed " << seed;
    options.seed += 1000;
    EXPECT_NE(one.digest, Run(options).digest);
  }
}

// Each kind of fault by itself.
class FaultTest : public WorldTest,
                  public ::testing::WithParamInterface<size_t> {};

TEST_P(FaultTest, Alone) {
  for (uint64_t seed = 1; seed <= (kThreadSanitizer ? 1 : 2); ++seed) {
    Options options;
    options.seed = seed + 10 * GetParam();
    options.seconds = 24;
    options.without.set();
    options.with.set(GetParam());
    // Snapshots are sent only where logs are cut.
    options.with.set(static_cast<size_t>(Fault::kSnapshots));
    const Result result = Run(options);
    EXPECT_GT(result.done, 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Faults, FaultTest,
                         ::testing::Range(size_t{0}, kFaults),
                         [](const ::testing::TestParamInfo<size_t>& param) {
                           std::string name(
                               FaultName(static_cast<Fault>(param.param)));
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace kv739::world
