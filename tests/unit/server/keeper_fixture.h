// A keeper, what it is shown, and what it is expected to do.
#ifndef KV739_TESTS_UNIT_SERVER_KEEPER_FIXTURE_H_
#define KV739_TESTS_UNIT_SERVER_KEEPER_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <variant>
#include <vector>

#include "server/group_keeper.h"

namespace kv739::server {

using raft::Configuration;
using raft::Index;
using raft::NodeId;
using raft::Term;
using NodeIds = std::vector<NodeId>;

inline NodeIds Ids(std::initializer_list<uint64_t> ids) {
  NodeIds nodes;
  for (uint64_t id : ids) nodes.push_back(NodeId(id));
  return nodes;
}

inline constexpr uint64_t kReplaceAfter = 3000;
inline constexpr uint64_t kCandidateTimeout = 1000;
inline constexpr uint64_t kRepeat = 50;

inline KeeperOptions TestOptions() {
  KeeperOptions options;
  options.replace_after_ticks = kReplaceAfter;
  options.candidate_timeout_ticks = kCandidateTimeout;
  options.repeat_ticks = kRepeat;
  return options;
}

// Node 1 leads 1, 2, 3 in term 4; all have everything up to index 10,000.
class KeeperTest : public ::testing::Test {
 protected:
  KeeperTest() : keeper(TestOptions()) {
    group.id = raft::GroupId(7);
    group.members = group.target = Ids({1, 2, 3});
    core.soft = {raft::Role::kLeader, Term(4), NodeId(1)};
    core.last_index = core.commit = core.applied = Index(10000);
    core.configuration.voters = Ids({1, 2, 3});
    Peers();
  }

  // A peer for every other member, alive and with everything, unless known.
  void Peers() {
    std::vector<raft::PeerProgress> peers;
    for (NodeId id : core.configuration.Members()) {
      if (id == NodeId(1)) continue;
      raft::PeerProgress fresh;
      fresh.id = id;
      fresh.match = core.last_index;
      fresh.recently_active = true;
      for (const auto& known : core.peers) {
        if (known.id == id) fresh = known;
      }
      fresh.learner = core.configuration.IsLearner(id);
      peers.push_back(fresh);
    }
    core.peers = std::move(peers);
  }
  raft::PeerProgress& Peer(uint64_t id) {
    for (auto& peer : core.peers) {
      if (peer.id == NodeId(id)) return peer;
    }
    ADD_FAILURE() << "no peer " << id;
    return core.peers.front();
  }
  void Silence(uint64_t id, uint64_t ticks) {
    Peer(id).silent_ticks = ticks;
    Peer(id).recently_active = ticks < 25;
  }
  KeeperAction Decide() {
    now += 1;
    return keeper.Decide({NodeId(1), core, group, spares, now});
  }
  void ExpectNothing(KeeperState state) {
    const KeeperAction action = Decide();
    EXPECT_TRUE(std::holds_alternative<std::monostate>(action));
    EXPECT_EQ(KeeperStateName(keeper.status().state), KeeperStateName(state));
  }
  void ExpectProposal(const Configuration& expected) {
    const KeeperAction action = Decide();
    const auto* proposed = std::get_if<Configuration>(&action);
    ASSERT_NE(proposed, nullptr);
    EXPECT_EQ(*proposed, expected);
  }
  void ExpectTarget(const NodeIds& expected, bool automatic) {
    const KeeperAction action = Decide();
    const auto* change = std::get_if<kv::DirectoryChange>(&action);
    ASSERT_NE(change, nullptr) << keeper.status().Describe();
    const auto* target = std::get_if<kv::SetTarget>(change);
    ASSERT_NE(target, nullptr);
    EXPECT_EQ(target->group.group, group.id);
    EXPECT_EQ(target->group.expected, group.target);
    EXPECT_EQ(target->group.target, expected);
    EXPECT_EQ(target->automatic, automatic);
  }
  void ExpectReport(const NodeIds& members, uint64_t released = 0) {
    const KeeperAction action = Decide();
    const auto* change = std::get_if<kv::DirectoryChange>(&action);
    ASSERT_NE(change, nullptr);
    const auto* settled = std::get_if<kv::GroupSettled>(change);
    ASSERT_NE(settled, nullptr);
    EXPECT_EQ(settled->group, group.id);
    EXPECT_EQ(settled->members, members);
    EXPECT_EQ(settled->index, core.commit);
    EXPECT_EQ(settled->released, released);
  }

  GroupKeeper keeper;
  raft::CoreStatus core;
  kv::GroupInfo group;
  std::vector<SpareNode> spares;
  uint64_t now = 5000;
};

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_KEEPER_FIXTURE_H_
