#include "server/wal/log_index.h"

#include <algorithm>
#include <cassert>
#include <utility>

namespace kv739::wal {
namespace {

// What a cached entry is taken to cost beside its payload.
constexpr uint64_t kCacheOverhead = 64;
// Runs whose entries were all replaced stay queued until they are evicted in
// turn; this bounds them when the cache never fills.
constexpr size_t kMaxCachedRuns = 65536;

}  // namespace

raft::Term GroupLog::TermAt(raft::Index index) const {
  if (index == start.index) return start.term;
  if (!Has(index)) return raft::Term();
  auto behind = std::upper_bound(
      terms.begin(), terms.end(), index,
      [](raft::Index i, const raft::TermRun& run) { return i < run.first; });
  return std::prev(behind)->term;
}

void LogIndex::SetHardState(raft::GroupId group, const raft::HardState& state,
                            Location at) {
  GroupLog& log = groups_[group];
  Release(log.hard_state_at);
  log.hard_state = state;
  log.hard_state_at = at;
  Retain(at);
}

void LogIndex::Append(raft::GroupId group, const raft::Entry& entry,
                      Location at) {
  GroupLog& log = groups_[group];
  if (entry.index <= log.last()) CutFrom(log, entry.index);
  assert(entry.index == log.last() + 1);
  log.slots.push_back({entry.data, at, entry.kind});
  if (log.terms.empty() || log.terms.back().term != entry.term) {
    log.terms.push_back({entry.index, entry.term});
  }
  Retain(at);
  log.bytes += at.bytes();
  cached_bytes_ += entry.data->size() + kCacheOverhead;
  Remember(group, entry.index);
  Evict();
}

void LogIndex::Compact(raft::GroupId group, raft::LogPosition position,
                       bool drops_all, Location at) {
  GroupLog& log = groups_[group];
  Release(log.start_at);
  CutTo(log, drops_all ? log.last() : position.index);
  log.start = position;
  log.start_at = at;
  Retain(at);
}

void LogIndex::Remove(raft::GroupId group) {
  auto it = groups_.find(group);
  if (it == groups_.end()) return;
  for (Slot& slot : it->second.slots) Drop(slot);
  Release(it->second.start_at);
  if (!it->second.hard_state_at) {
    groups_.erase(it);
    return;
  }
  GroupLog left;
  left.hard_state = it->second.hard_state;
  left.hard_state_at = it->second.hard_state_at;
  it->second = std::move(left);
}

void LogIndex::Adopt(raft::GroupId group, GroupLog log) {
  assert(!groups_.contains(group));
  Retain(log.hard_state_at);
  Retain(log.start_at);
  log.bytes = 0;
  for (const Slot& slot : log.slots) {
    Retain(slot.at);
    log.bytes += slot.at.bytes();
  }
  groups_[group] = std::move(log);
}

void LogIndex::Move(RecordKind kind, raft::GroupId group, raft::Index index,
                    Location to) {
  GroupLog& log = groups_.at(group);
  Location& at = kind == RecordKind::kEntry       ? log.At(index).at
                 : kind == RecordKind::kHardState ? log.hard_state_at
                                                  : log.start_at;
  Release(at);
  at = to;
  Retain(at);
}

bool LogIndex::IsLive(RecordKind kind, raft::GroupId group, raft::Index index,
                      Location at) const {
  const GroupLog* log = Find(group);
  if (log == nullptr) return false;
  switch (kind) {
    case RecordKind::kEntry:
      return log->Has(index) && log->At(index).at == at;
    case RecordKind::kHardState:
      return log->hard_state_at == at;
    case RecordKind::kCompaction:
      return log->start_at == at;
    case RecordKind::kRemoval:
      return false;  // needed only while older segments exist
  }
  return false;
}

const GroupLog* LogIndex::Find(raft::GroupId group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? nullptr : &it->second;
}

LogIndex::Usage LogIndex::live(uint64_t segment) const {
  auto it = usage_.find(segment);
  return it == usage_.end() ? Usage() : it->second;
}

void LogIndex::ForgetSegment(uint64_t segment) {
  assert(live(segment).records == 0);
  usage_.erase(segment);
}

void LogIndex::Retain(Location at) {
  if (!at) return;
  Usage& usage = usage_[at.segment];
  ++usage.records;
  usage.bytes += at.bytes();
  live_bytes_ += at.bytes();
}

void LogIndex::Release(Location at) {
  if (!at) return;
  Usage& usage = usage_[at.segment];
  assert(usage.records > 0);
  --usage.records;
  usage.bytes -= at.bytes();
  live_bytes_ -= at.bytes();
}

void LogIndex::Drop(Slot& slot) {
  Uncache(slot);
  Release(slot.at);
}

void LogIndex::Uncache(Slot& slot) {
  if (slot.cached == nullptr) return;
  cached_bytes_ -= slot.cached->size() + kCacheOverhead;
  slot.cached.reset();
}

void LogIndex::Remember(raft::GroupId group, raft::Index index) {
  if (!cached_runs_.empty()) {
    CachedRun& run = cached_runs_.back();
    if (run.group == group && run.first + run.count == index) {
      ++run.count;
      return;
    }
  }
  cached_runs_.push_back({group, index, 1});
}

void LogIndex::Evict() {
  while (!cached_runs_.empty() && (cached_bytes_ > cache_limit_ ||
                                   cached_runs_.size() > kMaxCachedRuns)) {
    CachedRun& run = cached_runs_.front();
    auto it = groups_.find(run.group);
    if (it != groups_.end() && it->second.Has(run.first)) {
      Uncache(it->second.At(run.first));
    }
    ++run.first;
    if (--run.count == 0) cached_runs_.pop_front();
  }
}

// Drops the entries from `index` on.
void LogIndex::CutFrom(GroupLog& log, raft::Index index) {
  while (log.last() >= index) {
    log.bytes -= log.slots.back().at.bytes();
    Drop(log.slots.back());
    log.slots.pop_back();
  }
  while (!log.terms.empty() && log.terms.back().first >= index) {
    log.terms.pop_back();
  }
}

// Drops the entries up to `index`; the caller sets the new start.
void LogIndex::CutTo(GroupLog& log, raft::Index index) {
  const raft::Index first = log.start.index;
  const uint64_t count =
      std::min<uint64_t>(index > first ? index - first : 0, log.slots.size());
  for (uint64_t i = 0; i < count; ++i) {
    log.bytes -= log.slots.front().at.bytes();
    Drop(log.slots.front());
    log.slots.pop_front();
  }
  if (log.slots.empty()) {
    log.terms.clear();
    return;
  }
  const raft::Index now_first = first + count + 1;
  size_t keep = 0;  // the run that the new first entry belongs to
  while (keep + 1 < log.terms.size() &&
         log.terms[keep + 1].first <= now_first) {
    ++keep;
  }
  log.terms.erase(log.terms.begin(), log.terms.begin() + keep);
  log.terms.front().first = now_first;
}

}  // namespace kv739::wal
