#include "tests/support/sim_node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv739::sim {

using raft::Entry;
using raft::Envelope;

SimNode::SimNode(const raft::Options& options, raft::SnapshotMeta initial,
                 raft::Random* random, SafetyChecker* checker)
    : options_(options), random_(random), checker_(checker), disk_(initial) {
  flushed_.applied = initial.position.index;
  flushed_.term = initial.position.term;
  flushed_.configuration = std::move(initial.configuration);
  Start();
}

void SimNode::Start() {
  state_ = flushed_;
  led_ = false;
  // A crash may have come between the switch to a snapshot and the log's share.
  if (state_.applied && disk_.durable().TermAt(state_.applied) != state_.term) {
    disk_.Install(state_.meta());
  }
  raft::InitialState initial = disk_.Recover(state_.applied);
  initial.applied_configuration = state_.configuration;
  auto core = raft::Core::Create(options_, std::move(initial), random_);
  if (!core.ok()) {
    checker_->Fail(absl::StrCat(id().value(),
                                " does not start: ", core.status().ToString()));
    return;
  }
  core_ = *std::move(core);
  checked_commit = core_->commit();
}

void SimNode::Crash(size_t survivors) {
  core_.reset();
  disk_.Crash(survivors);
}

bool SimNode::Switch(const SimState& snapshot) {
  if (snapshot.applied <= state_.applied) return false;
  state_ = snapshot;
  flushed_ = snapshot;
  return true;
}

void SimNode::CheckSend(const Envelope& envelope) {
  if (auto* vote = std::get_if<raft::RequestVoteResponse>(&envelope.message)) {
    if (vote->granted && !vote->pre_vote) {
      checker_->OnVote(id(), vote->term, envelope.to);
    }
  } else if (auto* ask = std::get_if<raft::RequestVote>(&envelope.message)) {
    if (!ask->pre_vote) checker_->OnVote(id(), ask->term, id());
  } else if (auto* ack =
                 std::get_if<raft::AppendEntriesResponse>(&envelope.message)) {
    if (ack->success) {
      checker_->OnAcknowledge(
          id(), ack->index, std::max(disk_.durable().last(), flushed_.applied));
    }
  }
}

// What the core takes for durable is on disk, and no write that is under way
// goes over it.
void SimNode::CheckDurable() {
  const raft::Index durable = core_->Status().durable;
  const std::optional<raft::Index> lowest =
      disk_.LowestPending(flushed_.applied);
  if (durable > std::max(disk_.durable().last(), flushed_.applied) ||
      (lowest && *lowest <= durable)) {
    checker_->Fail(absl::StrCat("durability: ", id().value(), " takes ",
                                durable.value(), " for durable"));
  }
}

SimNode::Output SimNode::Turn(bool lazy) {
  raft::Ready ready = core_->TakeReady();
  Output out;
  out.led = led_ && core_->IsLeader() && led_term_ == core_->term();
  raft::Configuration at_snapshot;
  if (ready.persist.snapshot) {
    // No turn passes between the switch and this, so the state is the snapshot.
    at_snapshot = state_.configuration;
    DiskImage before = disk_.written();
    before.Install({*ready.persist.snapshot, at_snapshot});
    checker_->OnInstall(id(), *ready.persist.snapshot, state_.digest);
    checker_->OnWrite(id(), out.led, before, ready.persist.entries);
  } else {
    checker_->OnWrite(id(), out.led, disk_.written(), ready.persist.entries);
  }
  out.wrote = !ready.persist.empty() || !ready.send_after_persist.empty();
  if (out.wrote) {
    disk_.Write(std::move(ready.persist), std::move(ready.send_after_persist),
                std::move(at_snapshot));
  }
  led_ = core_->IsLeader();
  led_term_ = core_->term();
  if (led_) checker_->OnLeader(id(), led_term_, disk_.written());
  for (const Envelope& envelope : ready.send_now) CheckSend(envelope);
  for (const Entry& entry : ready.committed) {
    if (entry.index != state_.applied + 1) {
      checker_->Fail(absl::StrCat(id().value(), " applies out of order"));
    }
    state_.applied = entry.index;
    state_.term = entry.term;
    if (entry.kind == raft::EntryKind::kConfiguration) {
      state_.configuration = raft::DecodeConfiguration(*entry.data).value();
    }
    state_.digest = Mix(state_.digest, DigestOf(entry));
  }
  if (!lazy) core_->Applied(state_.applied);
  out.send = std::move(ready.send_now);
  out.applied = std::move(ready.committed);
  out.reads = std::move(ready.reads);
  out.failed_reads = std::move(ready.failed_reads);
  out.fetch = std::move(ready.fetch);
  out.needs_snapshot = std::move(ready.needs_snapshot);
  out.wants_snapshot = std::move(ready.wants_snapshot);
  return out;
}

std::vector<Envelope> SimNode::CompleteWrite() {
  SimDisk::Completion done = disk_.CompleteOldest();
  for (const Envelope& envelope : done.send) CheckSend(envelope);
  core_->Persisted(done.position);
  CheckDurable();
  return std::move(done.send);
}

}  // namespace kv739::sim
