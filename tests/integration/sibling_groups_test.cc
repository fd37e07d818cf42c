// Several groups on the same five servers: they live and die apart, and their
// members change together.
#include "absl/strings/str_cat.h"
#include "tests/integration/multi_group.h"
#include "tests/support/sanitizer.h"

namespace kv739::test {
namespace {

constexpr int kGroups = 3;
constexpr int kKeys = 8;  // of each group

class SiblingGroupsTest : public MultiGroupTest {
 protected:
  void StartSiblings(std::string settings) {
    ASSERT_NO_FATAL_FAILURE(StartClusterWith({.servers = 5,
                                              .extra = 1,
                                              .groups_per_five = kGroups,
                                              .settings = std::move(settings),
                                              .failed = ProgramFailed}));
    ASSERT_EQ(cluster().groups().size(), static_cast<size_t>(kGroups));
    for (const auto& [group, members] : cluster().groups()) {
      EXPECT_THAT(members, ::testing::UnorderedElementsAre(0, 1, 2, 3, 4));
    }
    ASSERT_NO_FATAL_FAILURE(LoadSlots());
    keys_ = KeysByGroup(kKeys);
    client_ = OpenClient();
    ASSERT_NE(client_, nullptr);
  }
  // Puts `text` into every key of every group; they have `before`.
  void PutAll(const std::string& text, const std::string& before) {
    for (const auto& [group, keys] : keys_) {
      for (const std::string& key : keys) {
        const Answer put = client_->Put(key, text + key);
        ASSERT_EQ(put.code, before.empty() ? 1 : 0)
            << "group " << group << ", " << key << ": " << put;
        if (!before.empty()) {
          EXPECT_EQ(put.seen, before + key);
        }
      }
    }
  }
  void WaitForMembersOfAll(const std::vector<int>& members) {
    for (int group = 0; group < kGroups; ++group) {
      const absl::Status there = cluster().WaitForMembers(group, members);
      ASSERT_TRUE(there.ok()) << there << cluster().LogTails();
    }
  }
  void JoinSixth() {
    ASSERT_TRUE(cluster().StartNew(5).ok());
    ASSERT_TRUE(Eventually([&] { return cluster().NodeId(5) != 0; }))
        << cluster().LogTails();
  }

  std::map<uint64_t, std::vector<std::string>> keys_;
  std::unique_ptr<Client> client_;
};

TEST_F(SiblingGroupsTest, ASixthServerReplacesADeadOneInAllGroups) {
  ASSERT_NO_FATAL_FAILURE(StartSiblings(kSoonReplaced));
  ASSERT_NO_FATAL_FAILURE(PutAll("1", ""));
  cluster().KillHard(4);
  ASSERT_NO_FATAL_FAILURE(PutAll("2", "1"));
  ASSERT_NO_FATAL_FAILURE(JoinSixth());
  ASSERT_NO_FATAL_FAILURE(WaitForMembersOfAll({0, 1, 2, 3, 5}));
  // It votes in all of them: three of five are left.
  cluster().KillHard(0);
  cluster().KillHard(1);
  ASSERT_NO_FATAL_FAILURE(PutAll("3", "2"));
  for (int i : {0, 1, 4}) ASSERT_TRUE(cluster().Restart(i).ok());
  for (int group = 0; group < kGroups; ++group) {
    const absl::Status equal = cluster().WaitForEqualHashes(group);
    EXPECT_TRUE(equal.ok()) << equal;
  }
  // The one that was replaced is a spare and holds nothing.
  EXPECT_TRUE(Eventually([&] {
    auto status = cluster().Status(4);
    return status.ok() && status->healthy() && status->replicas_size() == 0;
  }));
}

TEST_F(SiblingGroupsTest, OneLeavesAllGroupsAndAnotherJoinsAllGroups) {
  ASSERT_NO_FATAL_FAILURE(StartSiblings(kTestSettings));
  ASSERT_NO_FATAL_FAILURE(PutAll("1", ""));
  const absl::Status left = cluster().RemoveServer(2);
  ASSERT_TRUE(left.ok()) << left;
  EXPECT_EQ(cluster().WaitExit(2), 0) << cluster().LogTails();
  ASSERT_NO_FATAL_FAILURE(WaitForMembersOfAll({0, 1, 3, 4}));
  ASSERT_NO_FATAL_FAILURE(PutAll("2", "1"));
  ASSERT_NO_FATAL_FAILURE(JoinSixth());
  ASSERT_NO_FATAL_FAILURE(WaitForMembersOfAll({0, 1, 3, 4, 5}));
  ASSERT_NO_FATAL_FAILURE(PutAll("3", "2"));
}

// All bounds have room for them: logs, maps, messages, answers, the status.
TEST_F(SiblingGroupsTest, AThousandGroupsStartAndOutliveAServer) {
  const int groups = kv739::testing::kThreadSanitizer ? 100 : 1000;
  ASSERT_NO_FATAL_FAILURE(StartClusterWith({.servers = 5,
                                            .groups_per_five = groups,
                                            .wait_for_leaders = false,
                                            .settings = kTestSettings,
                                            .failed = ProgramFailed}));
  std::string last;
  const auto all_is_well = [&] {
    const auto status = RunCommand(
        {CommandProgram(), "-c", cluster().config(), "status"}, kPatience);
    last = status.ok() ? status->output.substr(0, 400) + status->error
                       : std::string(status.status().message());
    return status.ok() && status->code == 0;
  };
  ASSERT_TRUE(Eventually(all_is_well)) << last << cluster().LogTails();
  EXPECT_THAT(last, ::testing::HasSubstr(absl::StrCat(groups, " groups")));
  ASSERT_EQ(cluster().groups().size(), static_cast<size_t>(groups));
  auto client = OpenClient();
  for (int i = 0; i < 60; ++i) {
    const Answer put = client->Put(absl::StrCat("key", i), "1");
    ASSERT_EQ(put.code, 1) << put;
  }
  cluster().KillHard(2);
  for (int i = 0; i < 60; ++i) {
    const Answer put = client->Put(absl::StrCat("key", i), "2");
    ASSERT_EQ(put.code, 0) << put;
    EXPECT_EQ(put.seen, "1");
  }
  ASSERT_TRUE(cluster().Restart(2).ok());
  EXPECT_TRUE(Eventually(all_is_well)) << last << cluster().LogTails();
}

}  // namespace
}  // namespace kv739::test
