// The replicated state of one group: its keys and values, its client
// sessions, its applied index, in one Engine under keys group | slot | key.
//
// Exactly once: a session remembers the answers of its writes from its floor
// on; a repeated (session, sequence) gets the first answer again. Sessions
// are bounded by kMaxSessions and kMaxSessionBytes a group; the one that has
// been idle for the longest (by applied index) is forgotten first, by the
// same rule on all replicas. A write of a forgotten session is refused, never
// applied.
//
// Versions: version = max(stamp of the leader, last version + 1), so they
// rise strictly with the log whatever the clocks do.
//
// Threads: Apply by one thread at a time, and applied(), configuration(),
// last_version() and session_count() by that one; Get, Scan, durable() and
// Hash() by any thread beside it.
#ifndef KV739_KV_STATE_MACHINE_H_
#define KV739_KV_STATE_MACHINE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kv/cluster_map.h"
#include "kv/command.h"
#include "kv/engine.h"
#include "kv/scan.h"
#include "raft/configuration.h"
#include "raft/types.h"

namespace kv739::kv {

inline constexpr uint32_t kMaxSessions = 8192;          // of one group
inline constexpr uint64_t kMaxSessionBytes = 64 << 20;  // their answers
inline constexpr uint32_t kSessionWindow = 8192;  // sequences above the floor
// What one session may hold before its new writes are refused with
// kSessionWindow until its floor rises.
inline constexpr uint64_t kMaxBytesOfSession = 16 << 20;

// A new group begins as if entry 1 had been applied and compacted away: whoever
// joins it later has less and needs a snapshot, and so the configuration too.
inline constexpr raft::LogPosition kFirstPosition{raft::Term(1),
                                                  raft::Index(1)};

struct Value {
  bool found = false;
  Version version = 0;
  std::string value;
};

class StateMachine {
 public:
  // Makes the state of a new group with this initial configuration, applied up
  // to kFirstPosition. Durable after Engine::Flush(). ALREADY_EXISTS when it is
  // there, INVALID_ARGUMENT for an id of 2^24 or more or an invalid
  // configuration.
  static absl::Status Create(Engine* engine, raft::GroupId group,
                             const raft::Configuration& configuration);
  // The groups that the engine holds.
  static absl::StatusOr<std::vector<raft::GroupId>> List(const Engine& engine);
  // NOT_FOUND when the group was never created. `engine` must outlive it.
  static absl::StatusOr<std::unique_ptr<StateMachine>> Open(
      Engine* engine, raft::GroupId group);
  // The same for a group that the engine does not hold: applied() is {0, 0}
  // and nothing can be applied until a snapshot was put in and Reload() called.
  // The engine is not touched.
  static std::unique_ptr<StateMachine> Vacant(Engine* engine,
                                              raft::GroupId group);
  // Removes all that the engine holds of the group; durable on return. Nobody
  // uses the group meanwhile. `dir` as of Engine::NewIngestion.
  static absl::Status Remove(Engine* engine, raft::GroupId group,
                             const std::string& dir);
  virtual ~StateMachine() = default;

  // Takes up what the engine holds now, after a snapshot was put in the place
  // of the old state. By the thread that applies. After an error all is as it
  // was.
  virtual absl::Status Reload() = 0;

  // Applies entries that follow applied(), all in one batch together with the
  // applied index, and adds one result per entry to `results` (no-ops and
  // configurations get an empty one; null: nobody asks). RESOURCE_EXHAUSTED,
  // with nothing done, when the engine cannot take more now. An entry that does
  // not decode is a broken invariant and ends the process.
  virtual absl::Status Apply(absl::Span<const raft::Entry> entries,
                             std::vector<ApplyResult>* results) = 0;

  virtual absl::StatusOr<Value> Get(absl::string_view key) const = 0;
  // One page as the view has it; `page` is empty before. Several pages, of
  // several groups of the engine too, may share a view. NOT_FOUND when the
  // view has nothing of the group.
  virtual absl::Status Scan(const View& view, const ScanRequest& request,
                            ScanPage* page) const = 0;

  virtual raft::LogPosition applied() const = 0;
  virtual const raft::Configuration& configuration() const = 0;
  virtual Version last_version() const = 0;
  // Applied position that a crash now would leave behind. NOT_FOUND when it
  // would leave nothing: Create() has not been flushed.
  virtual absl::StatusOr<raft::LogPosition> durable() const = 0;
  virtual uint64_t session_count() const = 0;
  // The cluster map as the directory has it at applied(); null when there is
  // none, as in every group but 0 and in group 0 before its first change. By
  // the thread that applies. Another pointer means another map.
  virtual std::shared_ptr<const ClusterMap> directory() const = 0;

  // XXH3 of everything replicated (data, sessions, versions) in key order,
  // with the index it is for: equal on replicas at equal indexes.
  struct StateHash {
    raft::Index index;
    uint64_t hash = 0;
    uint64_t keys = 0;
  };
  virtual absl::StatusOr<StateHash> Hash() const = 0;
  // The same of the state as it is now, in two steps: this one is quick, by the
  // thread that applies; Run() reads everything, on any thread, and only needs
  // the engine to live. A view is held until the job is gone.
  class HashJob {
   public:
    virtual ~HashJob() = default;
    virtual absl::StatusOr<StateHash> Run() = 0;
  };
  virtual std::unique_ptr<HashJob> BeginHash() const = 0;
};

}  // namespace kv739::kv

#endif  // KV739_KV_STATE_MACHINE_H_
