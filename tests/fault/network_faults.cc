// Lines between servers that are cut, in both directions or in one, or slow.
// The clients reach every server all the time: one that is cut off from the
// others must not answer them with what is old.
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "tests/fault/fault.h"

namespace kv739::test {
namespace {

constexpr Line kCut{.cut = true};

class NetworkNemesis : public Nemesis {
 public:
  explicit NetworkNemesis(Target target) : target_(target) {}
  absl::Status End() override {
    network().Heal();
    return absl::OkStatus();
  }

 protected:
  Network& network() { return *target_.world.network; }
  // All lines between members but those of `kept` (either way round).
  void KeepOnly(const std::vector<int>& members,
                const std::set<std::pair<int, int>>& kept) {
    for (int a : members) {
      for (int b : members) {
        if (a != b && kept.count({a, b}) == 0 && kept.count({b, a}) == 0) {
          network().Set(a, b, kCut);
        }
      }
    }
  }

  Target target_;
};

class Partitions : public NetworkNemesis {
 public:
  using NetworkNemesis::NetworkNemesis;

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> m = target_.Members();  // the leader first
    if (m.size() < 5) return absl::UnavailableError("no leader, or not five");
    Begun begun{.hold = target_.Between(500, 6000)};
    hub_ = -1;
    std::set<std::pair<int, int>> kept;
    switch (turn_++ % 6) {
      case 0:
        begun.what = "cut off the leader";
        for (size_t i = 1; i < m.size(); ++i) network().Both(m[0], m[i], kCut);
        return begun;
      case 1:
        begun.what = "two and three, the leader with the two";
        kept = {{m[0], m[1]}, {m[2], m[3]}, {m[3], m[4]}, {m[2], m[4]}};
        break;
      case 2:
        // Omni-Paxos: only the hub has a majority, and all hear of it.
        begun.what = "quorum loss: all see one follower alone";
        hub_ = m[1];
        for (size_t i = 0; i < m.size(); ++i) {
          if (i != 1) kept.insert({m[1], m[i]});
        }
        break;
      case 3:
        begun.what = "chain";
        for (size_t i = 1; i < m.size(); ++i) kept.insert({m[i - 1], m[i]});
        break;
      case 4:
        begun.what = "bridge: two halves and one that sees all";
        kept = {{m[0], m[1]}, {m[2], m[3]}};
        for (int i = 0; i < 4; ++i) kept.insert({m[4], m[i]});
        break;
      default:
        begun.what = "all apart";
        begun.writes_go_on = false;
        break;
    }
    KeepOnly(m, kept);
    return begun;
  }

  // Only the hub has a majority, and its log lacks entries that at least three
  // of the others have, who do not vote for it: Raft stands still until the
  // lines are back (Omni-Paxos calls it the constrained election).
  std::string MayStop() override {
    if (hub_ < 0 || target_.cluster.LeaderOf(target_.group()) >= 0) return "";
    const auto hub = LastOf(hub_);
    int ahead = 0;
    for (int i = 0; i < target_.cluster.total(); ++i) {
      if (i != hub_ && hub && LastOf(i) > hub) ++ahead;
    }
    return ahead >= 3 ? "the one lacks entries" : "";
  }

 private:
  // The index of the last entry; nothing when the server does not say. Nobody
  // has led since the lines were cut, so who has more has what the other lacks.
  std::optional<uint64_t> LastOf(int server) {
    if (!target_.cluster.running(server)) return std::nullopt;
    auto status = target_.cluster.Status(server);
    if (!status.ok()) return std::nullopt;
    for (const v1::ReplicaStatus& replica : status->replicas()) {
      if (replica.group() == target_.group()) {
        return replica.last_index();
      }
    }
    return std::nullopt;
  }

  int turn_ = 0;
  int hub_ = -1;  // who alone sees all
};

class OneWayCuts : public NetworkNemesis {
 public:
  using NetworkNemesis::NetworkNemesis;

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> m = target_.Members();
    if (m.size() < 5) return absl::UnavailableError("no leader, or not five");
    Begun begun{.hold = target_.Between(500, 6000)};
    switch (turn_++ % 4) {
      case 0:
        begun.what = "the leader hears nobody";
        for (size_t i = 1; i < m.size(); ++i) network().Set(m[i], m[0], kCut);
        break;
      case 1:
        begun.what = "nobody hears the leader";
        for (size_t i = 1; i < m.size(); ++i) network().Set(m[0], m[i], kCut);
        break;
      case 2:
        begun.what = "a follower hears nobody";
        for (int other : m) network().Set(other, m[1], kCut);
        break;
      default:
        begun.what = "two followers are heard by nobody";
        for (int other : m) {
          network().Set(m[1], other, kCut);
          network().Set(m[2], other, kCut);
        }
        break;
    }
    return begun;
  }

 private:
  int turn_ = 0;
};

class SlowLines : public NetworkNemesis {
 public:
  using NetworkNemesis::NetworkNemesis;

  absl::StatusOr<Begun> Begin() override {
    const std::vector<int> m = target_.Members();
    if (m.size() < 5) return absl::UnavailableError("no leader, or not five");
    Begun begun{.hold = target_.Between(1000, 5000)};
    const Line late{.delay_us = 20'000 + 1000 * target_.Draw(60),
                    .jitter_us = 1000 * target_.Draw(40)};
    switch (turn_++ % 5) {
      case 0:
        begun.what = "late: all lines of the leader";
        for (size_t i = 1; i < m.size(); ++i) network().Both(m[0], m[i], late);
        break;
      case 1:
        begun.what = "late: what the leader hears";
        for (size_t i = 1; i < m.size(); ++i) network().Set(m[i], m[0], late);
        break;
      case 2:
        begun.what = "late: all lines, also the clients'";
        SetAll(m, late, true);
        break;
      case 3:
        begun.what = "narrow: 300 kB/s for each line";
        SetAll(m, {.bytes_per_s = 300'000}, false);
        break;
      default:
        begun.what = "lossy: 5 % on each line";
        SetAll(m, {.loss = 0.05}, true);
        break;
    }
    return begun;
  }

 private:
  void SetAll(const std::vector<int>& members, Line line, bool clients) {
    for (int a : members) {
      for (int b : members) {
        if (a != b) network().Set(a, b, line);
      }
      if (clients) network().Both(a, network().clients(), line);
    }
  }

  int turn_ = 0;
};

}  // namespace

std::unique_ptr<Nemesis> MakePartitions(Target target) {
  return std::make_unique<Partitions>(target);
}
std::unique_ptr<Nemesis> MakeOneWayCuts(Target target) {
  return std::make_unique<OneWayCuts>(target);
}
std::unique_ptr<Nemesis> MakeSlowLines(Target target) {
  return std::make_unique<SlowLines>(target);
}

}  // namespace kv739::test
