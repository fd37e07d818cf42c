// What a snapshot may say of sessions: all that a session table writes, and
// nothing that it could not be restored from.
#include "kv/session_check.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/coding.h"
#include "kv/session_table.h"
#include "kv/state_machine.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

using raft::GroupId;
using raft::Index;

constexpr GroupId kGroup(3);
constexpr uint64_t kApplied = 100;
constexpr SessionId kFirst = kGroup.value() << 40 | 1;

using Records = std::vector<std::pair<std::string, std::string>>;

Answer AnswerOf(Sequence sequence, size_t old_bytes = 3) {
  Answer answer;
  answer.sequence = sequence;
  answer.version = sequence + 7;
  answer.old_size = static_cast<uint32_t>(old_bytes);
  answer.old_value = std::string(old_bytes, 'o');
  return answer;
}

std::string SessionRecord(Sequence floor, uint64_t last_active,
                          const std::vector<Answer>& answers) {
  std::string record(1, 1);
  AppendVarint(&record, floor);
  AppendVarint(&record, last_active);
  AppendVarint(&record, answers.size());
  for (const Answer& answer : answers) AppendAnswer(answer, &record);
  return record;
}

std::string BlockRecord(const std::vector<Answer>& answers) {
  std::string record(1, 1);
  AppendVarint(&record, answers.size());
  for (const Answer& answer : answers) AppendAnswer(answer, &record);
  return record;
}

std::pair<std::string, std::string> OldValue(const Answer& answer) {
  std::string key = OldValueKey(kGroup, kFirst, answer.sequence);
  std::string record;
  SetValueRecord(key, answer.version, answer.old_value, &record);
  return {std::move(key), std::move(record)};
}

// A session with two older blocks and two large old values, then one without.
Records Good() {
  const Answer older = AnswerOf(20, 2000);
  const Answer newest = AnswerOf(40, 3000);
  return {
      {SessionKey(kGroup, kFirst), SessionRecord(5, 90, {newest})},
      {BlockKey(kGroup, kFirst, 0), BlockRecord({AnswerOf(5), AnswerOf(9)})},
      {BlockKey(kGroup, kFirst, 1), BlockRecord({older})},
      OldValue(older),
      OldValue(newest),
      {SessionKey(kGroup, kFirst + 1), SessionRecord(1, 100, {})}};
}

bool Passes(const Records& records) {
  SessionCheck check(kGroup);
  Meta meta;
  meta.applied = {raft::Term(1), Index(kApplied)};
  meta.sessions_opened = 2;
  check.Begin(meta);
  for (const auto& [key, value] : records) {
    if (!check.Add(key, value)) return false;
  }
  return check.End();
}

bool PassesWith(const std::function<void(Records&)>& change) {
  Records records = Good();
  change(records);
  return Passes(records);
}

TEST(SessionCheck, TakesWhatATableWrites) {
  EXPECT_TRUE(Passes({}));
  EXPECT_TRUE(Passes(Good()));
}

TEST(SessionCheck, RefusesSessionsThatTheGroupNeverOpened) {
  for (SessionId id : {SessionId{0}, SessionId{1}, kFirst - 1, kFirst + 2}) {
    EXPECT_FALSE(Passes({{SessionKey(kGroup, id), SessionRecord(1, 1, {})}}))
        << id;
  }
}

TEST(SessionCheck, RefusesMalformedRecords) {
  EXPECT_FALSE(PassesWith([](Records& r) { r[0].first += "x"; }));
  for (size_t i : {0, 1, 2, 3, 4, 5}) {
    EXPECT_FALSE(PassesWith([i](Records& r) { r[i].second += "x"; })) << i;
    EXPECT_FALSE(PassesWith([i](Records& r) { r[i].second.pop_back(); })) << i;
    EXPECT_FALSE(PassesWith([i](Records& r) { r[i].second[0] = 9; })) << i;
  }
}

TEST(SessionCheck, RefusesNumbersThatContradictTheState) {
  EXPECT_FALSE(PassesWith([](Records& r) {  // no floor
    r[5].second = SessionRecord(0, 1, {});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // active in the future
    r[5].second = SessionRecord(1, kApplied + 1, {});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // below the floor
    r[5].second = SessionRecord(9, 1, {AnswerOf(8)});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // twice the same
    r[5].second = SessionRecord(1, 1, {AnswerOf(8), AnswerOf(8)});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // of two blocks
    r[5].second = SessionRecord(1, 1, {AnswerOf(15), AnswerOf(16)});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // ended as nothing ends
    Answer answer = AnswerOf(8);
    answer.code = static_cast<ApplyCode>(7);
    r[5].second = SessionRecord(1, 1, {answer});
  }));
}

TEST(SessionCheck, RefusesBlocksOutOfPlace) {
  EXPECT_FALSE(PassesWith([](Records& r) {  // another one's answers
    r[1].second = BlockRecord({AnswerOf(5), AnswerOf(16)});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // below the floor
    r[1].second = BlockRecord({AnswerOf(4)});
  }));
  EXPECT_FALSE(PassesWith([](Records& r) { r[1].second = BlockRecord({}); }));
  EXPECT_FALSE(PassesWith([](Records& r) { std::swap(r[1], r[2]); }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // the newest, once more
    r[2] = {BlockKey(kGroup, kFirst, 2), BlockRecord({AnswerOf(39)})};
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // of a session without answers
    r.emplace_back(BlockKey(kGroup, kFirst + 1, 0), BlockRecord({AnswerOf(1)}));
  }));
  EXPECT_FALSE(PassesWith([](Records& r) { r.erase(r.begin()); }));
}

TEST(SessionCheck, RefusesOldValuesThatAreMissingOrNotTheAnswers) {
  for (size_t i : {3, 4}) {
    EXPECT_FALSE(PassesWith([i](Records& r) {
      r.erase(r.begin() + static_cast<ptrdiff_t>(i));
    })) << i;
  }
  EXPECT_FALSE(PassesWith([](Records& r) {  // all of them
    r.erase(r.begin() + 3, r.begin() + 5);
  }));
  EXPECT_FALSE(PassesWith([](Records& r) { r.resize(4); }));
  EXPECT_FALSE(PassesWith([](Records& r) { r.insert(r.begin() + 4, r[3]); }));
  EXPECT_FALSE(PassesWith([](Records& r) { r.insert(r.begin() + 5, r[4]); }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // another version
    SetValueRecord(r[3].first, 1, std::string(2000, 'o'), &r[3].second);
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // another size
    SetValueRecord(r[3].first, 27, "short", &r[3].second);
  }));
  EXPECT_FALSE(PassesWith([](Records& r) {  // a block behind them
    r.insert(r.begin() + 5, r[2]);
  }));
}

TEST(SessionCheck, RefusesMoreSessionsThanAGroupHas) {
  SessionCheck check(kGroup);
  Meta meta;
  meta.applied = {raft::Term(1), Index(kApplied)};
  meta.sessions_opened = kMaxSessionsOpened;
  check.Begin(meta);
  const std::string record = SessionRecord(1, 1, {});
  for (uint64_t i = 0; i < kMaxSessions; ++i) {
    ASSERT_TRUE(check.Add(SessionKey(kGroup, kFirst + i), record));
  }
  EXPECT_FALSE(check.Add(SessionKey(kGroup, kFirst + kMaxSessions), record));
}

}  // namespace
}  // namespace kv739::kv
