#include "kv/session_table.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/invariant.h"

namespace kv739::kv {
namespace {

constexpr int kGroupShift = 40;

uint64_t BlockOf(Sequence sequence) { return sequence / kBlockSequences; }

uint64_t CostOf(const Answer& answer) { return kAnswerCost + answer.old_size; }

// First answer whose sequence is not below `sequence`.
template <typename Answers>
auto FindFrom(Answers& answers, Sequence sequence) {
  return std::lower_bound(
      answers.begin(), answers.end(), sequence,
      [](const Answer& a, Sequence s) { return a.sequence < s; });
}

}  // namespace

bool IsSessionOf(raft::GroupId group, SessionId id, uint64_t opened) {
  const uint64_t number = id - (group.value() << kGroupShift);
  return id >> kGroupShift == group.value() && number > 0 && number <= opened;
}

void SessionTable::Begin() {
  KV739_KV_CHECK(journal_.empty() && changed_.empty() && removed_.empty(),
                 "a batch was not ended");
  bytes_before_ = bytes_;
  opened_before_ = opened_;
}

SessionTable::Admission SessionTable::Admit(const Command& command,
                                            raft::Index index) {
  const auto found = by_id_.find(command.session);
  if (found == by_id_.end()) return {ApplyCode::kSessionUnknown};
  const List::iterator session = found->second;
  // A floor above the write itself would say that it needs no answer.
  Touch(session, index, std::min(command.floor, command.sequence));
  if (command.sequence < session->floor) return {ApplyCode::kSequenceStale};
  const auto answer = FindFrom(session->answers, command.sequence);
  if (answer != session->answers.end() &&
      answer->sequence == command.sequence) {
    return {ApplyCode::kOk, &*answer};
  }
  if (command.sequence - session->floor >= limits_.window ||
      session->bytes >= limits_.bytes_per_session) {
    return {ApplyCode::kSessionWindow};
  }
  admitted_ = session;
  return {ApplyCode::kOk};
}

void SessionTable::Remember(Answer answer) {
  const List::iterator session = admitted_;
  Undo undo{.kind = Undo::Kind::kRemember, .session = session};
  undo.bytes = session->bytes;
  undo.sequence = answer.sequence;
  // The session's own record holds the newest block. When another one takes
  // that place, it needs a record of its own from now on.
  const uint64_t block = BlockOf(answer.sequence);
  if (!session->answers.empty()) {
    MarkBlock(&*session,
              std::min(block, BlockOf(session->answers.back().sequence)));
  }
  if (answer.large()) session->new_large.push_back(answer.sequence);
  session->bytes += CostOf(answer);
  bytes_ += CostOf(answer);
  session->answers.insert(FindFrom(session->answers, answer.sequence),
                          std::move(answer));
  journal_.push_back(std::move(undo));
  EvictOverLimits();
}

SessionId SessionTable::Open(raft::Index index) {
  ++opened_;
  KV739_KV_CHECK(opened_ < uint64_t{1} << kGroupShift,
                 "session ids of the group are used up");
  sessions_.emplace_back();
  const List::iterator session = std::prev(sessions_.end());
  session->id = group_.value() << kGroupShift | opened_;
  session->last_active = index;
  by_id_.emplace(session->id, session);
  bytes_ += session->bytes;
  journal_.push_back({.kind = Undo::Kind::kOpen, .session = session});
  MarkChanged(session);
  EvictOverLimits();
  return session->id;
}

bool SessionTable::Close(SessionId id) {
  const auto found = by_id_.find(id);
  if (found == by_id_.end()) return false;
  Remove(found->second);
  return true;
}

void SessionTable::Touch(List::iterator session, raft::Index index,
                         Sequence floor) {
  Undo undo{.kind = Undo::Kind::kTouch, .session = session};
  undo.next = std::next(session);
  undo.last_active = session->last_active;
  undo.floor = session->floor;
  undo.bytes = session->bytes;
  session->last_active = index;
  sessions_.splice(sessions_.end(), sessions_, session);
  if (floor > session->floor) RaiseFloor(&*session, floor, &undo);
  journal_.push_back(std::move(undo));
  MarkChanged(session);
}

void SessionTable::RaiseFloor(Session* session, Sequence floor, Undo* undo) {
  session->floor = floor;
  const auto end = FindFrom(session->answers, floor);
  for (auto it = session->answers.begin(); it != end; ++it) {
    MarkBlock(session, BlockOf(it->sequence));
    if (it->large()) session->dropped_large.push_back(it->sequence);
    session->bytes -= CostOf(*it);
    bytes_ -= CostOf(*it);
    undo->dropped.push_back(std::move(*it));
  }
  session->answers.erase(session->answers.begin(), end);
}

void SessionTable::MarkChanged(List::iterator session) {
  if (session->changed) return;
  session->changed = true;
  changed_.push_back(session);
}

void SessionTable::MarkBlock(Session* session, uint64_t block) {
  auto& blocks = session->blocks;
  if (std::find(blocks.rbegin(), blocks.rend(), block) == blocks.rend()) {
    blocks.push_back(block);
  }
}

void SessionTable::Remove(List::iterator session) {
  Undo undo{.kind = Undo::Kind::kRemove, .session = session};
  undo.next = std::next(session);
  by_id_.erase(session->id);
  bytes_ -= session->bytes;
  MarkChanged(session);
  session->removed = true;
  removed_.splice(removed_.end(), sessions_, session);
  journal_.push_back(std::move(undo));
}

// The session of the command at hand is the last in the list and smaller than
// the limit by itself, so it is never the one that goes.
void SessionTable::EvictOverLimits() {
  while (sessions_.size() > 1 &&
         (sessions_.size() > limits_.sessions || bytes_ > limits_.bytes)) {
    Remove(sessions_.begin());
  }
}

void SessionTable::Commit() {
  for (List::iterator session : changed_) {
    for (Sequence sequence : session->new_large) {
      const auto it = FindFrom(session->answers, sequence);
      if (it != session->answers.end() && it->sequence == sequence) {
        std::string().swap(it->old_value);  // the engine has it now
      }
    }
  }
  EndBatch();
}

void SessionTable::Rollback() {
  for (auto it = journal_.rbegin(); it != journal_.rend(); ++it) UndoStep(&*it);
  bytes_ = bytes_before_;
  opened_ = opened_before_;
  EndBatch();
}

void SessionTable::UndoStep(Undo* undo) {
  const List::iterator session = undo->session;
  switch (undo->kind) {
    case Undo::Kind::kTouch:
      session->last_active = undo->last_active;
      session->floor = undo->floor;
      session->bytes = undo->bytes;
      session->answers.insert(session->answers.begin(),
                              std::make_move_iterator(undo->dropped.begin()),
                              std::make_move_iterator(undo->dropped.end()));
      sessions_.splice(undo->next, sessions_, session);
      return;
    case Undo::Kind::kRemember:
      session->bytes = undo->bytes;
      session->answers.erase(FindFrom(session->answers, undo->sequence));
      return;
    case Undo::Kind::kOpen:
      by_id_.erase(session->id);
      session->removed = true;
      removed_.splice(removed_.end(), sessions_, session);
      return;
    case Undo::Kind::kRemove:
      session->removed = false;
      by_id_.emplace(session->id, session);
      sessions_.splice(undo->next, removed_, session);
      return;
  }
}

void SessionTable::EndBatch() {
  for (List::iterator session : changed_) {
    session->changed = false;
    session->blocks.clear();
    session->new_large.clear();
    session->dropped_large.clear();
  }
  changed_.clear();
  journal_.clear();
  removed_.clear();
}

}  // namespace kv739::kv
