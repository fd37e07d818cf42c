#include "kv/cluster_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace kv739::kv {
namespace {

ClusterMap MapOf(int servers, int groups_per_five = 0) {
  std::string text;
  if (groups_per_five > 0) {
    absl::StrAppend(&text, "groups_per_five=", groups_per_five, "\n");
  }
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

TEST(ClusterMap, EveryFiveHasItsSiblings) {
  for (int servers = 3; servers <= 16; ++servers) {
    const ClusterMap one = MapOf(servers);
    const ClusterMap map = MapOf(servers, 3);
    EXPECT_EQ(map.groups_per_five, 3u);
    EXPECT_EQ(map.nodes, one.nodes);
    EXPECT_NE(map.cluster_id, one.cluster_id);
    EXPECT_NE(map.cluster_id, MapOf(servers, 2).cluster_id);
    EXPECT_EQ(map.Spares(), one.Spares()) << servers;
    ASSERT_EQ(map.groups.size(), 3 * one.groups.size()) << servers;
    std::map<raft::GroupId, int> slots;
    for (raft::GroupId owner : map.slots) ++slots[owner];
    for (size_t g = 0; g < map.groups.size(); ++g) {
      EXPECT_EQ(map.groups[g].id, raft::GroupId(g));
      EXPECT_EQ(map.groups[g].members, one.groups[g / 3].members);
      EXPECT_EQ(map.groups[g].target, one.groups[g / 3].members);
      const double share = static_cast<double>(kSlotCount) / map.groups.size();
      EXPECT_NEAR(slots[raft::GroupId(g)], share, 0.05 * share);
    }
  }
}

TEST(ClusterMap, WhoMayHaveAnotherPlaceIsACandidate) {
  ClusterMap map = MapOf(7, 3);
  const auto id = [&](int i) { return map.nodes[i].id; };
  EXPECT_EQ(map.Candidates(), (std::vector<Candidate>{{id(5), 0}, {id(6), 0}}));
  // The sixth takes the place of the first in two groups; one knows it.
  for (int g : {0, 1}) {
    auto& target = map.groups[g].target;
    std::erase(target, id(0));
    target.push_back(id(5));
    std::sort(target.begin(), target.end());
  }
  map.groups[0].members = map.groups[0].target;
  EXPECT_EQ(map.Candidates(),
            (std::vector<Candidate>{{id(0), 2}, {id(5), 2}, {id(6), 0}}));
  EXPECT_EQ(map.Spares(), std::vector<raft::NodeId>{id(6)});
  EXPECT_EQ(map.Places()[id(1)], 3u);
  map.nodes[6].state = NodeState::kLeaving;
  EXPECT_TRUE(map.Spares().empty());
  map.groups_per_five = 2;
  EXPECT_TRUE(map.Candidates().empty());
}

// A thousand groups are begun with in a moment: every client does it.
TEST(ClusterMap, AThousandGroupsOnFiveShareTheSlots) {
  const ClusterMap map = MapOf(5, 1000);
  ASSERT_EQ(map.groups.size(), 1000u);
  std::map<raft::GroupId, int> slots;
  for (raft::GroupId owner : map.slots) ++slots[owner];
  EXPECT_EQ(slots.size(), 1000u);
  for (const auto& [group, count] : slots) {
    EXPECT_GE(count, 4);
    EXPECT_LE(count, 5);
  }
}

// Stable for ever: they are in data directories and messages.
TEST(ClusterMap, IdsAreHeld) {
  const ClusterMap map = MapOf(5);
  EXPECT_EQ(MapOf(5, 1), map);
  EXPECT_EQ(MapOf(5, 3).cluster_id, 13664739035032481759u);
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
