// Crashes of the log at every storage operation, compared with a model that
// knows what was acknowledged. KV739_SEEDS=n runs n random histories.
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/wal/segment.h"
#include "server/wal/wal.h"
#include "tests/support/fake_file_system.h"
#include "tests/support/sanitizer.h"
#include "tests/support/wal_model.h"

namespace kv739::wal {
namespace {

using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::LogPosition;
using raft::NodeId;
using raft::Term;

constexpr char kDir[] = "wal";

WalOptions SmallOptions() {
  WalOptions options;
  options.segment_bytes = 4 * kBlockBytes;
  options.cache_bytes = 2000;
  options.new_log_id = 739;
  return options;
}

// A log and the model of it, on a file system that crashes.
class World {
 public:
  explicit World(FakeFileSystem* fs, WalOptions options = SmallOptions())
      : fs_(fs), options_(options), possible_({ModelState()}) {}

  // False when the machine went down meanwhile.
  bool Open() {
    auto wal = Wal::Open(fs_, kDir, options_);
    if (!wal.ok()) {
      EXPECT_EQ(wal.status().code(), absl::StatusCode::kAborted)
          << wal.status();
      return false;
    }
    wal_ = *std::move(wal);
    auto observed = Observe(*wal_);
    if (!observed.ok()) {
      ADD_FAILURE() << observed.status();
      return false;
    }
    for (const ModelState& state : possible_) {
      if (*observed == Normalized(state)) {
        const ModelState found = state;  // the record keeps its commit index
        possible_ = {found};
        return true;
      }
    }
    ADD_FAILURE() << "recovered\n"
                  << Describe(*observed) << "expected one of "
                  << possible_.size() << " states, the first\n"
                  << Describe(possible_.front()) << "the last\n"
                  << Describe(possible_.back());
    return false;
  }

  bool Append(const std::vector<GroupWrite>& writes) {
    possible_ = ModelSteps(state(), writes);
    const absl::Status s = wal_->Append(writes);
    if (!s.ok()) {
      EXPECT_EQ(s.code(), absl::StatusCode::kInternal) << s;
      return false;
    }
    possible_ = {possible_.back()};
    return true;
  }

  bool Maintain() {
    while (wal_->wants_maintenance()) {
      if (!wal_->Maintain().ok()) return false;
    }
    return true;
  }

  void Close() { wal_.reset(); }
  const ModelState& state() const { return possible_.front(); }
  Wal& wal() { return *wal_; }

