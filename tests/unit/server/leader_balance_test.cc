// Which leaderships a node hands over, and how a cluster of nodes that decide
// by themselves comes to rest.
#include "server/leader_balance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "tests/support/sim_random.h"

namespace kv739::server {
namespace {

using raft::GroupId;
using raft::NodeId;
using raft::Term;

BalanceOptions TestOptions() {
  BalanceOptions options;
  options.look_ticks = 10;
  options.rest_ticks = 100;
  return options;
}

// Nodes 1 to n; groups of which everybody knows everything at once.
class World {
 public:
  explicit World(int nodes, uint64_t seed = 1) : dice_(seed) {
    for (int n = 1; n <= nodes; ++n) {
      nodes_.push_back(NodeId(n));
      balances_.push_back(
          std::make_unique<LeaderBalance>(TestOptions(), NodeId(n), &dice_));
    }
  }

  void Add(std::vector<NodeId> voters, NodeId leader) {
    LeaderBalance::Group group;
    group.id = GroupId(groups_.size());
    group.term = Term(1);
    group.leader = leader;
    group.voters = std::move(voters);
    groups_.push_back(std::move(group));
  }
  void AddForAll(int groups, NodeId leader) {
    for (int n = 0; n < groups; ++n) Add(nodes_, leader);
  }
  void Down(NodeId node) { down_ = node; }
  void Lead(size_t group, NodeId leader) {
    groups_[group].leader = leader;
    groups_[group].term = groups_[group].term + 1;
  }

  // What `node` sees, and what it would do.
  std::vector<LeaderBalance::Move> Look(NodeId node) {
    std::vector<LeaderBalance::Group> seen;
    for (LeaderBalance::Group group : groups_) {
      if (!std::count(group.voters.begin(), group.voters.end(), node)) continue;
      if (group.leader == node) {
        group.able = group.voters;
        std::erase_if(group.able,
                      [&](NodeId id) { return id == node || id == down_; });
      }
      seen.push_back(std::move(group));
    }
    return balances_[node.value() - 1]->Look(seen, now_);
  }

  int Run(uint64_t ticks) {
    int moves = 0;
    for (uint64_t end = now_ + ticks; now_ < end; ++now_) {
      // All that look at this tick have decided before anything moves.
      std::vector<LeaderBalance::Move> all;
      for (NodeId node : nodes_) {
        if (!balances_[node.value() - 1]->Due(now_)) continue;
        for (const auto& move : Look(node)) all.push_back(move);
      }
      for (const auto& move : all) Lead(move.group.value(), move.to);
      moves += static_cast<int>(all.size());
    }
    return moves;
  }
  void Pass(uint64_t ticks) { now_ += ticks; }

  std::map<NodeId, int> Led() const {
    std::map<NodeId, int> led;
    for (NodeId node : nodes_) led[node] = 0;
    for (const auto& group : groups_) ++led[group.leader];
    return led;
  }
  int Spread() const {
    int least = 1 << 30;
    int most = 0;
    for (const auto& [node, led] : Led()) {
      least = std::min(least, led);
      most = std::max(most, led);
    }
    return most - least;
  }

