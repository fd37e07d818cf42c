// A replica that must not lead, because its owner cannot serve: its disk is
// full, or its state is in doubt. It votes and stores like any other.
//
// As a leader it hands over (transfer.cc). A target that does not take it, for
// it may be unfit as well, is given one election timeout like in any transfer,
// then another is asked. After two the leader steps down: then those who are
// fit find a leader among themselves.
#include <variant>

#include "raft/core_impl.h"

namespace kv739::raft {

void Core::Impl::SetFit(bool fit) {
  if (fit_ == fit) return;
  fit_ = fit;
  Wake();
  if (IsAlone()) return;
  if (auto* leader = std::get_if<Leader>(&role_)) {
    leader->unfit_ticks = 0;
    if (!fit) HandOver();
  } else if (!fit && std::holds_alternative<Candidate>(role_)) {
    // Votes that are still to come must not make it a leader.
    BecomeFollower(term_, NodeId());
  }
}

void Core::Impl::TickUnfit() {
  if (fit_ || IsAlone()) return;
  auto& leader = std::get<Leader>(role_);
  if (++leader.unfit_ticks >= 2 * options_.election_timeout_ticks) {
    BecomeFollower(term_, NodeId());
  } else {
    HandOver();
  }
}

}  // namespace kv739::raft
