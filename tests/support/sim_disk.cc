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

void DiskImage::Install(const raft::SnapshotMeta& meta) {
  const Index index = meta.position.index;
  if (index <= snapshot.position.index) return;
  if (TermAt(index) == meta.position.term) {
    Compact(index);
  } else {
    entries.clear();
  }
  snapshot = meta;
}

void DiskImage::Write(const raft::Persist& persist,
                      const raft::Configuration& at_snapshot) {
  if (persist.snapshot) Install({*persist.snapshot, at_snapshot});
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

SimDisk::SimDisk(raft::SnapshotMeta initial) {
  durable_.hard_state.term = initial.position.term;
  durable_.hard_state.commit = initial.position.index;
  durable_.snapshot = std::move(initial);
  written_ = durable_;
}

void SimDisk::Write(raft::Persist persist, std::vector<raft::Envelope> send,
                    raft::Configuration at_snapshot) {
  written_.Write(persist, at_snapshot);
  pending_.push_back(
      {std::move(persist), std::move(send), std::move(at_snapshot)});
}

bool SimDisk::InstallPending() const {
  return std::any_of(pending_.begin(), pending_.end(), [](const Pending& w) {
    return w.persist.snapshot.has_value();
  });
}

std::optional<Index> SimDisk::LowestPending(Index above) const {
  std::optional<Index> lowest;
  for (const Pending& write : pending_) {
    if (write.persist.entries.empty()) continue;
    if (write.persist.entries.back().index <= above) continue;
    const Index first =
        std::max(write.persist.entries.front().index, above + 1);
    lowest = lowest ? std::min(*lowest, first) : first;
  }
  return lowest;
}

SimDisk::Completion SimDisk::CompleteOldest() {
  Pending done = std::move(pending_.front());
  pending_.pop_front();
  ++done_;
  durable_.Write(done.persist, done.at_snapshot);
  return {done.persist.position, std::move(done.send)};
}

void SimDisk::Crash(size_t survivors) {
  for (size_t i = 0; i < std::min(survivors, pending_.size()); ++i) {
    durable_.Write(pending_[i].persist, pending_[i].at_snapshot);
  }
  done_ += pending_.size();
  pending_.clear();
  written_ = durable_;
}

void SimDisk::Install(const raft::SnapshotMeta& meta) {
  durable_.Install(meta);
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
