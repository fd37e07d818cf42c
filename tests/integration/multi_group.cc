#include "tests/integration/multi_group.h"

#include <xxhash.h>

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"

namespace kv739::test {
namespace {

constexpr int kSlots = 4096;
constexpr double kSpread = 0.05;  // of an equal share

}  // namespace

void MultiGroupTest::LoadSlots() {
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetMapResponse map;
  grpc::Status status = cluster().ClusterStub(0)->GetMap(&context, {}, &map);
  ASSERT_TRUE(status.ok()) << status.error_message();
  owners_.clear();
  for (const v1::SlotRange& range : map.slots()) {
    ASSERT_EQ(range.first(), owners_.size());
    owners_.resize(range.last() + 1, range.group());
  }
  ASSERT_EQ(owners_.size(), static_cast<size_t>(kSlots));
}

uint64_t MultiGroupTest::GroupOf(const std::string& key) const {
  return owners_.at(XXH3_64bits(key.data(), key.size()) >> 52);
}

std::map<uint64_t, std::vector<std::string>> MultiGroupTest::KeysByGroup(
    int count) {
  std::map<uint64_t, std::vector<std::string>> keys;
  for (const auto& [group, members] : cluster().groups()) {
    for (int i = 0; keys[group].size() < static_cast<size_t>(count); ++i) {
      const std::string key = absl::StrCat("key", i);
      if (GroupOf(key) == group) keys[group].push_back(key);
    }
  }
  return keys;
}

void MultiGroupTest::CheckGroups(size_t groups) {
  ASSERT_EQ(cluster().groups().size(), groups);
  int position = 0;
  for (const auto& [group, members] : cluster().groups()) {
    std::vector<int> expected;
    for (int i = 0; i < 5; ++i) expected.push_back(position++);
    EXPECT_THAT(members, ::testing::UnorderedElementsAreArray(expected));
  }
  ASSERT_NO_FATAL_FAILURE(LoadSlots());
  const double share = static_cast<double>(kSlots) / groups;
  std::map<uint64_t, int> slots;
  for (uint64_t owner : owners_) ++slots[owner];
  EXPECT_EQ(slots.size(), groups);
  for (const auto& [group, count] : slots) {
    EXPECT_NEAR(count, share, share * kSpread) << "group " << group;
  }
  // A server of another group refuses, and says which map it knows.
  const auto keys = KeysByGroup(1);
  for (const auto& [group, members] : cluster().groups()) {
    for (const auto& [other, own] : keys) {
      if (other == group) continue;
      grpc::ClientContext context;
      SetDeadline(context);
      v1::PutRequest request;
      request.set_key(own.front());
      request.set_value("lost?");
      v1::WriteResponse response;
      grpc::Status status = cluster()
                                .KeyValueStub(members.front())
                                ->Put(&context, request, &response);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION)
          << status.error_message();
      const v1::Error error = ErrorOf(context);
      EXPECT_EQ(error.code(), v1::WRONG_GROUP);
      EXPECT_GT(error.map_epoch(), 0u);
    }
  }
  auto client = OpenClient();
  for (const auto& [group, own] : keys) {
    EXPECT_EQ(client->Get(own.front()).code, 1) << own.front();
  }
}

void MultiGroupTest::CheckIndependence() {
  constexpr int kKeys = 40;
  const auto keys = KeysByGroup(kKeys);
  const uint64_t broken = cluster().groups().begin()->first;
  const std::vector<int> members = cluster().groups().begin()->second;
  auto client = OpenClient();
  for (const auto& [group, own] : keys) {
    for (const std::string& key : own) {
      Answer put = client->Put(key, "1" + key);
      EXPECT_EQ(put.code, 1) << key << ": " << put;
    }
  }
  for (int i = 0; i < 3; ++i) cluster().KillHard(members[i]);
  // New clients too, whose first servers in the file are dead.
  auto late = OpenClient();
  for (const auto& [group, own] : keys) {
    if (group == broken) continue;
    for (const std::string& key : own) {
      Answer put = late->Put(key, "2" + key);
      EXPECT_EQ(put.code, 0) << key << ": " << put;
      EXPECT_EQ(put.seen, "1" + key);
    }
  }
  const std::string& stuck = keys.at(broken).front();
  Answer put = client->Put(stuck, "2" + stuck, 1'500);
  EXPECT_LT(put.code, 0) << "a write without a majority: " << put;
  EXPECT_LT(client->Get(stuck, 1'500).code, 0);

  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(cluster().Restart(members[i]).ok());
  }
  ASSERT_TRUE(cluster().WaitForLeaders().ok());
  for (const auto& [group, own] : keys) {
    for (const std::string& key : own) {
      Answer get = client->Get(key);
      EXPECT_EQ(get.code, 0) << key << ": " << get;
      if (key == stuck && OutcomeOf(put.code) == Outcome::kUnknown) {
        EXPECT_THAT(get.seen, ::testing::AnyOf("1" + key, "2" + key));
      } else {
        EXPECT_EQ(get.seen, (group == broken ? "1" : "2") + key);
      }
    }
  }
}

}  // namespace kv739::test
