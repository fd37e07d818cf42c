#include "tests/support/sim_disk.h"

#include <algorithm>
#include <utility>

namespace kv739::sim {

using raft::Entry;
using raft::Index;

const Entry* DiskImage::At(Index index) const {
  if (index <= snapshot.position.index || index > last()) return nullptr;
  return &entries[index - snapshot.position.index - 1];
}

std::optional<raft::Term> DiskImage::TermAt(Index index) const {
  if (index == snapshot.position.index) return snapshot.position.term;
  const Entry* entry = At(index);
  if (entry == nullptr) return std::nullopt;
  return entry->term;
}

raft::Configuration DiskImage::ConfigurationAt(Index index) const {
  raft::Configuration found = snapshot.configuration;
  for (const Entry& entry : entries) {
    if (entry.index > index) break;
    if (entry.kind == raft::EntryKind::kConfiguration) {
      found = raft::DecodeConfiguration(*entry.data).value();
    }
  }
  return found;
}

void DiskImage::Write(const raft::Persist& persist) {
  if (persist.hard_state) hard_state = *persist.hard_state;
  if (persist.entries.empty()) return;
  const Index first = persist.entries.front().index;
  entries.resize(first - snapshot.position.index - 1);
  entries.insert(entries.end(), persist.entries.begin(), persist.entries.end());
}

void DiskImage::Compact(Index index) {
  if (index <= snapshot.position.index) return;
  raft::SnapshotMeta meta{{*TermAt(index), index}, ConfigurationAt(index)};
  entries.erase(entries.begin(),
                entries.begin() +
                    static_cast<ptrdiff_t>(index - snapshot.position.index));
  snapshot = std::move(meta);
}

SimDisk::SimDisk(raft::Configuration initial) {
  durable_.snapshot.configuration = std::move(initial);
  written_ = durable_;
}

void SimDisk::Write(raft::Persist persist, std::vector<raft::Envelope> send) {
  written_.Write(persist);
  pending_.push_back({std::move(persist), std::move(send)});
}

std::optional<Index> SimDisk::LowestPending() const {
  std::optional<Index> lowest;
  for (const Pending& write : pending_) {
    if (write.persist.entries.empty()) continue;
    const Index first = write.persist.entries.front().index;
    lowest = lowest ? std::min(*lowest, first) : first;
  }
  return lowest;
}

SimDisk::Completion SimDisk::CompleteOldest() {
  Pending done = std::move(pending_.front());
  pending_.pop_front();
  durable_.Write(done.persist);
  return {done.persist.position, std::move(done.send)};
}

void SimDisk::Crash(size_t survivors) {
  for (size_t i = 0; i < std::min(survivors, pending_.size()); ++i) {
    durable_.Write(pending_[i].persist);
  }
  pending_.clear();
  written_ = durable_;
}

void SimDisk::Compact(Index index) {
  durable_.Compact(index);
  written_.Compact(index);
}

raft::InitialState SimDisk::Recover(Index applied) const {
  raft::InitialState state;
  state.hard_state = durable_.hard_state;
  state.snapshot = durable_.snapshot;
  state.applied = applied;
  state.applied_configuration = durable_.ConfigurationAt(applied);
  state.last_index = durable_.last();
  for (const Entry& entry : durable_.entries) {
    if (state.terms.empty() || state.terms.back().term != entry.term) {
      state.terms.push_back({entry.index, entry.term});
    }
    if (entry.index > applied) state.entries.push_back(entry);
  }
  return state;
}

std::vector<Entry> SimDisk::Read(const raft::LogFetch& fetch) const {
  std::vector<Entry> found;
  uint64_t bytes = 0;
  for (Index i = fetch.first; i <= fetch.last; ++i) {
    const Entry* entry = durable_.At(i);
    if (entry == nullptr) break;
    bytes += entry->data->size();
    if (!found.empty() && bytes > fetch.max_bytes) break;
    found.push_back(*entry);
  }
  return found;
}

}  // namespace kv739::sim
