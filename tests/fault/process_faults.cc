// Processes that are killed, or stand still.
#include <signal.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/fault/fault.h"

namespace kv739::test {

std::vector<int> Target::Members() {
  if (!cluster.RefreshGroups().ok()) return {};
  const int leader = cluster.WaitForLeader(group());
  if (leader < 0) return {};
  std::vector<int> members = cluster.groups().at(group());
  std::shuffle(members.begin(), members.end(), random);
  std::iter_swap(members.begin(),
                 std::find(members.begin(), members.end(), leader));
  return members;
}

absl::Status StartAgain(Cluster& cluster, int i,
                        const std::vector<int>& codes) {
  if (cluster.running(i)) return absl::OkStatus();
  const int code = cluster.WaitExit(i).value_or(-1000);
  if (std::find(codes.begin(), codes.end(), code) == codes.end()) {
    return absl::InternalError(
        absl::StrCat("server ", i, " has ended with ", code));
  }
  return cluster.Restart(i);
}

namespace {

class Kills : public Nemesis {
 public:
  Kills(std::string whom, Target target)
      : whom_(std::move(whom)), target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> members = target_.Members();
    if (members.empty()) return absl::UnavailableError("no leader");
    Begun begun{.what = "kill the leader"};
    victims_ = {members[0]};
    const int random = target_.Draw(4);
    if (whom_ == "all" || (whom_ == "random" && random == 0)) {
      begun = {.what = "kill all", .writes_go_on = false};
      victims_.clear();
      for (int i = 0; i < target_.cluster.total(); ++i) {
        if (target_.cluster.running(i)) victims_.push_back(i);
      }
    } else if (whom_ == "random" && random == 1) {
      begun.what = "kill a follower";
      victims_ = {members[1]};
    } else if (whom_ == "random" && random == 2) {
      begun.what = "kill two";
      victims_.push_back(members[1]);
    }
    const Nanos at = Now();
    for (int i : victims_) target_.cluster.Signal(i, SIGKILL);
    for (int i : victims_) target_.cluster.WaitExit(i);
    if (victims_.size() > 2) slowest_ = std::max(slowest_, Now() - at);
    return begun;
  }
  // In any order.
  absl::Status End() override {
    std::shuffle(victims_.begin(), victims_.end(), target_.random);
    for (int i : victims_) {
      absl::Status started = target_.cluster.Restart(i);
      if (!started.ok()) return started;
      if (victims_.size() > 2) absl::SleepFor(target_.Between(0, 200));
    }
    return absl::OkStatus();
  }
  std::string Summary() const override {
    if (slowest_ == 0) return "";
    return absl::StrCat("all servers were dead within ", slowest_ / 1'000'000,
                        " ms");
  }

 private:
  const std::string whom_;
  Target target_;
  std::vector<int> victims_;
  Nanos slowest_ = 0;  // death of all
};

class Pauses : public Nemesis {
 public:
  explicit Pauses(Target target) : target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> members = target_.Members();
    if (members.empty()) return absl::UnavailableError("no leader");
    Begun begun{.what = "pause the leader", .hold = target_.Between(0, 3000)};
    victims_ = {members[0]};
    switch (target_.Draw(4)) {
      case 0:
        begun.what = "pause a follower";
        victims_ = {members[1]};
        break;
      case 1:
        begun.what = "pause two";
        victims_.push_back(members[1]);
        break;
      case 2:
        begun.what = "pause three";
        begun.writes_go_on = false;
        victims_.insert(victims_.end(), {members[1], members[2]});
        break;
      default:
        break;
    }
    for (int i : victims_) target_.cluster.Pause(i);
    return begun;
  }
  absl::Status End() override {
    for (int i : victims_) target_.cluster.Resume(i);
    return absl::OkStatus();
  }

 private:
  Target target_;
  std::vector<int> victims_;
};

}  // namespace

std::unique_ptr<Nemesis> MakeKills(const std::string& whom, Target target) {
  return std::make_unique<Kills>(whom, target);
}
std::unique_ptr<Nemesis> MakePauses(Target target) {
  return std::make_unique<Pauses>(target);
}

std::unique_ptr<Nemesis> MakeNemesis(const std::string& kind, Target target) {
  if (kind == "kill-leader") return MakeKills("leader", target);
  if (kind == "kill-random") return MakeKills("random", target);
  if (kind == "kill-all") return MakeKills("all", target);
  if (kind == "pause") return MakePauses(target);
  if (kind == "partition") return MakePartitions(target);
  if (kind == "one-way") return MakeOneWayCuts(target);
  if (kind == "slow") return MakeSlowLines(target);
  if (kind == "disk-full") return MakeFullDisks(target);
  if (kind == "fsync-error") return MakeSyncErrors(target);
  if (kind == "fsync-stall") return MakeSyncStalls(target);
  if (kind == "flip") return MakeDamage(false, target);
  if (kind == "cut") return MakeDamage(true, target);
  return MakeMemberChanges(target);
}

}  // namespace kv739::test
