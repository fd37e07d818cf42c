// The records of sessions: how a SessionTable is written and restored.
#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/coding.h"
#include "kv/invariant.h"
#include "kv/session_table.h"

namespace kv739::kv {
namespace {

constexpr uint8_t kSessionFormat = 1;
constexpr uint8_t kBlockFormat = 1;

bool ReadAnswers(Reader* in, std::vector<Answer>* out) {
  uint64_t count = 0;
  if (!in->Varint(&count) || count > kBlockSequences) return false;
  for (uint64_t i = 0; i < count; ++i) {
    Answer answer;
    if (!ReadAnswer(in, &answer)) return false;
    out->push_back(std::move(answer));
  }
  return in->done();
}

}  // namespace

bool DecodeSessionRecord(absl::string_view record, SessionHeader* header,
                         std::vector<Answer>* newest) {
  Reader in(record);
  uint8_t format = 0;
  uint64_t last_active = 0;
  if (!in.Byte(&format) || format != kSessionFormat ||
      !in.Varint(&header->floor) || !in.Varint(&last_active)) {
    return false;
  }
  header->last_active = raft::Index(last_active);
  return ReadAnswers(&in, newest);
}

bool DecodeBlockRecord(absl::string_view record, std::vector<Answer>* answers) {
  Reader in(record);
  uint8_t format = 0;
  return in.Byte(&format) && format == kBlockFormat &&
         ReadAnswers(&in, answers);
}

void SessionTable::WriteTo(Batch* batch) const {
  for (const List::iterator& session : changed_) {
    if (session->removed) {
      DeleteSession(*session, batch);
    } else {
      WriteSession(*session, batch);
    }
  }
}

void SessionTable::WriteSession(const Session& session, Batch* batch) const {
  const auto& answers = session.answers;
  const uint64_t newest =
      answers.empty() ? 0 : answers.back().sequence / kBlockSequences;
  auto first = answers.end();
  while (first != answers.begin() &&
         std::prev(first)->sequence / kBlockSequences == newest) {
    --first;
  }
  std::string record;
  record.push_back(static_cast<char>(kSessionFormat));
  AppendVarint(&record, session.floor);
  AppendVarint(&record, session.last_active.value());
  AppendVarint(&record, answers.end() - first);
  for (auto it = first; it != answers.end(); ++it) AppendAnswer(*it, &record);
  batch->Put(SessionKey(group_, session.id), record);

  for (uint64_t block : session.blocks) {
    // The newest block never had a record of its own: it would have been
    // dropped with everything after it.
    if (answers.empty() || block != newest) WriteBlock(session, block, batch);
  }
  for (Sequence sequence : session.dropped_large) {
    batch->Delete(OldValueKey(group_, session.id, sequence));
  }
  std::string old_value;
  for (Sequence sequence : session.new_large) {
    const auto it = std::lower_bound(
        answers.begin(), answers.end(), sequence,
        [](const Answer& a, Sequence s) { return a.sequence < s; });
    if (it != answers.end() && it->sequence == sequence) {
      const std::string key = OldValueKey(group_, session.id, sequence);
      SetValueRecord(key, it->version, it->old_value, &old_value);
      batch->Put(key, old_value);
    }
  }
}

void SessionTable::WriteBlock(const Session& session, uint64_t block,
                              Batch* batch) const {
  const auto& answers = session.answers;
  std::string body;
  uint64_t count = 0;
  for (auto it = std::lower_bound(answers.begin(), answers.end(), block,
                                  [](const Answer&a, uint64_t b) {
                                    return a.sequence / kBlockSequences < b;
                                  });
       it != answers.end() && it->sequence / kBlockSequences == block; ++it) {
    AppendAnswer(*it, &body);
    ++count;
  }
  const std::string key = BlockKey(group_, session.id, block);
  if (count == 0) {
    batch->Delete(key);
    return;
  }
  std::string record;
  record.reserve(2 + body.size());
  record.push_back(static_cast<char>(kBlockFormat));
  AppendVarint(&record, count);
  record += body;
  batch->Put(key, record);
}

// Key by key: there are few, and range tombstones slow down every read.
void SessionTable::DeleteSession(const Session& session, Batch* batch) const {
  batch->Delete(SessionKey(group_, session.id));
  absl::InlinedVector<uint64_t, 8> blocks(session.blocks.begin(),
                                          session.blocks.end());
  for (const Answer& answer : session.answers) {
    const uint64_t block = answer.sequence / kBlockSequences;
    if (blocks.empty() || blocks.back() != block) blocks.push_back(block);
    if (answer.large()) {
      batch->Delete(OldValueKey(group_, session.id, answer.sequence));
    }
  }
  for (uint64_t block : blocks) {
    batch->Delete(BlockKey(group_, session.id, block));
  }
  for (Sequence sequence : session.dropped_large) {
    batch->Delete(OldValueKey(group_, session.id, sequence));
  }
}

absl::Status SessionTable::Restore(const View& view, uint64_t opened) {
  KV739_KV_CHECK(sessions_.empty(), "restored twice");
  opened_ = opened;
  absl::Status bad;
  absl::Status status = view.Scan(
      SpaceBegin(group_, Space::kSession), SpaceBegin(group_, Space::kData),
      [&](absl::string_view key, absl::string_view value) {
        bad = RestoreRecord(key, value);
        return bad.ok();
      });
  if (status.ok()) status = bad;
  if (status.ok()) status = CheckRestored();
  if (!status.ok()) return status;
  sessions_.sort([](const Session& a, const Session& b) {
    return a.last_active < b.last_active;
  });
  return absl::OkStatus();
}

// Records come in the order of their keys: a session, its older blocks, its
// large old values.
absl::Status SessionTable::RestoreRecord(absl::string_view key,
                                         absl::string_view value) {
  const auto bad = [&](absl::string_view what) {
    return absl::DataLossError(
        absl::StrCat("group ", group_.value(), ": ", what));
  };
  SessionRecordKey name;
  if (!ParseSessionKey(key, &name)) return bad("unknown key of a session");
  std::vector<Answer> answers;
  if (name.kind == SessionRecordKey::Kind::kSession) {
    Session session;
    SessionHeader header;
    if (!DecodeSessionRecord(value, &header, &answers)) {
      return bad("malformed session");
    }
    session.floor = header.floor;
    session.last_active = header.last_active;
    session.answers.assign(std::make_move_iterator(answers.begin()),
                           std::make_move_iterator(answers.end()));
    session.id = name.session;
    for (const Answer& a : session.answers) session.bytes += a.old_size;
    session.bytes += session.answers.size() * kAnswerCost;
    bytes_ += session.bytes;
    sessions_.push_back(std::move(session));
    by_id_.emplace(name.session, std::prev(sessions_.end()));
    return absl::OkStatus();
  }
  if (sessions_.empty() || sessions_.back().id != name.session) {
    return bad("answers of no session");
  }
  if (name.kind == SessionRecordKey::Kind::kOldValue) return absl::OkStatus();
  Session& session = sessions_.back();
  if (!DecodeBlockRecord(value, &answers)) {
    return bad("malformed block of answers");
  }
  uint64_t bytes = answers.size() * kAnswerCost;
  for (const Answer& answer : answers) bytes += answer.old_size;
  session.bytes += bytes;
  bytes_ += bytes;
  // Blocks come in rising order and all before the newest, which was first.
  const auto newest = std::find_if(
      session.answers.begin(), session.answers.end(), [&](const Answer& a) {
        return a.sequence / kBlockSequences > name.number;
      });
  session.answers.insert(newest, std::make_move_iterator(answers.begin()),
                         std::make_move_iterator(answers.end()));
  return absl::OkStatus();
}

absl::Status SessionTable::CheckRestored() const {
  for (const Session& session : sessions_) {
    Sequence last = session.floor - 1;
    for (const Answer& answer : session.answers) {
      if (answer.sequence <= last) {
        return absl::DataLossError(
            absl::StrCat("group ", group_.value(), ": answers of session ",
                         session.id, " are not in order"));
      }
      last = answer.sequence;
    }
  }
  return absl::OkStatus();
}

}  // namespace kv739::kv
