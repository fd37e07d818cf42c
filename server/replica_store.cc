#include "server/replica_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "raft/planted.h"

namespace kv739::server {
namespace {

constexpr uint64_t kReadBytes = 8 << 20;  // of the log at once

// Reads (applied, last] into `state->entries`.
absl::Status ReadUnapplied(wal::Wal* wal, raft::GroupId group,
                           raft::InitialState* state) {
  raft::Index next = state->applied + 1;
  while (next <= state->last_index) {
    auto entries = wal->Read(group, next, state->last_index, kReadBytes);
    if (!entries.ok()) return entries.status();
    if (entries->empty()) {
      return absl::DataLossError(
          absl::StrCat("the log of group ", group.value(), " has no entry ",
                       next.value(), " although it should"));
    }
    next = entries->back().index + 1;
    std::move(entries->begin(), entries->end(),
              std::back_inserter(state->entries));
  }
  return absl::OkStatus();
}

absl::Status Lost(raft::GroupId group, absl::string_view what) {
  return absl::DataLossError(absl::StrCat("group ", group.value(), ": ", what));
}

// Every group's log begins behind kFirstPosition or later.
bool HasLog(const wal::RecoveredGroup& log) {
  return log.start.index || log.last_index;
}

// Of an entry of the log or of its start; none for any other index.
raft::Term TermAt(const wal::RecoveredGroup& log, raft::Index index) {
  if (index == log.start.index) return log.start.term;
  raft::Term term;
  if (index < log.start.index || index > log.last_index) return term;
  for (const raft::TermRun& run : log.terms) {
    if (run.first <= index) term = run.term;
  }
  return term;
}

// A crash came between the switch of the state machine to a snapshot and the
// log's share of it: nothing of such a log follows the snapshot (the rule of
// Persist::snapshot). The hard state was durable before the switch; an older
// one means that the log has lost something else.
absl::Status BeginLogBehind(raft::LogPosition applied, raft::GroupId group,
                            wal::Wal* wal, wal::RecoveredGroup* log) {
  if (log->hard_state.term < applied.term ||
      KV739_PLANTED(S4_snapshot_ahead_of_the_log_refused)) {
    return Lost(group, absl::StrCat("the state machine has applied entry ",
                                    applied.index.value(), " of term ",
                                    applied.term.value(),
                                    ", but the log knows of no term above ",
                                    log->hard_state.term.value()));
  }
  wal::GroupWrite write;
  write.group = group;
  write.compact = applied;
  absl::Status status = wal->Append({&write, 1});
  if (!status.ok()) return status;
  log->start = applied;
  log->last_index = applied.index;
  log->terms.clear();
  return absl::OkStatus();
}

absl::StatusOr<HostedReplica> LoadReplica(kv::Engine* engine, wal::Wal* wal,
                                          raft::GroupId group) {
  auto machine = kv::StateMachine::Open(engine, group);
  if (!machine.ok()) return machine.status();
  HostedReplica replica;
  replica.group = group;
  replica.machine = *std::move(machine);
  raft::InitialState& state = replica.state;
  const raft::LogPosition applied = replica.machine->applied();
  state.applied = applied.index;
  state.applied_configuration = replica.machine->configuration();
  state.snapshot.configuration = replica.machine->configuration();

  auto recovered = wal->recovered().find(group);
  if (recovered == wal->recovered().end()) {
    if (applied != kv::kFirstPosition) {
      return Lost(group, absl::StrCat("the state machine has applied entry ",
                                      applied.index.value(),
                                      ", but the log has nothing of it"));
    }
    // Made in this very start: the log was opened before.
    state.hard_state = {applied.term, raft::NodeId(), applied.index};
    state.snapshot.position = applied;
    state.last_index = applied.index;
    return replica;
  }
  wal::RecoveredGroup log = recovered->second;
  if (log.start.index > applied.index) {
    return Lost(group, absl::StrCat("the log begins behind entry ",
                                    log.start.index.value(),
                                    ", but the state machine has applied only ",
                                    applied.index.value()));
  }
  if (TermAt(log, applied.index) != applied.term) {
    if (log.start.index == applied.index) {
      return Lost(
          group,
          absl::StrCat("the log begins behind entry ", applied.index.value(),
                       " of term ", log.start.term.value(),
                       ", which the state machine has as of term ",
                       applied.term.value()));
    }
    absl::Status status = BeginLogBehind(applied, group, wal, &log);
    if (!status.ok()) return status;
  }
  state.hard_state = log.hard_state;
  state.snapshot.position = log.start;
  state.terms = log.terms;
  state.last_index = log.last_index;
  // What was applied was committed.
  state.hard_state.commit = std::max(state.hard_state.commit, applied.index);
  absl::Status status = ReadUnapplied(wal, group, &state);
  if (!status.ok()) return status;
  return replica;
}

// What the log knows of a group that the store does not have: its vote.
absl::StatusOr<HostedReplica> LoadVacant(kv::Engine* engine,
                                         raft::GroupId group,
                                         const wal::RecoveredGroup& log) {
  if (log.last_index) {
    return Lost(group, absl::StrCat("the log holds entries up to ",
                                    log.last_index.value(),
                                    ", but the store has nothing of it"));
  }
  HostedReplica replica;
  replica.group = group;
  replica.machine = kv::StateMachine::Vacant(engine, group);
  replica.state.hard_state = log.hard_state;
  replica.state.hard_state.commit = raft::Index();
  return replica;
}

}  // namespace

absl::Status CreateReplicas(kv::Engine* engine, wal::Wal* wal,
                            const kv::ClusterMap& map, raft::NodeId self) {
  std::vector<wal::GroupWrite> logs;
  for (const kv::GroupInfo& group : map.groups) {
    if (!std::binary_search(group.members.begin(), group.members.end(), self)) {
      continue;
    }
    raft::Configuration configuration;
    configuration.voters = group.members;
    absl::Status status =
        kv::StateMachine::Create(engine, group.id, configuration);
    // There already: an earlier start was cut off behind this point.
    if (!status.ok() && !absl::IsAlreadyExists(status)) return status;
    auto known = wal->recovered().find(group.id);
    if (known != wal->recovered().end() &&
        known->second.start.index >= kv::kFirstPosition.index) {
      continue;
    }
    wal::GroupWrite write;
    write.group = group.id;
    write.hard_state = raft::HardState{kv::kFirstPosition.term, raft::NodeId(),
                                       kv::kFirstPosition.index};
    write.compact = kv::kFirstPosition;
    logs.push_back(std::move(write));
  }
  absl::Status status = engine->Flush();
  if (!status.ok()) return status;
  return wal->Append(logs);
}

absl::StatusOr<std::vector<HostedReplica>> LoadReplicas(
    kv::Engine* engine, wal::Wal* wal, const std::string& install_dir) {
  auto groups = kv::StateMachine::List(*engine);
  if (!groups.ok()) return groups.status();
  for (auto group = groups->begin(); group != groups->end();) {
    auto log = wal->recovered().find(*group);
    if (log == wal->recovered().end() || HasLog(log->second) ||
        KV739_PLANTED(M6_state_without_a_log_serves)) {
      ++group;
      continue;
    }
    absl::Status status = kv::StateMachine::Remove(engine, *group, install_dir);
    if (!status.ok()) return status;
    group = groups->erase(group);
  }
  std::vector<HostedReplica> replicas;
  for (raft::GroupId group : *groups) {
    auto replica = LoadReplica(engine, wal, group);
    if (!replica.ok()) return replica.status();
    replicas.push_back(*std::move(replica));
  }
  for (const auto& [group, log] : wal->recovered()) {
    if (std::find(groups->begin(), groups->end(), group) != groups->end()) {
      continue;
    }
    auto replica = LoadVacant(engine, group, log);
    if (!replica.ok()) return replica.status();
    replicas.push_back(*std::move(replica));
  }
  std::sort(replicas.begin(), replicas.end(),
            [](const HostedReplica& a, const HostedReplica& b) {
              return a.group < b.group;
            });
  return replicas;
}

}  // namespace kv739::server
