// Leader election: Raft paper section 5.2, the voting restriction of 5.4.1,
// pre-vote (thesis section 9.6), and the quorum check of a leader (thesis
// section 6.2).
#include <algorithm>
#include <utility>

#include "raft/check.h"
#include "raft/core_impl.h"
#include "raft/planted.h"
#include "raft/quorum.h"

namespace kv739::raft {

void Core::Impl::ResetElectionTimer() {
  election_elapsed_ = 0;
  // Section 5.2: timeouts differ, so that votes are rarely split.
  const uint64_t shortest = now_ < hurry_until_
                                ? std::min(options_.gone_timeout_ticks,
                                           options_.election_timeout_ticks)
                                : options_.election_timeout_ticks;
  election_timeout_ = shortest + random_->Next() % shortest;
}

void Core::Impl::TickElection() {
  ++election_elapsed_;
  if (election_elapsed_ < election_timeout_) return;
  if (!MayCampaign()) {
    // A learner cannot do anything about it, but says that it has no leader.
    BecomeFollower(term_, NodeId());
  } else if (options_.pre_vote && !KV739_PLANTED(E2_no_pre_vote)) {
    StartPreVote();
  } else {
    StartElection(/*transfer=*/false);
  }
}

void Core::Impl::PeerGone(NodeId peer) {
  const bool watched = !AllPeers([&](NodeId id) { return id != peer; });
  if (quiet_ && watched && !KV739_PLANTED(Q1_quiet_and_deaf)) Wake(peer);
  auto* follower = std::get_if<Follower>(&role_);
  if (follower == nullptr || follower->leader != peer || !peer) return;
  if (LeasesKept() && !KV739_PLANTED(R4_promise_ends_with_the_connection)) {
    return;
  }
  if (follower->gone || options_.gone_timeout_ticks == 0 ||
      !options_.pre_vote) {
    return;
  }
  follower->gone = true;
  // Only as long as a leader would be missed anyway: where the first attempts
  // come to nothing, haste does not help.
  hurry_until_ = now_ + options_.election_timeout_ticks;
  const uint64_t drawn = 1 + random_->Next() % options_.gone_timeout_ticks;
  election_timeout_ = std::min(election_timeout_, election_elapsed_ + drawn);
}

bool Core::Impl::HasLiveLeader() const {
  if (is_leader()) return true;
  const auto* follower = std::get_if<Follower>(&role_);
  return follower != nullptr && follower->leader && !follower->gone &&
         election_elapsed_ < options_.election_timeout_ticks;
}

void Core::Impl::StartPreVote() {
  Candidate candidate;
  candidate.pre_vote = true;
  // A pre-vote promises nothing and need not be durable.
  candidate.Record(self(), true);
  role_ = std::move(candidate);
  ResetElectionTimer();
  AskForVotes(/*pre_vote=*/true, /*transfer=*/false);
  CountCandidateVotes();
}

void Core::Impl::EnterTerm(Term term) {
  term_ = term;
  vote_ = NodeId();
  // What was to be acknowledged to an earlier leader may be cut off before it
  // is on disk.
  std::erase_if(ready_.send_after_persist, [](const Envelope& e) {
    return std::holds_alternative<AppendEntriesResponse>(e.message);
  });
}

void Core::Impl::StartElection(bool transfer) {
  EnterTerm(term_ + 1);
  vote_ = self();
  role_ = Candidate{};
  ResetElectionTimer();
  AskForVotes(/*pre_vote=*/false, transfer);
}

void Core::Impl::AskForVotes(bool pre_vote, bool transfer) {
  for (NodeId id : configuration().Members()) {
    if (id == self() || !configuration().IsVoter(id)) continue;
    if (pre_vote) {
      Send(id, RequestVote{term_ + 1, log_.end(), true, false});
    } else {
      // Not before our own vote is durable: after a crash we could otherwise
      // win the same term twice.
      SendAfterPersist(id, RequestVote{term_, log_.end(), false, transfer});
    }
  }
}

void Core::Impl::CountCandidateVotes() {
  const auto& candidate = std::get<Candidate>(role_);
  const VoteOutcome outcome = CountVotes(
      configuration(), [&](NodeId node) { return candidate.VoteOf(node); });
  if (outcome == VoteOutcome::kPending) return;
  if (outcome == VoteOutcome::kLost) {
    BecomeFollower(term_, NodeId());
  } else if (candidate.pre_vote) {
    StartElection(/*transfer=*/false);
  } else {
    BecomeLeader();
  }
}

void Core::Impl::OnRequestVote(NodeId from, const RequestVote& m) {
  // Thesis sections 4.2.3 and 6.2: who hears from a leader does not help to
  // depose it, unless that leader itself asked for it (section 3.10). Not even
  // the term is taken over.
  if (m.term > term_ && options_.check_quorum && !m.transfer &&
      (HasLiveLeader() || MayHavePromised())) {
    return;
  }
  if (m.term < term_) {
    // The newer term in the answer is what ends a stand-off of pre-votes.
    if (KV739_PLANTED(E1_silent_refusal)) return;
    Send(from, RequestVoteResponse{term_, m.pre_vote, false});
    return;
  }
  if (!m.pre_vote && m.term > term_) BecomeFollower(m.term, NodeId());

  // Section 5.2: one vote per term, first come, first served; a pre-vote for a
  // term to come is bound by no vote given so far.
  const bool may_vote =
      (m.pre_vote && m.term > term_) || vote_ == from || (!vote_ && !leader());
  if (KV739_PLANTED(M7_learner_gives_no_vote) &&
      !configuration().IsVoter(self())) {
    return;
  }
  // Section 5.4.1: only to a log that is at least as complete as ours.
  const bool granted = may_vote && log_.IsUpToDate(m.last);
  if (m.pre_vote) {
    // A granted one names the term that was asked about; a refused one ours.
    Send(from, RequestVoteResponse{granted ? m.term : term_, true, granted});
    return;
  }
  if (granted) {
    vote_ = from;
    // A candidate gets its time before we try ourselves.
    election_elapsed_ = 0;
  }
  if (KV739_PLANTED(E3_vote_answered_before_the_disk)) {
    return Send(from, RequestVoteResponse{term_, false, granted});
  }
  SendAfterPersist(from, RequestVoteResponse{term_, false, granted});
}

void Core::Impl::OnRequestVoteResponse(NodeId from,
                                       const RequestVoteResponse& m) {
  const bool future = m.pre_vote && m.granted;
  if (!future && m.term > term_) return BecomeFollower(m.term, NodeId());
  auto* candidate = std::get_if<Candidate>(&role_);
  if (candidate == nullptr || candidate->pre_vote != m.pre_vote) return;
  if (m.pre_vote) {
    // A grant is for the term that we asked about. A refusal may carry an
    // older term than ours: the refuser does not take over the one asked for.
    if (m.granted && m.term != term_ + 1) return;
  } else if (m.term != term_) {
    return;
  }
  if (!configuration().IsVoter(from)) return Drop();
  candidate->Record(from, m.granted);
  CountCandidateVotes();
}

void Core::Impl::BecomeFollower(Term term, NodeId leader) {
  KV739_RAFT_CHECK(term >= term_, "terms do not fall");
  if (term > term_) EnterTerm(term);
  if (auto* old = std::get_if<Leader>(&role_)) {
    old->reads.FailAll(&ready_.failed_reads);
  }
  role_ = Follower{leader};
  quiet_ = false;
  ResetElectionTimer();
}

void Core::Impl::BecomeLeader() {
  Leader leader(options_.max_read_rounds, options_.max_pending_reads);
  // Section 5.3: begin by supposing that all logs are like ours.
  for (NodeId id : configuration().Members()) {
    if (id == self()) continue;
    leader.peers.emplace_back(id, log_.last() + 1, now_,
                              options_.max_inflight_messages,
                              options_.max_inflight_bytes);
  }
  // What earlier leaders left uncommitted counts as well.
  uint64_t bytes = 0;
  for (Index i = log_.committed() + 1; i <= log_.last(); ++i) {
    bytes += EntryBytes(log_.At(i));
  }
  if (bytes > 0) leader.uncommitted.Add(log_.last(), bytes);
  role_ = std::move(leader);
  active_at_ = now_;
  // Section 5.4.2 and thesis 6.4: entries of earlier terms are committed, and
  // reads answered, only once an entry of this term is committed.
  static const Payload empty = MakePayload("");
  AppendToLog({term_, log_.last() + 1, EntryKind::kNoop, empty});
  if (KV739_PLANTED(M5_joint_state_left_at_once) && configuration().joint()) {
    Configuration final_one = configuration();
    final_one.outgoing.clear();
    AppendConfiguration(final_one);
  }
  // Followers learn of us from the first AppendEntries.
}

bool Core::Impl::AcceptLeader(NodeId from, Term term) {
  KV739_RAFT_CHECK(term >= term_, "older terms are answered before");
  const bool rival =
      term == term_ && (is_leader() || (leader() && leader() != from));
  if (rival) {  // section 5.2: two leaders in one term cannot be
    Drop();
    return false;
  }
  const auto* follower = std::get_if<Follower>(&role_);
  if (term > term_ || leader() != from || follower->gone) {
    hurry_until_ = 0;
    BecomeFollower(term, from);
  }
  election_elapsed_ = 0;
  return true;
}

bool Core::Impl::QuorumHeardWithin(uint64_t ticks) const {
  const auto& leader = std::get<Leader>(role_);
  const uint64_t heard = QuorumValue(configuration(), [&](NodeId node) {
    if (node == self()) return now_;
    const Progress* peer = leader.Find(node);
    return peer != nullptr ? peer->last_heard() : 0;
  });
  return now_ - heard < ticks;
}

}  // namespace kv739::raft
