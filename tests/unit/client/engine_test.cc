// The engine on virtual time, its servers played by hand.
#include "client/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kv/cluster_file.h"

namespace kv739::client {
namespace {

using ::testing::HasSubstr;

constexpr Instant kSecond = 1000 * kMillisecond;

kv::ClusterMap MapOf(int servers) {
  std::string text;
  for (int i = 0; i < servers; ++i) {
    text += "10.0.0.1:" + std::to_string(5000 + i) + "\n";
  }
  return kv::InitialClusterMap(*kv::ParseClusterFile(text, "test"));
}

struct Sent {
  NodeIndex node;
  Outgoing out;
};

class EngineTest : public ::testing::Test {
 protected:
  explicit EngineTest(int servers = 5)
      : engine_(MapOf(servers), {.max_pending = 10'000, .seed = 1}) {}

  std::shared_ptr<Operation> Submit(OpKind kind, const std::string& key,
                                    Instant timeout = 5 * kSecond) {
    Request request;
    request.kind = kind;
    request.key = key;
    auto operation = std::make_shared<Operation>(std::move(request));
    operation->deadline = now_ + timeout;
    EXPECT_EQ(engine_.Submit(operation, now_), KV739_OK);
    return operation;
  }
  std::shared_ptr<Operation> Put(const std::string& key = "k",
                                 Instant timeout = 5 * kSecond) {
    return Submit(OpKind::kPut, key, timeout);
  }

  // What the engine sends now, oldest first.
  std::vector<Sent> Take() {
    std::vector<Sent> all;
    Effects effects = engine_.TakeEffects();
    if (effects.fetch_map) map_fetches_.push_back(*effects.fetch_map);
    for (const auto& done : effects.done) done_.push_back(done);
    for (NodeIndex node : effects.send) {
      while (true) {
        std::vector<Outgoing> batch = engine_.TakeBatch(node);
        if (batch.empty()) break;
        for (Outgoing& out : batch) all.push_back({node, std::move(out)});
      }
    }
    return all;
  }
  // The same, when it must be one.
  Sent TakeOne() {
    std::vector<Sent> all = Take();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? Sent{} : all.front();
  }

  void Advance(Instant time) {
    const Instant end = now_ + time;
    while (now_ < end) {
      now_ = std::min(end, now_ + kMillisecond);
      engine_.Tick(now_);
    }
  }

  static Answer Ok(const Sent& sent, bool found = false) {
    Answer answer;
    answer.tag = sent.out.tag;
    answer.found = found;
    return answer;
  }
  static Answer Refuse(const Sent& sent, AnswerCode code,
                       const std::string& leader = "") {
    Answer answer;
    answer.tag = sent.out.tag;
    answer.code = code;
    answer.message = "refused";
    answer.leader = leader;
    return answer;
  }
  void Deliver(const Sent& sent, Answer answer, uint64_t epoch = 1) {
    std::vector<Answer> answers;
    answers.push_back(std::move(answer));
    engine_.OnAnswers(sent.node, std::move(answers), epoch, now_);
  }

  // Opens the session of the group that the next thing sent asks for.
  void OpenSession(kv::SessionId id = 100) {
    const Sent sent = TakeOne();
    ASSERT_EQ(sent.out.operation->request.kind, OpKind::kOpenSession);
    Answer answer = Ok(sent);
    answer.session = id;
    Deliver(sent, answer);
  }
  // A put that has been sent under a session.
  std::shared_ptr<Operation> SentPut(Sent* sent) {
    auto operation = Put();
    OpenSession();
    *sent = TakeOne();
    return operation;
  }

  bool IsDone(const std::shared_ptr<Operation>& operation) {
    Effects effects = engine_.TakeEffects();
    for (const auto& done : effects.done) done_.push_back(done);
    for (NodeIndex node : effects.send) again_.push_back(node);
    return std::count(done_.begin(), done_.end(), operation) == 1;
  }
  int CodeOf(const std::shared_ptr<Operation>& operation) {
    EXPECT_TRUE(IsDone(operation));
    return operation->outcome.code;
  }

  Instant now_ = 1000 * kSecond;
  Engine engine_;
  std::vector<std::shared_ptr<Operation>> done_;
  std::vector<NodeIndex> map_fetches_;
  std::vector<NodeIndex> again_;
};

TEST_F(EngineTest, AReadIsSentAtOnceAndEnds) {
  auto get = Submit(OpKind::kGet, "k");
  const Sent sent = TakeOne();
  EXPECT_EQ(sent.out.identity.session, 0u);
  Answer answer = Ok(sent, true);
  answer.value = "v";
  answer.version = 9;
  Deliver(sent, answer);
  EXPECT_EQ(CodeOf(get), 0);
  EXPECT_EQ(get->outcome.value, "v");
  EXPECT_EQ(get->outcome.version, 9u);
  EXPECT_EQ(engine_.pending(), 0u);
  EXPECT_FALSE(engine_.HasTimers());
}

TEST_F(EngineTest, WritesWaitForOneSessionAndKeepTheirOrder) {
  auto a = Put("a"), b = Put("b"), c = Put("c");
  OpenSession(100);
  const std::vector<Sent> sent = Take();
  ASSERT_EQ(sent.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(sent[i].out.identity.session, 100u);
    EXPECT_EQ(sent[i].out.identity.sequence, i + 1);
    EXPECT_EQ(sent[i].out.floor, 1u);
  }
  Deliver(sent[0], Ok(sent[0]));
  Put("d");
  EXPECT_EQ(TakeOne().out.floor, 2u);
  EXPECT_EQ(CodeOf(a), 1);
  EXPECT_FALSE(IsDone(b) || IsDone(c));
}

TEST_F(EngineTest, FollowsTheNamedLeaderAtOnceAndRemembersIt) {
  auto get = Submit(OpKind::kGet, "k");
  const Sent first = TakeOne();
  const NodeIndex leader = (first.node + 2) % 5;
  Deliver(first, Refuse(first, AnswerCode::kNotLeader,
                        engine_.router().AddressOf(leader)));
  const Sent second = TakeOne();
  EXPECT_EQ(second.node, leader);
  Deliver(second, Ok(second));
  EXPECT_EQ(CodeOf(get), 1);
  Submit(OpKind::kGet, "other");
  EXPECT_EQ(TakeOne().node, leader);
}

TEST_F(EngineTest, AScanGoesToTheGroupOfItsSlotAndIsRepeated) {
  Request request;
  request.kind = OpKind::kScan;
  auto page = std::make_shared<ScanRequest>();
  page->slot = 4000;
  request.scan = page;
  auto scan = std::make_shared<Operation>(std::move(request));
  scan->deadline = now_ + 60 * kSecond;
  ASSERT_EQ(engine_.Submit(scan, now_), KV739_OK);
  const Sent first = TakeOne();
  EXPECT_EQ(first.out.identity.session, 0u);
  const NodeIndex leader = (first.node + 2) % 5;
  Deliver(first, Refuse(first, AnswerCode::kNotLeader,
                        engine_.router().AddressOf(leader)));
  Sent sent = TakeOne();
  EXPECT_EQ(sent.node, leader);
  // Neither a broken stream nor a server that has lost it ends a read.
  engine_.OnBroken(sent.node, "broken", now_);
  for (const AnswerCode code :
       {AnswerCode::kUnknown, AnswerCode::kOverloaded, AnswerCode::kUnavailable,
        AnswerCode::kWrongGroup}) {
    std::vector<Sent> next = Take();
    while (next.empty()) {
      Advance(kMillisecond);
      next = Take();
    }
    sent = next.back();
    EXPECT_FALSE(IsDone(scan));
    Deliver(sent, Refuse(sent, code));
  }
  std::vector<Sent> next = Take();
  while (next.empty()) {
    Advance(kMillisecond);
    next = Take();
  }
  Answer answer = Ok(next.back());
  answer.page = std::make_shared<ScanPage>();
  answer.page->entries.push_back({"k", "v", 9});
  Deliver(next.back(), answer);
  EXPECT_EQ(CodeOf(scan), KV739_OK);
  EXPECT_EQ(scan->outcome.page->entries[0].value, "v");
}

TEST_F(EngineTest, AScanWithoutAPageIsAnError) {
  Request request;
  request.kind = OpKind::kScan;
  request.scan = std::make_shared<ScanRequest>();
  auto scan = std::make_shared<Operation>(std::move(request));
  scan->deadline = now_ + kSecond;
  ASSERT_EQ(engine_.Submit(scan, now_), KV739_OK);
  const Sent sent = TakeOne();
  Deliver(sent, Ok(sent, true));
  EXPECT_EQ(CodeOf(scan), KV739_E_INTERNAL);
}

TEST_F(EngineTest, WithoutANameEveryMemberIsAskedAndThenAfterPauses) {
  Submit(OpKind::kGet, "k");
  std::set<NodeIndex> asked;
  Sent sent = TakeOne();
  for (int i = 0; i < 5; ++i) {
    asked.insert(sent.node);
    Deliver(sent, Refuse(sent, AnswerCode::kNotLeader));
    sent = TakeOne();
  }
  EXPECT_EQ(asked.size(), 5u);
  Instant before = now_;
  std::vector<Instant> pauses;
  for (int i = 0; i < 12; ++i) {
    Deliver(sent, Refuse(sent, AnswerCode::kNotLeader));
    std::vector<Sent> next;
    while (next.empty()) {
      Advance(kMillisecond);
      next = Take();
      ASSERT_LT(now_, before + 2 * kSecond);
    }
    sent = next.front();
    pauses.push_back(now_ - before);
    before = now_;
  }
  EXPECT_LE(pauses.front(), kFirstBackoff + 4 * kMillisecond);
  EXPECT_GE(pauses.back(), kLastBackoff / 2);
  EXPECT_LE(pauses.back(), kLastBackoff + 4 * kMillisecond);
}

TEST_F(EngineTest, TwoThatNameEachOtherDoNotMakeAStorm) {
  Submit(OpKind::kGet, "k", 3 * kSecond);
  int sends = 0;
  const Instant end = now_ + 3 * kSecond;
  while (now_ < end) {
    for (const Sent& sent : Take()) {
      ++sends;
      Deliver(sent, Refuse(sent, AnswerCode::kNotLeader,
                           engine_.router().AddressOf((sent.node + 1) % 2)));
    }
    Advance(kMillisecond);
  }
  EXPECT_LT(sends, 100);
}

TEST_F(EngineTest, ALostAnswerIsAskedForAgainUnderTheSameIdentity) {
  Sent first;
  auto put = SentPut(&first);
  engine_.OnBroken(first.node, "reset", now_);
  const Sent second = TakeOne();
  EXPECT_NE(second.node, first.node);
  EXPECT_EQ(second.out.identity.session, first.out.identity.session);
  EXPECT_EQ(second.out.identity.sequence, first.out.identity.sequence);
  Deliver(second, Ok(second, true));
  EXPECT_EQ(CodeOf(put), 0);
}

TEST_F(EngineTest, AWriteThatWasSentAndNeverAnsweredIsUnknown) {
  Sent sent;
  auto put = SentPut(&sent);
  Advance(5 * kSecond - kMillisecond);
  EXPECT_FALSE(IsDone(put)) << "before its deadline";
  Advance(kMillisecond + 2 * TimerWheel<Operation>::kTick);
  EXPECT_EQ(CodeOf(put), KV739_E_UNKNOWN);
}

TEST_F(EngineTest, ARefusalTakesAwayOnlyItsOwnDoubt) {
  Sent first;
  auto put = SentPut(&first);
  engine_.OnBroken(first.node, "reset", now_);
  const Instant end = now_ + 6 * kSecond;
  while (now_ < end) {
    for (const Sent& sent : Take()) {
      Deliver(sent, Refuse(sent, AnswerCode::kNotLeader));
    }
    Advance(10 * kMillisecond);
  }
  EXPECT_EQ(CodeOf(put), KV739_E_UNKNOWN)
      << "the first try may have taken effect";
}

TEST_F(EngineTest, AWriteWhoseEveryTryWasRefusedTookNoEffect) {
  auto put = Put();
  OpenSession();
  const Instant end = now_ + 6 * kSecond;
  while (now_ < end) {
    for (const Sent& sent : Take()) {
      Deliver(sent, Refuse(sent, AnswerCode::kUnavailable));
    }
    Advance(10 * kMillisecond);
  }
  EXPECT_EQ(CodeOf(put), KV739_E_TIMEOUT);
}

TEST_F(EngineTest, WhatNobodyTookIsUnavailable) {
  auto put = Put();
  auto get = Submit(OpKind::kGet, "k");
  const Instant end = now_ + 6 * kSecond;
  while (now_ < end) {
    Effects effects = engine_.TakeEffects();
    for (const auto& done : effects.done) done_.push_back(done);
    for (NodeIndex node : effects.send) {
      engine_.OnBroken(node, "connection refused", now_);
    }
    Advance(kMillisecond);
  }
  EXPECT_EQ(CodeOf(put), KV739_E_UNAVAILABLE);
  EXPECT_EQ(CodeOf(get), KV739_E_UNAVAILABLE);
  EXPECT_THAT(get->outcome.message, HasSubstr("connection refused"));
  EXPECT_THAT(put->outcome.message, HasSubstr("connection refused"));
  EXPECT_THAT(get->outcome.message, HasSubstr("10.0.0.1:500"));
}

TEST_F(EngineTest, ASilentMemberIsLeftButItsLateAnswerCounts) {
  Sent first;
  auto put = SentPut(&first);
  Advance(kFirstTryTimeout + 10 * kMillisecond);
  const Sent second = TakeOne();
  EXPECT_NE(second.node, first.node);
  EXPECT_EQ(second.out.identity.sequence, first.out.identity.sequence);
  Deliver(first, Ok(first, true));
  EXPECT_EQ(CodeOf(put), 0);
  // The other answer comes as well, and finds nobody.
  Deliver(second, Ok(second, false));
  EXPECT_EQ(put->outcome.code, 0);
}

TEST_F(EngineTest, WhatIsStillQueuedAfterATryIsNotSentAndNoDoubt) {
  auto get = Submit(OpKind::kGet, "a");  // opens nothing, marks the node
  const Sent marked = TakeOne();
  auto put = Put();
  // The session's opening is queued for a node that takes nothing.
  for (int i = 0; i < 5; ++i) Advance(1100 * kMillisecond);
  EXPECT_EQ(CodeOf(put), KV739_E_UNAVAILABLE);
  for (NodeIndex node = 0; node < 5; ++node) {
    for (const Outgoing& out : engine_.TakeBatch(node)) {
      EXPECT_NE(out.operation->request.kind, OpKind::kPut);
    }
  }
  EXPECT_EQ(CodeOf(get), KV739_E_TIMEOUT);
  Deliver(marked, Ok(marked));
}

TEST_F(EngineTest, AnUnknownOutcomeIsAskedForAgain) {
  Sent first;
  auto put = SentPut(&first);
  Deliver(first, Refuse(first, AnswerCode::kUnknown));
  Advance(10 * kMillisecond);
  const Sent second = TakeOne();
  EXPECT_EQ(second.out.identity.sequence, first.out.identity.sequence);
  Deliver(second, Refuse(second, AnswerCode::kNotLeader));
  Advance(6 * kSecond);
  EXPECT_EQ(CodeOf(put), KV739_E_UNKNOWN);
}

TEST_F(EngineTest, AForgottenSessionIsReplacedForAWriteWithoutDoubt) {
  Sent first;
  auto put = SentPut(&first);
  auto other = Put("other");
  const Sent second = TakeOne();
  Deliver(first, Refuse(first, AnswerCode::kSessionUnknown));
  Deliver(second, Refuse(second, AnswerCode::kSessionUnknown));
  Advance(10 * kMillisecond);
  OpenSession(200);
  const std::vector<Sent> again = Take();
  ASSERT_EQ(again.size(), 2u);
  EXPECT_EQ(again[0].out.identity.session, 200u);
  EXPECT_EQ(again[0].out.identity.sequence, 1u);
  EXPECT_EQ(again[1].out.identity.sequence, 2u);
  for (const Sent& sent : again) Deliver(sent, Ok(sent));
  EXPECT_EQ(CodeOf(put), 1);
  EXPECT_EQ(CodeOf(other), 1);
}

TEST_F(EngineTest, AForgottenSessionLeavesAWriteInDoubtUnknown) {
  for (AnswerCode code :
       {AnswerCode::kSessionUnknown, AnswerCode::kSequenceRefused}) {
    auto put = Put();
    std::vector<Sent> sent = Take();
    if (sent.front().out.operation->request.kind == OpKind::kOpenSession) {
      Answer answer = Ok(sent.front());
      answer.session = 300;
      Deliver(sent.front(), answer);
      sent = Take();
    }
    engine_.OnBroken(sent.front().node, "reset", now_);
    const Sent second = TakeOne();
    Deliver(second, Refuse(second, code));
    EXPECT_EQ(CodeOf(put), KV739_E_UNKNOWN);
  }
}

TEST_F(EngineTest, ARefusedArgumentEndsAtOnceAndHonestly) {
  Sent first;
  auto put = SentPut(&first);
  Deliver(first, Refuse(first, AnswerCode::kValueTooLarge));
  EXPECT_EQ(CodeOf(put), KV739_E_INVALID);

  auto doubtful = Put();
  const Sent lost = TakeOne();
  engine_.OnBroken(lost.node, "reset", now_);
  const Sent again = TakeOne();
  Deliver(again, Refuse(again, AnswerCode::kInvalidArgument));
  EXPECT_EQ(CodeOf(doubtful), KV739_E_UNKNOWN);
}

TEST_F(EngineTest, ARefusedSessionIsToldToAllThatWait) {
  auto a = Put("a"), b = Put("b");
  const Sent open = TakeOne();
  Deliver(open, Refuse(open, AnswerCode::kPermissionDenied));
  EXPECT_EQ(CodeOf(a), KV739_E_DENIED);
  EXPECT_EQ(CodeOf(b), KV739_E_DENIED);
  Put("c");
  OpenSession();
  EXPECT_EQ(Take().size(), 1u);
}

TEST_F(EngineTest, AtMostTheSpanIsOutAndTheRestWaits) {
  std::vector<std::shared_ptr<Operation>> puts;
  for (uint64_t i = 0; i < kSessionSpan + 10; ++i) puts.push_back(Put());
  OpenSession();
  std::vector<Sent> sent = Take();
  EXPECT_EQ(sent.size(), kSessionSpan);
  Deliver(sent[1], Ok(sent[1]));
  EXPECT_TRUE(Take().empty()) << "the first still holds the floor";
  Deliver(sent[0], Ok(sent[0]));
  sent = Take();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].out.identity.sequence, kSessionSpan + 1);
  EXPECT_EQ(sent[0].out.floor, 3u);
}

TEST_F(EngineTest, AWriteThatWasGivenUpFallsBelowTheFloor) {
  Sent first;
  SentPut(&first);
  Advance(6 * kSecond);
  Take();
  Put();
  const Sent next = TakeOne();
  EXPECT_EQ(next.out.identity.sequence, 2u);
  EXPECT_EQ(next.out.floor, 2u);
}

TEST_F(EngineTest, TooManyAreRefused) {
  for (int i = 0; i < 10'000; ++i) Submit(OpKind::kGet, "k");
  auto more =
      std::make_shared<Operation>(Request{OpKind::kGet, "k", "", 0, {}});
  more->deadline = now_ + kSecond;
  EXPECT_EQ(engine_.Submit(more, now_), KV739_E_OVERLOADED);
  EXPECT_THAT(more->outcome.message, HasSubstr("10000"));
  const std::vector<Sent> sent = Take();
  Deliver(sent[0], Ok(sent[0]));
  EXPECT_EQ(engine_.Submit(more, now_), KV739_OK);
}

TEST_F(EngineTest, MessagesAreBoundedByBytes) {
  for (int i = 0; i < 4; ++i) {
    Request request{OpKind::kAppend, "k", std::string(600'000, 'v'), 0, {}};
    auto operation = std::make_shared<Operation>(std::move(request));
    operation->deadline = now_ + kSecond;
    ASSERT_EQ(engine_.Submit(operation, now_), KV739_OK);
  }
  OpenSession();
  const Effects effects = engine_.TakeEffects();
  ASSERT_EQ(effects.send.size(), 1u);
  int messages = 0;
  while (true) {
    const auto batch = engine_.TakeBatch(effects.send[0]);
    if (batch.empty()) break;
    EXPECT_EQ(batch.size(), 1u);
    ++messages;
  }
  EXPECT_EQ(messages, 4);
}

// What is gathered can be sent before the rest of the effects is carried out.
TEST_F(EngineTest, SendsAreTakenByThemselves) {
  for (int i = 0; i < 3; ++i) Submit(OpKind::kGet, "k");
  const std::vector<NodeIndex> send = engine_.TakeSends();
  ASSERT_EQ(send.size(), 1u);
  EXPECT_EQ(engine_.Waiting(send[0]), 3u);
  EXPECT_TRUE(engine_.TakeSends().empty());
  EXPECT_TRUE(engine_.TakeEffects().send.empty());
  EXPECT_EQ(engine_.TakeBatch(send[0]).size(), 3u);
  EXPECT_EQ(engine_.Waiting(send[0]), 0u);
  // Told of again.
  Submit(OpKind::kGet, "k");
  EXPECT_EQ(engine_.TakeSends(), send);
  EXPECT_EQ(engine_.Waiting(send[0]), 1u);
}

TEST_F(EngineTest, ClosingEndsAllAndTellsApartWhatWasSent) {
  Sent sent;
  auto put = SentPut(&sent);
  auto queued = Put();
  auto get = Submit(OpKind::kGet, "k");
  engine_.Close();
  EXPECT_EQ(CodeOf(put), KV739_E_UNKNOWN);
  EXPECT_EQ(CodeOf(queued), KV739_E_CLOSED);
  EXPECT_EQ(CodeOf(get), KV739_E_CLOSED);
  EXPECT_EQ(engine_.pending(), 0u);
  auto late =
      std::make_shared<Operation>(Request{OpKind::kGet, "k", "", 0, {}});
  EXPECT_EQ(engine_.Submit(late, now_), KV739_E_CLOSED);
}

TEST_F(EngineTest, NonsenseAnswersAreIgnored) {
  auto get = Submit(OpKind::kGet, "k");
  const Sent sent = TakeOne();
  Sent elsewhere = sent;
  elsewhere.node = (sent.node + 1) % 5;
  Deliver(elsewhere, Ok(sent, true));
  Sent other = sent;
  other.out.tag = 987654;
  Deliver(sent, Ok(other, true));
  EXPECT_FALSE(IsDone(get));
  Deliver(sent, Ok(sent, false));
  EXPECT_EQ(CodeOf(get), 1);
}

class TwoGroupsTest : public EngineTest {
 protected:
  TwoGroupsTest() : EngineTest(10) {}

  // A map in which everything belongs to the group that `key` is not in.
  std::unique_ptr<kv::ClusterMap> Moved(const std::string& key) {
    auto map = std::make_unique<kv::ClusterMap>(engine_.router().map());
    const raft::GroupId from = map->OwnerOf(kv::SlotOf(key));
    const raft::GroupId to =
        map->groups[0].id == from ? map->groups[1].id : map->groups[0].id;
    map->epoch = 2;
    map->slots.assign(kv::kSlotCount, to);
    return map;
  }
};

TEST_F(TwoGroupsTest, AWrongGroupFetchesTheMapAndGoesThere) {
  Sent first;
  auto put = SentPut(&first);
  Answer refusal = Refuse(first, AnswerCode::kWrongGroup);
  refusal.map_epoch = 2;
  Deliver(first, refusal);
  Take();
  ASSERT_EQ(map_fetches_.size(), 1u);
  engine_.OnMap(Moved("k"), now_);
  Advance(20 * kMillisecond);
  OpenSession(500);
  const Sent second = TakeOne();
  EXPECT_NE(second.out.identity.group, first.out.identity.group);
  EXPECT_EQ(second.out.identity.session, 500u);
  Deliver(second, Ok(second));
  EXPECT_EQ(CodeOf(put), 1);
}

TEST_F(TwoGroupsTest, AWriteInDoubtDoesNotMoveWithItsKey) {
  Sent first;
  auto put = SentPut(&first);
  engine_.OnMap(Moved("k"), now_);
  engine_.OnBroken(first.node, "reset", now_);
  EXPECT_EQ(CodeOf(put), KV739_E_UNKNOWN);
}

TEST_F(TwoGroupsTest, ANewerEpochInAnAnswerFetchesTheMapOnce) {
  for (int i = 0; i < 3; ++i) {
    Submit(OpKind::kGet, "k");
    const Sent sent = TakeOne();
    Deliver(sent, Ok(sent), 2);
  }
  Take();
  EXPECT_EQ(map_fetches_.size(), 1u);
  engine_.OnMap(nullptr, now_);
  Advance(kMapPause + 10 * kMillisecond);
  Take();
  ASSERT_EQ(map_fetches_.size(), 2u) << "a failed one is repeated";
  EXPECT_NE(map_fetches_[0], map_fetches_[1]);
  engine_.OnMap(Moved("k"), now_);
  Advance(kSecond);
  Take();
  EXPECT_EQ(map_fetches_.size(), 2u);
  EXPECT_FALSE(engine_.HasTimers());
}

}  // namespace
}  // namespace kv739::client
