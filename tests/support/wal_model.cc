#include "tests/support/wal_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv739::wal {
namespace {

using raft::GroupId;
using raft::Index;
using raft::Term;

void Compact(ModelGroup& group, raft::LogPosition position) {
  bool keep = position.index < group.last();
  if (keep) {
    const uint64_t i = position.index - group.start.index - 1;
    keep = group.entries[i].term == position.term;
  }
  if (keep) {
    group.entries.erase(
        group.entries.begin(),
        group.entries.begin() + (position.index - group.start.index));
  } else {
    group.entries.clear();
  }
  group.start = position;
}

}  // namespace

std::vector<ModelState> ModelSteps(const ModelState& before,
                                   absl::Span<const GroupWrite> writes) {
  std::vector<ModelState> steps = {before};
  ModelState state = before;
  for (const GroupWrite& write : writes) {
    if (write.empty()) continue;
    if (write.hard_state) {
      state[write.group].hard_state = *write.hard_state;
      steps.push_back(state);
    }
    for (const raft::Entry& entry : write.entries) {
      ModelGroup& group = state[write.group];
      group.entries.resize(entry.index - group.start.index - 1);
      group.entries.push_back({entry.term, entry.kind, *entry.data});
      steps.push_back(state);
    }
    if (write.compact &&
        write.compact->index > state[write.group].start.index) {
      Compact(state[write.group], *write.compact);
      steps.push_back(state);
    }
    if (write.remove_group) {
      ModelGroup left;
      left.hard_state = state[write.group].hard_state;
      if (left.hard_state == raft::HardState()) {
        state.erase(write.group);
      } else {
        state[write.group] = left;
      }
      steps.push_back(state);
    }
  }
  return steps;
}

ModelState Normalized(ModelState state) {
  for (auto& [id, group] : state) {
    group.hard_state.commit = std::min(group.hard_state.commit, group.last());
  }
  return state;
}

absl::StatusOr<ModelState> Observe(Wal& wal) {
  ModelState state;
  for (const auto& [id, found] : wal.recovered()) {
    ModelGroup& group = state[id];
    group.hard_state = found.hard_state;
    group.start = found.start;
    std::vector<raft::TermRun> terms;
    for (Index next = found.start.index + 1; next <= found.last_index;) {
      auto entries = wal.Read(id, next, found.last_index, 4096);
      if (!entries.ok()) return entries.status();
      if (entries->empty()) return absl::InternalError("read nothing");
      for (const raft::Entry& entry : *entries) {
        if (entry.index != next) return absl::InternalError("wrong index");
        ++next;
        group.entries.push_back({entry.term, entry.kind, *entry.data});
        if (terms.empty() || terms.back().term != entry.term) {
          terms.push_back({entry.index, entry.term});
        }
      }
    }
    const bool same = std::equal(
        terms.begin(), terms.end(), found.terms.begin(), found.terms.end(),
        [](const raft::TermRun& a, const raft::TermRun& b) {
          return a.first == b.first && a.term == b.term;
        });
    if (!same) return absl::InternalError("terms differ from the entries");
  }
  return state;
}

std::string Describe(const ModelState& state) {
  std::string out;
  for (const auto& [id, group] : state) {
    absl::StrAppend(&out, "group ", id.value(), ": term ",
                    group.hard_state.term.value(), " vote ",
                    group.hard_state.vote.value(), " commit ",
                    group.hard_state.commit.value(), " start ",
                    group.start.term.value(), "/", group.start.index.value(),
                    " last ", group.last().value(), " terms");
    for (const ModelEntry& entry : group.entries) {
      absl::StrAppend(&out, " ", entry.term.value(), ":", entry.data.size());
    }
    absl::StrAppend(&out, "\n");
  }
  return out;
}

std::vector<GroupWrite> RandomWrites(const ModelState& before,
                                     const WorkloadOptions& options,
                                     std::mt19937_64& random) {
  const auto draw = [&random](uint64_t n) { return random() % n; };
  ModelState state = before;
  std::vector<GroupWrite> writes(1 + draw(3));
  for (GroupWrite& write : writes) {
    // Group 0 is written rarely: an idle group holds up old segments.
    write.group = GroupId(draw(8) == 0 ? 0 : draw(options.groups));
    ModelGroup& group = state[write.group];
    Term term = std::max(group.hard_state.term, Term(1));
    if (draw(4) == 0 || group.hard_state.term == Term()) {
      if (draw(2) == 0) ++term;
      write.hard_state = raft::HardState{term, raft::NodeId(draw(5)),
                                         Index(group.last().value())};
    }
    const uint64_t action = draw(20);
    if (action < 16) {
      Index next = group.last() + 1;
      if (action < 4 && !group.entries.empty()) {  // replaces some
        next = next - 1 - draw(group.entries.size());
        if (group.hard_state.term == term) ++term;
        write.hard_state = raft::HardState{term, raft::NodeId(1), Index()};
      }
      const uint64_t count = 1 + draw(options.max_entries);
      for (uint64_t i = 0; i < count; ++i) {
        const uint64_t size =
            draw(8) == 0 ? draw(options.max_payload * 4) : draw(200);
        raft::Entry entry =
            MakeEntry(term.value(), (next + i).value(),
                      std::string(size, static_cast<char>('a' + draw(26))));
        if (size == 0) entry.kind = raft::EntryKind::kNoop;
        write.entries.push_back(std::move(entry));
      }
    }
    if (action == 16 || action == 17 || action == 3) {
      ModelGroup after = group;
      GroupWrite so_far = write;
      ModelState one = {{write.group, group}};
      one = ModelAfter(one, {&so_far, 1});
      after = one[write.group];
      if (!after.entries.empty()) {
        const uint64_t i = draw(after.entries.size());
        write.compact =
            raft::LogPosition{after.entries[i].term, after.start.index + 1 + i};
      }
    }
    if (action == 18) {  // a snapshot from elsewhere, ahead or conflicting
      write.compact =
          raft::LogPosition{term + 1, group.start.index + 1 + draw(20)};
    }
    if (action == 19 && draw(4) == 0) {
      write.hard_state = raft::HardState{term, raft::NodeId(3), Index()};
      write.remove_group = true;
    }
    if (write.empty()) {
      write.hard_state = raft::HardState{term, raft::NodeId(2), Index()};
    }
    state = ModelAfter(state, {&write, 1});
  }
  return writes;
}

raft::Entry MakeEntry(uint64_t term, uint64_t index, std::string data) {
  return {Term(term), Index(index), raft::EntryKind::kCommand,
          raft::MakePayload(std::move(data))};
}

}  // namespace kv739::wal
