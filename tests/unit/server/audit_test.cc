// Whether the replicas of a group hold the same, and what follows.
#include "server/audit.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/types/span.h"
#include "kv/command.h"
#include "kv/engine.h"

namespace kv739::server {
namespace {

using Finding = AuditedReplica::Finding;
using raft::Index;
using raft::LogPosition;
using raft::NodeId;
using raft::Term;
using NodeIds = std::vector<NodeId>;

constexpr raft::GroupId kGroup{3};
constexpr LogPosition kAt{Term(2), Index(40)};
constexpr uint64_t kInterval = 1000;
constexpr uint64_t kCollect = 100;

NodeIds Ids(std::initializer_list<uint64_t> ids) {
  NodeIds nodes;
  for (uint64_t id : ids) nodes.push_back(NodeId(id));
  return nodes;
}

AuditReport Hash(uint64_t hash, LogPosition at = kAt) {
  AuditReport report;
  report.group = kGroup;
  report.at = at;
  report.hash = hash;
  report.keys = 7;
  return report;
}

AuditReport Error(absl::StatusCode code, std::string text) {
  AuditReport report;
  report.group = kGroup;
  report.at = kAt;
  report.code = code;
  report.error = std::move(text);
  return report;
}

// ---- the judgement ----

class AuditLeaderTest : public ::testing::Test {
 protected:
  AuditLeaderTest() : leader({kInterval, kCollect}, kGroup, 0) {}

  void Begin(std::initializer_list<uint64_t> voters,
             std::initializer_list<uint64_t> learners = {}) {
    leader.Begin(kAt, {Ids(voters), {}, Ids(learners)}, now);
  }
  bool Report(uint64_t from, uint64_t hash) {
    return leader.Report(NodeId(from), Hash(hash));
  }
  AuditResult End() {
    now += kCollect;
    auto result = leader.Poll(now);
    EXPECT_TRUE(result.has_value());
    return result.value_or(AuditResult());
  }
  static Finding Of(const AuditResult& result, uint64_t node) {
    for (const AuditedReplica& replica : result.replicas) {
      if (replica.node == NodeId(node)) return replica.finding;
    }
    ADD_FAILURE() << "nothing of " << node;
    return Finding::kNotTold;
  }