 private:
  FakeFileSystem* const fs_;
  const WalOptions options_;
  std::unique_ptr<Wal> wal_;
  std::vector<ModelState> possible_;
};

using Step = std::vector<GroupWrite>;  // empty: Maintain

GroupWrite Entries(uint64_t group, uint64_t term, uint64_t first,
                   uint64_t count, uint64_t size) {
  GroupWrite write;
  write.group = GroupId(group);
  for (uint64_t i = 0; i < count; ++i) {
    write.entries.push_back(
        MakeEntry(term, first + i,
                  std::string(size, static_cast<char>('a' + (first + i) % 26 +
                                                      (term % 2) * -32))));
  }
  return write;
}

GroupWrite Hard(uint64_t group, uint64_t term, uint64_t vote) {
  GroupWrite write;
  write.group = GroupId(group);
  write.hard_state = HardState{Term(term), NodeId(vote), Index()};
  return write;
}

GroupWrite CompactTo(uint64_t group, uint64_t term, uint64_t index) {
  GroupWrite write;
  write.group = GroupId(group);
  write.compact = LogPosition{Term(term), Index(index)};
  return write;
}

// Runs the steps on a fresh file system; crashes at every operation in turn,
// with nothing, everything or a random part of the unsynced surviving, and
// checks what is recovered. Then goes on with the steps' rest.
void CrashEverywhere(const std::vector<Step>& steps, bool direct) {
  const auto run = [&](World& world, size_t from) {
    for (size_t i = from; i < steps.size(); ++i) {
      const bool ok =
          steps[i].empty() ? world.Maintain() : world.Append(steps[i]);
      if (!ok) return i;
    }
    return steps.size();
  };
  uint64_t operations = 0;
  {
    FakeFileSystem fs(direct);
    World world(&fs);
    ASSERT_TRUE(world.Open());
    ASSERT_EQ(run(world, 0), steps.size());
    operations = fs.operations();
    EXPECT_GT(
        world.wal().stats().recycled_segments + world.wal().stats().segments,
        1u);
  }
  for (uint64_t crash = 1; crash <= operations; ++crash) {
    for (int mode = 0; mode < 6; ++mode) {
      SCOPED_TRACE(::testing::Message() << "crash at " << crash << " mode "
                                        << mode << " direct " << direct);
      std::mt19937_64 random(crash * 10 + mode);
      FakeFileSystem fs(direct);
      World world(&fs);
      fs.CrashAt(crash);
      if (world.Open()) run(world, 0);
      world.Close();
      fs.PowerLoss([&] {
        return mode == 0 ? false : mode == 1 ? true : random() % 2 == 0;
      });
      ASSERT_TRUE(world.Open());
      // It goes on from there, and what it wrote stays.
      ASSERT_TRUE(world.Append({Hard(9, 3, 1), Entries(9, 3, 1, 1, 700)}));
      ASSERT_TRUE(world.Maintain());
      ASSERT_TRUE(world.Append({Entries(9, 3, 2, 1, 5000)}));
      world.Close();
      fs.PowerLoss([] { return false; });
      ASSERT_TRUE(world.Open());
    }
  }
}

TEST(WalCrash, DuringAppendsAndSegmentSwitches) {
  std::vector<Step> steps;
  steps.push_back({Hard(1, 1, 2)});
  for (uint64_t i = 0; i < 8; ++i) {
    steps.push_back(
        {Entries(1, 1, 1 + 3 * i, 3, 900), Entries(2, 1, 1 + 2 * i, 2, 30)});
  }
  CrashEverywhere(steps, true);
  CrashEverywhere(steps, false);
}

TEST(WalCrash, DuringAnAppendOverManySegments) {
  CrashEverywhere({{Entries(1, 1, 1, 2, 100)},
                   {Hard(1, 2, 1), Entries(1, 2, 2, 30, 1500)},
                   {Entries(1, 2, 32, 1, 60000)},
                   {Entries(1, 2, 33, 1, 10)}},
                  true);
}

// L4: the log is the old one or the new one, never one with a gap.
TEST(WalCrash, DuringTruncateAndAppend) {
  std::vector<Step> steps;
  for (uint64_t term = 1; term < 8; ++term) {
    steps.push_back({Hard(1, term, 1), Entries(1, term, term, 12, 400)});
  }
  CrashEverywhere(steps, true);
  CrashEverywhere(steps, false);
}

TEST(WalCrash, DuringCompactionAndRecycling) {
  std::vector<Step> steps = {{Hard(1, 1, 1)}};
  for (uint64_t i = 0; i < 10; ++i) {
    steps.push_back({Entries(1, 1, 1 + 4 * i, 4, 2500)});
    steps.push_back({CompactTo(1, 1, 4 * i + 2)});
    steps.push_back({});
  }
  CrashEverywhere(steps, true);
  CrashEverywhere(steps, false);
}

// Groups 1 and 2 are idle and hold a few records in the first segments, one
// of them with a truncation and one behind a compaction; group 3 is busy.
TEST(WalCrash, DuringRewritesOfIdleGroups) {
  std::vector<Step> steps = {
      {Hard(1, 1, 1), Entries(1, 1, 1, 5, 100)},
      {Hard(2, 1, 2), Entries(2, 1, 1, 4, 300), CompactTo(2, 1, 2)},
      {Hard(1, 2, 1), Entries(1, 2, 3, 2, 100)},
      {Hard(4, 7, 4)}};
  uint64_t index = 1;
  for (uint64_t i = 0; i < 12; ++i) {
    steps.push_back({Entries(3, 1, index, 5, 1800)});
    index += 5;
    // Idle group 1 wakes up once, while its older entries are moved already.
    if (i == 6) steps.push_back({Entries(1, 2, 5, 2, 100)});
    steps.push_back({CompactTo(3, 1, index - 2)});
    steps.push_back({});
  }
  GroupWrite removal;
  removal.group = GroupId(2);
  removal.remove_group = true;
  steps.push_back({removal});
  steps.push_back({Entries(3, 1, index, 3, 3000)});
  steps.push_back({});
  steps.push_back({Entries(2, 5, 1, 2, 50)});
  {  // the steps do what they are for
    FakeFileSystem fs;
    World world(&fs);
    ASSERT_TRUE(world.Open());
    for (const Step& step : steps) {
      ASSERT_TRUE(step.empty() ? world.Maintain() : world.Append(step));
    }
    EXPECT_GT(world.wal().stats().rewritten_bytes, 0u);
    EXPECT_GT(world.wal().stats().recycled_segments, 4u);
    EXPECT_LT(world.wal().stats().segments, 7u);
  }
  CrashEverywhere(steps, true);
  CrashEverywhere(steps, false);
}

// Random histories: crash, lose a random part, recover, go on in the same
// directory.
void RandomHistory(uint64_t seed) {
  SCOPED_TRACE(::testing::Message() << "seed " << seed);
  std::mt19937_64 random(seed);
  FakeFileSystem fs(random() % 2 == 0);
  WalOptions options = SmallOptions();
  options.segment_bytes = (2 + random() % 6) * kBlockBytes;
  options.spare_segments = random() % 3;
  World world(&fs, options);
  for (int life = 0; life < 12; ++life) {
    SCOPED_TRACE(::testing::Message() << "life " << life);
    if (life > 0) fs.CrashAt(fs.operations() + 1 + random() % 80);
    bool up = world.Open();
    if (::testing::Test::HasFailure()) return;
    for (int i = 0; up && i < 40; ++i) {
      up = world.Append(RandomWrites(world.state(), {}, random));
      if (up && random() % 3 == 0) up = world.Maintain();
      if (::testing::Test::HasFailure()) return;
    }
    world.Close();
    const uint64_t kept = random() % 5;
    if (random() % 3 == 0) {
      // Killed, started again, and only then the power goes: what the start
      // has reported must be durable.
      fs.Restart();
      if (!world.Open()) return;
      world.Close();
    }
    fs.PowerLoss([&] { return random() % 4 < kept; });
  }
  world.Open();
}

TEST(WalCrash, RandomHistories) {
  const char* seeds = std::getenv("KV739_SEEDS");
  const uint64_t count = seeds != nullptr
                             ? std::strtoull(seeds, nullptr, 10)
                             : (::kv739::testing::kThreadSanitizer ? 10 : 100);
  for (uint64_t seed = 1; seed <= count; ++seed) {
    RandomHistory(seed);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace kv739::wal
