#include "server/map_seeker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace kv739::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

kv::ClusterMap FiveServers() {
  return kv::InitialClusterMap(
      *kv::ParseClusterFile("a:1\nb:1\nc:1\nd:1\ne:1\n", "test"));
}

class MapSeekerTest : public ::testing::Test {
 protected:
  MapSeekerTest()
      : maps_(std::make_shared<kv::ClusterMap>(FiveServers())),
        self_(maps_.Get()->nodes[0].id) {}

  MapSeeker::Parts Parts() {
    MapSeeker::Parts parts;
    parts.self = self_;
    parts.maps = &maps_;
    parts.connected = [this](raft::NodeId id) {
      return connected_.count(id.value()) > 0;
    };
    parts.inquire = [this](const kv::Address& to, absl::Duration) {
      asked_.push_back(to.ToString());
      return answer_;
    };
    return parts;
  }
  void Connect(size_t node) {
    connected_.insert(maps_.Get()->nodes[node].id.value());
  }

  MapHolder maps_;
  const raft::NodeId self_;
  std::set<uint64_t> connected_;
  std::vector<std::string> asked_;
  absl::StatusOr<kv::ClusterMap> answer_ = absl::UnavailableError("down");
};

TEST_F(MapSeekerTest, AsksNobodyWhenAMajorityOfTheOthersIsConnected) {
  MapSeeker seeker(Parts());
  Connect(1);
  Connect(2);
  EXPECT_FALSE(seeker.Round());
  EXPECT_THAT(asked_, IsEmpty());
}

TEST_F(MapSeekerTest, AsksThoseItMissesInTurn) {
  MapSeeker seeker(Parts());
  Connect(3);
  for (int i = 0; i < 4; ++i) EXPECT_FALSE(seeker.Round());
  EXPECT_THAT(asked_, ElementsAre("b:1", "c:1", "e:1", "b:1"));
}

TEST_F(MapSeekerTest, TakesANewerMapOfItsClusterAlone) {
  MapSeeker seeker(Parts());
  kv::ClusterMap newer = FiveServers();
  newer.epoch = 7;
  newer.nodes[0].state = kv::NodeState::kLeft;
  bool told = false;
  maps_.Listen([&] { told = true; });
  answer_ = FiveServers();
  EXPECT_FALSE(seeker.Round());
  answer_ = newer;
  answer_->cluster_id ^= 1;
  EXPECT_FALSE(seeker.Round());
  EXPECT_FALSE(told);
  answer_ = newer;
  EXPECT_TRUE(seeker.Round());
  EXPECT_TRUE(told);
  EXPECT_EQ(maps_.Get()->epoch, 7u);
}

// The map's nodes may all have been replaced since.
TEST_F(MapSeekerTest, AsksThoseOfTheFileToo) {
  MapSeeker::Parts parts = Parts();
  parts.others = {*kv::Address::Parse("a:1"), *kv::Address::Parse("b:1"),
                  *kv::Address::Parse("x:1")};
  MapSeeker seeker(std::move(parts));
  for (int i = 0; i < 5; ++i) seeker.Round();
  EXPECT_THAT(asked_, UnorderedElementsAre("b:1", "c:1", "d:1", "e:1", "x:1"));
}

TEST_F(MapSeekerTest, ItsThreadAsksAndEnds) {
  absl::Notification asked;
  MapSeeker::Parts parts = Parts();
  parts.inquire = [&](const kv::Address&, absl::Duration) {
    if (!asked.HasBeenNotified()) asked.Notify();
    return answer_;
  };
  MapSeeker seeker(std::move(parts));
  seeker.Start();
  asked.WaitForNotification();
}

}  // namespace
}  // namespace kv739::server