  AuditLeader leader;
  uint64_t now = 50;
};

TEST_F(AuditLeaderTest, EqualReplicasAreClean) {
  Begin({1, 2, 3});
  EXPECT_TRUE(Report(1, 11));
  EXPECT_TRUE(Report(2, 11));
  EXPECT_FALSE(leader.Poll(now).has_value()) << "one is missing";
  EXPECT_TRUE(Report(3, 11));
  const auto result = leader.Poll(now);
  ASSERT_TRUE(result.has_value()) << "all have reported";
  EXPECT_TRUE(result->Clean());
  EXPECT_TRUE(result->majority);
  EXPECT_EQ(result->hash, 11u);
  EXPECT_EQ(result->at, kAt);
  EXPECT_TRUE(result->Convicted().empty());
  EXPECT_EQ(result->replicas[2].keys, 7u);
  EXPECT_EQ(result->Describe(),
            "audit of group 3 at index 40: 3 of 3 are equal");
  EXPECT_FALSE(leader.Poll(now + 5000).has_value()) << "a result comes once";
  ASSERT_TRUE(leader.last().has_value());
  EXPECT_EQ(leader.last()->hash, 11u);
}

TEST_F(AuditLeaderTest, WhoDiffersFromTheMajorityIsConvicted) {
  Begin({1, 2, 3, 4, 5});
  for (uint64_t id : {1, 2, 4, 5}) Report(id, 11);
  Report(3, 12);
  const AuditResult result = End();
  EXPECT_EQ(result.Convicted(), Ids({3}));
  EXPECT_FALSE(result.Clean());
  EXPECT_EQ(result.Finding(result.replicas[2]),
            "differs from the majority: 000000000000000c instead of "
            "000000000000000b");
  EXPECT_EQ(result.Finding(result.replicas[0]), "");
}

TEST_F(AuditLeaderTest, ALeaderThatDiffersConvictsItself) {
  Begin({1, 2, 3});
  Report(1, 99);
  Report(2, 11);
  Report(3, 11);
  EXPECT_EQ(End().Convicted(), Ids({1}));
}

TEST_F(AuditLeaderTest, WhoCannotReadItsStateIsConvicted) {
  Begin({1, 2, 3});
  Report(1, 11);
  EXPECT_TRUE(leader.Report(
      NodeId(2), Error(absl::StatusCode::kDataLoss, "block checksum")));
  Report(3, 11);
  const AuditResult result = End();
  EXPECT_EQ(result.Convicted(), Ids({2}));
  EXPECT_EQ(result.Finding(result.replicas[1]),
            "cannot be read: block checksum");
}

TEST_F(AuditLeaderTest, OtherErrorsSayNothingAboutTheState) {
  Begin({1, 2, 3});
  Report(1, 11);
  EXPECT_TRUE(leader.Report(NodeId(2),
                            Error(absl::StatusCode::kUnavailable, "stopping")));
  Report(3, 11);
  const AuditResult result = End();
  EXPECT_TRUE(result.Convicted().empty());
  EXPECT_TRUE(result.Clean());
  EXPECT_EQ(Of(result, 2), Finding::kNotTold);
  EXPECT_EQ(result.Finding(result.replicas[1]),
            "could not tell: UNAVAILABLE: stopping");
}

TEST_F(AuditLeaderTest, TwoAgainstTwoIsNoMajority) {
  Begin({1, 2, 3, 4});
  Report(1, 11);
  Report(2, 11);
  Report(3, 12);
  Report(4, 12);
  const AuditResult result = End();
  EXPECT_FALSE(result.majority);
  EXPECT_TRUE(result.Convicted().empty());
  EXPECT_FALSE(result.Clean()) << "it is reported";
  EXPECT_TRUE(absl::StrContains(result.Describe(), "no majority"))
      << result.Describe();
  EXPECT_TRUE(absl::StrContains(result.Describe(), "000000000000000c"))
      << "people need the hashes: " << result.Describe();
}

TEST_F(AuditLeaderTest, NorAreThreeDifferentOnes) {
  Begin({1, 2, 3});
  Report(1, 11);
  Report(2, 12);
  Report(3, 13);
  EXPECT_TRUE(End().Convicted().empty());
}

TEST_F(AuditLeaderTest, NorIsOneThatCanReadAmongThoseThatCannot) {
  Begin({1, 2, 3});
  Report(1, 11);
  leader.Report(NodeId(2), Error(absl::StatusCode::kDataLoss, "x"));
  const AuditResult result = End();
  EXPECT_FALSE(result.majority);
  EXPECT_TRUE(result.Convicted().empty());
  EXPECT_FALSE(result.Clean());
}

TEST_F(AuditLeaderTest, NorOneAlone) {
  Begin({1, 2, 3}, {4});
  Report(1, 11);
  leader.Report(NodeId(4), Hash(11));
  const AuditResult result = End();
  EXPECT_FALSE(result.majority);
  EXPECT_TRUE(result.Clean());
  EXPECT_EQ(result.Finding(result.replicas[0]), "nobody to compare it with");
}

TEST_F(AuditLeaderTest, ThoseThatReportInTimeAreComparedWithoutTheOthers) {
  Begin({1, 2, 3, 4, 5});
  Report(1, 11);
  Report(2, 11);
  Report(3, 12);
  EXPECT_FALSE(leader.Poll(now + kCollect - 1).has_value());
  const AuditResult result = End();
  EXPECT_EQ(result.Convicted(), Ids({3}));
  EXPECT_EQ(Of(result, 4), Finding::kNotTold);
  EXPECT_EQ(result.Finding(result.replicas[3]), "has not reported");
}

TEST_F(AuditLeaderTest, LearnersAreJudgedAndDoNotJudge) {
  Begin({1, 2, 3}, {4, 5, 6});
  Report(1, 11);
  Report(2, 11);
  Report(3, 12);
  for (uint64_t id : {4, 5, 6}) Report(id, 12);
  EXPECT_EQ(End().Convicted(), Ids({3, 4, 5, 6}));
}

TEST_F(AuditLeaderTest, BothHalvesOfAJointConfigurationReport) {
  leader.Begin(kAt, {Ids({1, 2, 4}), Ids({1, 2, 3}), {}}, now);
  for (uint64_t id : {1, 2, 3}) EXPECT_TRUE(Report(id, 11));
  EXPECT_TRUE(Report(4, 12));
  EXPECT_EQ(leader.Poll(now)->Convicted(), Ids({4}));
}

TEST_F(AuditLeaderTest, AGroupOfOneIsItsOwnMajority) {
  Begin({1});
  Report(1, 11);
  EXPECT_TRUE(leader.Poll(now)->Clean());
}

// ---- reports that do not count ----

TEST_F(AuditLeaderTest, TheFirstReportOfAReplicaCounts) {
  Begin({1, 2, 3});
  EXPECT_TRUE(Report(2, 11));
  EXPECT_FALSE(Report(2, 12));
  EXPECT_TRUE(
      leader.Report(NodeId(3), Error(absl::StatusCode::kUnavailable, "")));
  EXPECT_FALSE(Report(3, 11));
  EXPECT_TRUE(Report(1, 11));
  EXPECT_TRUE(leader.Poll(now)->Clean());
}

TEST_F(AuditLeaderTest, ReportsOfStrangersAndOtherPositionsAreIgnored) {
  EXPECT_FALSE(Report(1, 11)) << "no audit is open";
  Begin({1, 2, 3});
  EXPECT_FALSE(Report(9, 11));
  EXPECT_FALSE(leader.Report(NodeId(1), Hash(11, {Term(2), Index(39)})));
  EXPECT_FALSE(leader.Report(NodeId(1), Hash(11, {Term(1), Index(40)})));
  AuditReport other = Hash(11);
  other.group = raft::GroupId(4);
  EXPECT_FALSE(leader.Report(NodeId(1), other));
  EXPECT_EQ(Of(End(), 1), Finding::kNotTold);
}

TEST_F(AuditLeaderTest, LateReportsAreIgnored) {
  Begin({1, 2, 3});
  Report(1, 11);
  Report(2, 11);
  End();
  EXPECT_FALSE(Report(3, 12));
  EXPECT_TRUE(leader.last()->Convicted().empty());
}

// ---- when ----

TEST_F(AuditLeaderTest, AuditsComeOnceInAnInterval) {
  uint64_t begun = 0;
  uint64_t last = 0;
  for (now = 0; now < 10 * kInterval; ++now) {
    if (leader.Due(now)) {
      EXPECT_EQ(now - last, begun > 0 ? kInterval : now);
      last = now;
      ++begun;
      Begin({1});
      Report(1, 11);
    }
    leader.Poll(now);
  }
  EXPECT_GE(begun, 9u);
  EXPECT_LE(begun, 10u);
}

TEST_F(AuditLeaderTest, AProposalThatWasRefusedComesAgain) {
  now = 2 * kInterval;
  EXPECT_TRUE(leader.Due(now));
  EXPECT_TRUE(leader.Due(now + 1));
  Begin({1, 2, 3});
  EXPECT_FALSE(leader.Due(now + 1));
}

TEST_F(AuditLeaderTest, AnAuditThatAnotherLeaderBeganCountsForTheInterval) {
  now = kInterval - 1;
  leader.Applied(now);
  EXPECT_FALSE(leader.Due(2 * kInterval - 2));
  EXPECT_TRUE(leader.Due(2 * kInterval - 1));
}

TEST_F(AuditLeaderTest, OneThatIsAskedForComesAtOnce) {
  leader.Applied(now);
  EXPECT_FALSE(leader.Due(now));
  leader.Ask();
  EXPECT_TRUE(leader.Due(now));
  Begin({1, 2, 3});
  EXPECT_FALSE(leader.Due(now));
}

TEST_F(AuditLeaderTest, OneThatIsAskedForWhileAnotherRunsFollowsIt) {
  Begin({1, 2, 3});
  leader.Ask();
  EXPECT_FALSE(leader.Due(now));
  End();
  EXPECT_TRUE(leader.Due(now));
}

TEST_F(AuditLeaderTest, WithoutAnIntervalOnlyWhenAsked) {
  AuditLeader quiet({0, kCollect}, kGroup, 0);
  EXPECT_FALSE(quiet.Due(1000000));
  quiet.Ask();
  EXPECT_TRUE(quiet.Due(1000000));
}

TEST_F(AuditLeaderTest, GroupsAreSpreadOverTheInterval) {
  int early = 0;
  for (uint64_t g = 0; g < 100; ++g) {
    AuditLeader other({kInterval, kCollect}, raft::GroupId(g), 0);
    EXPECT_FALSE(other.Due(0));
    EXPECT_TRUE(other.Due(kInterval));
    early += other.Due(kInterval / 2) ? 1 : 0;
  }
  EXPECT_GT(early, 30);
  EXPECT_LT(early, 70);
}

// A leader that is deposed in the middle has no result; what the others report
// to the new one is of an audit that it did not begin.
TEST_F(AuditLeaderTest, AChangeOfLeadersEndsAnAudit) {
  AuditLeader next({kInterval, kCollect}, kGroup, 0);
  Begin({1, 2, 3});
  Report(1, 11);
  leader.StepDown();
  next.Applied(now);
  EXPECT_FALSE(leader.open());
  EXPECT_FALSE(Report(2, 12));
  EXPECT_FALSE(next.Report(NodeId(2), Hash(12)));
  EXPECT_FALSE(leader.Poll(now + kCollect).has_value());
  EXPECT_TRUE(next.Due(now + kInterval));
}

TEST_F(AuditLeaderTest, TheLastResultOutlivesTheLeadership) {
  Begin({1, 2, 3});
  Report(1, 11);
  End();
  leader.StepDown();
  ASSERT_TRUE(leader.last().has_value());
  EXPECT_EQ(leader.last()->at, kAt);
}

// ---- messages ----

TEST(AuditMessageTest, GoesThereAndBack) {
  for (const AuditMessage& message :
       {AuditMessage(Hash(~uint64_t{0})),
        AuditMessage(Error(absl::StatusCode::kDataLoss, "torn")),
        AuditMessage(AuditVerdict{kGroup, kAt, "differs"})}) {
    const auto back = DecodeAuditMessage(EncodeAuditMessage(message));
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, message);
  }
}

TEST(AuditMessageTest, EveryDamageOfLengthAndHeadIsRefused) {
  for (const std::string& bytes :
       {EncodeAuditMessage(Hash(5)),
        EncodeAuditMessage(Error(absl::StatusCode::kDataLoss, "torn")),
        EncodeAuditMessage(AuditVerdict{kGroup, kAt, "differs"})}) {
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_FALSE(DecodeAuditMessage(bytes.substr(0, size)).ok()) << size;
    }
    EXPECT_FALSE(DecodeAuditMessage(bytes + "x").ok());
    for (size_t i : {0, 1}) {
      std::string other = bytes;
      other[i] = 9;
      EXPECT_FALSE(DecodeAuditMessage(other).ok());
    }
  }
  // A code that there is none, a hash beside an error.
  std::string code = EncodeAuditMessage(Hash(5));
  code[code.size() - 2] = 17;
  EXPECT_FALSE(DecodeAuditMessage(code).ok());
  code[code.size() - 2] = 15;
  EXPECT_FALSE(DecodeAuditMessage(code).ok());
}

