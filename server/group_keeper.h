// What the leader of a group does next so that the group's voters become those
// that the cluster map wants: learners first, then one joint change, then a
// report to the directory (thesis sections 4.2.1 and 4.3). And who takes the
// place of a voter that is away for too long.
//
// One keeper belongs to one replica and is asked while that leads. It decides
// and does nothing itself. All that matters is in the group's log and in the
// map; what a keeper remembers (since when it waits, whom it tried) may be lost
// at any time, and is with every change of leaders.
//
// Who takes the place of a silent voter X: of the active nodes that are
// connected, are not in the group, may have another place (the map's
// groups_per_five) and were not given up lately
//   1. one that has taken the place of X in a sibling group: one that has all
//      of this group's other voters in its target, and has X no more,
//   2. then one with the fewest places: a spare, if there is one,
//   3. then the one that a hash prefers, the same one for all sibling groups:
//      groups that have the same target.
// So the groups of one five, each under its own leader, come to the same node,
// whether they choose at once or one after the other.
//
// The map that it is given may be old. So it first has its own configuration
// recorded there, and goes on only with a map that shows it. That also lets
// nodes go that were withdrawn (kv/directory.h).
//
// Threads: one caller at a time. Time: ticks of the core.
#ifndef KV739_SERVER_GROUP_KEEPER_H_
#define KV739_SERVER_GROUP_KEEPER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kv/cluster_map.h"
#include "kv/directory.h"
#include "raft/core.h"
#include "raft/types.h"

namespace kv739::server {

struct KeeperOptions {
  // A voter that is silent for so long is replaced by a spare; 0: never.
  uint64_t replace_after_ticks = 0;
  // A spare that we chose ourselves and that is silent for so long is given up
  // for another one, and for ten times as long not chosen again.
  uint64_t candidate_timeout_ticks = 1500;
  // A change is sent to the directory again after so long without a new map.
  uint64_t repeat_ticks = 50;
  // A learner has caught up when it lacks at most so many entries ...
  uint64_t caught_up_entries = 1000;
  // ... or when it got, within so many ticks, all that the log had when they
  // began (a round of thesis section 4.2.1). An election timeout.
  uint64_t round_ticks = 25;
};

// An active node that may get a place.
struct SpareNode {
  raft::NodeId id;
  bool connected = false;
  size_t places = 0;  // that it has in other groups
};

enum class KeeperState : uint8_t {
  kSettled,           // nothing to do
  kNoSpare,           // a voter is away for too long, and nobody to replace it
  kReporting,         // the directory is to hear what the voters are
  kAskingForTarget,   // ... or who we think they should be
  kChangingLearners,  // proposed
  kCatchingUp,        // learners get what they lack
  kWaitingForMajority,  // too few of the new voters are there
  kChangingVoters,      // proposed, or a change is under way
  kHeldUp,              // leadership is going elsewhere
};
absl::string_view KeeperStateName(KeeperState state);

struct KeeperStatus {
  KeeperState state = KeeperState::kSettled;
  raft::NodeId node;  // that it is about, if about one
  // Of the log that `node` has, in 1/100; in kCatchingUp.
  uint32_t percent = 0;
  bool snapshot = false;      // `node` is waiting for one
  bool silent = false;        // `node` has not answered for a while
  uint64_t silent_ticks = 0;  // for how long
  // For people: "waiting for 7 to catch up: 93 %".
  std::string Describe() const;
};

// At most one at a time: propose this configuration in the group, or have the
// directory make this change.
using KeeperAction =
    std::variant<std::monostate, raft::Configuration, kv::DirectoryChange>;

class GroupKeeper {
 public:
  struct View {
    raft::NodeId self;
    const raft::CoreStatus& core;  // of a leader
    const kv::GroupInfo& group;    // as the newest map has it
    absl::Span<const SpareNode> spares;
    uint64_t now = 0;  // ticks; never falls
    // All of the map, this one too.
    absl::Span<const kv::GroupInfo> groups = {};
  };

  explicit GroupKeeper(const KeeperOptions& options) : options_(options) {}

  // To be asked every few ticks and done at once. It is not remembered what was
  // proposed: a proposal that was refused comes again.
  KeeperAction Decide(const View& view);
  const KeeperStatus& status() const { return status_; }

 private:
  // A learner's rounds.
  struct Rounds {
    raft::NodeId node;
    raft::Index end;  // of the log when the round began
    uint64_t began = 0;
    bool fast = false;  // the last one that ended
  };

  // To the directory: voters that are asked for, or that were found in the
  // configuration at this index.
  struct Sent {
    std::vector<raft::NodeId> voters;
    raft::Index at;  // 0: asked for
    uint64_t released = 0;
    bool operator==(const Sent&) const = default;
  };

  // The map lacks what the log has, or may lack it and there is something to
  // be done by it.
  static bool MustReport(const View& view);
  KeeperAction Report(const View& view);
  // The configuration has nobody that was withdrawn.
  static bool WithoutWithdrawn(const View& view);
  void FollowRounds(const View& view);
  bool CaughtUp(const View& view, raft::NodeId node) const;
  KeeperAction TowardsTarget(const View& view);
  // A replacement that we began ourselves: is it still what we want?
  std::optional<KeeperAction> Reconsider(const View& view);
  KeeperAction ReplaceSilent(const View& view);
  // For the place of `out`, a voter or one that was to become it, instead of
  // `away`, who is silent. None when there is none that is connected.
  raft::NodeId ChooseSpare(const View& view, raft::NodeId out,
                           raft::NodeId away) const;
  KeeperAction AskForTarget(const View& view, std::vector<raft::NodeId> target,
                            bool automatic);
  // True, and noted, unless just this was sent a short while ago.
  bool MaySend(const View& view, Sent what);
  void Say(KeeperState state) {
    status_ = {};
    status_.state = state;
  }
  void SayOf(KeeperState state, const View& view, raft::NodeId node);

  KeeperOptions options_;
  KeeperStatus status_;
  raft::Term term_;
  std::vector<Rounds> rounds_;
  Sent sent_;
  uint64_t sent_at_ = 0;
  // Nodes that were given up, and until when.
  std::vector<std::pair<raft::NodeId, uint64_t>> given_up_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_GROUP_KEEPER_H_
