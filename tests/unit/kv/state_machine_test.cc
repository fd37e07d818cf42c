// What each operation does, on both engines.
#include "kv/state_machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "kv/hybrid_clock.h"
#include "kv/records.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

class StateMachineTest : public testing::TestWithParam<TestEngine::Kind> {
 protected:
  TestGroup group_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(All, StateMachineTest,
                         testing::Values(TestEngine::Kind::kMemory,
                                         TestEngine::Kind::kRocks,
                                         TestEngine::Kind::kBuffered,
                                         TestEngine::Kind::kDirect),
                         KindName);

Command Make(Op op, absl::string_view key, absl::string_view value,
             Version stamp = 0, Version expected = 0) {
  Command c;
  c.op = op;
  c.key = key;
  c.value = value;
  c.stamp = stamp;
  c.expected = expected;
  return c;
}

TEST_P(StateMachineTest, PutAnswersTheOldValue) {
  ApplyResult r = group_.Do(Op::kPut, "k", "1");
  EXPECT_EQ(r.code, ApplyCode::kOk);
  EXPECT_FALSE(r.existed);
  EXPECT_EQ(r.old_value, "");
  EXPECT_EQ(r.version, 1u);
  r = group_.Do(Op::kPut, "k", "");
  EXPECT_TRUE(r.existed);
  EXPECT_EQ(r.old_value, "1");
  EXPECT_EQ(r.version, 2u);
  r = group_.Do(Op::kPut, "k", "3");
  EXPECT_TRUE(r.existed);  // an empty value is a value
  EXPECT_EQ(r.old_value, "");
  const absl::StatusOr<Value> value = group_.machine().Get("k");
  ASSERT_TRUE(value.ok());
  EXPECT_TRUE(value->found);
  EXPECT_EQ(value->value, "3");
  EXPECT_EQ(value->version, 3u);
  EXPECT_FALSE(group_.machine().Get("other")->found);
}

// At no instant does the engine hold an applied index without what it stands
// for: data, session and answer.
TEST_P(StateMachineTest, DataAndAppliedIndexAreOneBatch) {
  const SessionId session = group_.OpenSession();
  int batches = 0;
  group_.failing().after_apply = [&] {
    ++batches;
    auto left = StateMachine::Open(&group_.engine(), raft::GroupId(7));
    ASSERT_TRUE(left.ok()) << left.status();
    const uint64_t writes = TestLog::Applied(**left) - 1;
    EXPECT_EQ((*left)->Get("k")->value, std::string(writes, 'x'));
    EXPECT_EQ((*left)->last_version(), writes);
  };
  for (Sequence sequence = 1; sequence <= 5; ++sequence) {
    group_.Do(Op::kAppend, "k", "x", session, sequence, sequence);
  }
  EXPECT_GE(batches, 5);
  group_.failing().after_apply = nullptr;
}

TEST_P(StateMachineTest, DeleteAnswersTheOldValueAndTakesAVersion) {
  group_.Do(Op::kPut, "k", "1");
  ApplyResult r = group_.Do(Op::kDelete, "k");
  EXPECT_TRUE(r.existed);
  EXPECT_EQ(r.old_value, "1");
  EXPECT_EQ(r.version, 2u);
  EXPECT_EQ(group_.Get("k"), "(none)");
  r = group_.Do(Op::kDelete, "k");
  EXPECT_EQ(r.code, ApplyCode::kOk);
  EXPECT_FALSE(r.existed);
  EXPECT_EQ(r.version, 3u);
  EXPECT_EQ(group_.machine().last_version(), 3u);
}

TEST_P(StateMachineTest, AppendCreatesAndGrowsUpToTheLimit) {
  ApplyResult r = group_.Do(Op::kAppend, "k", "ab");
  EXPECT_FALSE(r.existed);
  r = group_.Do(Op::kAppend, "k", "cd");
  EXPECT_EQ(r.old_value, "ab");
  EXPECT_EQ(group_.Get("k"), "abcd");

  group_.Do(Op::kPut, "k", std::string(kMaxValueBytes - 1, 'x'));
  const Version version = group_.machine().last_version();
  r = group_.Do(Op::kAppend, "k", "yz");
  EXPECT_EQ(r.code, ApplyCode::kValueTooLarge);
  EXPECT_TRUE(r.existed);
  EXPECT_EQ(group_.machine().last_version(), version);
  EXPECT_EQ(group_.Get("k").size(), kMaxValueBytes - 1);
  r = group_.Do(Op::kAppend, "k", "y");
  EXPECT_EQ(r.code, ApplyCode::kOk);
  EXPECT_EQ(group_.Get("k").size(), kMaxValueBytes);
}

TEST_P(StateMachineTest, CompareAndSwap) {
  ApplyResult r = group_.Do(Make(Op::kCompareAndSwap, "k", "1", 0, 5));
  EXPECT_EQ(r.code, ApplyCode::kCompareFailed);
  EXPECT_FALSE(r.existed);
  EXPECT_EQ(r.version, 0u);
  r = group_.Do(Make(Op::kCompareAndSwap, "k", "1", 100, 0));
  EXPECT_EQ(r.code, ApplyCode::kOk);
  EXPECT_EQ(r.version, 100u);
  r = group_.Do(Make(Op::kCompareAndSwap, "k", "2", 0, 0));
  EXPECT_EQ(r.code, ApplyCode::kCompareFailed);
  EXPECT_TRUE(r.existed);
  EXPECT_EQ(r.version, 100u);
  EXPECT_EQ(r.old_value, "1");
  EXPECT_EQ(group_.Get("k"), "1");
  EXPECT_EQ(group_.machine().last_version(), 100u);
  r = group_.Do(Make(Op::kCompareAndSwap, "k", "2", 0, 100));
  EXPECT_EQ(r.code, ApplyCode::kOk);
  EXPECT_EQ(r.version, 101u);
  EXPECT_EQ(r.old_value, "1");
  EXPECT_EQ(group_.Get("k"), "2");
}

TEST_P(StateMachineTest, EntriesOfOneBatchSeeEachOther) {
  group_.Do(Op::kPut, "k", "0");
  for (int i = 1; i < 5; ++i) {
    group_.log().Add(Make(Op::kPut, "k", absl::StrCat(i)));
  }
  group_.log().Add(Make(Op::kAppend, "k", "a"));
  group_.log().Add(Make(Op::kAppend, "k", "b"));
  group_.log().Add(Make(Op::kCompareAndSwap, "k", "c", 0, 7));
  group_.log().Add(Make(Op::kDelete, "k", ""));
  group_.log().Add(Make(Op::kDelete, "k", ""));
  group_.log().Add(Make(Op::kCompareAndSwap, "k", "d", 0, 0));
  group_.log().Add(Make(Op::kAppend, "k", "e"));
  std::vector<std::string> olds;
  std::vector<bool> existed;
  for (const ApplyResult& r : group_.ApplyRest()) {
    EXPECT_EQ(r.code, ApplyCode::kOk);
    olds.push_back(r.old_value);
    existed.push_back(r.existed);
  }
  EXPECT_THAT(olds, testing::ElementsAre("0", "1", "2", "3", "4", "4a", "4ab",
                                         "c", "", "", "d"));
  EXPECT_THAT(existed, testing::ElementsAre(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1));
  EXPECT_EQ(group_.Get("k"), "de");
}

// A follower, whom nobody asks for results, reads nothing that it can do
// without.
TEST_P(StateMachineTest, WithoutResultsPutsAndDeletesDoNotRead) {
  const SessionId session = group_.OpenSession();
  group_.Do(Op::kPut, "old", "1");
  const auto apply = [&] {
    return group_.machine().Apply(
        absl::MakeConstSpan(group_.log().entries())
            .subspan(TestLog::Applied(group_.machine())),
        nullptr);
  };
  group_.failing().read_error = absl::InternalError("the disk is gone");
  for (const size_t batch : {1, 8}) {  // one by one, and looked up together
    for (size_t n = 0; n < batch; ++n) {
      group_.log().Add(Make(Op::kPut, absl::StrCat("k", n), "a"));
      group_.log().Add(Make(Op::kDelete, "old", ""));
    }
    // What the batch has made of a key needs no reading either.
    group_.log().Add(Make(Op::kAppend, "k0", "b"));
    EXPECT_TRUE(apply().ok());
  }

  // Answers that are kept, and what depends on what is there, are read for.
  Command put = Make(Op::kPut, "k1", "c");
  put.session = session;
  put.sequence = put.floor = 1;
  group_.log().Add(put);
  EXPECT_EQ(apply().message(), "the disk is gone");
  group_.failing().read_error = absl::OkStatus();
  EXPECT_TRUE(apply().ok());
  group_.failing().read_error = absl::InternalError("the disk is gone");
  group_.log().Add(Make(Op::kAppend, "k0", "c"));
  EXPECT_EQ(apply().message(), "the disk is gone");
  group_.failing().read_error = absl::OkStatus();
  EXPECT_TRUE(apply().ok());

  EXPECT_EQ(group_.Get("old"), "(none)");
  EXPECT_EQ(group_.Get("k0"), "abc");
  EXPECT_EQ(group_.Do(put).old_value, "a");
}

TEST_P(StateMachineTest, TheStateIsTheSameWithResultsAndWithout) {
  TestGroup follower(GetParam());
  const SessionId session = group_.OpenSession();
  EXPECT_EQ(follower.OpenSession(), session);
  std::mt19937 random(7);
  const auto below = [&](uint32_t n) { return random() % n; };
  Sequence sequence = 0;
  for (int batch = 0; batch < 60; ++batch) {
    for (uint32_t left = 1 + below(80); left > 0; --left) {
      constexpr Op kOps[] = {Op::kPut, Op::kPut, Op::kDelete, Op::kAppend,
                             Op::kCompareAndSwap};
      const std::string key = absl::StrCat("k", below(40));
      const std::string value(below(100), 'v');
      Command command = Make(kOps[below(5)], key, value, 0,
                             group_.machine().last_version() - below(40));
      if (below(4) == 0) {
        command.session = session;
        command.sequence = ++sequence;
        command.floor = sequence > 20 ? sequence - 20 : 1;
      }
      group_.log().Add(command);
      follower.log().Add(command);
    }
    group_.ApplyRest();
    ASSERT_TRUE(follower.machine()
                    .Apply(absl::MakeConstSpan(follower.log().entries())
                               .subspan(TestLog::Applied(follower.machine())),
                           nullptr)
                    .ok());
    ASSERT_EQ(follower.Hash(), group_.Hash());
  }
}

TEST_P(StateMachineTest, AnyBytesAreSafe) {
  const std::string odd("\0\xff\n", 3);
  for (const std::string& key :
       {std::string(), odd, std::string(70'000, 'k')}) {
    EXPECT_EQ(group_.Do(Op::kPut, key, odd).code, ApplyCode::kOk);
    EXPECT_EQ(group_.Get(key), odd);
  }
  EXPECT_EQ(group_.Do(Op::kPut, "k", std::string(kMaxValueBytes + 1, 'x')).code,
            ApplyCode::kValueTooLarge);
  EXPECT_EQ(group_.Get("k"), "(none)");
}

// K of clocks: whatever the leaders' clocks say, versions rise by the log.
TEST_P(StateMachineTest, VersionsNeverGoBackWhateverTheClocksDo) {
  const Version stamps[] = {1000, 5,           0, 2000,       1999,
                            2000, ~Version{0}, 3, ~Version{0}};
  Version last = 0;
  for (Version stamp : stamps) {
    const ApplyResult r = group_.Do(Make(Op::kPut, "k", "v", stamp));
    EXPECT_GT(r.version, last);
    if (stamp > last && stamp < 1 << 20) {
      EXPECT_EQ(r.version, stamp);
    }
    last = r.version;
    EXPECT_EQ(group_.machine().Get("k")->version, last);
    group_.Restart();
    EXPECT_EQ(group_.machine().last_version(), last);
  }
  EXPECT_LT(last, (Version{1} << 63) + 10);
}

TEST(HybridClock, FollowsTheWallAndNeverGoesBack) {
  HybridClock clock;
  const Version a = clock.Next(1000);
  EXPECT_EQ(VersionMilliseconds(a), 1000u);
  EXPECT_EQ(clock.Next(1000), a + 1);
  EXPECT_EQ(clock.Next(1), a + 2);
  clock.Observe(Version{5000} << kVersionCounterBits);
  EXPECT_GT(clock.Next(2000), Version{5000} << kVersionCounterBits);
  clock.Observe(3);
  EXPECT_EQ(VersionMilliseconds(clock.Next(6000)), 6000u);
}

TEST_P(StateMachineTest, NoopsAndConfigurationsMoveTheIndexAlone) {
  group_.Do(Op::kPut, "k", "1");
  raft::Configuration four = ThreeVoters();
  four.learners = {raft::NodeId(4)};
  group_.log().Add(raft::EntryKind::kNoop, "");
  group_.log().Add(raft::EntryKind::kConfiguration,
                   raft::EncodeConfiguration(four));
  const std::vector<ApplyResult> results = group_.ApplyRest();
  ASSERT_EQ(results.size(), 2u);
  ExpectSame(results[0], ApplyResult());
  ExpectSame(results[1], ApplyResult());
  EXPECT_EQ(group_.machine().configuration(), four);
  EXPECT_EQ(group_.machine().applied().index, raft::Index(4));
  EXPECT_EQ(group_.machine().last_version(), 1u);
  group_.Restart();
  EXPECT_EQ(group_.machine().configuration(), four);
  EXPECT_EQ(group_.machine().applied(),
            (raft::LogPosition{raft::Term(1), raft::Index(4)}));
}

// S5: the configuration and the applied index are of one instant.
TEST_P(StateMachineTest, FailedWritesChangeNothing) {
  const SessionId session = group_.OpenSession();
  group_.Do(Op::kPut, "k", "1", session, 1);
  const uint64_t hash = group_.Hash();
  for (const absl::Status& error :
       {absl::ResourceExhaustedError("full"), absl::DataLossError("bad")}) {
    TestLog more = group_.log();
    Command put = Make(Op::kPut, "k", "2");
    put.session = session;
    put.sequence = put.floor = 2;
    more.Add(put);
    raft::Configuration four = ThreeVoters();
    four.learners = {raft::NodeId(4)};
    more.Add(raft::EntryKind::kConfiguration, raft::EncodeConfiguration(four));
    more.Add(Make(Op::kOpenSession, "", ""));
    Command close = Make(Op::kCloseSession, "", "");
    close.session = session;
    more.Add(close);
    for (bool reading : {false, true}) {
      (reading ? group_.failing().read_error : group_.failing().write_error) =
          error;
      std::vector<ApplyResult> results(1);
      EXPECT_EQ(group_.machine().Apply(
                    absl::MakeConstSpan(more.entries()).subspan(2), &results),
                error);
      EXPECT_EQ(results.size(), 1u);
      group_.failing().read_error = group_.failing().write_error =
          absl::OkStatus();
      EXPECT_EQ(group_.machine().applied().index, raft::Index(3));
      EXPECT_EQ(group_.machine().last_version(), 1u);
      EXPECT_EQ(group_.machine().session_count(), 1u);
      EXPECT_EQ(group_.machine().configuration(), ThreeVoters());
      EXPECT_EQ(group_.Hash(), hash);
    }
  }
  // The session still knows the first write and has not seen the second.
  EXPECT_TRUE(group_.Do(Op::kPut, "k", "x", session, 1).duplicate);
  const ApplyResult r = group_.Do(Op::kPut, "k", "2", session, 2);
  EXPECT_FALSE(r.duplicate);
  EXPECT_EQ(r.old_value, "1");
  EXPECT_EQ(r.version, 2u);
}

TEST_P(StateMachineTest, GroupsShareAnEngineAndNothingElse) {
  Engine& engine = group_.engine();
  const raft::GroupId ids[] = {raft::GroupId(0), raft::GroupId(6),
                               raft::GroupId(8), raft::GroupId(kMaxGroupId)};
  for (raft::GroupId id : ids) {
    ASSERT_TRUE(StateMachine::Create(&engine, id, ThreeVoters()).ok());
  }
  EXPECT_THAT(
      *StateMachine::List(engine),
      testing::ElementsAre(raft::GroupId(0), raft::GroupId(6), raft::GroupId(7),
                           raft::GroupId(8), raft::GroupId(kMaxGroupId)));
  group_.Do(Op::kPut, "k", "of 7");
  for (raft::GroupId id : ids) {
    const auto other = StateMachine::Open(&engine, id);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_FALSE((*other)->Get("k")->found);
    EXPECT_EQ((*other)->applied(), kFirstPosition);
    EXPECT_EQ((*other)->Hash()->keys, 0u);
  }
  EXPECT_EQ(group_.machine().Hash()->keys, 1u);
}

TEST_P(StateMachineTest, CreateAndOpenSayWhatIsWrong) {
  Engine& engine = group_.engine();
  const auto create = [&](uint64_t id, const raft::Configuration& c) {
    return StateMachine::Create(&engine, raft::GroupId(id), c).code();
  };
  EXPECT_EQ(create(7, ThreeVoters()), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(create(kMaxGroupId + 1, ThreeVoters()),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(create(8, raft::Configuration()),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(StateMachine::Open(&engine, raft::GroupId(8)).status().code(),
            absl::StatusCode::kNotFound);
}

TEST_P(StateMachineTest, DamagedRecordsAreDataLoss) {
  group_.OpenSession();
  group_.Do(Op::kPut, "k", "v");
  std::string data_key;
  SetDataKey(raft::GroupId(7), "k", &data_key);
  const auto overwrite = [&](const std::string& key) {
    std::string before;
    ASSERT_TRUE(*group_.engine().Get(key, &before));
    for (const std::string& bad : {std::string(), "\xff" + before.substr(1)}) {
      const auto batch = group_.engine().NewBatch();
      batch->Put(key, bad);
      ASSERT_TRUE(group_.engine().Apply(batch.get()).ok());
      if (key == data_key) {
        EXPECT_EQ(group_.machine().Get("k").status().code(),
                  absl::StatusCode::kDataLoss);
      } else {
        EXPECT_EQ(StateMachine::Open(&group_.engine(), raft::GroupId(7))
                      .status()
                      .code(),
                  absl::StatusCode::kDataLoss);
      }
    }
    const auto batch = group_.engine().NewBatch();
    batch->Put(key, before);
    ASSERT_TRUE(group_.engine().Apply(batch.get()).ok());
  };
  overwrite(data_key);
  overwrite(MetaKey(raft::GroupId(7)));
  overwrite(ConfigurationKey(raft::GroupId(7)));
  overwrite(SessionKey(raft::GroupId(7), (uint64_t{7} << 40) + 1));
  EXPECT_TRUE(StateMachine::Open(&group_.engine(), raft::GroupId(7)).ok());
}

// Whatever bit of a value's record flips, nobody reads another value: not a
// Get, and not a write that answers the old one.
TEST_P(StateMachineTest, AFlippedBitIsNeverAValue) {
  group_.Do(Op::kPut, "k", "some value", 0, 0);
  group_.Do(Op::kPut, "other", "some value");
  std::string key, other_key, good, other;
  SetDataKey(raft::GroupId(7), "k", &key);
  SetDataKey(raft::GroupId(7), "other", &other_key);
  ASSERT_TRUE(*group_.engine().Get(key, &good));
  ASSERT_TRUE(*group_.engine().Get(other_key, &other));
  const auto write = [&](const std::string& record) {
    const auto batch = group_.engine().NewBatch();
    batch->Put(key, record);
    ASSERT_TRUE(group_.engine().Apply(batch.get()).ok());
  };
  TestLog log = group_.log();
  log.Add(Make(Op::kAppend, "k", "x"));
  const auto expect_loss = [&](const std::string& record, size_t what) {
    write(record);
    const absl::Status get = group_.machine().Get("k").status();
    EXPECT_TRUE(absl::IsDataLoss(get)) << what << " " << get;
    EXPECT_THAT(std::string(get.message()), testing::HasSubstr("group 7"));
    std::vector<ApplyResult> results;
    EXPECT_TRUE(absl::IsDataLoss(group_.machine().Apply(
        absl::MakeConstSpan(log.entries()).last(1), &results)))
        << what;
  };
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
    expect_loss(bad, bit);
  }
  for (size_t size = 0; size < good.size(); ++size) {
    expect_loss(good.substr(0, size), size);
  }
  expect_loss(other, 0);  // whole, but of another key
  write(good);
  EXPECT_EQ(group_.Get("k"), "some value");
}

TEST_P(StateMachineTest, ADamagedOldValueOfASessionIsNotRepeated) {
  const SessionId session = group_.OpenSession();
  group_.Do(Op::kPut, "k", std::string(2000, 'a'));
  group_.Do(Op::kPut, "k", "b", session, 1);
  const std::string key = OldValueKey(raft::GroupId(7), session, 1);
  std::string record;
  ASSERT_TRUE(*group_.engine().Get(key, &record));
  record[1000] ^= 1;
  const auto batch = group_.engine().NewBatch();
  batch->Put(key, record);
  ASSERT_TRUE(group_.engine().Apply(batch.get()).ok());
  TestLog log = group_.log();
  Command again = Make(Op::kPut, "k", "b");
  again.session = session;
  again.sequence = 1;
  log.Add(again);
  std::vector<ApplyResult> results;
  EXPECT_TRUE(absl::IsDataLoss(group_.machine().Apply(
      absl::MakeConstSpan(log.entries()).last(1), &results)));
}

TEST_P(StateMachineTest, DurableFollowsFlushes) {
  group_.Do(Op::kPut, "k", "1");
  EXPECT_EQ(group_.machine().durable()->index, raft::Index(1));
  ASSERT_TRUE(group_.engine().Flush().ok());
  EXPECT_EQ(group_.machine().durable()->index, raft::Index(2));
  Engine& engine = group_.engine();
  ASSERT_TRUE(
      StateMachine::Create(&engine, raft::GroupId(9), ThreeVoters()).ok());
  EXPECT_EQ((*StateMachine::Open(&engine, raft::GroupId(9)))
                ->durable()
                .status()
                .code(),
            absl::StatusCode::kNotFound);
}

TEST_P(StateMachineTest, GetBesideApply) {
  constexpr int kKeys = 8;
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&, i] {
      Version seen[kKeys] = {};
      while (!stop) {
        const int k = (reads++ + i) % kKeys;
        const auto value = group_.machine().Get(absl::StrCat("key", k));
        ASSERT_TRUE(value.ok());
        ASSERT_GE(value->version, seen[k]);
        seen[k] = value->version;
        if (value->found) {
          ASSERT_EQ(value->value, absl::StrCat("value", value->version));
        }
        if (reads % 64 == 0) {
          ASSERT_TRUE(group_.machine().Hash().ok());
        }
      }
    });
  }
  for (Version v = 1; v < 2000 || reads < 500; ++v) {
    group_.Do(Op::kPut, absl::StrCat("key", v % kKeys),
              absl::StrCat("value", v));
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
}

ClusterMap FileMap() {
  return InitialClusterMap(
      *ParseClusterFile("a:1\nb:1\nc:1\nd:1\ne:1\nf:1\n", "test"));
}

Command Change(const std::string& bytes) {
  return Make(Op::kDirectory, "", bytes);
}

TEST_P(StateMachineTest, GroupZeroCarriesTheDirectory) {
  TestGroup group(GetParam(), kDirectoryGroup);
  const ClusterMap map = FileMap();
  EXPECT_EQ(group.machine().directory(), nullptr);
  NodeInfo node = map.nodes[0];
  node.id = raft::NodeId(1);
  node.address.port = 2;
  const std::string add = EncodeDirectoryChange(AddNode{node});
  ApplyResult r = group.Do(Change(add));  // nothing to add to yet
  EXPECT_EQ(r.code, ApplyCode::kRefused);
  EXPECT_EQ(r.version, static_cast<Version>(absl::StatusCode::kUnavailable));
  EXPECT_NE(r.old_value, "");
  EXPECT_EQ(group.machine().directory(), nullptr);

  const std::string begin = EncodeDirectoryChange(Bootstrap{map});
  r = group.Do(Change(begin));
  EXPECT_EQ(r.code, ApplyCode::kOk);
  EXPECT_EQ(r.version, 1u);
  ASSERT_NE(group.machine().directory(), nullptr);
  EXPECT_EQ(*group.machine().directory(), map);

  // In one batch each sees the one before; what changes nothing leaves the
  // pointer alone.
  const auto before = group.machine().directory();
  EXPECT_EQ(group.Do(Change(begin)).version, 1u);
  EXPECT_EQ(group.machine().directory(), before);
  group.log().Add(Change(add));
  group.log().Add(Change(add));
  group.log().Add(Change(EncodeDirectoryChange(RemoveNode{node.id, {}})));
  group.log().Add(Change("rubbish"));
  const std::vector<ApplyResult> results = group.ApplyRest();
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].version, 2u);
  EXPECT_EQ(results[1].version, 2u);
  EXPECT_EQ(results[2].version, 3u);
  EXPECT_EQ(results[3].code, ApplyCode::kRefused);
  EXPECT_NE(group.machine().directory(), before);
  EXPECT_EQ(group.machine().directory()->epoch, 3u);
  EXPECT_EQ(group.machine().directory()->FindNode(node.id)->state,
            NodeState::kLeft);
  EXPECT_EQ(group.machine().last_version(), 0u);

  // Of one instant with everything else, and part of the hash.
  const ClusterMap last = *group.machine().directory();
  const uint64_t hash = group.Hash();
  group.Restart();
  EXPECT_EQ(*group.machine().directory(), last);
  group.Do(Change(EncodeDirectoryChange(
      GroupSettled{raft::GroupId(0), raft::Index(9), last.groups[0].members})));
  EXPECT_NE(group.Hash(), hash);
  group.Crash();
  const uint64_t epoch = group.machine().directory() == nullptr
                             ? 0
                             : group.machine().directory()->epoch;
  EXPECT_TRUE(epoch == 0 || epoch == 3) << epoch;
  group.ApplyRest();
  EXPECT_EQ(group.machine().directory()->epoch, 4u);
}

TEST_P(StateMachineTest, AFailedWriteLeavesTheDirectoryAsItWas) {
  TestGroup group(GetParam(), kDirectoryGroup);
  group.failing().write_error = absl::ResourceExhaustedError("full");
  group.log().Add(Change(EncodeDirectoryChange(Bootstrap{FileMap()})));
  std::vector<ApplyResult> results;
  EXPECT_FALSE(group.machine().Apply(group.log().entries(), &results).ok());
  EXPECT_EQ(group.machine().directory(), nullptr);
  group.failing().write_error = absl::OkStatus();
  group.Do(Op::kPut, "k", "v");
  EXPECT_EQ(group.machine().directory()->epoch, 1u);
}

TEST_P(StateMachineTest, NoOtherGroupTakesAChangeOfTheDirectory) {
  const ApplyResult r =
      group_.Do(Change(EncodeDirectoryChange(Bootstrap{FileMap()})));
  EXPECT_EQ(r.code, ApplyCode::kRefused);
  EXPECT_THAT(r.old_value, testing::HasSubstr("group 7"));
  EXPECT_EQ(group_.machine().directory(), nullptr);
}

TEST_P(StateMachineTest, ADamagedDirectoryIsDataLoss) {
  TestGroup group(GetParam(), kDirectoryGroup);
  group.Do(Change(EncodeDirectoryChange(Bootstrap{FileMap()})));
  std::string record;
  ASSERT_TRUE(*group.engine().Get(DirectoryKey(kDirectoryGroup), &record));
  record[20] ^= 4;
  const auto batch = group.engine().NewBatch();
  batch->Put(DirectoryKey(kDirectoryGroup), record);
  ASSERT_TRUE(group.engine().Apply(batch.get()).ok());
  EXPECT_TRUE(absl::IsDataLoss(
      StateMachine::Open(&group.engine(), kDirectoryGroup).status()));
  // Reload leaves what was there.
  EXPECT_TRUE(absl::IsDataLoss(group.machine().Reload()));
  EXPECT_EQ(group.machine().directory()->epoch, 1u);
}

using StateMachineDeathTest = StateMachineTest;

INSTANTIATE_TEST_SUITE_P(All, StateMachineDeathTest,
                         testing::Values(TestEngine::Kind::kMemory), KindName);

TEST_P(StateMachineDeathTest, BrokenInvariantsEndTheProcess) {
  group_.Do(Op::kPut, "k", "1");
  const auto apply = [&](raft::Entry entry) {
    std::vector<ApplyResult> results;
    group_.machine().Apply({entry}, &results).IgnoreError();
  };
  raft::Entry entry = group_.log().entries().back();
  EXPECT_DEATH(apply(entry), "does not follow");
  entry.index = raft::Index(4);
  EXPECT_DEATH(apply(entry), "does not follow");
  entry.index = raft::Index(3);
  entry.data = raft::MakePayload("rubbish");
  EXPECT_DEATH(apply(entry), "a command does not decode");
  entry.kind = raft::EntryKind::kConfiguration;
  EXPECT_DEATH(apply(entry), "a configuration does not decode");
}

}  // namespace
}  // namespace kv739::kv
