// The session table against a slow, obvious model, under limits so small that
// every rule is at work all the time; with batches that are undone, and with
// restarts from what was written.
#include "kv/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

constexpr raft::GroupId kGroup(3);
constexpr SessionLimits kSmall{
    .sessions = 4, .bytes = 24'000, .bytes_per_session = 9'000, .window = 40};

// The rules as one would say them.
struct Model {
  struct Session {
    Sequence floor = 1;
    uint64_t last_active = 0;
    std::map<Sequence, Answer> answers;
    uint64_t bytes() const {
      uint64_t sum = kSessionCost;
      for (const auto& [sequence, answer] : answers) {
        sum += kAnswerCost + answer.old_size;
      }
      return sum;
    }
  };
  std::map<SessionId, Session> sessions;
  uint64_t opened = 0;

  uint64_t bytes() const {
    uint64_t sum = 0;
    for (const auto& [id, session] : sessions) sum += session.bytes();
    return sum;
  }
  void Evict() {
    while (sessions.size() > kSmall.sessions || bytes() > kSmall.bytes) {
      sessions.erase(std::min_element(
          sessions.begin(), sessions.end(), [](const auto& a, const auto& b) {
            return a.second.last_active < b.second.last_active;
          }));
    }
  }
  SessionId Open(uint64_t index) {
    const SessionId id = kGroup.value() << 40 | ++opened;
    sessions[id].last_active = index;
    Evict();
    return id;
  }
  // Like Admit and Remember; `made` is the answer should the write be done.
  std::pair<ApplyCode, const Answer*> Write(const Command& c, uint64_t index,
                                            const Answer& made) {
    const auto it = sessions.find(c.session);
    if (it == sessions.end()) return {ApplyCode::kSessionUnknown, nullptr};
    Session& session = it->second;
    session.last_active = index;
    session.floor = std::max(session.floor, std::min(c.floor, c.sequence));
    session.answers.erase(session.answers.begin(),
                          session.answers.lower_bound(session.floor));
    if (c.sequence < session.floor) return {ApplyCode::kSequenceStale, nullptr};
    const auto answer = session.answers.find(c.sequence);
    if (answer != session.answers.end()) {
      return {ApplyCode::kOk, &answer->second};
    }
    if (c.sequence - session.floor >= kSmall.window ||
        session.bytes() >= kSmall.bytes_per_session) {
      return {ApplyCode::kSessionWindow, nullptr};
    }
    session.answers[c.sequence] = made;
    Evict();
    return {ApplyCode::kOk, nullptr};
  }
};

struct Step {
  Command command;  // kOpenSession, kCloseSession, or a write
  Answer answer;    // of the write
};

class Driver {
 public:
  explicit Driver(uint64_t seed) : random_(seed), engine_(NewMemoryEngine()) {
    table_ = std::make_unique<SessionTable>(kGroup, kSmall);
  }

  uint64_t Below(uint64_t n) { return random_() % n; }

  Step RandomStep(const Model& model) {
    Step step;
    const uint64_t kind = Below(30);
    step.command.op = kind == 0   ? Op::kOpenSession
                      : kind == 1 ? Op::kCloseSession
                                  : Op::kPut;
    if (model.opened < 2) step.command.op = Op::kOpenSession;
    if (step.command.op == Op::kOpenSession) return step;
    // Mostly one that is there.
    step.command.session = kGroup.value() << 40 | (1 + Below(model.opened));
    Sequence floor = 1;
    if (!model.sessions.empty() && Below(10) != 0) {
      const auto it =
          std::next(model.sessions.begin(), Below(model.sessions.size()));
      step.command.session = it->first;
      floor = it->second.floor;
    }
    step.command.sequence = floor + Below(kSmall.window + 4) - Below(2);
    step.command.floor = Below(3) == 0 ? floor + Below(20) : 0;
    step.answer.sequence = step.command.sequence;
    step.answer.version = random_();
    step.answer.existed = Below(2) == 0;
    step.answer.code = static_cast<ApplyCode>(Below(3));
    const uint64_t sizes[] = {0, 1, 100, 1024, 1025, 3000};
    step.answer.old_value = std::string(sizes[Below(6)], 'a' + Below(26));
    step.answer.old_size = step.answer.old_value.size();
    return step;
  }

  // Does the step to the table and, when given, to the model, and compares.
  void Do(const Step& step, uint64_t index, Model* model) {
    const Command& c = step.command;
    if (c.op == Op::kOpenSession) {
      const SessionId id = table_->Open(raft::Index(index));
      if (model != nullptr) {
        EXPECT_EQ(id, model->Open(index));
      }
      return;
    }
    if (c.op == Op::kCloseSession) {
      const bool closed = table_->Close(c.session);
      if (model != nullptr) {
        EXPECT_EQ(closed, model->sessions.erase(c.session) > 0);
      }
      return;
    }
    const SessionTable::Admission got = table_->Admit(c, raft::Index(index));
    if (model != nullptr) {
      const auto [code, duplicate] = model->Write(c, index, step.answer);
      EXPECT_EQ(got.code, code);
      ASSERT_EQ(got.duplicate != nullptr, duplicate != nullptr);
      if (duplicate != nullptr) ExpectSameAnswer(c, *got.duplicate, *duplicate);
    }
    if (got.code == ApplyCode::kOk && got.duplicate == nullptr) {
      table_->Remember(step.answer);
    }
  }