TEST(AuditMessageTest, LongTextsAreCut) {
  const auto back = DecodeAuditMessage(EncodeAuditMessage(
      Error(absl::StatusCode::kDataLoss, std::string(10000, 'x'))));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(std::get<AuditReport>(*back).error.size(), kMaxAuditText);
}

TEST(AuditMessageTest, AHashOfAnotherIndexIsNoReport) {
  kv::StateMachine::StateHash hash;
  hash.index = Index(41);
  EXPECT_EQ(MakeAuditReport(kGroup, kAt, hash).code,
            absl::StatusCode::kInternal);
  hash.index = Index(40);
  hash.hash = 5;
  EXPECT_EQ(MakeAuditReport(kGroup, kAt, hash).hash, 5u);
  EXPECT_EQ(MakeAuditReport(kGroup, kAt, absl::DataLossError("x")).code,
            absl::StatusCode::kDataLoss);
}

// ---- hashing at exactly one index ----

raft::Entry Entry(uint64_t index, const kv::Command& command) {
  return {Term(1), Index(index), raft::EntryKind::kCommand,
          raft::MakePayload(kv::EncodeCommand(command))};
}
raft::Entry Put(uint64_t index, absl::string_view key,
                absl::string_view value) {
  kv::Command command;
  command.stamp = index << 16;
  command.key = key;
  command.value = value;
  return Entry(index, command);
}
raft::Entry Audit(uint64_t index) {
  kv::Command command;
  command.op = kv::Op::kAudit;
  command.stamp = index << 16;
  return Entry(index, command);
}

