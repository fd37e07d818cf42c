// What a write-ahead log must remember, as plain maps, and a generator of
// writes for it.
#ifndef KV739_TESTS_SUPPORT_WAL_MODEL_H_
#define KV739_TESTS_SUPPORT_WAL_MODEL_H_

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "server/wal/wal.h"

namespace kv739::wal {

struct ModelEntry {
  raft::Term term;
  raft::EntryKind kind = raft::EntryKind::kCommand;
  std::string data;
  bool operator==(const ModelEntry&) const = default;
};

struct ModelGroup {
  raft::HardState hard_state;
  raft::LogPosition start;
  std::vector<ModelEntry> entries;
  raft::Index last() const { return start.index + entries.size(); }
  bool operator==(const ModelGroup&) const = default;
};

using ModelState = std::map<raft::GroupId, ModelGroup>;

// The states that a crash during these writes may leave: before them, and
// after each single step of theirs. The last one is after all.
std::vector<ModelState> ModelSteps(const ModelState& before,
                                   absl::Span<const GroupWrite> writes);
inline ModelState ModelAfter(const ModelState& before,
                             absl::Span<const GroupWrite> writes) {
  return ModelSteps(before, writes).back();
}

// The state as it is after recovery: commit held down to the log's end.
ModelState Normalized(ModelState state);

// What the log has: hard states and starts from recovered(), so right after
// Open only; entries by reading all of them. An error also when recovered()
// contradicts itself.
absl::StatusOr<ModelState> Observe(Wal& wal);

// A short account of a state, for failure messages.
std::string Describe(const ModelState& state);

struct WorkloadOptions {
  uint64_t groups = 3;
  uint64_t max_payload = 1500;
  uint64_t max_entries = 4;
};

// One random Append that fits the state.
std::vector<GroupWrite> RandomWrites(const ModelState& state,
                                     const WorkloadOptions& options,
                                     std::mt19937_64& random);

raft::Entry MakeEntry(uint64_t term, uint64_t index, std::string data);

}  // namespace kv739::wal

#endif  // KV739_TESTS_SUPPORT_WAL_MODEL_H_
