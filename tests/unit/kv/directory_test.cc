// The rules of the directory, one by one and under random sequences.
#include "kv/directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/coding.h"
#include "kv/ring.h"
#include "tests/support/sanitizer.h"

namespace kv739::kv {
namespace {

// In one thread, where the thread sanitizer has nothing to find.
constexpr uint64_t kWalks = ::kv739::testing::kThreadSanitizer ? 4 : 40;
constexpr int kDamages = ::kv739::testing::kThreadSanitizer ? 2'000 : 20'000;

using raft::GroupId;
using raft::NodeId;
using NodeIds = std::vector<NodeId>;

NodeIds Ids(std::vector<uint64_t> numbers) {
  NodeIds ids;
  for (uint64_t n : numbers) ids.emplace_back(n);
  return ids;
}

NodeInfo Node(uint64_t id, uint16_t port = 0) {
  NodeInfo node;
  node.id = NodeId(id);
  node.address = {absl::StrCat("h", id), 5000};
  if (port != 0) node.address = {"other", port};
  node.metrics_port = 9090;
  node.http_port = 8080;
  return node;
}

// Nodes 1.. in groups of the given sizes, and spares behind them.
ClusterMap MapOf(std::vector<int> sizes, int spares = 0) {
  ClusterMap map;
  map.cluster_id = 77;
  map.epoch = 1;
  uint64_t id = 1;
  std::vector<GroupId> groups;
  for (int size : sizes) {
    GroupInfo group;
    group.id = GroupId(groups.size());
    groups.push_back(group.id);
    for (int i = 0; i < size; ++i, ++id) {
      map.nodes.push_back(Node(id));
      group.members.push_back(NodeId(id));
    }
    group.target = group.members;
    map.groups.push_back(group);
  }
  for (int i = 0; i < spares; ++i, ++id) map.nodes.push_back(Node(id));
  map.slots = AssignSlots(groups);
  return map;
}

// As MapOf(), and of each size so many groups on the same nodes.
ClusterMap SiblingsOf(std::vector<int> sizes, uint32_t groups_per_five,
                      int spares = 0) {
  ClusterMap map = MapOf(sizes, spares);
  map.groups_per_five = groups_per_five;
  std::vector<GroupInfo> groups;
  std::vector<GroupId> ids;
  for (GroupInfo group : map.groups) {
    for (uint32_t n = 0; n < groups_per_five; ++n) {
      group.id = GroupId(groups.size());
      ids.push_back(group.id);
      groups.push_back(group);
    }
  }
  map.groups = std::move(groups);
  map.slots = AssignSlots(ids);
  return map;
}

class Directory {
 public:
  explicit Directory(ClusterMap map) : map_(std::move(map)) {}

  const ClusterMap& map() const { return map_; }
  const GroupInfo& group(uint64_t id) const {
    return *map_.FindGroup(GroupId(id));
  }
  NodeState state(uint64_t id) const {
    return map_.FindNode(NodeId(id))->state;
  }

  // Applies it, and checks what is true of every change.
  absl::Status Do(const DirectoryChange& change) {
    const absl::StatusOr<DirectoryChange> decoded =
        DecodeDirectoryChange(EncodeDirectoryChange(change));
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    if (!decoded.ok()) return decoded.status();
    const absl::StatusOr<ClusterMap> after =
        ApplyDirectoryChange(&map_, *decoded);
    if (!after.ok()) {
      EXPECT_FALSE(after.status().message().empty());
      return after.status();
    }
    ClusterMap same_epoch = *after;
    same_epoch.epoch = map_.epoch;
    EXPECT_EQ(after->epoch, map_.epoch + (same_epoch == map_ ? 0 : 1));
    map_ = *after;
    CheckRules();
    const auto again = ApplyDirectoryChange(&map_, change);
    EXPECT_TRUE(again.ok()) << again.status();
    if (again.ok()) {
      EXPECT_EQ(*again, map_) << "a repetition changed something";
    }
    return absl::OkStatus();
  }

  absl::Status Target(uint64_t group, NodeIds target, bool automatic = false) {
    SetTarget change;
    change.group = {GroupId(group), this->group(group).target, target};
    change.automatic = automatic;
    return Do(change);
  }
  absl::Status Settle(uint64_t group, uint64_t index, NodeIds members,
                      uint64_t released = 0) {
    return Do(
        GroupSettled{GroupId(group), raft::Index(index), members, released});
  }
  // Its places are not filled.
  RemoveNode Removal(uint64_t id) const {
    RemoveNode change{NodeId(id), {}};
    for (const GroupInfo& g : map_.groups) {
      if (!g.Concerns(NodeId(id))) continue;
      NodeIds target = g.target;
      target.erase(std::remove(target.begin(), target.end(), NodeId(id)),
                   target.end());
      change.targets.push_back({g.id, g.target, target});
    }
    return change;
  }

