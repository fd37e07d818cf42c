#include "raft/read_index.h"

#include <utility>

#include "raft/planted.h"

namespace kv739::raft {

bool ReadIndexQueue::Add(ReadId id) {
  if (pending_ >= max_pending_) return false;
  ++pending_;
  waiting_.push_back(id);
  return true;
}

void ReadIndexQueue::Start(Index commit) {
  // A confirmation from before the read does for it.
  if (!KV739_PLANTED(R1_old_round_confirms) || newest_ == 0) ++newest_;
  rounds_.push_back({newest_, commit, std::move(waiting_)});
  waiting_.clear();
}

void ReadIndexQueue::Confirm(uint64_t round, std::vector<ReadReady>* answers) {
  while (!rounds_.empty() && rounds_.front().number <= round) {
    for (ReadId id : rounds_.front().reads) {
      answers->push_back({id, rounds_.front().commit});
    }
    pending_ -= rounds_.front().reads.size();
    rounds_.pop_front();
  }
}

void ReadIndexQueue::AnswerWaiting(Index commit,
                                   std::vector<ReadReady>* answers) {
  for (ReadId id : waiting_) answers->push_back({id, commit});
  pending_ -= waiting_.size();
  waiting_.clear();
}

void ReadIndexQueue::FailAll(std::vector<ReadId>* failed) {
  for (const Round& round : rounds_) {
    failed->insert(failed->end(), round.reads.begin(), round.reads.end());
  }
  failed->insert(failed->end(), waiting_.begin(), waiting_.end());
  rounds_.clear();
  waiting_.clear();
  pending_ = 0;
}

}  // namespace kv739::raft
