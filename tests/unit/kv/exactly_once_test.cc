// Sessions as clients know them: a repeated write gets its first answer, a
// write that cannot be told from a repetition is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/records.h"
#include "kv/session_table.h"
#include "kv/state_machine.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

class ExactlyOnce : public testing::TestWithParam<TestEngine::Kind> {
 protected:
  uint64_t SessionKeys() {
    uint64_t keys = 0;
    EXPECT_TRUE(group_.engine()
                    .NewView()
                    ->Scan(SpaceBegin(raft::GroupId(7), Space::kSession),
                           SpaceBegin(raft::GroupId(7), Space::kData),
                           [&](absl::string_view, absl::string_view) {
                             ++keys;
                             return true;
                           })
                    .ok());
    return keys;
  }
  TestGroup group_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, ExactlyOnce,
                         testing::Values(TestEngine::Kind::kMemory,
                                         TestEngine::Kind::kRocks,
                                         TestEngine::Kind::kBuffered,
                                         TestEngine::Kind::kDirect),
                         KindName);

Command Make(Op op, absl::string_view value, SessionId session,
             Sequence sequence, Sequence floor, Version expected = 0) {
  Command c;
  c.op = op;
  c.key = "k";
  c.value = value;
  c.session = session;
  c.sequence = sequence;
  c.floor = floor;
  c.expected = expected;
  return c;
}

// Every answer that is remembered, asked for again at once, after others,
// after a restart and after a crash (K2).
TEST_P(ExactlyOnce, RepetitionsGetTheFirstAnswer) {
  const SessionId s = group_.OpenSession();
  group_.Do(Op::kPut, "k", std::string(kMaxValueBytes, 'x'));
  group_.Do(Op::kPut, "k", "start");
  const std::string large(kMaxInlineOldValueBytes + 1, 'L');
  const std::string inlined(kMaxInlineOldValueBytes, 'I');
  const std::string huge(kMaxValueBytes + 1, 'x');
  const std::vector<Command> commands = {
      Make(Op::kPut, large, s, 1, 1),
      Make(Op::kPut, inlined, s, 2, 1),  // answers `large`
      Make(Op::kAppend, "x", s, 3, 1),   // answers `inlined`
      Make(Op::kDelete, "", s, 4, 1),    // answers a large one
      Make(Op::kDelete, "", s, 5, 1),    // nothing there
      Make(Op::kCompareAndSwap, "new", s, 6, 1, 0),
      Make(Op::kCompareAndSwap, "no", s, 7, 1, 1),  // fails
      Make(Op::kPut, huge, s, 8, 1),
      Make(Op::kPut, "", s, 9, 1),
      Make(Op::kAppend, "end", s, 10, 1),  // answers an empty value
  };
  std::vector<ApplyResult> first;
  for (const Command& c : commands) first.push_back(group_.Do(c));
  EXPECT_EQ(first[1].old_value, large);
  EXPECT_EQ(first[2].old_value, inlined);
  EXPECT_EQ(first[6].code, ApplyCode::kCompareFailed);
  EXPECT_EQ(first[7].code, ApplyCode::kValueTooLarge);
  EXPECT_TRUE(first[9].existed);

  for (int round = 0; round < 4; ++round) {
    const Version version = group_.machine().last_version();
    for (size_t i = 0; i < commands.size(); ++i) {
      ApplyResult expected = first[i];
      expected.duplicate = true;
      ExpectSame(group_.Do(commands[i]), expected);
    }
    EXPECT_EQ(group_.machine().last_version(), version);
    EXPECT_EQ(group_.Get("k"), "end");
    group_.Do(Op::kPut, "k", "end");  // others write between
    if (round == 0) group_.CrashAndReplay();
    if (round == 1) group_.Restart();
    if (round == 2) {
      ASSERT_TRUE(group_.engine().Flush().ok());
      group_.CrashAndReplay();
    }
  }
}

