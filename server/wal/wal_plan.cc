// What Append checks and decides before it writes anything.
#include "absl/strings/str_cat.h"
#include "raft/planted.h"
#include "server/wal/wal_impl.h"

namespace kv739::wal {
namespace {

absl::Status Misfit(raft::GroupId group, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("append to group ", group.value(), ": ", what));
}

}  // namespace

absl::Status WalImpl::Plan(absl::Span<const GroupWrite> writes) {
  planned_.clear();
  compactions_.assign(writes.size(), CompactionPlan::kNone);
  for (size_t i = 0; i < writes.size(); ++i) {
    const GroupWrite& write = writes[i];
    if (write.empty()) continue;
    auto [it, fresh] = planned_.try_emplace(write.group);
    Planned& planned = it->second;
    if (fresh) {
      if (const GroupLog* log = index_.Find(write.group)) {
        planned = {log->start.index, log->last(), true};
      }
    }
    planned.exists = true;
    if (absl::Status s = PlanEntries(write, planned); !s.ok()) return s;
    if (write.compact && write.compact->index > planned.start) {
      compactions_[i] = PlanCompaction(writes, i, planned);
      planned.start = write.compact->index;
      if (compactions_[i] == CompactionPlan::kDropsAll) {
        planned.last = planned.start;
      }
    }
    if (write.remove_group) planned = Planned();
  }
  return absl::OkStatus();
}

absl::Status WalImpl::PlanEntries(const GroupWrite& write,
                                  Planned& planned) const {
  if (write.entries.empty()) return absl::OkStatus();
  const raft::Index first = write.entries.front().index;
  if (first <= planned.start || first > planned.last + 1) {
    return Misfit(
        write.group,
        absl::StrCat("entry ", first.value(), " does not fit (",
                     planned.start.value(), ", ", planned.last.value(), "]"));
  }
  raft::Index expected = first;
  raft::Term term;
  for (const raft::Entry& entry : write.entries) {
    if (entry.index != expected || entry.term < term) {
      return Misfit(write.group, absl::StrCat("entry ", entry.index.value(),
                                              " does not follow the one "
                                              "before it"));
    }
    if (entry.data == nullptr || entry.data->size() > kMaxPayloadBytes) {
      return Misfit(write.group, absl::StrCat("entry ", entry.index.value(),
                                              " has no data or more than ",
                                              kMaxPayloadBytes, " bytes"));
    }
    term = entry.term;
    ++expected;
  }
  planned.last = write.entries.back().index;
  return absl::OkStatus();
}

WalImpl::CompactionPlan WalImpl::PlanCompaction(
    absl::Span<const GroupWrite> writes, size_t i,
    const Planned& planned) const {
  const raft::LogPosition position = *writes[i].compact;
  if (KV739_PLANTED(S2_stale_log_kept) && position.index < planned.last) {
    return CompactionPlan::kKeepsRest;
  }
  if (position.index >= planned.last ||
      PlannedTermAt(writes, i, position.index) != position.term) {
    return CompactionPlan::kDropsAll;
  }
  return CompactionPlan::kKeepsRest;
}

// Term of a stored entry after writes[0..i], without the compaction of
// writes[i]. The entry is known to be there.
raft::Term WalImpl::PlannedTermAt(absl::Span<const GroupWrite> writes, size_t i,
                                  raft::Index index) const {
  for (size_t j = i + 1; j-- > 0;) {
    const GroupWrite& write = writes[j];
    if (write.group != writes[i].group) continue;
    if (write.entries.empty()) continue;
    const raft::Index first = write.entries.front().index;
    if (index >= first && index <= write.entries.back().index) {
      return write.entries[index - first].term;
    }
  }
  const GroupLog* log = index_.Find(writes[i].group);
  return log == nullptr ? raft::Term() : log->TermAt(index);
}

}  // namespace kv739::wal
