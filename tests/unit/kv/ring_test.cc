#include "kv/ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <random>
#include <vector>

namespace kv739::kv {
namespace {

using raft::GroupId;

std::vector<GroupId> Groups(uint64_t from, uint64_t to) {
  std::vector<GroupId> groups;
  for (uint64_t i = from; i < to; ++i) groups.emplace_back(i);
  return groups;
}

std::map<GroupId, int> Loads(const std::vector<GroupId>& owners) {
  std::map<GroupId, int> loads;
  for (GroupId owner : owners) ++loads[owner];
  return loads;
}

void ExpectBalanced(const std::vector<GroupId>& owners,
                    const std::vector<GroupId>& groups) {
  ASSERT_EQ(owners.size(), kSlotCount);
  std::map<GroupId, int> loads = Loads(owners);
  ASSERT_EQ(loads.size(), std::min<size_t>(groups.size(), kSlotCount));
  const double mean = static_cast<double>(kSlotCount) / groups.size();
  for (GroupId group : groups) {
    // Within 5 %, or within one slot where 5 % is less than that.
    EXPECT_LE(std::abs(loads[group] - mean), std::max(0.05 * mean, 1.0))
        << "group " << group << " of " << groups.size();
  }
}

int Moved(const std::vector<GroupId>& a, const std::vector<GroupId>& b) {
  int moved = 0;
  for (uint32_t s = 0; s < kSlotCount; ++s) moved += a[s] != b[s];
  return moved;
}

// The fewest moves after which every group has no fewer and no more slots
// than 5 % allow: found from the counts alone.
int FewestMoves(const std::vector<GroupId>& current,
                const std::vector<GroupId>& groups) {
  std::map<GroupId, int> loads = Loads(current);
  const double mean = static_cast<double>(kSlotCount) / groups.size();
  const int most = std::max<int>(mean * 1.05, std::ceil(mean));
  const int least = std::min<int>(std::ceil(mean * 0.95), mean);
  int over = kSlotCount;
  int under = 0;
  for (GroupId group : groups) {
    over -= std::min(loads[group], most);
    under += std::max(0, least - loads[group]);
  }
  return std::max(over, under);
}

TEST(Ring, SlotIsTheTopOfTheHash) {
  EXPECT_EQ(SlotOf("key"), XXH3_64bits("key", 3) >> 52);
  // Held, because data lies where these say.
  EXPECT_EQ(SlotOf(""), 720);
  EXPECT_EQ(SlotOf("a"), 3692);
  EXPECT_EQ(SlotOf("hello"), 2389);
}

TEST(Ring, AssignmentIsBalancedForEveryNumberOfGroups) {
  for (uint64_t n = 1; n <= 200; ++n) {
    ExpectBalanced(AssignSlots(Groups(0, n)), Groups(0, n));
  }
}

TEST(Ring, AssignmentDependsOnTheSetAlone) {
  std::vector<GroupId> groups = Groups(0, 12);
  const std::vector<GroupId> owners = AssignSlots(groups);
  std::mt19937 random(1);
  std::shuffle(groups.begin(), groups.end(), random);
  groups.push_back(groups.front());
  EXPECT_EQ(AssignSlots(groups), owners);
}

// A change of these strands data: clusters that exist have them on disk.
TEST(Ring, AssignmentIsHeld) {
  const auto digest = [](uint64_t n) {
    const std::vector<GroupId> owners = AssignSlots(Groups(0, n));
    std::vector<uint64_t> plain;
    for (GroupId owner : owners) plain.push_back(owner.value());
    return XXH3_64bits(plain.data(), plain.size() * sizeof plain[0]);
  };
  EXPECT_EQ(digest(1), 13826804453936664023u);
  EXPECT_EQ(digest(2), 12821824647536790187u);
  EXPECT_EQ(digest(4), 10255820990973416138u);
  EXPECT_EQ(digest(200), 12728038700110907046u);
}

TEST(Ring, NoGroupsOwnNothing) {
  EXPECT_THAT(AssignSlots({}), testing::Each(raft::kNoGroup));
  EXPECT_THAT(ReassignSlots(AssignSlots(Groups(0, 3)), {}),
              testing::Each(raft::kNoGroup));
}

TEST(Ring, MoreGroupsThanSlots) {
  ExpectBalanced(AssignSlots(Groups(0, 5000)), Groups(0, 5000));
}

TEST(Ring, NothingMovesWhileTheGroupsStay) {
  for (uint64_t n : {1, 2, 7, 60, 200}) {
    const std::vector<GroupId> owners = AssignSlots(Groups(0, n));
    EXPECT_EQ(ReassignSlots(owners, Groups(0, n)), owners) << n;
  }
}

TEST(Ring, OneGroupJoinsAndLeaves) {
  for (uint64_t n = 1; n < 200; n += n < 20 ? 1 : 13) {
    const std::vector<GroupId> before = AssignSlots(Groups(0, n));
    const std::vector<GroupId> after = ReassignSlots(before, Groups(0, n + 1));
    ExpectBalanced(after, Groups(0, n + 1));
    EXPECT_LE(Moved(before, after),
              1.05 * FewestMoves(before, Groups(0, n + 1)));
    for (uint32_t s = 0; s < kSlotCount; ++s) {
      // A joining group takes; nothing moves between the others.
      if (before[s] != after[s]) {
        EXPECT_EQ(after[s], GroupId(n));
      }
    }
    const std::vector<GroupId> back = ReassignSlots(after, Groups(1, n + 1));
    ExpectBalanced(back, Groups(1, n + 1));
    EXPECT_LE(Moved(after, back), 1.05 * FewestMoves(after, Groups(1, n + 1)));
  }
}

TEST(Ring, RandomChangesStayBalancedAndCheap) {
  std::mt19937_64 random(739);
  std::vector<GroupId> groups = Groups(0, 3);
  std::vector<GroupId> owners = AssignSlots(groups);
  uint64_t next = 3;
  for (int round = 0; round < 200; ++round) {
    for (int n = random() % 4; n > 0; --n) groups.emplace_back(next++);
    for (int n = random() % 4; n > 0 && groups.size() > 1; --n) {
      groups.erase(groups.begin() + random() % groups.size());
    }
    const std::vector<GroupId> after = ReassignSlots(owners, groups);
    ExpectBalanced(after, groups);
    EXPECT_LE(Moved(owners, after), 1.05 * FewestMoves(owners, groups))
        << "round " << round;
    EXPECT_EQ(ReassignSlots(owners, groups), after);
    owners = after;
  }
}

TEST(Ring, BadAssignmentsAreMended) {
  const std::vector<GroupId> all_on_one(kSlotCount, GroupId(5));
  ExpectBalanced(ReassignSlots(all_on_one, Groups(0, 9)), Groups(0, 9));
  ExpectBalanced(ReassignSlots({}, Groups(0, 9)), Groups(0, 9));
}

}  // namespace
}  // namespace kv739::kv
