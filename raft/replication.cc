// Log replication: Raft paper section 5.3, and commitment as in section 5.4.
#include <algorithm>
#include <utility>

#include "raft/check.h"
#include "raft/core_impl.h"
#include "raft/planted.h"
#include "raft/quorum.h"

namespace kv739::raft {
namespace {

// What an honest leader never sends. The rest of the code relies on it.
bool MakesSense(const AppendEntries& m) {
  if (bool(m.previous.index) != bool(m.previous.term)) return false;
  if (m.previous.term > m.term) return false;
  if (m.previous.index.value() >= kNumberLimit - m.entries.size()) return false;
  Index index = m.previous.index;
  Term term = m.previous.term;
  for (const Entry& entry : m.entries) {
    ++index;
    if (entry.index != index || entry.term < term || entry.term > m.term ||
        !entry.term || !entry.data) {
      return false;
    }
    switch (entry.kind) {
      case EntryKind::kCommand:
      case EntryKind::kNoop:
        break;
      case EntryKind::kConfiguration:
        if (!DecodeConfiguration(*entry.data).ok()) return false;
        break;
      default:
        return false;
    }
    term = entry.term;
  }
  return true;
}

}  // namespace

// ---- follower ----

void Core::Impl::OnAppendEntries(NodeId from, const AppendEntries& m) {
  if (!MakesSense(m)) return Drop();
  if (m.term < term_) {
    // Section 5.1; the term in the answer makes an old leader step down.
    Send(from, AppendEntriesResponse{term_, false, m.previous.index, {}});
    return;
  }
  if (!AcceptLeader(from, m.term)) return;

  const Index covered = m.previous.index + m.entries.size();
  if (m.previous.index > log_.committed() && !log_.Matches(m.previous)) {
    // Where might we agree? Not at `previous`, and with no term above it; what
    // is committed agrees always.
    LogPosition hint = log_.LastNotAbove(m.previous.index - 1, m.previous.term);
    if (hint.index < log_.committed()) {
      hint = {*log_.TermAt(log_.committed()), log_.committed()};
    }
    Send(from, AppendEntriesResponse{term_, false, m.previous.index, hint});
    return;
  }
  if (m.previous.index >= log_.first() && !log_.Matches(m.previous)) {
    return Drop();  // contradicts what is committed
  }

  // Section 5.3: only a conflict truncates. What matches may be an old message
  // and says nothing of what follows.
  size_t next = 0;
  for (; next < m.entries.size(); ++next) {
    const Entry& entry = m.entries[next];
    if (entry.index <= log_.snapshot().index) continue;
    if (entry.index > log_.last()) break;
    if (log_.Matches({entry.term, entry.index})) continue;
    if (entry.index <= log_.committed()) return Drop();
    TruncateLog(entry.index);
    break;
  }
  for (; next < m.entries.size(); ++next) AppendToLog(m.entries[next]);
  if (KV739_PLANTED(L3_old_append_truncates) && covered < log_.last() &&
      covered >= log_.committed()) {
    TruncateLog(covered + 1);
  }

  // Section 5.3: nothing is known yet of our entries behind `covered`.
  log_.CommitTo(std::min(m.commit, covered));
  Acknowledge(from, covered);
}

void Core::Impl::Acknowledge(NodeId to, Index index) {
  // All that arrived in one turn is answered at once.
  if (!ready_.send_after_persist.empty()) {
    Envelope& last = ready_.send_after_persist.back();
    auto* ack = std::get_if<AppendEntriesResponse>(&last.message);
    if (ack != nullptr && last.to == to && ack->success && ack->term == term_) {
      ack->index = std::max(ack->index, index);
      return;
    }
  }
  if (KV739_PLANTED(L1_acknowledged_before_durable)) {
    return Send(to, AppendEntriesResponse{term_, true, index, {}});
  }
  SendAfterPersist(to, AppendEntriesResponse{term_, true, index, {}});
}

void Core::Impl::OnHeartbeat(NodeId from, const Heartbeat& m) {
  if (m.term < term_) {
    Send(from, HeartbeatResponse{term_, m.round, false});
    return;
  }
  if (!AcceptLeader(from, m.term)) return;
  if (m.commit > log_.last()) {
    Drop();  // still a sign of life, and answered
  } else {
    log_.CommitTo(m.commit);
  }
  if (AgreesToBeQuiet(m)) {
    quiet_ = true;
    return;
  }
  Send(from, HeartbeatResponse{term_, m.round, LeasesKept()});
}

// ---- leader: answers ----

void Core::Impl::OnAppendEntriesResponse(NodeId from,
                                         const AppendEntriesResponse& m) {
  if (m.term > term_) return BecomeFollower(m.term, NodeId());
  auto* leader = std::get_if<Leader>(&role_);
  if (m.term < term_ || leader == nullptr) return;
  Progress* peer = leader->Find(from);
  if (peer == nullptr || m.index > log_.last()) return Drop();
  peer->Heard(now_);
  if (m.success) {
    if (!peer->Acknowledged(m.index, log_.first())) return;
    AdvanceCommit();
    ContinueTransfer();
    return;
  }
  if (m.hint.index >= m.index) return Drop();
  if (m.index < peer->match()) return;  // out of date
  if (m.index == peer->match()) {
    // It had this on its disk and has it no more (or the answer is very old,
    // and it will say so). Without this nothing would be sent to it any more.
    if (m.index) peer->Forgot();
    return;
  }
  // Section 5.3, fast backtracking from our side: skip what is newer than
  // anything it may have there.
  const LogPosition ours = log_.LastNotAbove(m.hint.index, m.hint.term);
  const Index next = std::clamp(ours.index + 1, peer->match() + 1, m.index);
  peer->Refused(m.index, next);
}

void Core::Impl::OnHeartbeatResponse(NodeId from, const HeartbeatResponse& m) {
  if (m.term > term_) return BecomeFollower(m.term, NodeId());
  auto* leader = std::get_if<Leader>(&role_);
  if (m.term < term_ || leader == nullptr) return;
  Progress* peer = leader->Find(from);
  if (peer == nullptr || m.round > leader->reads.newest()) return Drop();
  peer->Heard(now_);
  if (m.promise && m.round > peer->promised_round()) {
    peer->Promised(m.round);
    RenewLease();
  }
  if (m.round > peer->round()) {
    peer->AnsweredRound(m.round);
    ConfirmReads();
  }
}

void Core::Impl::AdvanceCommit() {
  auto& leader = std::get<Leader>(role_);
  const Index index = QuorumIndex(configuration(), [&](NodeId node) {
    // Our own copy counts once it is durable, like any other.
    if (node == self()) {
      return KV739_PLANTED(L1_own_copy_counts_at_once) ? log_.last()
                                                       : log_.durable();
    }
    const Progress* peer = leader.Find(node);
    return peer != nullptr ? peer->match() : Index();
  });
  // Section 5.4.2, figure 8: copies are counted for our own term only;
  // everything before is committed with it.
  const bool own_term = KV739_PLANTED(C1_old_term_committed_by_counting) ||
                        log_.TermAt(index) == term_;
  if (index <= log_.committed() || !own_term) return;
  log_.CommitTo(index);
  leader.uncommitted.CommittedTo(index);
  ContinueChange();
}

// ---- leader: sending ----

void Core::Impl::TickLeader() {
  // Thesis section 6.2: a leader that hears from no quorum is none.
  if (options_.check_quorum && !KV739_PLANTED(E5_no_quorum_check) &&
      !QuorumHeardWithin(options_.election_timeout_ticks)) {
    return BecomeFollower(term_, NodeId());
  }
  TickTransfer();
  if (!is_leader()) return;
  TickDiskStall();
  if (!is_leader()) return;
  TickUnfit();
  if (!is_leader()) return;
  TickReads();
  TickHoldingBack();
  auto& leader = std::get<Leader>(role_);
  if (++leader.heartbeat_elapsed < options_.heartbeat_ticks) return;
  leader.heartbeat_elapsed = 0;
  StartLeaseRound();
  SendHeartbeats();
  for (Progress& peer : leader.peers) {
    const bool silent =
        now_ - peer.last_heard() >= options_.election_timeout_ticks;
    if (silent && peer.state() == Progress::State::kReplicate) {
      peer.BecomeProbe();
    } else if (peer.OnHeartbeatTick()) {
      if (log_.TermAt(peer.next() - 1)) {
        // Did they get lost? This one is refused if so.
        SendAppend(&peer, {}, 0);
      } else {
        // That can no longer be asked: begin again where it surely is, with
        // a snapshot if need be.
        peer.BecomeProbe();
      }
    }
  }
  ContinueTransfer();
}

void Core::Impl::SendHeartbeat(const Progress& peer) {
  const auto& leader = std::get<Leader>(role_);
  const Index known = KV739_PLANTED(L3_heartbeat_commits_unmatched)
                          ? log_.committed()
                          : std::min(peer.match(), log_.committed());
  Send(peer.id(), Heartbeat{term_, known, leader.reads.newest()});
}

void Core::Impl::SendHeartbeats() {
  const auto& leader = std::get<Leader>(role_);
  for (const Progress& peer : leader.peers) SendHeartbeat(peer);
}

void Core::Impl::SendAppends(Progress* peer) {
  while (peer->CanSend(log_.last())) {
    if (peer->next() < log_.first()) {
      return AskForSnapshot(peer);
    }
    const bool with_entries =
        peer->next() <= log_.last() && !peer->probes_empty();
    if (with_entries && peer->next() < log_.first_in_memory()) {
      return AskForFetch(peer);
    }
    std::vector<Entry> entries;
    uint64_t bytes = 0;
    if (with_entries) {
      bytes = log_.Copy(
          peer->next(), log_.last(), options_.max_append_entries,
          std::min(options_.max_append_bytes, peer->inflights().free_bytes()),
          &entries);
    }
    SendAppend(peer, std::move(entries), bytes);
  }
}

void Core::Impl::SendAppend(Progress* peer, std::vector<Entry> entries,
                            uint64_t bytes) {
  const Index previous = peer->next() - 1;
  const std::optional<Term> term = log_.TermAt(previous);
  if (!term) return;  // compacted away: see TickLeader()
  if (!entries.empty())
    peer->Sent(entries.back().index, bytes);
  else if (peer->state() == Progress::State::kProbe)
    peer->Sent(previous, 0);
  Send(peer->id(),
       AppendEntries{
           term_, {*term, previous}, log_.committed(), std::move(entries)});
}

void Core::Impl::AskForFetch(Progress* peer) {
  const Index last = std::min(peer->next() + (options_.max_append_entries - 1),
                              log_.first_in_memory() - 1);
  peer->FetchStarted();
  ready_.fetch.push_back(
      {peer->id(), peer->next(), last,
       std::min(options_.max_append_bytes, peer->inflights().free_bytes())});
}

void Core::Impl::Fetched(NodeId id, std::vector<Entry> entries) {
  auto* leader = std::get_if<Leader>(&role_);
  if (leader == nullptr) return;
  Progress* peer = leader->Find(id);
  if (peer == nullptr || !peer->fetching()) return;
  // The answers to others may have moved things on since it was asked for.
  const Index next = peer->next();
  auto begin = std::find_if(entries.begin(), entries.end(),
                            [&](const Entry& e) { return e.index == next; });
  entries.erase(entries.begin(), begin);
  peer->FetchDone(!entries.empty());
  if (entries.empty() || !peer->CanSend(log_.last())) return;
  uint64_t bytes = 0;
  Index expected = next;
  for (const Entry& entry : entries) {
    KV739_RAFT_CHECK(entry.index == expected && entry.data &&
                         log_.Matches({entry.term, entry.index}),
                     "entries read from disk are those of the log");
    bytes += EntryBytes(entry);
    ++expected;
  }
  SendAppend(peer, std::move(entries), bytes);
}

}  // namespace kv739::raft