TEST(AuditBatchTest, EndsAtTheFirstAuditEntry) {
  const raft::Entry noop{Term(1), Index(2), raft::EntryKind::kNoop,
                         raft::MakePayload("")};
  const std::vector<raft::Entry> entries = {noop,     Put(3, "a", "1"),
                                            Audit(4), Put(5, "b", "2"),
                                            Audit(6), Put(7, "c", "3")};
  const auto rest = absl::MakeConstSpan(entries);
  EXPECT_EQ(NextAuditBatch(rest, 6).count, 3u);
  EXPECT_TRUE(NextAuditBatch(rest, 6).audit);
  EXPECT_EQ(NextAuditBatch(rest.subspan(3), 6).count, 2u);
  EXPECT_TRUE(NextAuditBatch(rest.subspan(3), 6).audit);
  EXPECT_EQ(NextAuditBatch(rest.subspan(5), 6).count, 1u);
  EXPECT_FALSE(NextAuditBatch(rest.subspan(5), 6).audit);
  EXPECT_EQ(NextAuditBatch(rest.subspan(6), 6).count, 0u);
  // No more than are allowed.
  EXPECT_EQ(NextAuditBatch(rest, 2).count, 2u);
  EXPECT_FALSE(NextAuditBatch(rest, 2).audit);
  EXPECT_EQ(NextAuditBatch(rest, 3).count, 3u);
  EXPECT_TRUE(NextAuditBatch(rest, 3).audit);
}