  void CheckRules() const {
    const absl::StatusOr<ClusterMap> back =
        DecodeClusterMap(EncodeClusterMap(map_));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, map_);
    std::map<NodeId, size_t> wanted_in;
    for (const GroupInfo& g : map_.groups) {
      EXPECT_GE(g.target.size(), kSmallestGroup);
      EXPECT_LE(g.target.size(), kLargestGroup);
      for (NodeId id : g.target) {
        EXPECT_EQ(map_.FindNode(id)->state, NodeState::kActive);
        EXPECT_LE(++wanted_in[id], map_.groups_per_five);
      }
    }
    size_t left = 0;
    for (const NodeInfo& node : map_.nodes) {
      const bool concerned =
          std::any_of(map_.groups.begin(), map_.groups.end(),
                      [&](const GroupInfo& g) { return g.Concerns(node.id); });
      if (node.state == NodeState::kLeaving) {
        EXPECT_TRUE(concerned);
      }
      left += node.state == NodeState::kLeft && !concerned;
    }
    EXPECT_LE(left, kMaxLeftNodes);
  }

 private:
  ClusterMap map_;
};

TEST(Directory, BeginsWithTheMapOfTheFileAndOnce) {
  const ClusterMap map = MapOf({5}, 1);
  ASSERT_TRUE(CheckClusterMap(map).ok());
  EXPECT_EQ(*ApplyDirectoryChange(nullptr, Bootstrap{map}), map);
  EXPECT_TRUE(absl::IsUnavailable(
      ApplyDirectoryChange(nullptr, AddNode{Node(9)}).status()));
  ClusterMap bad = map;
  bad.slots.pop_back();
  EXPECT_TRUE(absl::IsInvalidArgument(
      ApplyDirectoryChange(nullptr, Bootstrap{bad}).status()));
  Directory directory(map);
  EXPECT_TRUE(directory.Do(Bootstrap{MapOf({3})}).ok());
  EXPECT_EQ(directory.map(), map);
}

TEST(Directory, ANewNodeFillsTheSmallestGroupAndIsASpareOtherwise) {
  Directory directory(MapOf({4, 3, 5, 3}));  // 1-4, 5-7, 8-12, 13-15
  ASSERT_TRUE(directory.Do(AddNode{Node(20)}).ok());
  EXPECT_EQ(directory.group(1).target, Ids({5, 6, 7, 20}));
  EXPECT_EQ(directory.group(1).members, Ids({5, 6, 7}));
  ASSERT_TRUE(directory.Do(AddNode{Node(21)}).ok());
  EXPECT_EQ(directory.group(3).target, Ids({13, 14, 15, 21}));
  for (uint64_t id = 22; id < 25; ++id) {
    ASSERT_TRUE(directory.Do(AddNode{Node(id)}).ok());
  }
  EXPECT_EQ(directory.group(0).target.size(), 5u);
  EXPECT_EQ(directory.group(1).target.size(), 5u);
  EXPECT_EQ(directory.group(3).target.size(), 5u);
  EXPECT_TRUE(directory.map().Spares().empty());
  ASSERT_TRUE(directory.Do(AddNode{Node(30)}).ok());
  EXPECT_EQ(directory.map().Spares(), Ids({30}));
}

TEST(Directory, ANewNodeIsACompanionInEverySiblingThatHasRoom) {
  // Groups 0 and 1 on 1 to 5, 2 and 3 on 6 to 9, 4 and 5 on 10 to 12.
  Directory directory(SiblingsOf({5, 4, 3}, 2));
  ASSERT_TRUE(directory.Do(AddNode{Node(20)}).ok());
  EXPECT_EQ(directory.group(4).target, Ids({10, 11, 12, 20}));
  EXPECT_EQ(directory.group(5).target, Ids({10, 11, 12, 20}));
  EXPECT_EQ(directory.group(3).target, Ids({6, 7, 8, 9}));
  // Of two of a size those that come first.
  ASSERT_TRUE(directory.Do(AddNode{Node(21)}).ok());
  EXPECT_EQ(directory.group(2).target, Ids({6, 7, 8, 9, 21}));
  EXPECT_EQ(directory.group(3).target, Ids({6, 7, 8, 9, 21}));
  ASSERT_TRUE(directory.Do(AddNode{Node(22)}).ok());
  EXPECT_EQ(directory.group(4).target, Ids({10, 11, 12, 20, 22}));
  EXPECT_EQ(directory.group(5).target, Ids({10, 11, 12, 20, 22}));
  ASSERT_TRUE(directory.Do(AddNode{Node(23)}).ok());
  EXPECT_EQ(directory.map().Spares(), Ids({23}));
}

TEST(Directory, ANewNodeTakesPlacesElsewhereWhenTheSiblingsAreFull) {
  Directory directory(SiblingsOf({5, 4}, 3));
  ASSERT_TRUE(directory.Target(4, Ids({6, 7, 8})).ok());
  ASSERT_TRUE(directory.Settle(4, 10, Ids({6, 7, 8})).ok());
  // The smallest one has no siblings any more: the others go by their size.
  ASSERT_TRUE(directory.Do(AddNode{Node(20)}).ok());
  EXPECT_EQ(directory.group(4).target, Ids({6, 7, 8, 20}));
  EXPECT_EQ(directory.group(3).target, Ids({6, 7, 8, 9, 20}));
  EXPECT_EQ(directory.group(5).target, Ids({6, 7, 8, 9, 20}));
  // Only group 4 has room, for it and for 9, which has two places.
  EXPECT_TRUE(directory.Target(4, Ids({6, 7, 8, 9, 20})).ok());
}

TEST(Directory, WhoLostItsDiskGetsItsPlacesFirstAndThenFreeOnes) {
  Directory directory(SiblingsOf({5}, 3));
  ASSERT_TRUE(directory.Target(1, Ids({1, 2, 3, 4})).ok());
  ASSERT_TRUE(directory.Settle(1, 10, Ids({1, 2, 3, 4})).ok());
  NodeInfo again = Node(5);
  again.id = NodeId(50);
  ASSERT_TRUE(directory.Do(AddNode{again}).ok());
  for (int g : {0, 1, 2}) {
    EXPECT_EQ(directory.group(g).target, Ids({1, 2, 3, 4, 50}));
  }
  EXPECT_EQ(directory.state(5), NodeState::kLeft);
}

TEST(Directory, ANodeHasNoMorePlacesThanItMay) {
  Directory directory(SiblingsOf({4, 4, 4}, 2));
  ASSERT_TRUE(directory.Target(2, Ids({1, 5, 6, 7, 8})).code() ==
              absl::StatusCode::kFailedPrecondition);
  // It gives up one of its places and takes another, when that has settled.
  ASSERT_TRUE(directory.Target(0, Ids({2, 3, 4})).ok());
  const absl::Status early = directory.Target(2, Ids({1, 5, 6, 7, 8}));
  EXPECT_EQ(early.message(),
            "h1:5000 has places in 2 groups, group 0 among them; it cannot be "
            "in group 2 too");
  ASSERT_TRUE(directory.Settle(0, 10, Ids({2, 3, 4})).ok());
  ASSERT_TRUE(directory.Target(2, Ids({1, 5, 6, 7, 8})).ok());
  // And none is left for a third.
  EXPECT_FALSE(directory.Target(4, Ids({1, 9, 10, 11, 12})).ok());
  // One change that names a node in more groups than it may have.
  RemoveNode change = directory.Removal(5);
  ASSERT_EQ(change.targets.size(), 2u);
  for (GroupTarget& target : change.targets) {
    target.target.push_back(NodeId(9));
    std::sort(target.target.begin(), target.target.end());
  }
  EXPECT_FALSE(directory.Do(change).ok());
  Directory spare(SiblingsOf({5, 5, 5}, 2, 1));
  ASSERT_TRUE(spare.Target(0, Ids({1, 2, 3, 4, 16})).ok());
  change = spare.Removal(6);
  for (GroupTarget& target : change.targets) {
    target.target.push_back(NodeId(16));
  }
  EXPECT_FALSE(spare.Do(change).ok());
  change.targets[1].target.pop_back();
  EXPECT_TRUE(spare.Do(change).ok());
}

TEST(Directory, AnIdHasOneAddressAndDoesNotComeBack) {
  Directory directory(MapOf({5}, 1));
  NodeInfo moved = Node(6);
  moved.address.port = 7;
  EXPECT_TRUE(absl::IsFailedPrecondition(directory.Do(AddNode{moved})));
  NodeInfo ports = Node(6);
  ports.http_port = 1;
  EXPECT_TRUE(directory.Do(AddNode{ports}).ok());
  EXPECT_EQ(directory.map().FindNode(NodeId(6))->http_port, 1);
  ASSERT_TRUE(directory.Do(RemoveNode{NodeId(6), {}}).ok());
  EXPECT_EQ(directory.state(6), NodeState::kLeft);
  EXPECT_TRUE(absl::IsFailedPrecondition(directory.Do(AddNode{Node(6)})));
  // The address is free again, for another id.
  NodeInfo again = Node(6);
  again.id = NodeId(60);
  ASSERT_TRUE(directory.Do(AddNode{again}).ok());
  EXPECT_EQ(directory.map().FindNode(again.address)->id, NodeId(60));
  for (NodeInfo bad : {Node(0), Node(70), Node(71)}) {
    if (bad.id == NodeId(70)) bad.address.port = 0;
    if (bad.id == NodeId(71)) bad.address.host = "Two Words";
    EXPECT_TRUE(absl::IsInvalidArgument(
        ApplyDirectoryChange(&directory.map(), AddNode{bad}).status()));
  }
}

TEST(Directory, WhoComesToATakenAddressHasLostItsDiskAndGetsThePlaces) {
  Directory directory(MapOf({5}, 2));
  NodeInfo fresh = Node(3);
  fresh.id = NodeId(33);
  ASSERT_TRUE(directory.Do(AddNode{fresh}).ok());
  EXPECT_EQ(directory.group(0).target, Ids({1, 2, 4, 5, 33}));
  EXPECT_EQ(directory.group(0).members, Ids({1, 2, 3, 4, 5}));
  EXPECT_EQ(directory.state(3), NodeState::kLeft);
  EXPECT_EQ(directory.map().FindNode(fresh.address)->id, NodeId(33));
  ASSERT_TRUE(directory.Settle(0, 9, Ids({1, 2, 4, 5, 33})).ok());
  EXPECT_FALSE(directory.group(0).changing());
  // Again before the group has settled: the newest one counts.
  fresh.id = NodeId(34);
  ASSERT_TRUE(directory.Do(AddNode{fresh}).ok());
  fresh.id = NodeId(35);
  ASSERT_TRUE(directory.Do(AddNode{fresh}).ok());
  EXPECT_EQ(directory.group(0).target, Ids({1, 2, 4, 5, 35}));
  // One that was leaving leaves its place to nobody.
  ASSERT_TRUE(directory.Do(directory.Removal(1)).ok());
  fresh = Node(1);
  fresh.id = NodeId(41);
  ASSERT_TRUE(directory.Do(AddNode{fresh}).ok());
  EXPECT_EQ(directory.state(1), NodeState::kLeft);
  EXPECT_EQ(directory.group(0).target, Ids({2, 4, 5, 35, 41}));
  // A spare's disk: a spare again.
  fresh = Node(7);
  fresh.id = NodeId(47);
  ASSERT_TRUE(directory.Do(AddNode{fresh}).ok());
  EXPECT_EQ(directory.map().Spares(), Ids({6, 47}));
}

TEST(Directory, LeavingTakesUntilNoGroupHasTheNode) {
  Directory directory(MapOf({5}, 1));
  ASSERT_TRUE(directory
                  .Do(RemoveNode{NodeId(2),
                                 {{GroupId(0), Ids({1, 2, 3, 4, 5}),
                                   Ids({1, 3, 4, 5, 6})}}})
                  .ok());
  EXPECT_EQ(directory.state(2), NodeState::kLeaving);
  EXPECT_TRUE(directory.map().Spares().empty());
  // It gets no new place, not even its old one.
  EXPECT_TRUE(
      absl::IsFailedPrecondition(directory.Target(0, Ids({1, 2, 3, 4, 5}))));
  ASSERT_TRUE(directory.Settle(0, 7, Ids({1, 2, 3, 4, 5, 6})).ok());
  EXPECT_EQ(directory.state(2), NodeState::kLeaving);
  ASSERT_TRUE(directory.Settle(0, 9, Ids({1, 3, 4, 5, 6})).ok());
  EXPECT_EQ(directory.state(2), NodeState::kLeft);
  EXPECT_TRUE(directory.map().Spares().empty());
}

// The group may be taking it in just now, and need it then.
TEST(Directory, WhoWasOnlyWantedStaysUntilTheGroupLetsItGo) {
  Directory directory(MapOf({3}, 1));
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4})).ok());
  ASSERT_TRUE(directory.Do(directory.Removal(4)).ok());
  EXPECT_EQ(directory.state(4), NodeState::kLeaving);
  EXPECT_EQ(directory.group(0).withdrawn, Ids({4}));
  const uint64_t when = directory.group(0).withdrawn_at;
  EXPECT_EQ(when, directory.map().epoch);
  EXPECT_TRUE(directory.group(0).changing());
  // Reports of before, and of somebody who does not know of it.
  ASSERT_TRUE(directory.Settle(0, 5, Ids({1, 2, 3})).ok());
  ASSERT_TRUE(directory.Settle(0, 6, Ids({1, 2, 3}), when - 1).ok());
  EXPECT_EQ(directory.state(4), NodeState::kLeaving);
  // An old report cannot release either.
  ASSERT_TRUE(directory.Settle(0, 6, Ids({1, 2, 3}), when).ok());
  EXPECT_EQ(directory.state(4), NodeState::kLeaving);
  ASSERT_TRUE(directory.Settle(0, 7, Ids({1, 2, 3}), when).ok());
  EXPECT_EQ(directory.state(4), NodeState::kLeft);
  EXPECT_FALSE(directory.group(0).changing());
  EXPECT_EQ(directory.group(0).withdrawn_at, 0u);
}