 private:
  sim::SimRandom dice_;
  uint64_t now_ = 1000;
  std::vector<NodeId> nodes_;
  NodeId down_;
  std::vector<std::unique_ptr<LeaderBalance>> balances_;
  std::vector<LeaderBalance::Group> groups_;
};

TEST(LeaderBalance, OneMoreThanOthersIsNoReason) {
  World world(5);
  world.AddForAll(1, NodeId(2));
  world.Look(NodeId(2));
  world.Pass(200);
  EXPECT_TRUE(world.Look(NodeId(2)).empty());
}

TEST(LeaderBalance, TwoMoreThanAnotherAre) {
  World world(5);
  world.AddForAll(2, NodeId(2));
  EXPECT_TRUE(world.Look(NodeId(2)).empty()) << "they have just come to be";
  world.Pass(99);
  EXPECT_TRUE(world.Look(NodeId(2)).empty());
  world.Pass(1);
  const auto moves = world.Look(NodeId(2));
  ASSERT_EQ(moves.size(), 1u);
  EXPECT_NE(moves[0].to, NodeId(2));
  EXPECT_TRUE(world.Look(NodeId(1)).empty()) << "it leads nothing";
}

TEST(LeaderBalance, AChangeOfLeadersBeginsTheRestAnew) {
  World world(3);
  world.AddForAll(2, NodeId(1));
  world.Look(NodeId(1));
  world.Pass(60);
  world.Lead(0, NodeId(1));
  world.Lead(1, NodeId(1));
  world.Look(NodeId(1));
  world.Pass(60);
  EXPECT_TRUE(world.Look(NodeId(1)).empty());
  world.Pass(40);
  EXPECT_FALSE(world.Look(NodeId(1)).empty());
}

TEST(LeaderBalance, OnlyToThoseWhoAreAble) {
  World world(3);
  world.AddForAll(2, NodeId(1));
  world.Down(NodeId(2));
  world.Look(NodeId(1));
  world.Pass(100);
  const auto moves = world.Look(NodeId(1));
  ASSERT_EQ(moves.size(), 1u);
  EXPECT_EQ(moves[0].to, NodeId(3));
}

TEST(LeaderBalance, GroupsThatAreNotSharedDoNotCount) {
  World world(6);
  // Node 1 leads three groups, but no two of them with the same other node.
  world.Add({NodeId(1), NodeId(2)}, NodeId(1));
  world.Add({NodeId(1), NodeId(3)}, NodeId(1));
  world.Add({NodeId(1), NodeId(4)}, NodeId(1));
  world.Look(NodeId(1));
  world.Pass(200);
  EXPECT_TRUE(world.Look(NodeId(1)).empty());
}

TEST(LeaderBalance, AFewAtATime) {
  World world(5);
  world.AddForAll(64, NodeId(1));
  world.Look(NodeId(1));
  world.Pass(200);
  EXPECT_EQ(world.Look(NodeId(1)).size(), 4u);
}

TEST(LeaderBalance, AllComeToLeadAlikeAndRest) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    for (const int groups : {2, 3, 5, 7, 16, 100}) {
      World world(5, seed);
      world.AddForAll(groups, NodeId(1));
      world.Run(6000);
      EXPECT_LE(world.Spread(), 1) << groups << " groups, seed " << seed;
      EXPECT_EQ(world.Run(3000), 0) << groups << " groups, seed " << seed;
    }
  }
}

TEST(LeaderBalance, ThoseWhoGiveAtTheSameTimeComeToRestToo) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    World world(5, seed);
    for (int n = 0; n < 24; ++n) {
      world.Add({NodeId(1), NodeId(2), NodeId(3), NodeId(4), NodeId(5)},
                NodeId(1 + n % 4));
    }
    world.Run(6000);
    EXPECT_LE(world.Spread(), 1) << "seed " << seed;
    EXPECT_EQ(world.Run(3000), 0) << "seed " << seed;
  }
}

TEST(LeaderBalance, GroupsThatOverlapComeToRest) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    World world(8, seed);
    std::mt19937_64 random(seed);
    for (int n = 0; n < 30; ++n) {
      std::vector<NodeId> voters;
      while (voters.size() < 5) {
        const NodeId id(1 + random() % 8);
        if (!std::count(voters.begin(), voters.end(), id)) voters.push_back(id);
      }
      world.Add(voters, voters[random() % 5]);
    }
    world.Run(20000);
    EXPECT_EQ(world.Run(3000), 0) << "seed " << seed;
  }
}

TEST(LeaderBalance, OffMeansOff) {
  BalanceOptions options = TestOptions();
  options.enabled = false;
  sim::SimRandom dice(1);
  LeaderBalance balance(options, NodeId(1), &dice);
  for (uint64_t now = 0; now < 1000; ++now) EXPECT_FALSE(balance.Due(now));
}

}  // namespace
}  // namespace kv739::server
