// RemoveServer and SetMembers: what is planned, what is refused and with which
// words, and who is asked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/ring.h"
#include "kv739/v1/admin.grpc.pb.h"
#include "server/member_changes.h"
#include "tests/unit/server/rpc_fakes.h"

namespace kv739::server {
namespace {

using kv::NodeState;
using raft::GroupId;
using raft::NodeId;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<NodeId> Ids(std::vector<uint64_t> numbers) {
  std::vector<NodeId> ids;
  for (uint64_t n : numbers) ids.emplace_back(n);
  return ids;
}

// Node n is h:n.
kv::ClusterMap MapOf(const std::vector<int>& sizes, int spares) {
  kv::ClusterMap map;
  map.cluster_id = 7390;
  map.epoch = 5;
  uint64_t id = 1;
  std::vector<GroupId> groups;
  const auto add = [&] {
    map.nodes.push_back({NodeId(id), {"h", static_cast<uint16_t>(id)}});
    return NodeId(id++);
  };
  for (int size : sizes) {
    kv::GroupInfo group;
    group.id = GroupId(groups.size());
    for (int i = 0; i < size; ++i) group.members.push_back(add());
    group.target = group.members;
    groups.push_back(group.id);
    map.groups.push_back(group);
  }
  for (int i = 0; i < spares; ++i) add();
  map.slots = kv::AssignSlots(groups);
  return map;
}

// And of each size so many groups on the same nodes.
kv::ClusterMap SiblingsOf(const std::vector<int>& sizes,
                          uint32_t groups_per_five, int spares) {
  kv::ClusterMap map = MapOf(sizes, spares);
  map.groups_per_five = groups_per_five;
  std::vector<kv::GroupInfo> groups;
  std::vector<GroupId> ids;
  for (kv::GroupInfo group : map.groups) {
    for (uint32_t n = 0; n < groups_per_five; ++n) {
      group.id = GroupId(groups.size());
      ids.push_back(group.id);
      groups.push_back(group);
    }
  }
  map.groups = std::move(groups);
  map.slots = kv::AssignSlots(ids);
  return map;
}

class MemberPlans : public testing::Test {
 protected:
  IsThere is_there_ = [this](NodeId id) { return !away_.contains(id.value()); };
  std::set<uint64_t> away_;

  // A plan that is made is one that the directory takes.
  absl::StatusOr<kv::RemoveNode> Remove(const kv::ClusterMap& map,
                                        const std::string& server) {
    auto change = PlanRemoval(map, server, is_there_);
    if (change.ok()) {
      const auto after = kv::ApplyDirectoryChange(&map, *change);
      EXPECT_TRUE(after.ok()) << after.status();
    }
    return change;
  }
  absl::StatusOr<kv::SetTarget> Set(const kv::ClusterMap& map, uint64_t group,
                                    const std::vector<std::string>& servers,
                                    const std::vector<std::string>& expected) {
    return PlanMembers(map, GroupId(group), servers, expected, is_there_);
  }
};

TEST_F(MemberPlans, ASpareThatIsThereTakesThePlace) {
  const kv::ClusterMap map = MapOf({5}, 3);
  EXPECT_EQ(Remove(map, "h:2")->targets[0].target, Ids({1, 3, 4, 5, 6}));
  away_ = {2, 6};  // the one that goes need not be there
  EXPECT_EQ(Remove(map, "h:2")->targets[0].target, Ids({1, 3, 4, 5, 7}));
  away_ = {6, 7, 8};
  EXPECT_EQ(Remove(map, "h:2")->targets[0].target, Ids({1, 3, 4, 5}));
  EXPECT_TRUE(Remove(map, "h:7")->targets.empty());
  kv::ClusterMap leaving = map;
  leaving.nodes[5].state = NodeState::kLeaving;
  away_.clear();
  EXPECT_EQ(Remove(leaving, "h:2")->targets[0].target, Ids({1, 3, 4, 5, 7}));
}

TEST_F(MemberPlans, SiblingsStayOnTheSameNodes) {
  // Groups 0 to 2 on 1 to 5, 3 to 5 on 6 to 10; 11 and 12 are spare.
  const kv::ClusterMap map = SiblingsOf({5, 5}, 3, 2);
  auto change = Remove(map, "h:2");
  ASSERT_TRUE(change.ok()) << change.status();
  ASSERT_EQ(change->targets.size(), 3u);
  for (uint64_t g = 0; g < 3; ++g) {
    EXPECT_EQ(change->targets[g].group, GroupId(g));
    EXPECT_EQ(change->targets[g].target, Ids({1, 3, 4, 5, 11}));
  }
  // One that has a place already has room for two more.
  kv::ClusterMap mixed = map;
  mixed.groups[4].members = mixed.groups[4].target = Ids({6, 7, 8, 9, 11});
  away_ = {12};
  change = Remove(mixed, "h:2");
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(change->targets[0].target, Ids({1, 3, 4, 5, 11}));
  EXPECT_EQ(change->targets[1].target, Ids({1, 3, 4, 5, 11}));
  // 10 gave up a place for it.
  EXPECT_EQ(change->targets[2].target, Ids({1, 3, 4, 5, 10}));
  away_ = {10, 11, 12};
  EXPECT_EQ(Remove(mixed, "h:2")->targets[2].target, Ids({1, 3, 4, 5}));
  // A spare comes before one that has places.
  away_ = {11};
  change = Remove(mixed, "h:2");
  ASSERT_TRUE(change.ok()) << change.status();
  for (const auto& target : change->targets) {
    EXPECT_EQ(target.target, Ids({1, 3, 4, 5, 12}));
  }
}

TEST_F(MemberPlans, AThousandGroupsAreLeftAtOnce) {
  const kv::ClusterMap map = SiblingsOf({5}, 1000, 1);
  const auto change = Remove(map, "h:2");
  ASSERT_TRUE(change.ok()) << change.status();
  ASSERT_EQ(change->targets.size(), 1000u);
  EXPECT_EQ(change->targets[999].target, Ids({1, 3, 4, 5, 6}));
}

TEST_F(MemberPlans, ANodeOfTwoListsIsTakenOutOfBoth) {
  kv::ClusterMap map = MapOf({5, 4}, 0);
  map.groups[0].target = Ids({1, 2, 3, 4});  // 5 is on its way out
  const auto change = Remove(map, "h:5");
  ASSERT_TRUE(change.ok()) << change.status();
  ASSERT_EQ(change->targets.size(), 1u);
  EXPECT_EQ(change->targets[0].target, Ids({1, 2, 3, 4}));
}

TEST_F(MemberPlans, TheLastThreeStay) {
  const kv::ClusterMap map = MapOf({3}, 1);
  EXPECT_TRUE(Remove(map, "h:1").ok());
  away_ = {4};
  const absl::Status status = Remove(map, "h:1").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("group 0"), HasSubstr("2 voters"),
                    HasSubstr("place of h:1")));
}