TEST(Directory, WhoWasTakenInAllTheSameIsAMemberThatLeaves) {
  Directory directory(MapOf({3}, 1));
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4})).ok());
  ASSERT_TRUE(directory.Do(directory.Removal(4)).ok());
  ASSERT_TRUE(directory.Settle(0, 5, Ids({1, 2, 3, 4})).ok());
  EXPECT_TRUE(directory.group(0).withdrawn.empty());
  EXPECT_EQ(directory.state(4), NodeState::kLeaving);
  ASSERT_TRUE(directory.Settle(0, 6, Ids({1, 2, 3})).ok());
  EXPECT_EQ(directory.state(4), NodeState::kLeft);
}

TEST(Directory, AReleaseDoesNotCoverWhoWasWithdrawnAfterIt) {
  Directory directory(MapOf({3}, 2));
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4})).ok());
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3})).ok());
  const uint64_t when = directory.group(0).withdrawn_at;
  // It has its place still, and gets it again.
  EXPECT_EQ(directory.map().Spares(), Ids({5}));
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4})).ok());
  EXPECT_TRUE(directory.group(0).withdrawn.empty());
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 5})).ok());
  EXPECT_EQ(directory.group(0).withdrawn, Ids({4}));
  ASSERT_TRUE(directory.Settle(0, 7, Ids({1, 2, 3}), when).ok());
  EXPECT_EQ(directory.group(0).withdrawn, Ids({4}));
  ASSERT_TRUE(
      directory.Settle(0, 8, Ids({1, 2, 3}), directory.group(0).withdrawn_at)
          .ok());
  EXPECT_EQ(directory.map().Spares(), Ids({4}));
}

