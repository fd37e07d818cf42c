#include "server/group_keeper.h"

#include <xxhash.h>

#include <algorithm>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "raft/planted.h"

namespace kv739::server {
namespace {

using raft::NodeId;
using NodeIds = std::vector<NodeId>;

constexpr uint64_t kGivenUpFactor = 10;

bool Has(const NodeIds& sorted, NodeId node) {
  return std::binary_search(sorted.begin(), sorted.end(), node);
}

// Of two sorted lists: what only the first has.
NodeIds Minus(const NodeIds& from, const NodeIds& what) {
  NodeIds rest;
  std::set_difference(from.begin(), from.end(), what.begin(), what.end(),
                      std::back_inserter(rest));
  return rest;
}

NodeIds With(NodeIds nodes, NodeId out, NodeId in) {
  std::erase(nodes, out);
  nodes.insert(std::lower_bound(nodes.begin(), nodes.end(), in), in);
  return nodes;
}

const raft::PeerProgress* Find(const raft::CoreStatus& core, NodeId node) {
  for (const raft::PeerProgress& peer : core.peers) {
    if (peer.id == node) return &peer;
  }
  return nullptr;
}

// Has answered this leader, and not long ago. (A new leader takes everybody for
// active at first.)
bool Alive(const GroupKeeper::View& view, NodeId node) {
  if (node == view.self) return true;
  const raft::PeerProgress* peer = Find(view.core, node);
  return peer != nullptr && peer->recently_active && bool(peer->match);
}

// Groups that lose a node at the same time shall not all want the same spare,
// but siblings shall: `group` is the first of them.
uint64_t Preference(raft::GroupId group, NodeId node) {
  const uint64_t pair[] = {group.value(), node.value()};
  return XXH3_64bits(pair, sizeof pair);
}

// Siblings have the same target.
raft::GroupId FirstSibling(const GroupKeeper::View& view) {
  for (const kv::GroupInfo& group : view.groups) {
    if (group.target == view.group.target) return group.id;
  }
  return view.group.id;
}

// Sorted: who is in siblings that have all of our target but `out`, and `away`
// no more.
NodeIds TakenBySiblings(const GroupKeeper::View& view, NodeId out,
                        NodeId away) {
  NodeIds kept = view.group.target;
  std::erase(kept, out);
  NodeIds taken;
  for (const kv::GroupInfo& group : view.groups) {
    if (group.id == view.group.id || Has(group.target, away) ||
        !std::includes(group.target.begin(), group.target.end(), kept.begin(),
                       kept.end())) {
      continue;
    }
    const NodeIds further = Minus(group.target, kept);
    taken.insert(taken.end(), further.begin(), further.end());
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

}  // namespace

absl::string_view KeeperStateName(KeeperState state) {
  switch (state) {
    case KeeperState::kSettled:
      return "settled";
    case KeeperState::kNoSpare:
      return "no spare";
    case KeeperState::kReporting:
      return "reporting";
    case KeeperState::kAskingForTarget:
      return "asking";
    case KeeperState::kChangingLearners:
      return "changing learners";
    case KeeperState::kCatchingUp:
      return "catching up";
    case KeeperState::kWaitingForMajority:
      return "waiting for a majority";
    case KeeperState::kChangingVoters:
      return "changing voters";
    case KeeperState::kHeldUp:
      return "held up";
  }
  return "?";
}

std::string KeeperStatus::Describe() const {
  switch (state) {
    case KeeperState::kSettled:
      return "";
    case KeeperState::kNoSpare:
      return absl::StrCat(node.value(),
                          " is away, and there is no spare to replace it");
    case KeeperState::kReporting:
      return "telling the directory who the voters are";
    case KeeperState::kAskingForTarget:
      return absl::StrCat(
          "asking the directory for another member in place of ", node.value());
    case KeeperState::kChangingLearners:
      return "adding and removing learners";
    case KeeperState::kCatchingUp:
      if (silent) {
        return absl::StrCat("waiting for ", node.value(),
                            ", which does not answer");
      }
      return absl::StrCat("waiting for ", node.value(), " to catch up: ",
                          snapshot ? std::string("it gets a snapshot")
                                   : absl::StrCat(percent, " %"));
    case KeeperState::kWaitingForMajority:
      return absl::StrCat("waiting for a majority of the new voters: ",
                          node.value(), " does not answer");
    case KeeperState::kChangingVoters:
      return "changing the voters";
    case KeeperState::kHeldUp:
      return "waiting for a leader that stays";
  }
  return "";
}

KeeperAction GroupKeeper::Decide(const View& view) {
  const raft::CoreStatus& core = view.core;
  if (core.soft.term != term_) {
    // What was known of others was another leader's.
    term_ = core.soft.term;
    rounds_.clear();
    sent_ = {};
  }
  std::erase_if(given_up_,
                [&](const auto& entry) { return entry.second <= view.now; });
  FollowRounds(view);
  if (core.changing) {
    Say(core.configuration.joint() ? KeeperState::kChangingVoters
                                   : KeeperState::kChangingLearners);
    return {};
  }
  // The map knows more than our log yet: nothing that we could say is news.
  if (core.commit < view.group.settled || core.transferring || !core.fit) {
    Say(KeeperState::kHeldUp);
    return {};
  }
  if (MustReport(view)) return Report(view);
  // A change to the same, so that there is something new to report: whoever
  // leads next then sees by its log that the map it has may be old.
  if (!view.group.withdrawn.empty() && WithoutWithdrawn(view)) {
    Say(KeeperState::kChangingLearners);
    return core.configuration;
  }
  return TowardsTarget(view);
}

bool GroupKeeper::MustReport(const View& view) {
  const raft::CoreStatus& core = view.core;
  if (core.configuration.voters != view.group.members) return true;
  const bool at_rest =
      !view.group.changing() && core.configuration.learners.empty();
  if (at_rest || (KV739_PLANTED(M8_an_old_map_is_acted_on) &&
                  view.group.withdrawn.empty())) {
    return false;
  }
  return core.configuration_index > view.group.settled;
}

KeeperAction GroupKeeper::Report(const View& view) {
  const raft::CoreStatus& core = view.core;
  Say(KeeperState::kReporting);
  kv::GroupSettled report{view.group.id, core.commit, core.configuration.voters,
                          0};
  // Where the log begins behind it, it is not known whether the configuration
  // is newer than the last report.
  if (core.configuration_index > view.group.settled &&
      core.configuration_index >= core.first_index && WithoutWithdrawn(view)) {
    report.released = view.group.withdrawn_at;
  }
  if (!MaySend(view, {core.configuration.voters, core.configuration_index,
                      report.released})) {
    return {};
  }
  return report;
}

bool GroupKeeper::WithoutWithdrawn(const View& view) {
  return std::none_of(
      view.group.withdrawn.begin(), view.group.withdrawn.end(),
      [&](NodeId id) { return view.core.configuration.Contains(id); });
}

KeeperAction GroupKeeper::TowardsTarget(const View& view) {
  const raft::Configuration& now = view.core.configuration;
  const NodeIds& target = view.group.target;
  if (auto other = Reconsider(view)) return *std::move(other);

  const NodeIds joining = Minus(target, now.voters);
  if (now.learners != joining) {
    Say(KeeperState::kChangingLearners);
    return raft::Configuration{now.voters, {}, joining};
  }
  if (target == now.voters) return ReplaceSilent(view);

  for (NodeId node : joining) {
    if (CaughtUp(view, node)) continue;
    SayOf(KeeperState::kCatchingUp, view, node);
    return {};
  }
  // The change must not stop the group.
  size_t alive = 0;
  NodeId missing;
  for (NodeId node : target) {
    if (Alive(view, node)) {
      ++alive;
    } else {
      missing = node;
    }
  }
  if (alive * 2 <= target.size()) {
    SayOf(KeeperState::kWaitingForMajority, view, missing);
    return {};
  }
  Say(KeeperState::kChangingVoters);
  return raft::Configuration{target, {}, {}};
}

std::optional<KeeperAction> GroupKeeper::Reconsider(const View& view) {
  const NodeIds& voters = view.core.configuration.voters;
  const NodeIds& target = view.group.target;
  if (!view.group.automatic) return std::nullopt;
  const NodeIds joining = Minus(target, voters);
  const NodeIds leaving = Minus(voters, target);
  // Ours is one for one; more than that is somebody else's as well.
  if (joining.size() != 1 || leaving.size() != 1) return std::nullopt;
  if (Alive(view, leaving[0])) {  // it is back in time
    SayOf(KeeperState::kAskingForTarget, view, joining[0]);
    return AskForTarget(view, voters, /*automatic=*/false);
  }
  const raft::PeerProgress* peer = Find(view.core, joining[0]);
  if (peer == nullptr ||
      peer->silent_ticks < options_.candidate_timeout_ticks) {
    return std::nullopt;
  }
  // Without another one it may as well be waited for.
  const NodeId spare = ChooseSpare(view, joining[0], leaving[0]);
  if (!spare) return std::nullopt;
  if (std::none_of(given_up_.begin(), given_up_.end(), [&](const auto& entry) {
        return entry.first == joining[0];
      })) {
    given_up_.emplace_back(
        joining[0],
        view.now + kGivenUpFactor * options_.candidate_timeout_ticks);
  }
  SayOf(KeeperState::kAskingForTarget, view, joining[0]);
  return AskForTarget(view, With(target, joining[0], spare),
                      /*automatic=*/true);
}

KeeperAction GroupKeeper::ReplaceSilent(const View& view) {
  Say(KeeperState::kSettled);
  if (options_.replace_after_ticks == 0) return {};
  // One at a time, the one first that is away for longest.
  const raft::PeerProgress* away = nullptr;
  for (const raft::PeerProgress& peer : view.core.peers) {
    if (peer.silent_ticks >= options_.replace_after_ticks &&
        Has(view.group.target, peer.id) &&
        (away == nullptr || peer.silent_ticks > away->silent_ticks)) {
      away = &peer;
    }
  }
  if (away == nullptr) return {};
  const NodeId spare = ChooseSpare(view, away->id, away->id);
  if (!spare) {
    SayOf(KeeperState::kNoSpare, view, away->id);
    return {};
  }
  SayOf(KeeperState::kAskingForTarget, view, away->id);
  return AskForTarget(view, With(view.group.target, away->id, spare),
                      /*automatic=*/true);
}

NodeId GroupKeeper::ChooseSpare(const View& view, NodeId out,
                                NodeId away) const {
  std::vector<SpareNode> open;
  for (const SpareNode& spare : view.spares) {
    if (spare.connected && !view.group.Concerns(spare.id) &&
        std::none_of(
            given_up_.begin(), given_up_.end(),
            [&](const auto& entry) { return entry.first == spare.id; })) {
      open.push_back(spare);
    }
  }
  if (open.empty()) return {};
  const NodeIds taken = TakenBySiblings(view, out, away);
  const raft::GroupId first = FirstSibling(view);
  const auto rank = [&](const SpareNode& spare) {
    return std::tuple(!Has(taken, spare.id), spare.places,
                      Preference(first, spare.id));
  };
  return std::min_element(open.begin(), open.end(),
                          [&](const SpareNode& a, const SpareNode& b) {
                            return rank(a) < rank(b);
                          })
      ->id;
}

KeeperAction GroupKeeper::AskForTarget(const View& view, NodeIds target,
                                       bool automatic) {
  if (!MaySend(view, {target, {}, 0})) return {};
  return kv::SetTarget{{view.group.id, view.group.target, std::move(target)},
                       automatic};
}

bool GroupKeeper::MaySend(const View& view, Sent what) {
  if (sent_ == what && view.now - sent_at_ < options_.repeat_ticks) {
    return false;
  }
  sent_ = std::move(what);
  sent_at_ = view.now;
  return true;
}

// ---- catching up ----

void GroupKeeper::FollowRounds(const View& view) {
  const NodeIds& learners = view.core.configuration.learners;
  std::erase_if(rounds_,
                [&](const Rounds& r) { return !Has(learners, r.node); });
  for (NodeId node : learners) {
    const raft::PeerProgress* peer = Find(view.core, node);
    if (peer == nullptr) continue;
    auto known = std::find_if(rounds_.begin(), rounds_.end(),
                              [&](const Rounds& r) { return r.node == node; });
    if (known == rounds_.end()) {
      rounds_.push_back({node, view.core.last_index, view.now, false});
    } else if (peer->match >= known->end) {
      const bool fast = view.now - known->began <= options_.round_ticks;
      *known = {node, view.core.last_index, view.now, fast};
    } else if (view.now - known->began > options_.round_ticks) {
      known->fast = false;
    }
  }
}

bool GroupKeeper::CaughtUp(const View& view, NodeId node) const {
  const raft::PeerProgress* peer = Find(view.core, node);
  if (!Alive(view, node) || peer->needs_snapshot) return false;
  if (peer->match + options_.caught_up_entries >= view.core.last_index) {
    return true;
  }
  return std::any_of(rounds_.begin(), rounds_.end(),
                     [&](const Rounds& r) { return r.node == node && r.fast; });
}

void GroupKeeper::SayOf(KeeperState state, const View& view, NodeId node) {
  Say(state);
  status_.node = node;
  const raft::PeerProgress* peer = Find(view.core, node);
  if (peer == nullptr) return;
  status_.silent = !peer->recently_active;
  status_.silent_ticks = peer->silent_ticks;
  status_.snapshot = peer->needs_snapshot;
  // 100 % is for those who are there.
  const double last =
      std::max(1.0, static_cast<double>(view.core.last_index.value()));
  const double part = static_cast<double>(peer->match.value()) / last;
  status_.percent = std::min(99u, static_cast<uint32_t>(100 * part));
}

}  // namespace kv739::server