TEST_F(MemberPlans, AGroupWithoutALiveMajorityIsLeftAlone) {
  const kv::ClusterMap map = MapOf({5}, 0);
  away_ = {4, 5};
  // Two of four are not a majority.
  absl::Status status = Remove(map, "h:1").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("group 0 would be left without a live majority"),
                    HasSubstr("of its 4 voters 3 must be connected"),
                    HasSubstr("h:4, h:5 are not")));
  EXPECT_TRUE(Remove(map, "h:4").ok());
  away_ = {3, 4, 5};
  status = Remove(map, "h:4").status();
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("group 0 is now without a live majority"));
}

TEST_F(MemberPlans, UnknownServersAndRepetitions) {
  kv::ClusterMap map = MapOf({5}, 1);
  EXPECT_TRUE(absl::IsNotFound(Remove(map, "h:9").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Remove(map, "no address").status()));
  map.nodes[0].state = NodeState::kLeaving;
  map.groups[0].target = Ids({2, 3, 4, 5, 6});
  EXPECT_TRUE(Remove(map, "h:1")->targets.empty());
}

TEST_F(MemberPlans, MembersAsTheOperatorWantsThem) {
  const kv::ClusterMap map = MapOf({5, 3}, 2);
  const auto change = Set(map, 0, {"h:9", "h:3", "h:1"}, {});
  ASSERT_TRUE(change.ok()) << change.status();
  EXPECT_EQ(change->group.target, Ids({1, 3, 9}));
  EXPECT_EQ(change->group.expected, Ids({1, 2, 3, 4, 5}));
  EXPECT_FALSE(change->automatic);
  EXPECT_TRUE(
      Set(map, 0, {"h:1", "h:2", "h:3"}, {"h:5", "h:4", "h:3", "h:2", "h:1"})
          .ok());
  EXPECT_TRUE(absl::IsAborted(
      Set(map, 0, {"h:1", "h:2", "h:3"}, {"h:1", "h:2", "h:3", "h:4"})
          .status()));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Set(map, 0, {"h:1", "h:2"}, {}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Set(map, 0, {"h:1", "h:2", "h:6"}, {}).status()))
      << "in group 1";
  EXPECT_TRUE(
      absl::IsNotFound(Set(map, 0, {"h:1", "h:2", "h:77"}, {}).status()));
  EXPECT_TRUE(
      absl::IsNotFound(Set(map, 4, {"h:1", "h:2", "h:3"}, {}).status()));
  EXPECT_FALSE(Set(map, 0, {"h:1", "h:1", "h:2", "h:3"}, {}).ok());
  away_ = {9, 10};
  EXPECT_THAT(
      std::string(Set(map, 0, {"h:1", "h:9", "h:10"}, {}).status().message()),
      HasSubstr("h:9, h:10 are not"));
}

// ---- over the network ----