TEST(Directory, OnlySoManyAreWithdrawnAtATime) {
  ClusterMap map = SiblingsOf({3}, kMaxGroupsPerFive, 5);
  for (size_t i = 0; i < kMaxWithdrawn - 1; ++i) {
    GroupInfo& group = map.groups[kMaxGroupsPerFive - 1 - i % 500];
    group.withdrawn.push_back(NodeId(4 + group.withdrawn.size()));
    group.withdrawn_at = 1;
  }
  Directory directory(map);
  for (uint64_t g = 0; g < 2; ++g) {
    ASSERT_TRUE(directory.Target(g, Ids({1, 2, 4})).ok());
  }
  // Members do not count; 4 was none.
  EXPECT_TRUE(directory.Target(0, Ids({1, 2, 5})).ok());
  const absl::Status status = directory.Target(1, Ids({1, 2, 5}));
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  ASSERT_TRUE(
      directory.Settle(0, 7, Ids({1, 2, 3}), directory.group(0).withdrawn_at)
          .ok());
  EXPECT_TRUE(directory.Target(1, Ids({1, 2, 5})).ok());
}

TEST(Directory, LeavingIsRefusedWhenAGroupWouldBeTooSmall) {
  Directory directory(MapOf({4}));
  ASSERT_TRUE(directory.Do(directory.Removal(1)).ok());
  const absl::Status status = directory.Do(directory.Removal(2));
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              ::testing::AllOf(::testing::HasSubstr("group 0"),
                               ::testing::HasSubstr("fewer than 3")));
  EXPECT_EQ(directory.state(2), NodeState::kActive);
}

