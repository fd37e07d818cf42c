// What a node's log should hold, kept beside it: of every group its start, the
// terms of its entries, and its hard state. Written by the same writes as the
// log; values, no threads.
#ifndef KV739_TESTS_SIMULATION_SIM_SHADOW_H_
#define KV739_TESTS_SIMULATION_SIM_SHADOW_H_

#include <deque>
#include <map>
#include <optional>
#include <string>

#include "raft/core.h"
#include "raft/types.h"
#include "server/wal/wal.h"

namespace kv739::world {

struct ShadowLog {
  raft::LogPosition start;
  std::deque<raft::Term> terms;  // of the entries behind start
  raft::HardState hard;

  raft::Index last() const { return start.index + terms.size(); }
  // None for what is not in the log, or dropped.
  std::optional<raft::Term> TermAt(raft::Index index) const;
  // Has the entry of this position, or has it behind it.
  bool Covers(raft::LogPosition position) const;
  void Write(const wal::GroupWrite& write);
};

using ShadowLogs = std::map<raft::GroupId, ShadowLog>;

void Write(const wal::GroupWrite& write, ShadowLogs* logs);
// Of what a start found on disk.
ShadowLog ShadowOf(const raft::InitialState& state);

// What `found` lacks of `durable`, which it should all have but for what the
// writes `under_way` may have replaced; empty when nothing.
std::string Missing(const ShadowLog& durable, const ShadowLog& found,
                    const std::deque<wal::GroupWrite>& under_way,
                    raft::GroupId group);

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_SHADOW_H_
