// Named situations that have stopped real clusters: every start that a crash
// can leave, links that are dead in one direction, nodes that see only a hub.
// Messages take no time here; a step is one tick of every node.
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/sim_node.h"
#include "tests/support/sim_random.h"

namespace kv739::sim {
namespace {

using raft::Envelope;
using raft::Index;
using raft::NodeId;
using raft::Term;

constexpr int kElectionTimeout = 10;  // ticks

class Lab {
 public:
  explicit Lab(uint64_t count, uint64_t seed = 1) : random_(seed) {
    // Behind nothing, so that Preload() may give any log.
    raft::SnapshotMeta initial;
    for (uint64_t id = 1; id <= count; ++id) {
      initial.configuration.voters.push_back(NodeId(id));
    }
    for (uint64_t id = 1; id <= count; ++id) {
      raft::Options options;
      options.self = NodeId(id);
      options.election_timeout_ticks = kElectionTimeout;
      options.heartbeat_ticks = 2;
      nodes_.push_back(
          std::make_unique<SimNode>(options, initial, &random_, &checker_));
    }
  }

  SimNode& node(uint64_t id) { return *nodes_[id - 1]; }
  SafetyChecker& checker() { return checker_; }

  // Restarts a node with such a disk; entry i has the i-th term.
  void Preload(uint64_t id, uint64_t term, const std::vector<uint64_t>& log) {
    raft::Persist persist;
    persist.hard_state = raft::HardState{Term(term), NodeId(0), Index(0)};
    for (uint64_t t : log) {
      const Index index(persist.entries.size() + 1);
      persist.entries.push_back(
          {Term(t), index, raft::EntryKind::kCommand, raft::MakePayload("x")});
    }
    node(id).Crash(0);
    node(id).disk().Write(std::move(persist), {});
    node(id).disk().CompleteOldest();
    node(id).Start();
  }

  void CutOneWay(uint64_t from, uint64_t to) { cut_.insert({from, to}); }
  void Cut(uint64_t a, uint64_t b) {
    CutOneWay(a, b);
    CutOneWay(b, a);
  }
  void Heal() { cut_.clear(); }

  void Step() {
    for (auto& n : nodes_) n->core().Tick();
    std::vector<Envelope> flying;
    for (bool busy = true; busy;) {
      busy = false;
      for (auto& n : nodes_) {
        while (n->core().HasReady() || n->disk().pending() > 0) {
          busy = true;
          if (n->core().HasReady()) Post(n->Turn(false).send, &flying);
          if (n->disk().pending() > 0) Post(n->CompleteWrite(), &flying);
        }
      }
      for (const Envelope& e : std::exchange(flying, {})) {
        busy = true;
        node(e.to.value()).core().Step(e);
      }
    }
  }

  // The leader that most recently won, or none.
  uint64_t Leader() {
    uint64_t leader = 0;
    for (auto& n : nodes_) {
      if (n->core().IsLeader() &&
          (leader == 0 || n->core().term() > node(leader).core().term())) {
        leader = n->id().value();
      }
    }
    return leader;
  }
  // Steps until there is a leader that has committed in its term; how many.
  int StepsToLeader(int limit, uint64_t other_than = 0) {
    for (int steps = 1; steps <= limit; ++steps) {
      Step();
      const uint64_t leader = Leader();
      if (leader != 0 && leader != other_than &&
          node(leader).core().commit() == node(leader).core().last_index()) {
        return steps;
      }
    }
    return limit + 1;
  }

 private:
  void Post(std::vector<Envelope> messages, std::vector<Envelope>* flying) {
    for (Envelope& e : messages) {
      if (!cut_.contains({e.from.value(), e.to.value()})) {
        flying->push_back(std::move(e));
      }
    }
  }

