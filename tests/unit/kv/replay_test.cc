// One log, many replicas: however its entries are batched, refused, crashed
// over and applied again, on either engine, every replica answers the same and
// ends in the same state (known failures of other stores: the data and the
// applied index disagreed after a crash, or an outcome depended on local
// state).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/state_machine.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

// A log of random commands with what a replica answered to each, one entry at
// a time, checked against plain rules as it is made.
class History {
 public:
  explicit History(uint64_t seed) : random_(seed) {
    for (int i = 0; i < 400; ++i) Step();
  }

  const std::vector<raft::Entry>& entries() { return group_.log().entries(); }
  const std::vector<ApplyResult>& results() const { return results_; }
  TestGroup& group() { return group_; }

 private:
  struct Client {
    SessionId session = 0;
    Sequence next = 1;
    Sequence floor = 1;
    std::map<Sequence, std::pair<Command, ApplyResult>> sent;
  };

  uint64_t Below(uint64_t n) { return random_() % n; }

  void Step() {
    const uint64_t what = Below(40);
    if (what == 0) {
      group_.log().Add(raft::EntryKind::kNoop, "");
      results_.push_back(group_.ApplyRest().back());
    } else if (what == 1) {
      raft::Configuration configuration = ThreeVoters();
      configuration.learners = {raft::NodeId(4 + Below(5))};
      group_.log().Add(raft::EntryKind::kConfiguration,
                       raft::EncodeConfiguration(configuration));
      results_.push_back(group_.ApplyRest().back());
    } else if (what < 4 || clients_.empty()) {
      Command open;
      open.op = Op::kOpenSession;
      results_.push_back(group_.Do(open));
      clients_.emplace_back();
      clients_.back().session = results_.back().session;
    } else if (what == 4 && clients_.size() > 3) {
      Command close;
      close.op = Op::kCloseSession;
      close.session = clients_[Below(clients_.size())].session;
      results_.push_back(group_.Do(close));
    } else {
      Write();
    }
  }

  void Write() {
    const std::string key = absl::StrCat("k", Below(12));
    const uint64_t sizes[] = {0, 3, 200, 1100, 4000};
    const std::string value(sizes[Below(5)], 'a' + Below(26));
    Command c;
    c.op = static_cast<Op>(1 + Below(4));
    c.key = key;
    c.value = value;
    c.stamp = Below(4) == 0 ? Below(1'000'000) : 0;
    const Version there = group_.machine().Get(key)->version;
    c.expected = Below(3) == 0 ? Below(10) : there;
    if (Below(5) == 0) {
      Check(c, group_.Do(c));
      return;
    }
    Client& client = clients_[Below(clients_.size())];
    c.session = client.session;
    const bool repeat = !client.sent.empty() && Below(4) == 0;
    if (repeat) {
      const auto it = std::next(client.sent.begin(), Below(client.sent.size()));
      c.sequence = it->first;
    } else {
      c.sequence = client.next++;
      if (Below(2) == 0) client.floor = client.next - Below(5);
    }
    c.floor = client.floor;
    const ApplyResult result = group_.Do(c);
    if (!result.duplicate) Check(c, result);
    const auto first = client.sent.find(c.sequence);
    if (repeat && result.code <= ApplyCode::kValueTooLarge) {
      // The first answer again, or nothing.
      ApplyResult expected = first->second.second;
      expected.duplicate = true;
      ExpectSame(result, expected);
    }
    if (!repeat) client.sent[c.sequence] = {Command(), result};
    if (result.duplicate) results_.push_back(result);
  }

  // Plain rules of a write that is no repetition.
  void Check(const Command& c, const ApplyResult& result) {
    results_.push_back(result);
    const std::string key(c.key);
    auto& [version, value] = model_[key];
    if (result.code > ApplyCode::kValueTooLarge) return;
    EXPECT_EQ(result.existed, version != 0);
    if (c.op == Op::kCompareAndSwap && c.expected != version) {
      EXPECT_EQ(result.code, ApplyCode::kCompareFailed);
      EXPECT_EQ(result.version, version);
      EXPECT_EQ(result.old_value, value);
      return;
    }
    EXPECT_EQ(result.code, ApplyCode::kOk);
    EXPECT_EQ(result.old_value, value);
    EXPECT_EQ(result.version, std::max(c.stamp, last_ + 1));
    last_ = result.version;
    version = c.op == Op::kDelete ? 0 : last_;
    value = c.op == Op::kDelete   ? ""
            : c.op == Op::kAppend ? value + std::string(c.value)
                                  : std::string(c.value);
    EXPECT_EQ(group_.Get(key), version == 0 ? "(none)" : value);
  }

