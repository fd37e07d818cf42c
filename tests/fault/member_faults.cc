// Members that go and others that take their places, with a kill, a pause or a
// transfer in the middle.
#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tests/fault/fault.h"

namespace kv739::test {
namespace {

class MemberChanges : public Nemesis {
 public:
  explicit MemberChanges(Target target) : target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    absl::Status spares = StartSpares();
    if (!spares.ok()) return spares;
    const std::vector<int> members = target_.Members();
    if (members.size() < 5) return absl::UnavailableError("no leader");
    Cluster& cluster = target_.cluster;
    const bool leads = target_.Coin();
    gone_ = members[leads ? 0 : 1];
    other_ = members[2];
    removed_ = cluster.RemoveServer(gone_);
    if (!removed_.ok()) return removed_;
    Begun begun{.what = leads ? "the leader goes" : "a follower goes"};
    turn_ = target_.Draw(4);
    switch (turn_) {
      case 0:
        absl::StrAppend(&begun.what, ", another is killed");
        cluster.KillHard(other_);
        break;
      case 1:
        absl::StrAppend(&begun.what, ", another pauses");
        cluster.Pause(other_);
        begun.hold = target_.Between(0, 2000);
        break;
      case 2:
        // It may fail: the target may be lagging, or going.
        absl::StrAppend(&begun.what, ", another is to lead");
        cluster.TransferLeader(target_.group(), other_).IgnoreError();
        break;
      default:
        break;
    }
    return begun;
  }

  absl::Status End() override {
    Cluster& cluster = target_.cluster;
    if (turn_ == 0) {
      absl::Status started = cluster.Restart(other_);
      if (!started.ok()) return started;
    }
    if (turn_ == 1) cluster.Resume(other_);
    const std::optional<int> code = cluster.WaitExit(gone_);
    if (code != 0) {
      return absl::InternalError(
          absl::StrCat("server ", gone_, " has left and ",
                       code ? absl::StrCat("ended with ", *code) : "runs on"));
    }
    if (!Settled()) {
      return absl::InternalError("the group does not become five again");
    }
    ++changes_;
    // It comes back as a spare.
    std::filesystem::remove_all(cluster.data_dir(gone_));
    absl::Status started = cluster.StartNew(gone_);
    if (!started.ok()) return started;
    return Known(gone_);
  }
  std::string Summary() const override {
    return absl::StrCat(changes_, " members replaced");
  }

 private:
  absl::Status Known(int i) {
    return Eventually([&] { return target_.cluster.NodeId(i) != 0; })
               ? absl::OkStatus()
               : absl::InternalError(
                     absl::StrCat("server ", i, " does not join"));
  }
  // Those beyond the cluster file, once.
  absl::Status StartSpares() {
    Cluster& cluster = target_.cluster;
    for (; started_ < cluster.total(); ++started_) {
      if (started_ < cluster.size() || cluster.running(started_)) continue;
      absl::Status started = cluster.StartNew(started_);
      if (started.ok()) started = Known(started_);
      if (!started.ok()) return started;
    }
    return absl::OkStatus();
  }
  bool Settled() {
    return Eventually([&] {
      auto map = target_.cluster.NewestMap();
      if (!map.ok()) return false;
      for (const v1::Group& group : map->groups()) {
        if (group.id() != target_.group()) continue;
        return group.members_size() == 5 &&
               target_.cluster.RefreshGroups().ok() &&
               target_.cluster
                   .WaitForMembers(target_.group(),
                                   target_.cluster.groups().at(target_.group()),
                                   absl::Seconds(2))
                   .ok();
      }
      return false;
    });
  }

  Target target_;
  int started_ = 0;
  absl::Status removed_;
  int gone_ = 0;
  int other_ = 0;
  int turn_ = 0;
  int changes_ = 0;
};

}  // namespace

std::unique_ptr<Nemesis> MakeMemberChanges(Target target) {
  return std::make_unique<MemberChanges>(target);
}

}  // namespace kv739::test
