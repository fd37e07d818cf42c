// Every storage step of a few short histories, stopped in and recovered from.
//
// A history runs once to count its steps, then once for each step of each node
// and each choice of what the stop leaves: of one node, and of all nodes at
// once; and with a second stop in the start that follows. What is checked is in
// tests/support/crash_world.h. KV739_CRASH_POINTS=all visits all of them; by
// default one of a few, spread over steps and kinds of stops, and fewer under
// the thread sanitizer, which slows this one thread down forty times.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/crash_world.h"
#include "tests/support/sanitizer.h"

namespace kv739::testing {
namespace {

using Scenario = std::function<void(CrashWorld&)>;

bool VisitAll() {
  const char* wanted = std::getenv("KV739_CRASH_POINTS");
  return wanted != nullptr && std::string(wanted) == "all";
}

constexpr uint64_t kStrideFactor = kThreadSanitizer ? 8 : 1;

class Visitor {
 public:
  // Visits one point of `stride` times kStrideFactor unless all are wanted.
  Visitor(const CrashWorld::Options& options, Scenario scenario,
          uint64_t stride)
      : options_(options),
        scenario_(std::move(scenario)),
        stride_(VisitAll() ? 1 : stride * kStrideFactor) {}

  void Run() {
    std::vector<uint64_t> steps;
    {
      CrashWorld world(options_, Crash());
      scenario_(world);
      for (int i = 0; i < options_.nodes; ++i) steps.push_back(world.steps(i));
      world.Finish();
      if (world.failed()) return;
    }
    for (int node = 0; node < options_.nodes; ++node) {
      for (uint64_t step = 1; step <= steps[node]; ++step) {
        all_steps_++;
        for (const bool all : {false, true}) {
          VisitStep(node, step, all);
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    std::printf(
        "crash points of %s: %llu storage steps, %llu points visited, %llu "
        "stops, %zu kinds of steps\n",
        test->name(), static_cast<unsigned long long>(all_steps_),
        static_cast<unsigned long long>(visits_),
        static_cast<unsigned long long>(stops_), kinds_.size());
    for (const std::string& kind : kinds_) std::printf("  %s\n", kind.c_str());
  }

 private:
  bool Chosen() {
    return (++point_ * 0x9e37'79b9'7f4a'7c15 >> 32) % stride_ == 0;
  }

  void VisitStep(int node, uint64_t step, bool all) {
    Crash crash;
    crash.node = node;
    crash.step = step;
    crash.all = all;
    crash.down_ticks = step % 2 == 0 ? 0 : 25;
    // Nothing survives: that also tells how much there is to decide.
    uint64_t decisions = 1;
    uint64_t restart_steps = VisitAll() ? 0 : 4;
    if (Chosen()) {
      const auto [asked, again] = Visit(crash);
      decisions = asked;
      restart_steps = again;
    }
    if (decisions == 0) return;
    if (decisions <= 3) {
      for (crash.mask = 1; crash.mask < (1u << decisions); ++crash.mask) {
        if (Chosen()) Visit(crash);
      }
    } else {
      for (const uint64_t mask :
           {~uint64_t{0}, 0x5555'5555'5555'5555 * (step % 2 + 1),
            step * 0x9e37'79b9'7f4a'7c15}) {
        crash.mask = mask;
        if (Chosen()) Visit(crash);
      }
    }
    // And again in the start that follows.
    crash.mask = step * 0x9e37'79b9'7f4a'7c15;
    for (uint64_t again = 1; again <= restart_steps; ++again) {
      if (!VisitAll() && again != step % 4 + 1) continue;
      crash.again = again;
      if (Chosen()) Visit(crash);
    }
  }

  std::pair<uint64_t, uint64_t> Visit(const Crash& crash) {
    if (::testing::Test::HasFailure()) return {0, 0};
    SCOPED_TRACE(::testing::Message()
                 << "node " << crash.node << " step " << crash.step << " all "
                 << crash.all << " mask " << crash.mask << " down "
                 << crash.down_ticks << " again " << crash.again);
    CrashWorld world(options_, crash);
    scenario_(world);
    const uint64_t decisions = world.decisions();
    world.Finish();
    ++visits_;
    if (world.crashed()) {
      ++stops_;
      kinds_.insert(world.crashed_in());
    }
    if (::testing::Test::HasFailure()) {
      ADD_FAILURE() << "stopped in: " << world.crashed_in();
    }
    return {decisions, world.restart_steps()};
  }

  const CrashWorld::Options options_;
  const Scenario scenario_;
  const uint64_t stride_;
  uint64_t point_ = 0;
  uint64_t all_steps_ = 0;
  uint64_t visits_ = 0;
  uint64_t stops_ = 0;
  std::set<std::string> kinds_;
};

void WriteMany(CrashWorld& world, int count, size_t bytes = 0) {
  for (int i = 0; i < count; ++i) {
    world.Write(absl::StrCat("k", i % 2),
                absl::StrCat("(", i, ")", std::string(bytes, 'v')));
  }
}

TEST(CrashPoints, VotesAndAppends) {
  Visitor(
      {},
      [](CrashWorld& world) {
        WriteMany(world, 4);
        // Another leader, and the old one as its follower.
        const int leader = world.ElectLeader();
        world.Isolate(leader, true);
        WriteMany(world, 2);
        world.Isolate(leader, false);
        WriteMany(world, 2);
      },
      2)
      .Run();
}

TEST(CrashPoints, Truncation) {
  Visitor(
      {},
      [](CrashWorld& world) {
        WriteMany(world, 2);
        const int leader = world.ElectLeader();
        world.Isolate(leader, true);
        world.WriteInVain(leader, 3);
        WriteMany(world, 3);
        world.Isolate(leader, false);
        world.Tick(10);
        WriteMany(world, 2);
      },
      2)
      .Run();
}

CrashWorld::Options SmallLogs() {
  CrashWorld::Options options;
  options.snapshot_entries = 5;
  options.trailing_entries = 1;
  return options;
}

TEST(CrashPoints, SnapshotsAndCuts) {
  Visitor(
      SmallLogs(),
      [](CrashWorld& world) {
        WriteMany(world, 7);
        world.Tick(3);
        WriteMany(world, 6);
        world.Tick(3);
      },
      2)
      .Run();
}

TEST(CrashPoints, Installation) {
  Visitor(
      SmallLogs(),
      [](CrashWorld& world) {
        WriteMany(world, 2);
        world.Tick(10);
        const int behind = world.Follower();
        world.Isolate(behind, true);
        const raft::Index had = world.Applied(behind);
        world.TickUntil("a cut log", [&] {
          WriteMany(world, 2);
          const int leader = world.Leader();
          return leader >= 0 && world.SnapshotIndex(leader) > had + 1;
        });
        world.Isolate(behind, false);
        world.Tick(5);
        WriteMany(world, 2);
        world.TickUntil("an installed snapshot", [&] {
          const int leader = world.Leader();
          return leader >= 0 && world.Applied(behind) == world.Applied(leader);
        });
        if (!world.crashed()) {
          EXPECT_EQ(world.Installs(behind), 1u);
        }
      },
      2)
      .Run();
}

TEST(CrashPoints, SegmentSwitches) {
  CrashWorld::Options options = SmallLogs();
  options.segment_bytes = 4 * wal::kBlockBytes;
  Visitor(
      options, [](CrashWorld& world) { WriteMany(world, 12, 3000); }, 2)
      .Run();
}

TEST(CrashPoints, Membership) {
  CrashWorld::Options options;
  options.nodes = 4;
  Visitor(
      options,
      [](CrashWorld& world) {
        WriteMany(world, 2);
        world.Replace(1, 3);
        WriteMany(world, 2);
        // The one that went comes back, in the place of another.
        const raft::Index gone = world.committed();
        world.Replace(0, 1);
        // Filled with a state that it is a member in again.
        if (!world.crashed()) {
          EXPECT_GT(world.SnapshotIndex(1), gone);
        }
        WriteMany(world, 1);
      },
      3)
      .Run();
}

}  // namespace
}  // namespace kv739::testing