  void ExpectSameAnswer(const Command& c, const Answer& got,
                        const Answer& expected) {
    EXPECT_EQ(got.sequence, expected.sequence);
    EXPECT_EQ(got.version, expected.version);
    EXPECT_EQ(got.code, expected.code);
    EXPECT_EQ(got.existed, expected.existed);
    EXPECT_EQ(got.old_size, expected.old_size);
    std::string old_value = got.old_value;
    if (got.large() && old_value.empty()) {
      const std::string key = OldValueKey(kGroup, c.session, c.sequence);
      std::string record;
      ASSERT_TRUE(*engine_->Get(key, &record));
      Version version = 0;
      absl::string_view value;
      ASSERT_TRUE(DecodeValueRecord(key, record, &version, &value));
      EXPECT_EQ(version, expected.version);
      old_value = std::string(value);
    }
    EXPECT_EQ(old_value, expected.old_value);
  }

  void Commit() {
    const auto batch = engine_->NewBatch();
    table_->WriteTo(batch.get());
    ASSERT_TRUE(engine_->Apply(batch.get()).ok());
    table_->Commit();
  }

  void Restart() {
    const uint64_t opened = table_->opened();
    const uint64_t size = table_->size();
    const uint64_t bytes = table_->bytes();
    table_ = std::make_unique<SessionTable>(kGroup, kSmall);
    ASSERT_TRUE(table_->Restore(*engine_->NewView(), opened).ok());
    EXPECT_EQ(table_->size(), size);
    EXPECT_EQ(table_->bytes(), bytes);
  }

  std::map<std::string, std::string> Stored() const {
    std::map<std::string, std::string> all;
    EXPECT_TRUE(engine_->NewView()
                    ->Scan("", "\xff",
                           [&](absl::string_view key, absl::string_view value) {
                             all[std::string(key)] = std::string(value);
                             return true;
                           })
                    .ok());
    return all;
  }

  SessionTable& table() { return *table_; }

 private:
  std::mt19937_64 random_;
  std::unique_ptr<MemoryEngine> engine_;
  std::unique_ptr<SessionTable> table_;
};

class SessionTableSeeds : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Seeds, SessionTableSeeds,
                         testing::Range(uint64_t{1}, uint64_t{41}));

TEST_P(SessionTableSeeds, AgreesWithTheModelWhateverTheBatches) {
  Driver batched(GetParam());
  Driver single(0);  // the same steps, one a batch, never undone
  Model model;
  std::vector<Step> steps;
  for (uint64_t index = 1; index < 600;) {
    const uint64_t count = 1 + batched.Below(12);
    batched.table().Begin();
    if (batched.Below(3) == 0) {
      // A batch that the engine refuses, of other steps.
      for (uint64_t i = 0; i < count; ++i) {
        batched.Do(batched.RandomStep(model), index + i, nullptr);
      }
      batched.table().Rollback();
      batched.table().Begin();
    }
    for (uint64_t i = 0; i < count; ++i, ++index) {
      const Step step = batched.RandomStep(model);
      batched.Do(step, index, &model);
      single.table().Begin();
      single.Do(step, index, nullptr);
      single.Commit();
      ASSERT_EQ(batched.table().size(), model.sessions.size());
      ASSERT_EQ(batched.table().bytes(), model.bytes());
      ASSERT_EQ(batched.table().opened(), model.opened);
    }
    batched.Commit();
    ASSERT_EQ(batched.Stored(), single.Stored()) << "index " << index;
    if (batched.Below(10) == 0) batched.Restart();
    if (batched.Below(10) == 0) single.Restart();
    if (HasFailure()) return;
  }
}

// A client with one write in flight costs one record a write; one with many
// does not have them all written again.
TEST(SessionTable, RecordsOfABatchAreFewAndSmall) {
  SessionTable table(kGroup, {.sessions = 10,
                              .bytes = 1 << 30,
                              .bytes_per_session = 1 << 29,
                              .window = 8192});
  const auto engine = NewMemoryEngine();
  table.Begin();
  Command command;
  command.session = table.Open(raft::Index(1));
  table.Commit();
  uint64_t index = 1;
  const auto write = [&](Sequence sequence, Sequence floor) {
    command.sequence = sequence;
    command.floor = floor;
    table.Begin();
    EXPECT_EQ(table.Admit(command, raft::Index(++index)).code, ApplyCode::kOk);
    Answer answer;
    answer.sequence = sequence;
    answer.old_size = 256;
    answer.old_value = std::string(256, 'x');
    table.Remember(answer);
    const auto batch = engine->NewBatch();
    table.WriteTo(batch.get());
    EXPECT_TRUE(engine->Apply(batch.get()).ok());
    table.Commit();
    return batch->bytes();
  };
  for (Sequence s = 1; s < 1000; ++s) EXPECT_LT(write(s, s), 400u);
  for (Sequence s = 1000; s < 3000; ++s) {
    EXPECT_LT(write(s, 1000), 2 * kBlockSequences * 300u);
  }
}

}  // namespace
}  // namespace kv739::kv
