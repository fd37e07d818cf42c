// Sessions of one group: which writes were done, and what was answered.
//
// All of it is replicated state: it depends on the commands applied and on
// nothing else, neither on how they were batched nor on when. In memory are
// all sessions with their answers, except large old values, which are read
// from the engine when a repetition asks for them.
//
// Records are written once per batch for what the batch has touched:
// a session's record holds its newest block of answers (a block: those whose
// sequence / kBlockSequences is the same), older blocks have records of their
// own. So a client with one write in flight costs one record per batch, and
// one with thousands does not have them all written again for every batch.
// The records are a function of the state alone: equal states, equal bytes.
//
// Changes since Begin() are kept or undone together. Not thread-safe.
#ifndef KV739_KV_SESSION_TABLE_H_
#define KV739_KV_SESSION_TABLE_H_

#include <cstdint>
#include <deque>
#include <list>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "kv/command.h"
#include "kv/engine.h"
#include "kv/records.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

// Rules that all replicas share: changing one changes what a log means.
struct SessionLimits {
  uint32_t sessions;
  uint64_t bytes;              // of all sessions, in memory
  uint64_t bytes_per_session;  // no new write above it; bytes must be more
  uint32_t window;             // sequences from the floor on
};
inline constexpr uint64_t kBlockSequences = 16;
// What a session and an answer count for, beside the bytes of old values.
inline constexpr uint64_t kSessionCost = 256;
inline constexpr uint64_t kAnswerCost = 96;

// Sessions that a state from elsewhere may have opened; of the ids that are
// left nobody can use up all.
inline constexpr uint64_t kMaxSessionsOpened = uint64_t{1} << 39;
// Whether the group may have given this id, as one of the first `opened`.
bool IsSessionOf(raft::GroupId group, SessionId id, uint64_t opened);

// The records of a session, see kv/records.h. False for bytes that are none.
struct SessionHeader {
  Sequence floor = 0;
  raft::Index last_active;
};
bool DecodeSessionRecord(absl::string_view record, SessionHeader* header,
                         std::vector<Answer>* newest);
bool DecodeBlockRecord(absl::string_view record, std::vector<Answer>* answers);

class SessionTable {
 public:
  SessionTable(raft::GroupId group, const SessionLimits& limits)
      : group_(group), limits_(limits) {}
  SessionTable(const SessionTable&) = delete;
  SessionTable& operator=(const SessionTable&) = delete;

  // Reads all sessions of the group. DATA_LOSS for a record that is none.
  absl::Status Restore(const View& view, uint64_t opened);

  // Starts a batch; ends with Commit() or Rollback().
  void Begin();
  // Adds the records of what the batch has changed.
  void WriteTo(Batch* batch) const;
  void Commit();
  void Rollback();

  struct Admission {
    // kOk: do the write and Remember() it, or answer `duplicate`.
    ApplyCode code = ApplyCode::kOk;
    // The first answer, when this is a repetition. Valid until the next call.
    const Answer* duplicate = nullptr;
  };
  // Says whether the command's write is to be done. A known session counts as
  // active at `index` and gets the command's floor whatever the answer is.
  Admission Admit(const Command& command, raft::Index index);
  // The answer of the write that was admitted last.
  void Remember(Answer answer);

  SessionId Open(raft::Index index);
  bool Close(SessionId session);

  uint64_t size() const { return by_id_.size(); }
  uint64_t bytes() const { return bytes_; }
  uint64_t opened() const { return opened_; }

 private:
  struct Session {
    SessionId id = 0;
    Sequence floor = 1;
    raft::Index last_active;
    std::deque<Answer> answers;  // sorted by sequence, none below floor
    uint64_t bytes = kSessionCost;

    // Since Begin().
    bool changed = false;
    bool removed = false;
    absl::InlinedVector<uint64_t, 2> blocks;  // whose records may change
    std::vector<Sequence> new_large;          // large old values to write
    std::vector<Sequence> dropped_large;      // and to delete
  };
  using List = std::list<Session>;

  // One step back.
  struct Undo {
    enum class Kind { kTouch, kRemember, kOpen, kRemove } kind;
    List::iterator session;
    List::iterator next;  // kTouch, kRemove: what it stood before
    raft::Index last_active;
    Sequence floor = 0;
    uint64_t bytes = 0;           // of the session
    std::vector<Answer> dropped;  // by the new floor
    Sequence sequence = 0;        // kRemember
  };

  void Touch(List::iterator session, raft::Index index, Sequence floor);
  void RaiseFloor(Session* session, Sequence floor, Undo* undo);
  void MarkChanged(List::iterator session);
  void MarkBlock(Session* session, uint64_t block);
  void Remove(List::iterator session);
  void EvictOverLimits();
  void UndoStep(Undo* undo);
  void EndBatch();
  absl::Status RestoreRecord(absl::string_view key, absl::string_view value);
  absl::Status CheckRestored() const;

  void WriteSession(const Session& session, Batch* batch) const;
  void WriteBlock(const Session& session, uint64_t block, Batch* batch) const;
  void DeleteSession(const Session& session, Batch* batch) const;

  const raft::GroupId group_;
  const SessionLimits limits_;
  List sessions_;  // the one idle for the longest first
  absl::flat_hash_map<SessionId, List::iterator> by_id_;
  uint64_t bytes_ = 0;
  uint64_t opened_ = 0;

  // The batch under way.
  std::vector<Undo> journal_;
  std::vector<List::iterator> changed_;
  List removed_;
  uint64_t bytes_before_ = 0;
  uint64_t opened_before_ = 0;
  List::iterator admitted_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_SESSION_TABLE_H_
