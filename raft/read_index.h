// Linearizable reads without the log (thesis section 6.4). A leader notes its
// commit index, has a majority confirm with one round of heartbeats that it
// still leads, and may then answer from a state that has applied that index.
//
// Reads that come while a round is under way wait and share the next one.
// Rounds are numbered from 1 within one leadership; the object lives as long
// as that leadership, so a number can never confirm reads of another term.
#ifndef KV739_RAFT_READ_INDEX_H_
#define KV739_RAFT_READ_INDEX_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "raft/ready.h"
#include "raft/types.h"

namespace kv739::raft {

class ReadIndexQueue {
 public:
  ReadIndexQueue(uint32_t max_rounds, uint32_t max_pending)
      : max_rounds_(max_rounds), max_pending_(max_pending) {}

  // False when too many wait.
  bool Add(ReadId id);
  bool CanStart() const {
    return !waiting_.empty() && rounds_.size() < max_rounds_;
  }
  bool HasWaiting() const { return !waiting_.empty(); }
  bool HasRounds() const { return !rounds_.empty(); }
  // All that wait go into a new round; the heartbeats must carry newest().
  void Start(Index commit);
  uint64_t newest() const { return newest_; }
  // A majority answered `round`; it confirms every earlier one as well.
  void Confirm(uint64_t round, std::vector<ReadReady>* answers);
  // For a leader that is its own majority: no round is needed.
  void AnswerWaiting(Index commit, std::vector<ReadReady>* answers);
  // Leadership is gone.
  void FailAll(std::vector<ReadId>* failed);

 private:
  struct Round {
    uint64_t number;
    Index commit;
    std::vector<ReadId> reads;
  };
  uint32_t max_rounds_;
  uint32_t max_pending_;
  uint64_t newest_ = 0;
  uint64_t pending_ = 0;  // reads waiting and in rounds
  std::vector<ReadId> waiting_;
  std::deque<Round> rounds_;
};

}  // namespace kv739::raft

#endif  // KV739_RAFT_READ_INDEX_H_