TEST(Directory, LeavingNamesExactlyTheGroupsOfTheNode) {
  Directory directory(MapOf({5, 5}, 1));
  EXPECT_TRUE(absl::IsAborted(directory.Do(RemoveNode{NodeId(1), {}})));
  RemoveNode change = directory.Removal(1);
  change.targets.push_back(
      {GroupId(1), directory.group(1).target, directory.group(1).target});
  EXPECT_TRUE(absl::IsAborted(directory.Do(change)));
  change = directory.Removal(1);
  change.targets.push_back(change.targets[0]);
  EXPECT_TRUE(absl::IsInvalidArgument(directory.Do(change)));
  change = directory.Removal(1);
  change.targets.push_back({GroupId(9), {}, {}});
  EXPECT_TRUE(absl::IsNotFound(directory.Do(change)));
  change = directory.Removal(1);
  change.targets[0].target = change.targets[0].expected;  // still names it
  EXPECT_TRUE(absl::IsFailedPrecondition(directory.Do(change)));
  EXPECT_TRUE(absl::IsNotFound(directory.Do(RemoveNode{NodeId(99), {}})));
  EXPECT_EQ(directory.map().epoch, 1u);
}

TEST(Directory, OfTwoOperatorsTheSecondIsToldAndChangesNothing) {
  Directory directory(MapOf({5}, 3));
  const NodeIds seen = directory.group(0).target;
  const SetTarget first{{GroupId(0), seen, Ids({1, 2, 3, 4, 6})}, false};
  const SetTarget second{{GroupId(0), seen, Ids({1, 2, 3, 5, 7})}, false};
  ASSERT_TRUE(directory.Do(first).ok());
  const absl::Status status = directory.Do(second);
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  RemoveNode leave{NodeId(2), {{GroupId(0), seen, Ids({1, 3, 4, 5, 8})}}};
  EXPECT_TRUE(absl::IsAborted(directory.Do(leave)));
  EXPECT_EQ(directory.group(0).target, Ids({1, 2, 3, 4, 6}));
  EXPECT_EQ(directory.map().epoch, 2u);
  // The first one again, in doubt about its answer.
  EXPECT_TRUE(directory.Do(first).ok());
  EXPECT_EQ(directory.map().epoch, 2u);
}

TEST(Directory, TargetsThatMakeNoSenseAreRefused) {
  Directory directory(MapOf({5, 3}, 7));
  EXPECT_TRUE(absl::IsFailedPrecondition(directory.Target(0, Ids({1, 2}))));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      directory.Target(0, Ids({1, 2, 3, 4, 5, 9, 10, 11, 12, 13}))));  // ten
  EXPECT_TRUE(absl::IsInvalidArgument(directory.Target(0, Ids({1, 2, 2, 3}))));
  EXPECT_TRUE(absl::IsInvalidArgument(directory.Target(0, Ids({1, 3, 2}))));
  EXPECT_TRUE(absl::IsNotFound(directory.Target(0, Ids({1, 2, 99}))));
  EXPECT_TRUE(absl::IsFailedPrecondition(directory.Target(0, Ids({1, 2, 6}))));
  EXPECT_TRUE(absl::IsNotFound(
      directory.Do(SetTarget{{GroupId(9), {}, Ids({1, 2, 3})}, false})));
  // A place that it still has, though not for long.
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4})).ok());
  EXPECT_TRUE(
      absl::IsFailedPrecondition(directory.Target(1, Ids({5, 6, 7, 8}))));
  ASSERT_TRUE(directory.Settle(0, 5, Ids({1, 2, 3, 4})).ok());
  EXPECT_TRUE(directory.Target(1, Ids({5, 6, 7, 8})).ok());
}

TEST(Directory, AnAutomaticChangeIsOneUntilItIsDoneOrTakenBackOrConfirmed) {
  Directory directory(MapOf({5}, 2));
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4, 6}), true).ok());
  EXPECT_TRUE(directory.group(0).automatic);
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4, 5}), true).ok());
  EXPECT_FALSE(directory.group(0).automatic);
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4, 6}), true).ok());
  ASSERT_TRUE(directory.Settle(0, 4, Ids({1, 2, 3, 4, 6})).ok());
  EXPECT_FALSE(directory.group(0).automatic);
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4, 7}), true).ok());
  ASSERT_TRUE(directory.Target(0, Ids({1, 2, 3, 4, 7}), false).ok());
  EXPECT_FALSE(directory.group(0).automatic);
}