// One replica, and what it reports while it applies entries in batches that end
// where NextAuditBatch says, or are cut elsewhere too.
class AuditedMachine {
 public:
  AuditedMachine() : engine_(kv::NewMemoryEngine()) {
    EXPECT_TRUE(kv::StateMachine::Create(engine_.get(), kGroup,
                                         {Ids({1, 2, 3}), {}, {}})
                    .ok());
    machine_ = *kv::StateMachine::Open(engine_.get(), kGroup);
  }

  void Apply(const std::vector<raft::Entry>& entries, size_t at_most) {
    auto rest = absl::MakeConstSpan(entries);
    while (!rest.empty()) {
      const AuditBatch batch = NextAuditBatch(rest, at_most);
      std::vector<kv::ApplyResult> results;
      ASSERT_TRUE(machine_->Apply(rest.subspan(0, batch.count), &results).ok());
      rest.remove_prefix(batch.count);
      if (!batch.audit) continue;
      if (auto work = duty_.Add({machine_->applied(), machine_->BeginHash()})) {
        under_way_ = std::move(work);
      }
    }
  }
  // The background thread comes to it only now.
  std::vector<AuditReport> Run() {
    std::vector<AuditReport> reports;
    while (under_way_) {
      reports.push_back(
          MakeAuditReport(kGroup, under_way_->at, under_way_->job->Run()));
      under_way_ = duty_.Finished();
    }
    return reports;
  }
  AuditDuty& duty() { return duty_; }
  kv::StateMachine& machine() { return *machine_; }

