#include "server/wal/replay.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/planted.h"

namespace kv739::wal {
namespace {

absl::Status Beyond(const Record& record) {
  return absl::DataLossError(absl::StrCat("term ", record.term.value(),
                                          " or index ", record.index.value(),
                                          " is beyond all bounds"));
}

}  // namespace

absl::Status Replay::Add(const Record& record, Location at) {
  if (record.kind == RecordKind::kRemoval) {
    auto it = groups_.find(record.group);
    if (it == groups_.end()) return absl::OkStatus();
    Group left;
    left.hard_state = it->second.hard_state;
    left.hard_state_at = it->second.hard_state_at;
    if (left.hard_state_at && !KV739_PLANTED(M6_vote_removed_with_the_log)) {
      it->second = std::move(left);
    } else {
      groups_.erase(it);
    }
    return absl::OkStatus();
  }
  if (record.term.value() >= raft::kNumberLimit ||
      record.index.value() >= raft::kNumberLimit) {
    return Beyond(record);
  }
  Group& group = groups_[record.group];
  switch (record.kind) {
    case RecordKind::kEntry:
      return AddEntry(group, record, at);
    case RecordKind::kHardState:
      group.hard_state = {record.term, DecodeVote(record.payload),
                          record.index};
      group.hard_state_at = at;
      break;
    case RecordKind::kCompaction:
      AddCompaction(group, record, at);
      break;
    case RecordKind::kRemoval:
      break;
  }
  return absl::OkStatus();
}

absl::Status Replay::AddEntry(Group& group, const Record& record,
                              Location at) const {
  const Known entry{at, record.entry_kind, record.term};
  const raft::Index index = record.index;
  if ((record.flags & kFlagMoved) != 0) {
    const bool inside =
        index >= group.first && index < group.first + group.known.size();
    if (inside) {
      const Known& known = group.known[index - group.first];
      if (known.at && known.term != entry.term) {
        return absl::DataLossError(absl::StrCat(
            "moved entry ", index.value(), " has term ", entry.term.value(),
            ", the log has ", known.term.value()));
      }
    }
    return Put(group, index, entry);
  }
  if (KV739_PLANTED(L4_truncation_not_recovered) && !group.known.empty() &&
      index < group.first + group.known.size() && index >= group.first) {
    group.known[index - group.first] = entry;
    return absl::OkStatus();
  }
  // A new entry replaces everything from its index on.
  while (!group.known.empty() &&
         group.first + (group.known.size() - 1) >= index) {
    group.known.pop_back();
  }
  return Put(group, index, entry);
}

absl::Status Replay::Put(Group& group, raft::Index index,
                         const Known& known) const {
  if (index <= group.start.index) {
    return absl::DataLossError(absl::StrCat("entry ", index.value(),
                                            " lies before the log's start ",
                                            group.start.index.value()));
  }
  if (group.known.empty()) group.first = index;
  const raft::Index last = group.first + group.known.size();
  const uint64_t span =
      index < group.first ? last - index : index - group.first;
  // Holes are filled by moved entries later on, so there is a record in the log
  // for each of its indexes.
  if (span > max_span_) {
    return absl::DataLossError(
        absl::StrCat("entry ", index.value(), " is far from the others"));
  }
  while (group.first > index) {
    group.known.push_front(Known());
    group.first = group.first - 1;
  }
  while (group.first + group.known.size() <= index) {
    group.known.push_back(Known());
  }
  group.known[index - group.first] = known;
  return absl::OkStatus();
}

void Replay::AddCompaction(Group& group, const Record& record, Location at) {
  group.start = {record.term, record.index};
  group.start_at = at;
  if ((record.flags & kFlagDropsAll) != 0) group.known.clear();
  while (!group.known.empty() && group.first <= record.index) {
    group.known.pop_front();
    ++group.first;
  }
}

absl::StatusOr<GroupLog> Replay::FinishGroup(Group group) {
  if (!group.known.empty() && group.first != group.start.index + 1) {
    return absl::DataLossError(absl::StrCat("the log begins at entry ",
                                            group.first.value(), ", expected ",
                                            group.start.index.value() + 1));
  }
  GroupLog log;
  log.hard_state = group.hard_state;
  log.hard_state_at = group.hard_state_at;
  log.start = group.start;
  log.start_at = group.start_at;
  raft::Index index = group.start.index;
  for (const Known& known : group.known) {
    ++index;
    if (!known.at) {
      return absl::DataLossError(
          absl::StrCat("entry ", index.value(), " is missing"));
    }
    if (log.terms.empty() || log.terms.back().term != known.term) {
      log.terms.push_back({index, known.term});
    }
    log.slots.push_back({nullptr, known.at, known.kind});
  }
  // The commit index is a hint. It may be ahead of the log when the entries
  // that came with it were torn off.
  log.hard_state.commit = std::clamp(log.hard_state.commit, raft::Index(),
                                     std::max(log.last(), log.start.index));
  return log;
}

absl::StatusOr<absl::flat_hash_map<raft::GroupId, GroupLog>> Replay::Finish() {
  absl::flat_hash_map<raft::GroupId, GroupLog> logs;
  for (auto& [id, group] : groups_) {
    absl::StatusOr<GroupLog> log = FinishGroup(std::move(group));
    if (!log.ok()) {
      return absl::Status(
          log.status().code(),
          absl::StrCat("group ", id.value(), ": ", log.status().message()));
    }
    logs.emplace(id, *std::move(log));
  }
  groups_.clear();
  return logs;
}

}  // namespace kv739::wal