  std::mt19937_64 random_;
  TestGroup group_{TestEngine::Kind::kMemory};
  std::vector<Client> clients_;
  std::map<std::string, std::pair<Version, std::string>> model_;
  Version last_ = 0;
  std::vector<ApplyResult> results_;
};

// Applies the history in batches of random size, with trouble.
void Replay(History* history, TestEngine::Kind kind, uint64_t seed) {
  std::mt19937_64 random(seed);
  TestGroup group(kind);
  const auto entries = absl::MakeConstSpan(history->entries());
  while (TestLog::Applied(group.machine()) < entries.size()) {
    const uint64_t from = TestLog::Applied(group.machine());
    // Up to several of the chunks that the entries of a batch are decoded in.
    const uint64_t most = random() % 4 == 0 ? 150 : 45;
    const uint64_t count =
        std::min<uint64_t>(1 + random() % most, entries.size() - from);
    std::vector<ApplyResult> results;
    if (random() % 4 == 0) {
      group.failing().write_error = absl::ResourceExhaustedError("later");
      EXPECT_FALSE(
          group.machine().Apply(entries.subspan(from, count), &results).ok());
      group.failing().write_error = absl::OkStatus();
    }
    // As a follower does it, or a leader.
    const bool asked = random() % 3 != 0;
    ASSERT_TRUE(
        group.machine()
            .Apply(entries.subspan(from, count), asked ? &results : nullptr)
            .ok());
    ASSERT_EQ(results.size(), asked ? count : 0);
    for (uint64_t i = 0; i < results.size(); ++i) {
      SCOPED_TRACE(absl::StrCat("entry ", from + i + 1));
      ExpectSame(results[i], history->results()[from + i]);
    }
    const uint64_t trouble = random() % 24;
    if (trouble < 3) {
      ASSERT_TRUE(group.engine().Flush().ok());
    } else if (trouble == 3) {
      group.Restart();
    } else if (trouble == 4) {
      group.Crash();  // goes back to where it was durable
    }
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_EQ(group.Hash(), history->group().Hash());
  EXPECT_EQ(group.machine().Hash()->keys,
            history->group().machine().Hash()->keys);
  EXPECT_EQ(group.machine().configuration(),
            history->group().machine().configuration());
  group.Restart();
  EXPECT_EQ(group.Hash(), history->group().Hash());
}

class ReplaySeeds : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, ReplaySeeds,
                         testing::Range(uint64_t{1}, uint64_t{11}));

TEST_P(ReplaySeeds, AllReplicasEndInTheSameState) {
  History history(GetParam());
  if (HasFailure()) return;
  for (uint64_t n = 0; n < 6; ++n) {
    Replay(&history, TestEngine::Kind::kMemory, 100 * GetParam() + n);
    if (HasFailure()) return;
  }
  for (uint64_t n = 0; n < 2; ++n) {
    Replay(&history, TestEngine::Kind::kRocks, 200 * GetParam() + n);
    if (HasFailure()) return;
    Replay(&history, TestEngine::Kind::kBuffered, 300 * GetParam() + n);
    if (HasFailure()) return;
    Replay(&history, TestEngine::Kind::kDirect, 400 * GetParam() + n);
    if (HasFailure()) return;
  }
}

// The histories are worth something: each kind of answer is in them.
TEST(Replay, HistoriesHoldEveryKindOfAnswer) {
  std::set<ApplyCode> codes;
  int duplicates = 0;
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    History history(seed);
    for (const ApplyResult& result : history.results()) {
      codes.insert(result.code);
      duplicates += result.duplicate;
    }
  }
  EXPECT_THAT(codes,
              testing::IsSupersetOf({ApplyCode::kOk, ApplyCode::kCompareFailed,
                                     ApplyCode::kSessionUnknown,
                                     ApplyCode::kSequenceStale}));
  EXPECT_GT(duplicates, 100);
}

TEST(Replay, HashTellsStatesApart) {
  TestGroup a(TestEngine::Kind::kMemory);
  TestGroup b(TestEngine::Kind::kMemory);
  a.Do(Op::kPut, "k", "1");
  b.Do(Op::kPut, "k", "2");
  EXPECT_NE(a.Hash(), b.Hash());
  a.Do(Op::kPut, "k", "3");
  b.Do(Op::kPut, "k", "3");
  EXPECT_EQ(a.Hash(), b.Hash());
  a.OpenSession();
  b.Do(Op::kPut, "k", "3");
  EXPECT_NE(a.Hash(), b.Hash());
}

}  // namespace
}  // namespace kv739::kv