 private:
  std::unique_ptr<kv::MemoryEngine> engine_;
  std::unique_ptr<kv::StateMachine> machine_;
  AuditDuty duty_;
  std::optional<AuditDuty::Work> under_way_;
};

std::vector<raft::Entry> Writes(uint64_t first, uint64_t last, uint64_t audit) {
  std::vector<raft::Entry> entries;
  for (uint64_t i = first; i <= last; ++i) {
    const std::string key = "key" + std::to_string(i % 7);
    entries.push_back(i == audit ? Audit(i) : Put(i, key, std::to_string(i)));
  }
  return entries;
}

TEST(AuditHashTest, IsOfTheEntryWhateverIsAppliedMeanwhile) {
  uint64_t hash = 0;
  for (size_t at_most : {1, 3, 100}) {
    AuditedMachine replica;
    replica.Apply(Writes(2, 60, /*audit=*/20), at_most);
    const auto reports = replica.Run();
    ASSERT_EQ(reports.size(), 1u);
    EXPECT_EQ(reports[0].code, absl::StatusCode::kOk) << reports[0].error;
    EXPECT_EQ(reports[0].at.index, Index(20));
    EXPECT_EQ(reports[0].keys, 7u);
    if (hash == 0) hash = reports[0].hash;
    EXPECT_EQ(reports[0].hash, hash);
    EXPECT_NE(replica.machine().Hash()->hash, hash) << "it has gone on";
  }
}

TEST(AuditHashTest, AnotherValueIsAnotherHash) {
  AuditedMachine a;
  AuditedMachine b;
  auto entries = Writes(2, 20, /*audit=*/20);
  a.Apply(entries, 100);
  entries[4] = Put(6, "key6", "7");
  b.Apply(entries, 100);
  // Overwritten or not: versions and values of the state count.
  EXPECT_EQ(a.Run()[0].hash, b.Run()[0].hash) << "6 was overwritten by 13";
  AuditedMachine c;
  entries[11] = Put(13, "key6", "other");
  c.Apply(entries, 100);
  a.Apply({Audit(21)}, 1);
  c.Run();
  c.Apply({Audit(21)}, 1);
  EXPECT_NE(a.Run()[0].hash, c.Run()[0].hash);
}

// A replica that catches up over many audits hashes the first, because nobody
// waits then, and the last.
TEST(AuditHashTest, OfThoseThatWaitOnlyTheNewestIsHashed) {
  AuditedMachine replica;
  std::vector<raft::Entry> entries;
  for (uint64_t i = 2; i <= 21; ++i) {
    entries.push_back(i % 5 == 0 ? Audit(i) : Put(i, "k", std::to_string(i)));
  }
  replica.Apply(entries, 100);
  EXPECT_TRUE(replica.duty().running());
  const auto reports = replica.Run();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].at.index, Index(5));
  EXPECT_EQ(reports[1].at.index, Index(20));
  EXPECT_FALSE(replica.duty().running());
  replica.Apply({Audit(22)}, 1);
  EXPECT_EQ(replica.Run().size(), 1u);
}

}  // namespace
}  // namespace kv739::server
