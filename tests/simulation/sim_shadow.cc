#include "tests/simulation/sim_shadow.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace kv739::world {

using raft::Index;
using raft::Term;

std::optional<Term> ShadowLog::TermAt(Index index) const {
  if (index == start.index) return start.term;
  if (index < start.index || index > last()) return std::nullopt;
  return terms[index - start.index - 1];
}

bool ShadowLog::Covers(raft::LogPosition position) const {
  if (position.index < start.index) return true;
  return TermAt(position.index) == position.term;
}

void ShadowLog::Write(const wal::GroupWrite& write) {
  if (write.hard_state) hard = *write.hard_state;
  for (const raft::Entry& entry : write.entries) {
    if (entry.index <= start.index) continue;
    terms.resize(std::min<size_t>(terms.size(), entry.index - start.index - 1));
    terms.push_back(entry.term);
  }
  if (!write.compact || write.compact->index <= start.index) return;
  const bool ours = TermAt(write.compact->index) == write.compact->term;
  if (ours) {
    terms.erase(terms.begin(),
                terms.begin() +
                    static_cast<ptrdiff_t>(write.compact->index - start.index));
  } else {
    terms.clear();
  }
  start = *write.compact;
}

void Write(const wal::GroupWrite& write, ShadowLogs* logs) {
  if (write.remove_group) {
    // Nothing stays but the hard state.
    ShadowLog& log = (*logs)[write.group];
    log = ShadowLog{{}, {}, write.hard_state.value_or(log.hard)};
    return;
  }
  (*logs)[write.group].Write(write);
}

ShadowLog ShadowOf(const raft::InitialState& state) {
  ShadowLog log;
  log.start = state.snapshot.position;
  log.hard = state.hard_state;
  for (size_t i = 0; i < state.terms.size(); ++i) {
    const Index end = i + 1 < state.terms.size() ? state.terms[i + 1].first
                                                 : state.last_index + 1;
    for (Index at = std::max(state.terms[i].first, log.start.index + 1);
         at < end; ++at) {
      log.terms.push_back(state.terms[i].term);
    }
  }
  return log;
}

std::string Missing(const ShadowLog& durable, const ShadowLog& found,
                    const std::deque<wal::GroupWrite>& under_way,
                    raft::GroupId group) {
  if (found.hard.term < durable.hard.term) {
    return absl::StrCat("term ", durable.hard.term.value(), ", it has ",
                        found.hard.term.value());
  }
  if (found.hard.term == durable.hard.term && durable.hard.vote &&
      found.hard.vote != durable.hard.vote) {
    return absl::StrCat("its vote in term ", durable.hard.term.value());
  }
  Index replaced = durable.last() + 1;  // from here on
  for (const wal::GroupWrite& write : under_way) {
    if (write.group != group) continue;
    if (write.remove_group) return "";
    if (!write.entries.empty()) {
      replaced = std::min(replaced, write.entries.front().index);
    }
    if (write.compact && !durable.Covers(*write.compact)) {
      replaced = std::min(replaced, durable.start.index + 1);
    }
  }
  for (Index at = durable.start.index + 1; at < replaced; ++at) {
    if (at <= found.start.index) continue;
    if (found.TermAt(at) != durable.TermAt(at)) {
      return absl::StrCat("entry ", at.value(), " of term ",
                          durable.TermAt(at)->value());
    }
  }
  return "";
}

}  // namespace kv739::world
