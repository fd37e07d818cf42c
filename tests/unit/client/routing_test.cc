#include "client/routing.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "kv/cluster_file.h"

namespace kv739::client {
namespace {

kv::ClusterMap MapOf(int servers) {
  std::string text;
  for (int i = 0; i < servers; ++i) {
    text += "10.0.0.1:" + std::to_string(5000 + i) + "\n";
  }
  return kv::InitialClusterMap(*kv::ParseClusterFile(text, "test"));
}

const raft::GroupId kGroup{0};

TEST(RouterTest, EverySlotHasATargetOfItsGroup) {
  const kv::ClusterMap map = MapOf(10);
  Router router(map, 3);
  std::set<raft::GroupId> groups;
  for (uint32_t slot = 0; slot < kv::kSlotCount; ++slot) {
    const raft::GroupId group = router.GroupOf(static_cast<kv::Slot>(slot));
    groups.insert(group);
    const auto node = router.Target(group);
    ASSERT_TRUE(node.has_value());
    const auto address = kv::Address::Parse(router.AddressOf(*node));
    const kv::NodeInfo* info = map.FindNode(*address);
    ASSERT_NE(info, nullptr);
    const auto& members = map.FindGroup(group)->members;
    EXPECT_NE(std::find(members.begin(), members.end(), info->id),
              members.end());
  }
  EXPECT_EQ(groups.size(), 2u);
}

TEST(RouterTest, FollowsTheNamedLeader) {
  Router router(MapOf(5), 0);
  const NodeIndex first = *router.Target(kGroup);
  const NodeIndex other = (first + 2) % 5;
  EXPECT_TRUE(router.NotLeader(kGroup, first, router.AddressOf(other)));
  EXPECT_EQ(router.Target(kGroup), other);
}

TEST(RouterTest, OfManyFailuresOfOneMemberTheFirstMovesTheGroupOn) {
  Router router(MapOf(5), 0);
  const NodeIndex first = *router.Target(kGroup);
  router.Failed(kGroup, first);
  const NodeIndex second = *router.Target(kGroup);
  EXPECT_NE(second, first);
  router.Failed(kGroup, first);
  EXPECT_FALSE(router.NotLeader(kGroup, first, ""));
  EXPECT_EQ(router.Target(kGroup), second);
}

TEST(RouterTest, FailuresVisitEveryMember) {
  Router router(MapOf(5), 2);
  std::set<NodeIndex> visited;
  for (int i = 0; i < 5; ++i) {
    visited.insert(*router.Target(kGroup));
    router.Failed(kGroup, *router.Target(kGroup));
  }
  EXPECT_EQ(visited.size(), 5u);
}

TEST(RouterTest, NamesThatAreNoneOrTheMemberItselfAreNotFollowed) {
  Router router(MapOf(5), 0);
  for (const char* name : {"", "nonsense", ":1", "host:99999999"}) {
    const NodeIndex node = *router.Target(kGroup);
    EXPECT_FALSE(router.NotLeader(kGroup, node, name)) << name;
    EXPECT_NE(router.Target(kGroup), node) << name;
  }
  const NodeIndex node = *router.Target(kGroup);
  EXPECT_FALSE(router.NotLeader(kGroup, node, router.AddressOf(node)));
  EXPECT_NE(router.Target(kGroup), node);
}

TEST(RouterTest, AddressesAreBounded) {
  Router router(MapOf(5), 0);
  for (size_t i = 0; i < 3 * kMaxAddresses; ++i) {
    router.NotLeader(kGroup, *router.Target(kGroup),
                     "10.1.0.1:" + std::to_string(1 + i % 60000));
  }
  EXPECT_LE(router.node_count(), kMaxAddresses);
}

TEST(RouterTest, TakesNewerMapsOfItsClusterAlone) {
  Router router(MapOf(10), 0);
  const NodeIndex leader = *router.Target(kGroup) == 3 ? 2 : 3;
  router.NotLeader(kGroup, *router.Target(kGroup), router.AddressOf(leader));

  kv::ClusterMap next = MapOf(10);
  EXPECT_FALSE(router.Update(next)) << "same epoch";
  next.epoch = 7;
  next.slots.assign(kv::kSlotCount, kGroup);
  EXPECT_TRUE(router.Update(next));
  kv::ClusterMap foreign = next;
  foreign.cluster_id ^= 1;
  foreign.epoch = 8;
  EXPECT_FALSE(router.Update(foreign));
  EXPECT_EQ(router.epoch(), 7u);
  EXPECT_EQ(router.GroupOf(4095), kGroup);
  EXPECT_EQ(router.Target(kGroup), leader) << "a leader outlives the map";
  next.epoch = 6;
  EXPECT_FALSE(router.Update(next));
}

TEST(RouterTest, UnknownGroupHasNoTarget) {
  Router router(MapOf(5), 0);
  const raft::GroupId unknown{77};
  EXPECT_EQ(router.Target(unknown), std::nullopt);
  EXPECT_EQ(router.MemberCount(unknown), 0u);
  router.Failed(unknown, 0);
  router.Succeeded(unknown, 0);
  EXPECT_FALSE(router.NotLeader(unknown, 0, "10.0.0.1:5001"));
}

// The id of a cluster is made from the file that it began with.
TEST(RouterTest, AnEditedFileFindsItsCluster) {
  kv::ClusterMap cluster = MapOf(5);
  cluster.cluster_id ^= 1;
  Router edited(MapOf(6), 0);
  EXPECT_TRUE(edited.Update(cluster)) << "it has most of the file's servers";
  EXPECT_EQ(edited.map().cluster_id, cluster.cluster_id);
  kv::ClusterMap other = MapOf(6);
  other.epoch = 9;
  EXPECT_FALSE(edited.Update(other)) << "and is the one from now on";

  Router foreign(MapOf(10), 0);
  EXPECT_FALSE(foreign.Update(cluster)) << "half of the servers is not most";
  cluster.nodes[0].state = kv::NodeState::kLeft;
  cluster.nodes[1].state = kv::NodeState::kLeft;
  Router old(MapOf(6), 0);
  EXPECT_FALSE(old.Update(cluster)) << "those that left do not count";
}

TEST(RouterTest, TheMapIsAskedForAtServersOfTheMapAndOfTheFile) {
  Router router(MapOf(3), 0);
  kv::ClusterMap map = MapOf(5);
  map.cluster_id = router.map().cluster_id;
  map.epoch = 2;
  map.nodes.erase(map.nodes.begin());  // the file's first
  map.nodes[0].state = kv::NodeState::kLeft;
  ASSERT_TRUE(router.Update(map));
  std::multiset<std::string> asked;
  for (int i = 0; i < 4; ++i) {
    asked.insert(router.AddressOf(router.NextForMap()));
  }
  EXPECT_EQ(asked,
            (std::multiset<std::string>{"10.0.0.1:5000", "10.0.0.1:5002",
                                        "10.0.0.1:5003", "10.0.0.1:5004"}));
}

TEST(RouterTest, TheMapIsAskedForAtEveryNodeInTurn) {
  Router router(MapOf(10), 1);
  std::set<NodeIndex> asked;
  for (int i = 0; i < 10; ++i) asked.insert(router.NextForMap());
  EXPECT_EQ(asked.size(), 10u);
}

}  // namespace
}  // namespace kv739::client