  SimRandom random_;
  SafetyChecker checker_;
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::set<std::pair<uint64_t, uint64_t>> cut_;
};

// Long logs of old terms beside short ones of new terms, in any mixture, must
// not end in pre-votes that nobody can win.
TEST(Shapes, EveryStartThatACrashCanLeaveElectsALeader) {
  const std::vector<uint64_t> logs[] = {{}, {1, 1, 1}, {1}, {1, 2}};
  const uint64_t terms[] = {2, 3, 9};
  const uint64_t kinds = 4 * 3;
  for (uint64_t code = 0; code < kinds * kinds * kinds; ++code) {
    Lab lab(3, code + 1);
    uint64_t rest = code;
    for (uint64_t id = 1; id <= 3; ++id) {
      lab.Preload(id, terms[rest % 3], logs[rest / 3 % 4]);
      rest /= kinds;
    }
    ASSERT_LE(lab.StepsToLeader(10 * kElectionTimeout), 10 * kElectionTimeout)
        << "case " << code;
    for (int i = 0; i < 5; ++i) lab.Step();
    ASSERT_FALSE(lab.checker().failed()) << lab.checker().failure();
    for (uint64_t id = 1; id <= 3; ++id) {
      ASSERT_EQ(lab.node(id).digest(), lab.node(1).digest()) << "case " << code;
    }
  }
}

TEST(Shapes, ALeaderThatHearsNothingStepsDownAndAnotherTakesOver) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Lab lab(5, seed);
    lab.StepsToLeader(100);
    const uint64_t old = lab.Leader();
    for (uint64_t id = 1; id <= 5; ++id) {
      if (id != old) lab.CutOneWay(id, old);
    }
    for (int i = 0; i < kElectionTimeout; ++i) lab.Step();
    EXPECT_FALSE(lab.node(old).core().IsLeader());
    EXPECT_LE(lab.StepsToLeader(100, old), 4 * kElectionTimeout);
    EXPECT_FALSE(lab.checker().failed()) << lab.checker().failure();
  }
}

TEST(Shapes, AChainKeepsItsLeader) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Lab lab(3, seed);
    lab.StepsToLeader(100);
    const uint64_t leader = lab.Leader();
    const uint64_t hub = leader % 3 + 1;
    const uint64_t far = hub % 3 + 1;
    const Term term = lab.node(leader).core().term();
    lab.Cut(leader, far);
    for (int i = 0; i < 600; ++i) lab.Step();
    EXPECT_EQ(lab.Leader(), leader) << "seed " << seed;
    EXPECT_EQ(lab.node(leader).core().term(), term) << "seed " << seed;
  }
}

TEST(Shapes, ALeaderThatSeesOnlyAHubLosesToTheHub) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    Lab lab(5, seed);
    lab.StepsToLeader(100);
    const uint64_t old = lab.Leader();
    const uint64_t hub = old % 5 + 1;
    for (uint64_t a = 1; a <= 5; ++a) {
      for (uint64_t b = 1; b <= 5; ++b) {
        if (a != b && a != hub && b != hub) lab.CutOneWay(a, b);
      }
    }
    EXPECT_LE(lab.StepsToLeader(200, old), 3 * kElectionTimeout);
    EXPECT_EQ(lab.Leader(), hub) << "only the hub reaches a majority";
    EXPECT_FALSE(lab.checker().failed()) << lab.checker().failure();
  }
}

TEST(Shapes, ACutOffFollowerComesBackWithoutDeposingTheLeader) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Lab lab(5, seed);
    lab.StepsToLeader(100);
    const uint64_t leader = lab.Leader();
    const Term term = lab.node(leader).core().term();
    const uint64_t alone = leader % 5 + 1;
    for (uint64_t id = 1; id <= 5; ++id) {
      if (id != alone) lab.Cut(id, alone);
    }
    for (int i = 0; i < 600; ++i) lab.Step();
    lab.Heal();
    for (int i = 0; i < 50; ++i) lab.Step();
    EXPECT_EQ(lab.Leader(), leader);
    EXPECT_EQ(lab.node(leader).core().term(), term);
  }
}

}  // namespace
}  // namespace kv739::sim
