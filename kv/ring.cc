#include "kv/ring.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "kv/coding.h"

namespace kv739::kv {
namespace {

using raft::GroupId;

// Virtual nodes of one group. More make the order in which groups are tried
// for a slot more even; balance itself comes from the quotas.
constexpr uint64_t kPointsPerGroup = 128;
// How far a group's slots may be from the mean before it must give or take.
constexpr double kTolerance = 0.05;
// Moves beyond the smallest number that may be spent on better balance.
constexpr double kMoveSlack = 0.05;

constexpr uint64_t kSlotWidth = uint64_t{1} << (64 - kSlotBits);

struct Point {
  uint64_t at;
  size_t group;  // position in the sorted list of groups
  bool operator<(const Point& other) const {
    return std::pair(at, group) < std::pair(other.at, other.group);
  }
};

std::vector<Point> PointsOf(const std::vector<GroupId>& groups) {
  std::vector<Point> points;
  points.reserve(groups.size() * kPointsPerGroup);
  for (size_t i = 0; i < groups.size(); ++i) {
    for (uint64_t n = 0; n < kPointsPerGroup; ++n) {
      std::string name;
      AppendBigEndian64(&name, groups[i].value());
      AppendBigEndian64(&name, n);
      points.push_back({XXH3_64bits(name.data(), name.size()), i});
    }
  }
  std::sort(points.begin(), points.end());
  return points;
}

// Gives each of `slots` to the first group at or after it on the ring that
// still has room. The rooms must add up to no less than the slots.
void Place(const std::vector<Slot>& slots, const std::vector<GroupId>& groups,
           std::vector<uint32_t>* room, std::vector<GroupId>* owners) {
  const std::vector<Point> points = PointsOf(groups);
  for (Slot slot : slots) {
    const Point middle{slot * kSlotWidth + kSlotWidth / 2, 0};
    size_t i =
        std::lower_bound(points.begin(), points.end(), middle) - points.begin();
    for (i %= points.size(); (*room)[points[i].group] == 0;) {
      i = (i + 1) % points.size();
    }
    --(*room)[points[i].group];
    (*owners)[slot] = groups[points[i].group];
  }
}

// `total` dealt so that the shares differ by one at most; the odd ones go to
// the groups that come first by the hash of their id.
std::vector<uint32_t> EvenShares(uint32_t total,
                                 const std::vector<GroupId>& groups) {
  std::vector<std::pair<uint64_t, size_t>> order;
  for (size_t i = 0; i < groups.size(); ++i) {
    std::string name;
    AppendBigEndian64(&name, groups[i].value());
    order.emplace_back(XXH3_64bits(name.data(), name.size()), i);
  }
  std::sort(order.begin(), order.end());
  const uint32_t n = groups.size();
  std::vector<uint32_t> shares(n, total / n);
  for (uint32_t i = 0; i < total % n; ++i) ++shares[order[i].second];
  return shares;
}

void SortUnique(std::vector<GroupId>* groups) {
  std::sort(groups->begin(), groups->end());
  groups->erase(std::unique(groups->begin(), groups->end()), groups->end());
}

// The work of one ReassignSlots: which slots leave their group, and how many
// each group gets.
class Mover {
 public:
  Mover(const std::vector<GroupId>& current, const std::vector<GroupId>& groups)
      : groups_(groups), owners_(current), held_(groups.size()) {
    owners_.resize(kSlotCount, raft::kNoGroup);
    absl::flat_hash_map<GroupId, size_t> position;
    for (size_t i = 0; i < groups.size(); ++i) position[groups[i]] = i;
    for (uint32_t slot = 0; slot < kSlotCount; ++slot) {
      const auto it = position.find(owners_[slot]);
      if (it == position.end()) {
        pool_.push_back(static_cast<Slot>(slot));
      } else {
        held_[it->second].push_back(static_cast<Slot>(slot));
      }
    }
    const double mean = static_cast<double>(kSlotCount) / groups.size();
    most_ = std::max<size_t>(std::floor(mean * (1 + kTolerance)),
                             (kSlotCount + groups.size() - 1) / groups.size());
    least_ = std::min<size_t>(std::ceil(mean * (1 - kTolerance)),
                              kSlotCount / groups.size());
    PreferForeign();
  }

