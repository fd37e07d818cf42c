// Disks that are full, fail to sync, or hang.
#include "absl/strings/str_cat.h"
#include "tests/fault/fault.h"

namespace kv739::test {
namespace {

// A server that ends because of its disk does so with this code.
constexpr int kExitFailure = 1;

class FullDisks : public Nemesis {
 public:
  explicit FullDisks(Target target) : target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> members = target_.Members();
    if (members.empty()) return absl::UnavailableError("no leader");
    Begun begun{.hold = target_.Between(1000, 4000)};
    // Below the reserve, or nothing at all.
    const bool low = target_.Coin();
    victims_ = {members[target_.Coin() ? 0 : 1]};
    begun.what =
        absl::StrCat(victims_[0] == members[0] ? "the leader" : "a follower",
                     low ? ": little room" : ": no room");
    if (target_.Draw(4) == 0) {
      victims_ = members;
      begun.what = low ? "all: little room" : "all: no room";
      begun.writes_go_on = false;
    }
    for (int i : victims_) {
      absl::Status filled =
          target_.world.disks.at(i)->FillUpTo(low ? 8 << 20 : 0);
      if (!filled.ok()) return filled;
    }
    return begun;
  }
  absl::Status End() override {
    for (int i : victims_) target_.world.disks.at(i)->MakeRoom();
    for (int i : victims_) {
      ended_ += !target_.cluster.running(i);
      absl::Status started = StartAgain(target_.cluster, i, {kExitFailure});
      if (!started.ok()) return started;
    }
    return absl::OkStatus();
  }
  std::string Summary() const override {
    return absl::StrCat(ended_, " servers ended, and were started again");
  }

 private:
  Target target_;
  std::vector<int> victims_;
  int ended_ = 0;
};

// One sync fails: the server must trust its disk no more. But when it is that
// of a snapshot on its way in, which nothing rests on yet: that is thrown away
// and fetched again.
class SyncErrors : public Nemesis {
 public:
  explicit SyncErrors(Target target) : target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> members = target_.Members();
    if (members.empty()) return absl::UnavailableError("no leader");
    const bool leads = target_.Coin();
    victim_ = members[leads ? 0 : 1];
    refused_before_ = RefusedSnapshots();
    target_.world.shims.at(victim_)->Set(ShimMode::kFailOnce);
    return Begun{.what = leads ? "of the leader" : "of a follower"};
  }
  absl::Status End() override {
    const auto& shim = target_.world.shims.at(victim_);
    const bool met = Eventually([&] {
      return !target_.cluster.running(victim_) ||
             (shim->hits() > 0 && RefusedSnapshots() > refused_before_);
    });
    if (!met) {
      return absl::InternalError(absl::StrCat(
          "server ", victim_, " runs on after a sync that failed (",
          shim->hits(), ")"));
    }
    if (target_.cluster.running(victim_)) {
      ++of_snapshots_;
      return absl::OkStatus();
    }
    return StartAgain(target_.cluster, victim_, {kExitFailure});
  }
  std::string Summary() const override {
    return absl::StrCat(of_snapshots_,
                        " of the syncs were of a snapshot that came in, and "
                        "the server went on");
  }

 private:
  size_t RefusedSnapshots() const {
    size_t count = 0;
    const std::string log = ReadFile(target_.cluster.log_path(victim_));
    constexpr std::string_view kLine = "a snapshot could not be put in place";
    for (size_t at = log.find(kLine); at != std::string::npos;
         at = log.find(kLine, at + 1)) {
      ++count;
    }
    return count;
  }

  Target target_;
  int victim_ = 0;
  size_t refused_before_ = 0;
  int of_snapshots_ = 0;
};

class SyncStalls : public Nemesis {
 public:
  explicit SyncStalls(Target target) : target_(target) {}

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> members = target_.Members();
    if (members.empty()) return absl::UnavailableError("no leader");
    Begun begun{.what = "of the leader", .hold = target_.Between(500, 8000)};
    victims_ = {members[0]};
    switch (target_.Draw(4)) {
      case 0:
        begun.what = "of two followers";
        victims_ = {members[1], members[2]};
        break;
      case 1:
        begun.what = "of all";
        begun.writes_go_on = false;
        victims_ = members;
        break;
      default:
        break;
    }
    for (int i : victims_) target_.world.shims.at(i)->Set(ShimMode::kStall);
    return begun;
  }
  absl::Status End() override {
    for (int i : victims_) target_.world.shims.at(i)->Set(ShimMode::kNone);
    return absl::OkStatus();
  }

 private:
  Target target_;
  std::vector<int> victims_;
};

}  // namespace

std::unique_ptr<Nemesis> MakeFullDisks(Target target) {
  return std::make_unique<FullDisks>(target);
}
std::unique_ptr<Nemesis> MakeSyncErrors(Target target) {
  return std::make_unique<SyncErrors>(target);
}
std::unique_ptr<Nemesis> MakeSyncStalls(Target target) {
  return std::make_unique<SyncStalls>(target);
}

}  // namespace kv739::test