TEST(Directory, ReportsOfAGroupCountInTheOrderOfItsLog) {
  Directory directory(MapOf({5}, 2));
  ASSERT_TRUE(directory.Settle(0, 20, Ids({1, 2, 3, 4, 6})).ok());
  const uint64_t epoch = directory.map().epoch;
  EXPECT_TRUE(directory.Settle(0, 10, Ids({1, 2, 3, 4, 5})).ok());
  EXPECT_TRUE(directory.Settle(0, 20, Ids({1, 2, 3, 4, 5})).ok());
  EXPECT_EQ(directory.group(0).members, Ids({1, 2, 3, 4, 6}));
  EXPECT_EQ(directory.map().epoch, epoch);
  EXPECT_TRUE(absl::IsInvalidArgument(directory.Settle(0, 30, {})));
  EXPECT_TRUE(absl::IsNotFound(directory.Settle(0, 30, Ids({1, 2, 99}))));
  EXPECT_TRUE(absl::IsNotFound(directory.Settle(5, 30, Ids({1, 2, 3}))));
}

TEST(Directory, RemembersTheLastThatLeftAndHoldsALimitedNumber) {
  Directory directory(MapOf({5}));
  for (uint64_t id = 100; id < 100 + kMaxLeftNodes + 10; ++id) {
    ASSERT_TRUE(directory.Do(AddNode{Node(id)}).ok());
  }
  // In another order than they came in.
  for (uint64_t id = 100 + kMaxLeftNodes + 9; id >= 101; --id) {
    ASSERT_TRUE(directory.Do(RemoveNode{NodeId(id), {}}).ok());
    EXPECT_EQ(directory.state(id), NodeState::kLeft);
  }
  EXPECT_EQ(directory.map().nodes.size(), 6 + kMaxLeftNodes);
  EXPECT_EQ(directory.map().FindNode(NodeId(100 + kMaxLeftNodes + 9)), nullptr);
  for (uint64_t id = 200; directory.map().nodes.size() < kMaxNodes; ++id) {
    ClusterMap map = directory.map();
    map.nodes.push_back(Node(id));
    directory = Directory(map);
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(directory.Do(AddNode{Node(5'000)})));
}

// Operators, new servers, lost disks and groups at once. Groups go to their
// targets in steps and report late, twice and out of order.
class RandomDirectory {
 public:
  explicit RandomDirectory(uint64_t seed, ClusterMap map = MapOf({5, 4, 3}, 4))
      : random_(seed), directory_(std::move(map)) {
    for (const GroupInfo& g : directory_.map().groups) {
      voters_.push_back(g.members);
    }
  }

  void Step() {
    switch (Below(10)) {
      case 0:
        Count(directory_.Do(AddNode{Node(next_++)}));
        break;
      case 1: {
        NodeInfo lost = *AnyNode();
        lost.id = NodeId(next_++);
        Count(directory_.Do(AddNode{lost}));
        break;
      }
      case 2:
        Count(directory_.Do(Removal()));
        break;
      case 3:
      case 4:
        Count(directory_.Do(RandomTarget()));
        break;
      case 5:
      case 6:
        MoveGroup(Below(voters_.size()));
        break;
      default:
        if (reports_.empty()) return;
        Count(directory_.Do(reports_[Below(reports_.size())]));
        CheckReports();
    }
  }

  void Settle() {
    for (size_t g = 0; g < voters_.size(); ++g) {
      MoveGroup(g);
      ASSERT_TRUE(directory_.Do(reports_.back()).ok());
    }
    std::map<NodeId, size_t> seen;
    for (const GroupInfo& g : directory_.map().groups) {
      EXPECT_FALSE(g.changing());
      EXPECT_FALSE(g.automatic);
      for (NodeId id : g.members) {
        EXPECT_LE(++seen[id], directory_.map().groups_per_five);
      }
    }
    for (const NodeInfo& node : directory_.map().nodes) {
      EXPECT_NE(node.state, NodeState::kLeaving);
    }
  }
  int done() const { return done_; }
  int refused() const { return refused_; }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }
  void Count(const absl::Status& status) { ++(status.ok() ? done_ : refused_); }
  const NodeInfo* AnyNode() {
    const auto& nodes = directory_.map().nodes;
    return &nodes[Below(nodes.size())];
  }
  // A spare takes the place, or nobody, or something that makes no sense.
  RemoveNode Removal() {
    RemoveNode change = directory_.Removal(AnyNode()->id.value());
    for (GroupTarget& target : change.targets) {
      if (Below(3) > 0) Add(AnyNode()->id, &target.target);
    }
    return change;
  }
  static void Add(NodeId id, NodeIds* list) {
    if (std::count(list->begin(), list->end(), id) > 0) return;
    list->push_back(id);
    std::sort(list->begin(), list->end());
  }
  SetTarget RandomTarget() {
    const GroupInfo& g = directory_.group(Below(voters_.size()));
    NodeIds target = g.target;
    for (int i = Below(3); i > 0; --i) {
      target.erase(target.begin() + Below(target.size()));
    }
    NodeIds spares;
    for (const Candidate& candidate : directory_.map().Candidates()) {
      spares.push_back(candidate.id);
    }
    for (int i = Below(3); i > 0 && !spares.empty(); --i) {
      Add(spares[Below(spares.size())], &target);
    }
    SetTarget change{{g.id, g.target, target}, Below(2) == 0};
    if (Below(8) == 0) change.group.expected.pop_back();
    return change;
  }
  void MoveGroup(size_t g) {
    voters_[g] = directory_.group(g).target;
    reports_.push_back({GroupId(g), raft::Index(++index_), voters_[g],
                        directory_.group(g).withdrawn_at});
  }
  // Members are those of the newest report that came.
  void CheckReports() {
    for (const GroupInfo& g : directory_.map().groups) {
      for (const GroupSettled& report : reports_) {
        if (report.group == g.id && report.index == g.settled) {
          EXPECT_EQ(report.members, g.members);
        }
      }
    }
  }

  std::mt19937_64 random_;
  Directory directory_;
  std::vector<NodeIds> voters_;
  std::vector<GroupSettled> reports_;
  uint64_t index_ = 1;
  uint64_t next_ = 1000;
  int done_ = 0;
  int refused_ = 0;
};

// `make` gives the directory that the walk of a seed begins with.
template <typename Make>
void WalkAtRandom(const Make& make) {
  int refused = 0;
  for (uint64_t seed = 1; seed <= kWalks; ++seed) {
    SCOPED_TRACE(seed);
    RandomDirectory run = make(seed);
    for (int i = 0; i < 300 && !::testing::Test::HasFailure(); ++i) run.Step();
    ASSERT_FALSE(::testing::Test::HasFailure());
    run.Settle();
    EXPECT_GT(run.done(), 60);
    refused += run.refused();
  }
  EXPECT_GT(refused, 10 * kWalks);
}

TEST(Directory, RandomChangesKeepTheRulesOfSiblings) {
  WalkAtRandom([](uint64_t seed) {
    return RandomDirectory(seed, SiblingsOf({5, 3}, 2 + seed % 2, 4));
  });
}

TEST(Directory, RandomChangesKeepTheRules) {
  WalkAtRandom([](uint64_t seed) { return RandomDirectory(seed); });
}

std::vector<DirectoryChange> AllChanges() {
  return {
      Bootstrap{MapOf({5, 3}, 2)},
      AddNode{Node(9)},
      RemoveNode{NodeId(3),
                 {{GroupId(0), Ids({1, 2}), Ids({4})}, {GroupId(1), {}, {}}}},
      SetTarget{{GroupId(300), Ids({1}), Ids({2, 3})}, true},
      GroupSettled{GroupId(1), raft::Index(400), Ids({7, 8}), 0},
      GroupSettled{GroupId(2), raft::Index(7), Ids({4, 5, 6}), 300}};
}

// Whatever decodes is what would be encoded; nothing crashes.
TEST(DirectoryCodec, DamagedBytesDecodeToThemselvesOrNotAtAll) {
  std::mt19937_64 random(739);
  int decoded = 0;
  for (const DirectoryChange& change : AllChanges()) {
    const std::string good = EncodeDirectoryChange(change);
    ASSERT_TRUE(DecodeDirectoryChange(good).ok());
    EXPECT_EQ(EncodeDirectoryChange(*DecodeDirectoryChange(good)), good);
    for (size_t size = 0; size < good.size(); ++size) {
      EXPECT_FALSE(DecodeDirectoryChange(good.substr(0, size)).ok());
    }
    EXPECT_FALSE(DecodeDirectoryChange(good + '\0').ok());
    for (int round = 0; round < kDamages / 5; ++round) {
      std::string bytes = good;
      for (int n = random() % 3; n >= 0; --n) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
      const auto back = DecodeDirectoryChange(bytes);
      if (!back.ok()) continue;
      ++decoded;
      EXPECT_EQ(EncodeDirectoryChange(*back), bytes);
      // Applied, it is done or refused.
      const ClusterMap map = MapOf({5, 3}, 2);
      const auto after = ApplyDirectoryChange(&map, *back);
      if (after.ok()) {
        EXPECT_TRUE(CheckClusterMap(*after).ok());
      }
    }
  }
  EXPECT_GT(decoded, kDamages / 20);
  for (int round = 0; round < kDamages; ++round) {
    std::string bytes(random() % 60, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    if (bytes.size() > 1) bytes[0] = 1, bytes[1] = 1 + random() % 5;
    const auto back = DecodeDirectoryChange(bytes);
    if (back.ok()) {
      EXPECT_EQ(EncodeDirectoryChange(*back), bytes);
    }
  }
}

TEST(DirectoryCodec, NoDamagedMapDecodes) {
  ClusterMap map = MapOf({5, 3}, 2);
  map.nodes[3].state = NodeState::kLeft;
  map.groups[0].target.pop_back();
  map.groups[0].automatic = true;
  map.groups[1].settled = raft::Index(300);
  const std::string good = EncodeClusterMap(map);
  ASSERT_TRUE(DecodeClusterMap(good).ok());
  EXPECT_EQ(*DecodeClusterMap(good), map);
  for (size_t i = 0; i < good.size(); ++i) {
    EXPECT_FALSE(DecodeClusterMap(good.substr(0, i)).ok());
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1 << i % 8);
    EXPECT_FALSE(DecodeClusterMap(bad).ok());
  }
}

TEST(DirectoryCodec, MapsThatMakeNoSenseAreRefused) {
  const ClusterMap good = MapOf({5, 3}, 2);
  std::vector<ClusterMap> bad(16, good);
  bad[0].cluster_id = 0;
  bad[1].epoch = 0;
  bad[2].nodes.push_back(good.nodes[0]);
  bad[3].nodes[0].address = good.nodes[1].address;
  bad[4].groups[1].id = GroupId(0);
  bad[5].groups[0].members.push_back(NodeId(99));
  std::swap(bad[6].groups[0].target[0], bad[6].groups[0].target[1]);
  bad[7].groups[0].target.clear();
  bad[8].slots[100] = GroupId(7);
  bad[9].slots.pop_back();
  bad[10].nodes[0].address.host = "UPPER";
  bad[11].groups[0].automatic = true;
  bad[12].groups[0].withdrawn = Ids({9});  // and no epoch
  bad[13].groups[0].withdrawn_at = 1;
  bad[13].groups[1].withdrawn = Ids({9});
  bad[13].groups[1].withdrawn_at = 1;
  for (ClusterMap* map : {&bad[14], &bad[15]}) {
    map->groups[0].withdrawn_at = 1;
  }
  bad[14].groups[0].withdrawn = Ids({5});  // a member
  bad[15].groups[0].withdrawn = Ids({10, 9});
  for (size_t i = 0; i < bad.size(); ++i) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        DecodeClusterMap(EncodeClusterMap(bad[i])).status()))
        << i;
  }
}

// One group for every five is written as it always was.
TEST(DirectoryCodec, OnlyMapsWithSiblingsHaveTheNewForm) {
  const ClusterMap one = MapOf({5, 3}, 2);
  ClusterMap two = one;
  two.groups_per_five = 1024;
  const std::string before = EncodeClusterMap(one);
  const std::string after = EncodeClusterMap(two);
  EXPECT_EQ(before[0], 1);
  EXPECT_EQ(after[0], 2);
  EXPECT_EQ(DecodeClusterMap(before)->groups_per_five, 1u);
  EXPECT_EQ(*DecodeClusterMap(after), two);
  // All else is the same; the checksum is of the version too.
  EXPECT_EQ(before.substr(1, before.size() - 9),
            after.substr(3, after.size() - 11));
  // A map has one form.
  const auto with = [&](uint64_t number) {
    std::string bytes("\2", 1);
    AppendVarint(&bytes, number);
    bytes += before.substr(1, before.size() - 9);
    AppendFixed64(&bytes, XXH3_64bits(bytes.data(), bytes.size()));
    return DecodeClusterMap(bytes).ok();
  };
  EXPECT_FALSE(with(0));
  EXPECT_FALSE(with(1));
  EXPECT_TRUE(with(2));
  EXPECT_TRUE(with(1024));
  EXPECT_FALSE(with(1025));
  EXPECT_FALSE(with(uint64_t{1} << 32 | 2));
}

TEST(DirectoryCodec, OnlyMapsWithWithdrawnNodesHaveTheThirdForm) {
  for (uint32_t per_five : {1u, 7u}) {
    ClusterMap map = MapOf({5, 3}, 2);
    map.groups_per_five = per_five;
    map.groups[1].withdrawn = Ids({9, 10});
    map.groups[1].withdrawn_at = 300;
    const std::string bytes = EncodeClusterMap(map);
    EXPECT_EQ(bytes[0], 3);
    EXPECT_EQ(*DecodeClusterMap(bytes), map);
    map.groups[1].withdrawn.clear();
    map.groups[1].withdrawn_at = 0;
    EXPECT_EQ(EncodeClusterMap(map)[0], per_five == 1 ? 1 : 2);
  }
}

// The largest map there may be fits into one message between nodes.
TEST(DirectoryCodec, TheLargestMapIsBelowAMegabyte) {
  ClusterMap map = MapOf({5, 5, 5});
  while (map.nodes.size() < kMaxNodes) {
    NodeInfo node = Node(1'000 + map.nodes.size());
    const std::string label(60, 'a');
    node.address.host = absl::StrCat(label, ".", label, ".", label, ".", label,
                                     ".x", map.nodes.size());
    map.nodes.push_back(node);
  }
  // All of them in the middle of a change.
  GroupInfo group;
  for (uint64_t i = 0; i < kLargestGroup; ++i) {
    group.members.push_back(NodeId(i + 1));
    group.target.push_back(NodeId(i + 2));
  }
  group.settled = raft::Index(uint64_t{1} << 40);
  map.groups.assign(kSlotCount, group);
  map.groups_per_five = kMaxGroupsPerFive;
  for (size_t i = 0; i < kSlotCount; ++i) {
    map.groups[i].id = map.slots[i] = GroupId(i);
  }
  for (size_t i = 0; i < kMaxWithdrawn; ++i) {
    GroupInfo& of = map.groups[i % kSlotCount];
    of.withdrawn.push_back(NodeId(1'015 + of.withdrawn.size()));
    of.withdrawn_at = uint64_t{1} << 40;
  }
  ASSERT_TRUE(CheckClusterMap(map).ok()) << CheckClusterMap(map);
  EXPECT_LT(EncodeClusterMap(map).size(), size_t{1} << 20);
}

}  // namespace
}  // namespace kv739::kv