  std::vector<GroupId> Run() {
    for (size_t i = 0; i < groups_.size(); ++i) {
      while (held_[i].size() > most_) Shed(i);
    }
    size_t wanted = 0;
    for (const auto& slots : held_) {
      if (slots.size() < least_) wanted += least_ - slots.size();
    }
    while (pool_.size() < wanted) Shed(Fullest());
    // No fewer moves would do; a few more buy balance.
    size_t slack = static_cast<size_t>(pool_.size() * kMoveSlack);
    const size_t even = (kSlotCount + groups_.size() - 1) / groups_.size();
    for (; slack > 0 && held_[Fullest()].size() > even; --slack) {
      Shed(Fullest());
    }
    std::vector<uint32_t> room = Fill();
    std::sort(pool_.begin(), pool_.end());
    Place(pool_, groups_, &room, &owners_);
    return std::move(owners_);
  }

 private:
  // Slots that a ring of the new groups would give to another group leave
  // first: Shed() takes from the back.
  void PreferForeign() {
    const std::vector<GroupId> ideal = AssignSlots(groups_);
    for (size_t i = 0; i < groups_.size(); ++i) {
      std::stable_partition(held_[i].begin(), held_[i].end(), [&](Slot slot) {
        return ideal[slot] == groups_[i];
      });
    }
  }

  void Shed(size_t i) {
    pool_.push_back(held_[i].back());
    held_[i].pop_back();
  }

  size_t Fullest() const {
    size_t best = 0;
    for (size_t i = 1; i < held_.size(); ++i) {
      if (held_[i].size() > held_[best].size()) best = i;
    }
    return best;
  }

  // Deals as many places as there are slots in the pool, always to the group
  // that has the fewest.
  std::vector<uint32_t> Fill() const {
    std::vector<uint32_t> room(groups_.size(), 0);
    for (size_t n = 0; n < pool_.size(); ++n) {
      size_t best = 0;
      for (size_t i = 1; i < groups_.size(); ++i) {
        if (held_[i].size() + room[i] < held_[best].size() + room[best]) {
          best = i;
        }
      }
      ++room[best];
    }
    return room;
  }

  const std::vector<GroupId>& groups_;
  std::vector<GroupId> owners_;
  std::vector<std::vector<Slot>> held_;  // by position in groups_
  std::vector<Slot> pool_;               // slots that move
  size_t least_ = 0;
  size_t most_ = 0;
};

}  // namespace

Slot SlotOf(absl::string_view key) {
  return static_cast<Slot>(XXH3_64bits(key.data(), key.size()) >>
                           (64 - kSlotBits));
}

std::vector<GroupId> AssignSlots(std::vector<GroupId> groups) {
  SortUnique(&groups);
  std::vector<GroupId> owners(kSlotCount, raft::kNoGroup);
  if (groups.empty()) return owners;
  std::vector<uint32_t> room = EvenShares(kSlotCount, groups);
  std::vector<Slot> slots(kSlotCount);
  for (uint32_t i = 0; i < kSlotCount; ++i) slots[i] = static_cast<Slot>(i);
  Place(slots, groups, &room, &owners);
  return owners;
}

std::vector<GroupId> ReassignSlots(const std::vector<GroupId>& current,
                                   std::vector<GroupId> groups) {
  SortUnique(&groups);
  if (groups.empty()) {
    return std::vector<GroupId>(kSlotCount, raft::kNoGroup);
  }
  return Mover(current, groups).Run();
}

}  // namespace kv739::kv