TEST_P(ExactlyOnce, RepetitionInTheSameBatch) {
  const SessionId s = group_.OpenSession();
  const std::string large(5000, 'L');
  group_.Do(Op::kPut, "k", large);
  group_.log().Add(Make(Op::kAppend, "x", s, 1, 1));
  group_.log().Add(Make(Op::kAppend, "x", s, 1, 1));
  group_.log().Add(Make(Op::kAppend, "y", s, 2, 2));
  group_.log().Add(Make(Op::kAppend, "x", s, 1, 1));
  const std::vector<ApplyResult> r = group_.ApplyRest();
  EXPECT_FALSE(r[0].duplicate);
  EXPECT_TRUE(r[1].duplicate);
  EXPECT_EQ(r[1].old_value, large);
  EXPECT_EQ(r[1].version, r[0].version);
  EXPECT_EQ(r[2].old_value, large + "x");
  EXPECT_EQ(r[3].code, ApplyCode::kSequenceStale);
  EXPECT_EQ(group_.Get("k"), large + "xy");
}

TEST_P(ExactlyOnce, WritesWithoutASessionAreDoneEachTime) {
  group_.Do(Make(Op::kAppend, "x", 0, 1, 1));
  EXPECT_FALSE(group_.Do(Make(Op::kAppend, "x", 0, 1, 1)).duplicate);
  EXPECT_EQ(group_.Get("k"), "xx");
  EXPECT_EQ(group_.machine().session_count(), 0u);
}

TEST_P(ExactlyOnce, UnknownSessionsAreRefused) {
  const SessionId s = group_.OpenSession();
  for (SessionId id : {s + 1, s - 1, ~SessionId{0}}) {
    EXPECT_EQ(group_.Do(Make(Op::kPut, "x", id, 1, 1)).code,
              ApplyCode::kSessionUnknown);
  }
  EXPECT_EQ(group_.Get("k"), "(none)");
  Command close = Make(Op::kCloseSession, "", s, 0, 0);
  group_.Do(Make(Op::kPut, std::string(5000, 'x'), s, 1, 1));
  group_.Do(Make(Op::kPut, "y", s, 2, 1));
  EXPECT_EQ(group_.Do(close).code, ApplyCode::kOk);
  EXPECT_EQ(SessionKeys(), 0u);
  EXPECT_EQ(group_.Do(close).code, ApplyCode::kSessionUnknown);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "x", s, 1, 1)).code,
            ApplyCode::kSessionUnknown);
  EXPECT_EQ(group_.Get("k"), "y");
  // An id is never given twice.
  group_.Restart();
  EXPECT_GT(group_.OpenSession(), s);
}

TEST_P(ExactlyOnce, IdsNameTheGroup) {
  EXPECT_EQ(group_.OpenSession(), (uint64_t{7} << 40) + 1);
  EXPECT_EQ(group_.OpenSession(), (uint64_t{7} << 40) + 2);
}

TEST_P(ExactlyOnce, FloorOnlyRisesAndWritesBelowItAreStale) {
  const SessionId s = group_.OpenSession();
  EXPECT_EQ(group_.Do(Make(Op::kPut, "a", s, 0, 0)).code,
            ApplyCode::kSequenceStale);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "a", s, 5, 5)).code, ApplyCode::kOk);
  for (Sequence sequence = 0; sequence < 5; ++sequence) {
    EXPECT_EQ(group_.Do(Make(Op::kPut, "b", s, sequence, 0)).code,
              ApplyCode::kSequenceStale);
  }
  EXPECT_TRUE(group_.Do(Make(Op::kPut, "b", s, 5, 1)).duplicate);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "c", s, 6, 2)).code, ApplyCode::kOk);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", s, 4, 2)).code,
            ApplyCode::kSequenceStale);
  // A floor above the write itself cannot be meant.
  EXPECT_EQ(group_.Do(Make(Op::kPut, "d", s, 7, 100)).code, ApplyCode::kOk);
  EXPECT_TRUE(group_.Do(Make(Op::kPut, "x", s, 7, 7)).duplicate);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "e", s, 8, 8)).code, ApplyCode::kOk);
  EXPECT_EQ(group_.Get("k"), "e");
}

