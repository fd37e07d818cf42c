#include "tests/simulation/sim_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "raft/describe.h"

namespace kv739::world {
namespace {

using raft::GroupId;
using raft::Index;
using raft::LogPosition;
using raft::NodeId;
using raft::Term;

// How often states are compared.
constexpr uint64_t kHashEvery = 16;

uint64_t Digest(absl::string_view bytes) {
  uint64_t digest = 0xcbf29ce484222325ULL;
  for (char c : bytes) {
    digest = (digest ^ static_cast<uint8_t>(c)) * 0x100000001b3ULL;
  }
  return digest;
}

std::string Name(NodeId node, GroupId group) {
  return absl::StrCat("node ", absl::Hex(node.value()), ", group ",
                      group.value(), ": ");
}

}  // namespace

void Checks::OnWrite(NodeId node, const ShadowLog& before,
                     const wal::GroupWrite& write) {
  if (write.entries.empty()) return;
  Group& group = groups_[write.group];
  const Index previous = write.entries.front().index - 1;
  Term previous_term;
  if (previous >= before.start.index) {
    const auto term = before.TermAt(previous);
    if (!term) {
      return Fail(absl::StrCat("P3 ", Name(node, write.group),
                               "leaves a gap in its log behind ",
                               before.last().value()));
    }
    previous_term = *term;
  }
  for (const raft::Entry& entry : write.entries) {
    const Known now{previous_term,
                    Digest(*entry.data) ^ static_cast<uint64_t>(entry.kind)};
    auto [known, first] = group.entries.try_emplace(
        {entry.term.value(), entry.index.value()}, now);
    const bool same_previous = !previous_term || !known->second.previous ||
                               known->second.previous == previous_term;
    if (!first && (known->second.digest != now.digest || !same_previous)) {
      Fail(absl::StrCat("P3 ", Name(node, write.group), "has another ",
                        raft::Describe(LogPosition{entry.term, entry.index})));
    }
    if (entry.index <= group.last() &&
        group.committed[entry.index.value() - 1] != entry.term &&
        before.TermAt(entry.index) ==
            group.committed[entry.index.value() - 1]) {
      Fail(absl::StrCat("P4 ", Name(node, write.group), "replaces committed ",
                        entry.index.value()));
    }
    previous_term = entry.term;
  }
}

const ShadowLog* Checks::Durable(NodeId node, GroupId group) const {
  const ShadowLog* log = durable_(node, group);
  if (log != nullptr) return log;
  const auto lost = lost_.find(node);
  if (lost == lost_.end()) return nullptr;
  const auto it = lost->second.find(group);
  return it == lost->second.end() ? nullptr : &it->second;
}

void Checks::OnVote(NodeId node, GroupId group, Term term, NodeId candidate) {
  auto [known, first] =
      groups_[group].votes.emplace(std::make_pair(node, term), candidate);
  if (known->second == candidate) return;
  Fail(absl::StrCat("P2 ", Name(node, group), "votes for ",
                    absl::Hex(known->second.value()), " and ",
                    absl::Hex(candidate.value()), " in term ", term.value()));
}

void Checks::OnSend(NodeId node, NodeId to, GroupId group,
                    const raft::Message& message, const ShadowLog* durable) {
  if (const auto* vote = std::get_if<raft::RequestVoteResponse>(&message)) {
    if (vote->pre_vote || !vote->granted) return;
    OnVote(node, group, vote->term, to);
    if (durable == nullptr || durable->hard.term < vote->term ||
        (durable->hard.term == vote->term && durable->hard.vote != to)) {
      Fail(absl::StrCat("P2 ", Name(node, group), "gives a vote in term ",
                        vote->term.value(), " that its disk does not have"));
    }
  } else if (const auto* ask = std::get_if<raft::RequestVote>(&message)) {
    if (!ask->pre_vote) OnVote(node, group, ask->term, node);
  } else if (const auto* ack =
                 std::get_if<raft::AppendEntriesResponse>(&message)) {
    if (!ack->success) return;
    // It has dropped the replica since, and is no voter any more: whoever
    // counts it all the same is told by what is committed.
    if (durable != nullptr && !durable->start.index) return;
    // It has heard of a newer term since it accepted that, and what it had is
    // replaced, perhaps in the same write of the log: as if the message had
    // been late. A commit that counts it is held against the disks.
    if (durable != nullptr && durable->hard.term > ack->term) return;
    if (durable == nullptr || durable->hard.term < ack->term ||
        durable->last() < ack->index) {
      Fail(absl::StrCat(
          "P6 ", Name(node, group), "acknowledges ", ack->index.value(),
          " in term ", ack->term.value(), ", its disk has ",
          durable == nullptr ? 0 : durable->last().value(), " and term ",
          durable == nullptr ? 0 : durable->hard.term.value()));
    }
  }
}

void Checks::OnLeader(NodeId node, GroupId id, const raft::Core& core,
                      const ShadowLog& written, bool log_idle) {
  Group& group = groups_[id];
  auto [known, first] = group.leaders.emplace(core.term(), node);
  if (known->second != node) {
    return Fail(absl::StrCat("P1 group ", id.value(), " term ",
                             core.term().value(), ": ",
                             absl::Hex(known->second.value()), " and ",
                             absl::Hex(node.value()), " lead"));
  }
  if (!first) return;
  ++leaders_;
  // Section 5.4.3 of the paper is about leaders of later terms: one that was
  // paused may win an older term when nobody cares any more.
  Index index;
  for (const auto& [term, last] : group.committed_in) {
    if (term < core.term()) index = std::max(index, last);
  }
  if (!index) return;
  const LogPosition last{group.committed[index.value() - 1], index};
  if (written.last() < last.index ? log_idle : !written.Covers(last)) {
    Fail(absl::StrCat("P4 ", Name(node, id), "leads term ", core.term().value(),
                      " without committed ", raft::Describe(last)));
  }
}

// Whether a majority of each half has `at` on its disk. `*example` is a log
// that still holds it.
std::string Checks::NotDurable(GroupId id, LogPosition at,
                               const raft::Configuration& configuration,
                               const ShadowLog** example) const {
  for (const auto* half : {&configuration.voters, &configuration.outgoing}) {
    if (half->empty()) continue;
    size_t have = 0;
    std::string logs;  // the disk of each: where it ends
    for (NodeId voter : *half) {
      const ShadowLog* log = Durable(voter, id);
      absl::StrAppend(&logs, logs.empty() ? "" : " ",
                      log == nullptr ? 0 : log->last().value());
      if (log == nullptr || !log->Covers(at)) continue;
      ++have;
      if (log->start.index < at.index) *example = log;
    }
    if (have * 2 > half->size()) continue;
    return absl::StrCat("which is durable on ", have, " of ", half->size(),
                        " in ", raft::Describe(configuration),
                        ", whose disks end at ", logs);
  }
  return *example == nullptr ? "which no log holds" : "";
}

// The entry of the leader's own term that it now takes for committed, and with
// it all before (paper section 5.4.2). By what was in force before this step,
// or by what came into force within it: several answers may come in one step,
// and the first of them end a change of members.
void Checks::OnLeaderCommit(NodeId node, GroupId id, const raft::Core& core,
                            const raft::Configuration& before) {
  Group& group = groups_[id];
  const Index commit = core.commit();
  if (commit <= group.last()) return;
  const LogPosition at{core.term(), commit};
  const ShadowLog* example = nullptr;
  raft::Configuration configuration = before;
  std::string missing = NotDurable(id, at, before, &example);
  if (!missing.empty()) {
    configuration = core.Status().configuration;
    if (configuration != before) {
      example = nullptr;
      missing = NotDurable(id, at, configuration, &example);
    }
  }
  if (!missing.empty()) {
    return Fail(absl::StrCat("P6 ", Name(node, id), "commits ",
                             raft::Describe(at), ", ", missing));
  }
  for (Index i = group.last() + 1; i <= commit; ++i) {
    group.committed.push_back(example->TermAt(i).value_or(Term()));
  }
  group.committed_in[at.term] = commit;
  group.configuration = configuration;
}

void Checks::OnApplied(NodeId node, GroupId id, Index before,
                       const raft::Core& core, const kv::StateMachine& machine,
                       const ShadowLog& written) {
  Group& group = groups_[id];
  const LogPosition at = machine.applied();
  if (at.index > group.last()) {
    return Fail(absl::StrCat("P6 ", Name(node, id), "applies ",
                             raft::Describe(at), ", committed is ",
                             group.last().value()));
  }
  auto check = [&](Index index, Term term) {
    const Term known = group.committed[index.value() - 1];
    if (known && term && known != term) {
      Fail(absl::StrCat("P4 ", Name(node, id), "applies ",
                        raft::Describe(LogPosition{term, index}),
                        ", committed is term ", known.value()));
    }
  };
  // What a snapshot brought was not applied from the log. While the log is busy
  // with other groups, what it writes does not say so yet.
  const Index by_snapshot = std::max(before, core.log_start().index);
  for (Index i = by_snapshot + 1; i < at.index; ++i) {
    check(i, written.TermAt(i).value_or(Term()));
  }
  if (!at.index) return;
  check(at.index, at.term);
  if (at.index.value() % kHashEvery != 0) return;
  const auto hash = machine.Hash();
  if (!hash.ok()) return Fail(absl::StrCat("P5 ", hash.status().ToString()));
  if (hash->index != at.index) return;
  ++hashes_;
  auto [known, first] = group.hashes.emplace(at.index, hash->hash);
  if (known->second != hash->hash) {
    Fail(absl::StrCat("P5 ", Name(node, id), "has another state at ",
                      at.index.value()));
  }
}

void Checks::Look(NodeId node, GroupId group, const raft::Core& core,
                  const kv::StateMachine& machine, const ShadowLog& written,
                  bool log_idle, SeenReplica* seen) {
  if (core.commit() < seen->commit || core.applied() < seen->applied) {
    Fail(absl::StrCat("P4 ", Name(node, group), "goes back from ",
                      seen->commit.value(), "/", seen->applied.value(), " to ",
                      core.commit().value(), "/", core.applied().value()));
  }
  if (core.IsLeader()) {
    if (!seen->leader || seen->term != core.term()) {
      seen->configuration = core.Status().configuration;
      OnLeader(node, group, core, written, log_idle);
    }
    // By what was in force before this step: the configuration that it appends
    // counts from the next one on.
    if (core.commit() > seen->commit) {
      OnLeaderCommit(node, group, core, seen->configuration);
    }
    if (core.last_index() != seen->last) {
      seen->configuration = core.Status().configuration;
    }
  }
  if (core.applied() > seen->applied) {
    OnApplied(node, group, seen->applied, core, machine, written);
  }
  seen->commit = core.commit();
  seen->applied = core.applied();
  seen->last = core.last_index();
  seen->term = core.term();
  seen->leader = core.IsLeader();
}

void Checks::OnMap(NodeId node, const kv::ClusterMap& map, uint64_t* epoch) {
  if (map.epoch < *epoch) {
    Fail(absl::StrCat("P8 node ", absl::Hex(node.value()),
                      " goes back from map ", *epoch, " to ", map.epoch));
  }
  *epoch = map.epoch;
  const uint64_t digest = Digest(kv::EncodeClusterMap(map));
  auto [known, first] = maps_.emplace(map.epoch, digest);
  if (known->second != digest) {
    Fail(absl::StrCat("P8 node ", absl::Hex(node.value()),
                      " has another map of epoch ", map.epoch));
  }
}

Index Checks::committed(GroupId group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() ? Index(1) : it->second.last();
}

LogPosition Checks::committed_position(GroupId group) const {
  const auto it = groups_.find(group);
  if (it == groups_.end()) return {Term(1), Index(1)};
  return {it->second.committed.back(), it->second.last()};
}

const raft::Configuration* Checks::configuration(GroupId group) const {
  const auto it = groups_.find(group);
  return it == groups_.end() || it->second.configuration.voters.empty()
             ? nullptr
             : &it->second.configuration;
}

}  // namespace kv739::world