class AdminTest : public RpcFixture {
 protected:
  AdminTest() {
    handler_.SetMap(std::make_shared<kv::ClusterMap>(MapOf({5}, 1)));
    ReplicaStats replica;
    replica.group = kv::kDirectoryGroup;
    replica.core.soft.role = raft::Role::kLeader;
    handler_.stats.replicas = {replica};
    options_.admin.allow_remote = true;
    options_.admin.directory.is_there = [](NodeId) { return true; };
    options_.admin.directory.propose = [this](const kv::DirectoryChange& change,
                                              DirectoryDone done) {
      changes_.push_back(change);
      done(answer_);
    };
  }

  grpc::Status Remove(const std::string& server) {
    grpc::ClientContext context;
    SetPatience(&context);
    v1::RemoveServerRequest request;
    request.set_server(server);
    return v1::Admin::NewStub(channel_)->RemoveServer(&context, request,
                                                      &removed_);
  }

  RpcServerOptions options_ = TestOptions();
  DirectoryAnswer answer_;
  std::vector<kv::DirectoryChange> changes_;
  v1::RemoveServerResponse removed_;
};

TEST_F(AdminTest, TheLeaderOfTheDirectoryProposesThePlan) {
  answer_.epoch = 6;
  Start(options_);
  ASSERT_TRUE(Remove("h:2").ok());
  EXPECT_EQ(removed_.epoch(), 6u);
  EXPECT_EQ(removed_.leader(), "");
  ASSERT_EQ(changes_.size(), 1u);
  EXPECT_EQ(std::get<kv::RemoveNode>(changes_[0]).targets[0].target,
            Ids({1, 3, 4, 5, 6}));
  EXPECT_EQ(Remove("h:99").error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(changes_.size(), 1u);
}

TEST_F(AdminTest, MembersAreSetForTheLeader) {
  answer_.epoch = 9;
  Start(options_);
  grpc::ClientContext context;
  SetPatience(&context);
  v1::SetMembersRequest request;
  for (const char* server : {"h:1", "h:2", "h:6"}) request.add_servers(server);
  v1::SetMembersResponse response;
  ASSERT_TRUE(v1::Admin::NewStub(channel_)
                  ->SetMembers(&context, request, &response)
                  .ok());
  EXPECT_EQ(response.epoch(), 9u);
  ASSERT_EQ(changes_.size(), 1u);
  EXPECT_EQ(std::get<kv::SetTarget>(changes_[0]).group.target, Ids({1, 2, 6}));
}

TEST_F(AdminTest, WhatTheDirectoryRefusesIsTold) {
  answer_.status = absl::AbortedError("somebody else was faster");
  Start(options_);
  const grpc::Status status = Remove("h:2");
  EXPECT_EQ(status.error_code(), grpc::ABORTED);
  EXPECT_EQ(status.error_message(), "somebody else was faster");
}

TEST_F(AdminTest, OthersNameTheLeader) {
  handler_.stats.replicas[0].core.soft.role = raft::Role::kFollower;
  handler_.stats.replicas[0].core.soft.leader = NodeId(4);
  Start(options_);
  ASSERT_TRUE(Remove("h:2").ok());
  EXPECT_EQ(removed_.leader(), "h:4");
  EXPECT_EQ(removed_.epoch(), 0u);
  EXPECT_TRUE(changes_.empty());
}

TEST_F(AdminTest, WithoutALeaderItIsUnavailable) {
  handler_.stats.replicas[0].core.soft.role = raft::Role::kCandidate;
  Start(options_);
  EXPECT_EQ(Remove("h:2").error_code(), grpc::UNAVAILABLE);
}

TEST_F(AdminTest, WhoHasNoReplicaNamesAMember) {
  handler_.stats.replicas.clear();
  Start(options_);
  ASSERT_TRUE(Remove("h:2").ok());
  EXPECT_EQ(removed_.leader(), "h:1");
}

TEST_F(AdminTest, LeadershipLostMeanwhile) {
  answer_.status = absl::UnavailableError("not the leader");
  answer_.leader = "h:3";
  Start(options_);
  ASSERT_TRUE(Remove("h:2").ok());
  EXPECT_EQ(removed_.leader(), "h:3");
}

TEST_F(AdminTest, TheMapTellsStatesAndTargets) {
  kv::ClusterMap map = MapOf({5}, 1);
  map.nodes[1].state = NodeState::kLeaving;
  map.nodes[5].state = NodeState::kLeft;
  map.groups[0].target = Ids({1, 3, 4});
  map.groups[0].automatic = true;
  v1::GetMapResponse out;
  EncodeMap(map, &out);
  EXPECT_EQ(out.nodes(0).state(), v1::ACTIVE);
  EXPECT_EQ(out.nodes(1).state(), v1::LEAVING);
  EXPECT_EQ(out.nodes(5).state(), v1::LEFT);
  EXPECT_EQ(out.groups(0).members_size(), 5);
  EXPECT_THAT(out.groups(0).target(), testing::ElementsAre(1, 3, 4));
  EXPECT_TRUE(out.groups(0).automatic());
}

}  // namespace
}  // namespace kv739::server
