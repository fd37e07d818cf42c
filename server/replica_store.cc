#include "server/replica_store.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

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
    if (applied == kv::kFirstPosition) {
      // Made in this very start: the log was opened before.
      state.hard_state = {applied.term, raft::NodeId(), applied.index};
      state.snapshot.position = applied;
      state.last_index = applied.index;
      return replica;
    }
    if (applied.index) {
      return absl::DataLossError(absl::StrCat(
          "group ", group.value(), " has applied entry ", applied.index.value(),
          " but the log has nothing of it"));
    }
    return replica;
  }
  const wal::RecoveredGroup& log = recovered->second;
  state.hard_state = log.hard_state;
  state.snapshot.position = log.start;
  state.terms = log.terms;
  state.last_index = log.last_index;
  if (log.start.index > applied.index || log.last_index < applied.index) {
    return absl::DataLossError(absl::StrCat(
        "group ", group.value(), ": the log holds entries ",
        (log.start.index + 1).value(), " to ", log.last_index.value(),
        ", but the state machine stands at ", applied.index.value()));
  }
  // What was applied was committed.
  state.hard_state.commit = std::max(state.hard_state.commit, applied.index);
  absl::Status status = ReadUnapplied(wal, group, &state);
  if (!status.ok()) return status;
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

absl::StatusOr<std::vector<HostedReplica>> LoadReplicas(kv::Engine* engine,
                                                        wal::Wal* wal) {
  auto groups = kv::StateMachine::List(*engine);
  if (!groups.ok()) return groups.status();
  std::vector<HostedReplica> replicas;
  for (raft::GroupId group : *groups) {
    auto replica = LoadReplica(engine, wal, group);
    if (!replica.ok()) return replica.status();
    replicas.push_back(*std::move(replica));
  }
  return replicas;
}

}  // namespace kv739::server
