#include "kv/session_check.h"

#include <utility>

#include "kv/session_table.h"
#include "kv/state_machine.h"

namespace kv739::kv {

bool SessionCheck::Add(absl::string_view key, absl::string_view value) {
  SessionRecordKey name;
  if (!ParseSessionKey(key, &name)) return false;
  if (name.kind == SessionRecordKey::Kind::kSession) {
    return End() && AddSession(name.session, value);
  }
  if (id_ == 0 || name.session != id_) return false;
  return name.kind == SessionRecordKey::Kind::kBlock
             ? AddBlock(name.number, value)
             : AddOldValue(name.number, key, value);
}

bool SessionCheck::End() {
  if (in_old_values_ || id_ == 0) return large_seen_ == large_.size();
  return large_.empty() && newest_large_.empty();
}

bool SessionCheck::AddSession(SessionId id, absl::string_view value) {
  SessionHeader header;
  std::vector<Answer> answers;
  if (!DecodeSessionRecord(value, &header, &answers)) return false;
  if (!IsSessionOf(group_, id, meta_.sessions_opened) || header.floor == 0 ||
      header.last_active > meta_.applied.index || ++sessions_ > kMaxSessions) {
    return false;
  }
  id_ = id;
  floor_ = header.floor;
  has_newest_ = !answers.empty();
  newest_block_ = has_newest_ ? answers.back().sequence / kBlockSequences : 0;
  last_ = floor_ - 1;
  large_.clear();
  newest_large_.clear();
  large_seen_ = 0;
  in_old_values_ = false;
  if (has_newest_ &&
      answers.front().sequence / kBlockSequences != newest_block_) {
    return false;
  }
  if (!TakeAnswers(answers, last_)) return false;
  newest_large_ = std::exchange(large_, {});
  return true;
}

bool SessionCheck::AddBlock(uint64_t number, absl::string_view value) {
  std::vector<Answer> answers;
  if (in_old_values_ || !has_newest_ || number >= newest_block_ ||
      !DecodeBlockRecord(value, &answers) || answers.empty() ||
      answers.front().sequence / kBlockSequences != number ||
      answers.back().sequence / kBlockSequences != number ||
      !TakeAnswers(answers, last_)) {
    return false;
  }
  last_ = answers.back().sequence;
  return true;
}

bool SessionCheck::TakeAnswers(const std::vector<Answer>& answers,
                               Sequence after) {
  for (const Answer& answer : answers) {
    if (answer.sequence <= after || answer.code > ApplyCode::kRefused) {
      return false;
    }
    after = answer.sequence;
    if (answer.large()) {
      large_.push_back({answer.sequence, answer.version, answer.old_size});
    }
  }
  return true;
}

bool SessionCheck::AddOldValue(Sequence sequence, absl::string_view key,
                               absl::string_view value) {
  if (!std::exchange(in_old_values_, true)) {
    large_.insert(large_.end(), newest_large_.begin(), newest_large_.end());
  }
  Version version = 0;
  absl::string_view bytes;
  if (large_seen_ == large_.size() ||
      large_[large_seen_].sequence != sequence ||
      !DecodeValueRecord(key, value, &version, &bytes) ||
      version != large_[large_seen_].version ||
      bytes.size() != large_[large_seen_].size) {
    return false;
  }
  ++large_seen_;
  return true;
}

}  // namespace kv739::kv
