// Who is sent entries at once, and for whom they are held back a little. Not
// from the thesis; EPaxos calls asking no more than a majority "thrifty".
//
// An entry is committed once a majority has it, and the copies of the others
// make that no sooner. Yet every message costs a wake-up, a log write and a
// sync there and another wake-up here, however few entries it brings. So where
// commits are the faster for it (raft/thrift.h), a leader sends at once to as
// many followers as a majority needs, to those who have acknowledged fastest
// lately, and to the others what has gathered since, after
// Options::hold_back_nanos at the latest, or when it is many entries.
//
// Nothing that is safe depends on who is asked when. What a commit may lose is
// time: where a prompt follower does not answer, its entries reach the others
// up to hold_back_nanos later, and with their answers commit. It is not prompt
// much longer then, for it counts as slow as it has not answered for long.
//
// Followers that are behind are no matter of this: what is not the end of the
// log is sent at once, and so is all while members change or leadership moves.
#include <algorithm>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "raft/core_impl.h"
#include "raft/planted.h"

namespace kv739::raft {
namespace {

// More entries than this are not held back: a message of their own is little
// beside them. Bounds too how far a follower falls behind.
constexpr uint64_t kMaxHeldBack = 32;
// A prompt follower is replaced when another one takes half as long and this
// much less: which of two equals is a little faster changes all the time.
constexpr uint64_t kClearlySlowerNanos = 1'000'000;

}  // namespace

void Core::Impl::SendToPeers() {
  auto& leader = std::get<Leader>(role_);
  if (options_.hold_back_nanos > 0) ObservePace();
  for (Progress& peer : leader.peers) {
    if (GoesOnHolding(&peer)) continue;
    const Index next = peer.next();
    SendAppends(&peer);
    if (peer.next() > next) peer.pace().Sent(peer.next() - 1, nanos_);
  }
}

void Core::Impl::ObservePace() {
  auto& leader = std::get<Leader>(role_);
  leader.thrift.Committed(log_.committed(), nanos_);
  leader.thrift.Proposed(log_.last(), nanos_);
  bool sends = false;
  for (Progress& peer : leader.peers) {
    peer.pace().Observe(peer.match(), peer.next() - 1, nanos_);
    sends = sends || peer.CanSend(log_.last());
  }
  if (sends && leader.thrift.asks_few()) ChoosePrompt();
}

void Core::Impl::ChoosePrompt() {
  auto& leader = std::get<Leader>(role_);
  const Configuration& members = configuration();
  size_t missing = members.voters.size() / 2 + 1;
  if (members.IsVoter(self())) --missing;
  const auto cost = [&](const Progress& peer) {
    if (peer.state() != Progress::State::kReplicate ||
        !members.IsVoter(peer.id())) {
      return std::numeric_limits<uint64_t>::max();
    }
    const uint64_t nanos = peer.pace().AckNanos(nanos_);
    return peer.pace().prompt ? nanos : 2 * nanos + kClearlySlowerNanos;
  };
  // Of equals whoever follows us: with many groups every node is as often
  // prompt as the others.
  absl::InlinedVector<Progress*, 8> order;
  for (Progress& peer : leader.peers) order.push_back(&peer);
  std::rotate(order.begin(),
              std::find_if(order.begin(), order.end(),
                           [&](Progress* p) { return p->id() > self(); }),
              order.end());
  std::stable_sort(order.begin(), order.end(), [&](Progress* a, Progress* b) {
    return cost(*a) < cost(*b);
  });
  for (size_t i = 0; i < order.size(); ++i) {
    order[i]->pace().prompt = i < missing;
  }
}

bool Core::Impl::MayHoldBack(const Progress& peer) const {
  const auto& leader = std::get<Leader>(role_);
  if (options_.hold_back_nanos == 0 || peer.pace().prompt) return false;
  if (!leader.thrift.asks_few() || leader.transfer || Changing()) return false;
  return peer.state() == Progress::State::kReplicate &&
         peer.next() + kMaxHeldBack > log_.last();
}

bool Core::Impl::IsHeldBack(const Progress& peer) const {
  const std::optional<uint64_t>& until = peer.pace().held_until;
  if (!until || !MayHoldBack(peer)) return false;
  return nanos_ < *until || KV739_PLANTED(L5_held_back_for_ever);
}

bool Core::Impl::GoesOnHolding(Progress* peer) {
  std::optional<uint64_t>& until = peer->pace().held_until;
  if (!until && MayHoldBack(*peer) && peer->CanSend(log_.last())) {
    until = nanos_ + options_.hold_back_nanos;
  }
  if (IsHeldBack(*peer)) return true;
  until.reset();
  return false;
}

// For owners whose clock stands still, or who do not heed HeldBackUntil().
void Core::Impl::TickHoldingBack() {
  for (Progress& peer : std::get<Leader>(role_).peers) {
    if (peer.pace().held_until) peer.pace().held_until = 0;
  }
}

uint64_t Core::Impl::HeldBackUntil() const {
  const auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return 0;
  uint64_t first = 0;
  for (const Progress& peer : leader->peers) {
    // It may have acknowledged meanwhile what was held back for it, by an
    // answer to what it was sent long ago.
    if (!IsHeldBack(peer) || !peer.CanSend(log_.last())) continue;
    const uint64_t until = *peer.pace().held_until;
    if (first == 0 || until < first) first = until;
  }
  return first;
}

}  // namespace kv739::raft
