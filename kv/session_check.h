// Whether the session records of a snapshot are ones that a SessionTable
// writes, looked at one after the other in the order of their keys, before any
// of them is believed: what passes is restored without an error, and every
// repetition finds its answer.
//
// A value; copies are independent. Holds what is needed of one session.
#ifndef KV739_KV_SESSION_CHECK_H_
#define KV739_KV_SESSION_CHECK_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"
#include "kv/records.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

class SessionCheck {
 public:
  explicit SessionCheck(raft::GroupId group) : group_(group) {}

  // Of the state that the sessions are part of. Comes first.
  void Begin(const Meta& meta) { meta_ = meta; }
  // The next record, with its whole key. False: no table writes it.
  bool Add(absl::string_view key, absl::string_view value);
  // No more sessions follow. False: something of the last one is missing.
  bool End();

 private:
  struct Large {
    Sequence sequence;
    Version version;
    uint32_t size;
  };

  bool AddSession(SessionId id, absl::string_view value);
  bool AddBlock(uint64_t number, absl::string_view value);
  bool AddOldValue(Sequence sequence, absl::string_view key,
                   absl::string_view value);
  // Answers of one block, all above `after`.
  bool TakeAnswers(const std::vector<Answer>& answers, Sequence after);

  raft::GroupId group_;
  Meta meta_;
  uint64_t sessions_ = 0;

  // Of the session at hand.
  SessionId id_ = 0;
  Sequence floor_ = 0;
  uint64_t newest_block_ = 0;
  bool has_newest_ = false;
  Sequence last_ = 0;  // of the blocks so far; the newest comes after them
  std::vector<Large> newest_large_;
  std::vector<Large> large_;  // whose old values have not come yet
  size_t large_seen_ = 0;
  bool in_old_values_ = false;
};

}  // namespace kv739::kv

#endif  // KV739_KV_SESSION_CHECK_H_
