#include "kv/cluster_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace kv739::kv {
namespace {

ClusterMap MapOf(int servers) {
  std::string text;
  for (int i = 0; i < servers; ++i) absl::StrAppend(&text, "h", i, ":5000\n");
  return InitialClusterMap(*ParseClusterFile(text, "test"));
}

TEST(ClusterMap, ConsecutiveFivesFormGroupsAndTheRestIsSpare) {
  for (int servers = 3; servers <= 23; ++servers) {
    const ClusterMap map = MapOf(servers);
    const size_t size = servers < 5 ? 3 : 5;
    ASSERT_EQ(map.groups.size(), servers / size) << servers;
    EXPECT_EQ(map.epoch, 1u);
    std::vector<raft::NodeId> spares;
    for (size_t i = map.groups.size() * size; i < map.nodes.size(); ++i) {
      spares.push_back(map.nodes[i].id);
    }
    EXPECT_EQ(map.Spares(), spares) << servers;
    for (size_t g = 0; g < map.groups.size(); ++g) {
      EXPECT_EQ(map.groups[g].id, raft::GroupId(g));
      std::vector<raft::NodeId> members;
      for (size_t i = g * size; i < (g + 1) * size; ++i) {
        members.push_back(map.nodes[i].id);
      }
      std::sort(members.begin(), members.end());
      EXPECT_EQ(map.groups[g].members, members);
    }
    EXPECT_EQ(map.slots.size(), kSlotCount);
  }
}

// Stable for ever: they are in data directories and messages.
TEST(ClusterMap, IdsAreHeld) {
  const ClusterMap map = MapOf(5);
  EXPECT_EQ(map.cluster_id, 10650417317677391013u);
  EXPECT_EQ(map.nodes[0].id, raft::NodeId(18336143337298906436u));
}

TEST(ClusterMap, NodeIdsFollowTheAddressAndClusterIdTheWholeList) {
  const auto map = [](absl::string_view text) {
    return InitialClusterMap(*ParseClusterFile(text, "test"));
  };
  const ClusterMap a = map("a:1\nb:1\nc:1\n");
  const ClusterMap b = map("b:1\nA:1 # same\nc:1 http=7\n");
  EXPECT_EQ(a.nodes[0].id, b.nodes[1].id);
  EXPECT_NE(a.cluster_id, b.cluster_id);
  EXPECT_EQ(a.cluster_id, map("a:1 http=99\nb:1\nc:1\n").cluster_id);
  EXPECT_NE(a.cluster_id, map("a:1\nb:1\nc:1\nd:1\n").cluster_id);
  EXPECT_NE(a.cluster_id, 0u);
}

TEST(ClusterMap, FindsWhatItHolds) {
  const ClusterMap map = MapOf(11);
  for (const NodeInfo& node : map.nodes) {
    EXPECT_EQ(map.FindNode(node.id), &node);
    EXPECT_EQ(map.FindNode(node.address), &node);
  }
  EXPECT_EQ(map.FindNode(raft::NodeId(1)), nullptr);
  EXPECT_EQ(map.FindNode(Address{"h0", 1}), nullptr);
  EXPECT_EQ(map.FindGroup(raft::GroupId(1)), &map.groups[1]);
  EXPECT_EQ(map.FindGroup(raft::GroupId(2)), nullptr);
  EXPECT_EQ(map.FindGroup(raft::kNoGroup), nullptr);
  std::set<raft::GroupId> owners;
  for (uint32_t s = 0; s < kSlotCount; ++s) {
    owners.insert(map.OwnerOf(static_cast<Slot>(s)));
  }
  EXPECT_EQ(owners.size(), 2u);
}

}  // namespace
}  // namespace kv739::kv