TEST_P(ExactlyOnce, WindowBoundsTheSequencesAboveTheFloor) {
  const SessionId s = group_.OpenSession();
  EXPECT_EQ(group_.Do(Make(Op::kPut, "a", s, kSessionWindow, 1)).code,
            ApplyCode::kOk);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", s, kSessionWindow + 1, 1)).code,
            ApplyCode::kSessionWindow);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", s, ~Sequence{0}, 1)).code,
            ApplyCode::kSessionWindow);
  EXPECT_EQ(group_.Get("k"), "a");
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", s, kSessionWindow + 1, 2)).code,
            ApplyCode::kOk);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "c", s, ~Sequence{0}, ~Sequence{0})).code,
            ApplyCode::kOk);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "d", s, 2, 2)).code,
            ApplyCode::kSequenceStale);
}

TEST_P(ExactlyOnce, SessionThatHoldsTooMuchMustRaiseItsFloor) {
  const SessionId s = group_.OpenSession();
  const std::string value(kMaxValueBytes, 'x');
  group_.Do(Op::kPut, "k", value);
  Sequence sequence = 1;
  ApplyResult r;
  do {
    r = group_.Do(Make(Op::kPut, value, s, sequence++, 1));
  } while (r.code == ApplyCode::kOk);
  EXPECT_EQ(r.code, ApplyCode::kSessionWindow);
  EXPECT_EQ(sequence, kMaxBytesOfSession / (kMaxValueBytes + kAnswerCost) + 3);
  // A repetition is answered all the same.
  EXPECT_TRUE(group_.Do(Make(Op::kPut, value, s, 2, 1)).duplicate);
  EXPECT_EQ(group_.Do(Make(Op::kPut, value, s, sequence - 1, 2)).code,
            ApplyCode::kOk);
  EXPECT_EQ(group_.Do(Make(Op::kPut, value, s, sequence, sequence)).code,
            ApplyCode::kOk);
  EXPECT_EQ(SessionKeys(), 2u);  // answers below the floor are gone
}

TEST_P(ExactlyOnce, IdlestSessionIsEvictedByCount) {
  for (uint32_t i = 0; i < kMaxSessions; ++i) {
    Command open;
    open.op = Op::kOpenSession;
    group_.log().Add(open);
  }
  const SessionId first = group_.ApplyRest()[0].session;
  EXPECT_EQ(group_.machine().session_count(), kMaxSessions);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "a", first, 1, 1)).code, ApplyCode::kOk);
  // A refused write counts as a sign of life too.
  EXPECT_EQ(group_.Do(Make(Op::kPut, "a", first + 1, 0, 0)).code,
            ApplyCode::kSequenceStale);
  group_.Restart();
  group_.OpenSession();
  EXPECT_EQ(group_.machine().session_count(), kMaxSessions);
  EXPECT_EQ(SessionKeys(), kMaxSessions);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", first + 2, 1, 1)).code,
            ApplyCode::kSessionUnknown);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", first + 3, 1, 1)).code,
            ApplyCode::kOk);
  EXPECT_TRUE(group_.Do(Make(Op::kPut, "a", first, 1, 1)).duplicate);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "c", first + 1, 1, 1)).code,
            ApplyCode::kOk);
}

TEST_P(ExactlyOnce, IdlestSessionIsEvictedByBytes) {
  const std::string value(kMaxValueBytes, 'x');
  group_.Do(Op::kPut, "k", value);
  std::vector<SessionId> sessions;
  for (int i = 0; i < 5; ++i) sessions.push_back(group_.OpenSession());
  // 16 answers of about a megabyte each: four sessions are under the limit,
  // the fifth passes it.
  const int each = 16;
  for (int i = 0; i < 5; ++i) {
    for (int n = 1; n <= each; ++n) {
      ASSERT_EQ(group_.Do(Make(Op::kPut, value, sessions[i], n, 1)).code,
                ApplyCode::kOk);
    }
  }
  EXPECT_EQ(group_.machine().session_count(), 4u);
  EXPECT_EQ(group_.Do(Make(Op::kPut, "b", sessions[0], 1, 1)).code,
            ApplyCode::kSessionUnknown);
  for (int i = 1; i < 5; ++i) {
    EXPECT_TRUE(group_.Do(Make(Op::kPut, "b", sessions[i], 1, 1)).duplicate);
  }
}

}  // namespace
}  // namespace kv739::kv
