// Changes of the members of a group: joint consensus, Raft paper section 6 and
// thesis section 4.3.
//
// A configuration is in force from the moment it is in the log, committed or
// not, and no longer once it is cut off. A change of voters is two entries:
//
//   {new, outgoing = old}   decisions need both majorities
//   {new}                   appended by whoever leads once the first one is
//                           committed, and never before
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/status/status.h"
#include "raft/check.h"
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {

Index Core::Impl::MemberSince(NodeId peer) const {
  Index since = configurations_.back().index;
  for (auto at = configurations_.rbegin(); at != configurations_.rend(); ++at) {
    if (!at->configuration.Contains(peer)) break;
    since = at->index;
  }
  return since;
}

bool Core::Impl::IsAlone() const {
  const Configuration& c = configuration();
  return !c.joint() && c.voters.size() == 1 && c.voters.front() == self();
}

bool Core::Impl::MayCampaign() const {
  // A group of one would stand still otherwise.
  if (!fit_ && !IsAlone()) return false;
  if (configuration().IsVoter(self())) return true;
  // Thesis section 4.2.2: as long as our removal may still be undone, we may be
  // the only one whose log can win.
  const size_t count = configurations_.size();
  return !ConfigurationCommitted() && count > 1 &&
         configurations_[count - 2].configuration.IsVoter(self());
}

// ---- the log ----

void Core::Impl::AppendToLog(Entry entry) {
  const bool changes = entry.kind == EntryKind::kConfiguration;
  if (changes) {
    auto decoded = DecodeConfiguration(*entry.data);
    KV739_RAFT_CHECK(decoded.ok(), "configurations are checked on arrival");
    configurations_.push_back({entry.index, *std::move(decoded)});
  }
  log_.Append(std::move(entry));
  if (changes) OnConfigurationChanged();
}

void Core::Impl::TruncateLog(Index from) {
  log_.TruncateFrom(from);
  // Section 6: what is cut off no longer counts.
  bool changed = false;
  while (!KV739_PLANTED(M3_configuration_not_rolled_back) &&
         configurations_.size() > 1 && configurations_.back().index >= from) {
    configurations_.pop_back();
    changed = true;
  }
  if (changed) OnConfigurationChanged();
}

void Core::Impl::OnConfigurationChanged() {
  auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return;
  std::vector<Progress> peers;
  for (NodeId id : configuration().Members()) {
    if (id == self()) continue;
    if (Progress* known = leader->Find(id)) {
      peers.push_back(std::move(*known));
    } else {
      // One that comes back after a removal starts anew as well.
      peers.emplace_back(id, log_.last() + 1, now_,
                         options_.max_inflight_messages,
                         options_.max_inflight_bytes);
    }
  }
  leader->peers = std::move(peers);
  // What the members of before have promised does not bind those of now.
  leader->lease.Forget();
}

// ---- changes ----

absl::StatusOr<LogPosition> Core::Impl::ProposeConfiguration(
    Configuration target) {
  auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return absl::FailedPreconditionError("not the leader");
  if (target.joint()) {
    return absl::InvalidArgumentError("the target is joint");
  }
  if (absl::Status s = target.Validate(); !s.ok()) return s;
  if (leader->transfer) {
    return absl::UnavailableError("leadership is being handed over");
  }
  // Until then an earlier leader's change may be in the log of a majority, and
  // ours would build on another one.
  if (!CommittedInOwnTerm() && !KV739_PLANTED(M1_change_before_own_commit)) {
    return absl::UnavailableError("nothing is committed in this term yet");
  }
  if (Changing()) {
    return absl::AbortedError("another change of members is under way");
  }
  const Configuration& now = configuration();
  for (NodeId id : target.learners) {
    if (now.IsVoter(id)) {
      return absl::InvalidArgumentError(
          "a voter cannot become a learner in one step");
    }
  }
  if (target.voters != now.voters) target.outgoing = now.voters;
  return AppendConfiguration(target);
}

LogPosition Core::Impl::AppendConfiguration(
    const Configuration& configuration) {
  Wake();
  const LogPosition position{term_, log_.last() + 1};
  Entry entry{position.term, position.index, EntryKind::kConfiguration,
              MakePayload(EncodeConfiguration(configuration))};
  // Counted, but not bounded: a full window must not keep a group from
  // replacing the members that fill it.
  std::get<Leader>(role_).uncommitted.Add(position.index, EntryBytes(entry));
  AppendToLog(std::move(entry));
  return position;
}

void Core::Impl::ContinueChange() {
  if (!ConfigurationCommitted()) return;
  if (configuration().joint()) {
    if (KV739_PLANTED(M4_stuck_in_the_joint_state) &&
        log_.TermAt(configurations_.back().index) != term_) {
      return;
    }
    Configuration final_one = configuration();
    final_one.outgoing.clear();
    AppendConfiguration(final_one);
  } else if (Removed()) {
    HandOver();
  }
}

void Core::Impl::HandOver() {
  if (std::get<Leader>(role_).transfer) return;
  // Where this fails, TickTransfer() goes on.
  if (const NodeId target = BestTransferTarget()) {
    TransferLeadership(target).IgnoreError();
  }
}

}  // namespace kv739::raft
