// Snapshots made by hand: bytes that arrive undamaged and yet are not the state
// of a group; and what a store can say of its own snapshots.
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/records.h"
#include "kv/session_table.h"
#include "kv/snapshot.h"
#include "tests/unit/kv/state_support.h"

namespace kv739::kv {
namespace {

using raft::GroupId;
using raft::Index;
using raft::Term;

constexpr GroupId kGroup(7);
constexpr SessionId kSession = kGroup.value() << 40 | 1;

struct Content {
  Meta meta{{Term(2), Index(9)}, 50, 1};
  std::vector<std::pair<std::string, std::string>> records;  // without the meta
  raft::LogPosition position{Term(2), Index(9)};             // of the header
  uint64_t more_records = 0;                                 // than there are
  uint64_t digest = 0;                                       // that is added
  bool cut = false;  // the last byte is missing
};

Content Good() {
  Content content;
  content.records.emplace_back(ConfigurationKey(kGroup),
                               raft::EncodeConfiguration(ThreeVoters()));
  std::string session(1, 1);
  session += std::string("\x01\x05\x00", 3);  // floor 1, active at 5, no answer
  content.records.emplace_back(SessionKey(kGroup, kSession), session);
  std::string key;
  std::string value;
  SetDataKey(kGroup, "key", &key);
  SetValueRecord(key, 40, "value", &value);
  content.records.emplace_back(key, value);
  return content;
}

// As the only chunk of a snapshot.
absl::Status Send(const Content& content, Engine* engine) {
  const size_t prefix = GroupBegin(kGroup).size();
  ChunkHeader header;
  header.position = content.position;
  header.snapshot_id = SnapshotId(kGroup, content.position);
  header.last = true;
  std::string body;
  const auto add = [&](const std::string& key, const std::string& value) {
    AppendRecord(&body, key.substr(prefix), value);
    header.totals.Add(key.substr(prefix), value);
    ++header.records;
  };
  add(MetaKey(kGroup), EncodeMeta(content.meta));
  for (const auto& [key, value] : content.records) add(key, value);
  header.records += content.more_records;
  header.totals.digest += content.digest;
  if (content.cut) body.pop_back();
  std::string chunk;
  EXPECT_TRUE(ChunkEncoder().Encode(header, body, &chunk).ok());
  TempDir dir;
  auto writer = SnapshotWriter::Create(engine, kGroup, dir.path());
  EXPECT_TRUE(writer.ok()) << writer.status();
  absl::Status status = (*writer)->Add(chunk);
  EXPECT_EQ((*writer)->complete(), status.ok());
  return status.ok() ? (*writer)->Commit() : status;
}

absl::Status SendWith(const std::function<void(Content&)>& change) {
  Content content = Good();
  change(content);
  TestEngine engine(TestEngine::Kind::kMemory);
  absl::Status status = Send(content, engine.get());
  EXPECT_EQ(StateMachine::Open(engine.get(), kGroup).ok(), status.ok());
  return status;
}

void ExpectRefused(const std::function<void(Content&)>& change,
                   const std::string& why) {
  const absl::Status status = SendWith(change);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << why;
  EXPECT_NE(status.message().find(why), absl::string_view::npos)
      << status << ", expected: " << why;
}

TEST(SnapshotContent, TheGoodOneIsAState) {
  TestEngine engine(TestEngine::Kind::kMemory);
  ASSERT_TRUE(Send(Good(), engine.get()).ok());
  auto machine = StateMachine::Open(engine.get(), kGroup);
  ASSERT_TRUE(machine.ok()) << machine.status();
  EXPECT_EQ((*machine)->applied(), (raft::LogPosition{Term(2), Index(9)}));
  EXPECT_EQ((*machine)->Get("key")->value, "value");
  EXPECT_EQ((*machine)->session_count(), 1u);
}

TEST(SnapshotContent, MustBeginWithItsPositionAndConfiguration) {
  ExpectRefused([](Content& c) { c.position.index = Index(8); },
                "does not begin with its position");
  ExpectRefused([](Content& c) { c.records.erase(c.records.begin()); },
                "no configuration");
  ExpectRefused([](Content& c) { c.records.clear(); }, "totals differ");
}

TEST(SnapshotContent, MustLeaveRoomToGoOn) {
  const auto at = [](raft::LogPosition position) {
    return [position](Content& c) { c.position = c.meta.applied = position; };
  };
  for (const auto& change : std::vector<std::function<void(Content&)>>{
           at({Term(2), Index(raft::kNumberLimit)}),
           at({Term(~uint64_t{0}), Index(9)}),
           [](Content& c) { c.meta.last_version = ~uint64_t{0}; },
           [](Content& c) { c.meta.sessions_opened = ~uint64_t{0}; }}) {
    ExpectRefused(change, "counters beyond all bounds");
  }
}

TEST(SnapshotContent, MustConsistOfRecordsThatAGroupHas) {
  const auto with = [](std::string key, std::string value) {
    return [key, value](Content& c) { c.records.emplace_back(key, value); };
  };
  const std::string begin = GroupBegin(kGroup);
  ExpectRefused(with(begin + "\x04", "a space that is none"), "unknown record");
  ExpectRefused(with(begin + "\x03zz", "a value without a checksum"),
                "unknown record");
  ExpectRefused(with(SlotBegin(kGroup, kSlotCount - 1), ""), "unknown record");
  ExpectRefused(with(begin + std::string(5000, '\x03'), ""),
                "malformed record");
  ExpectRefused(with(begin, ""), "keys do not rise");
  ExpectRefused([](Content& c) { std::swap(c.records[1], c.records[2]); },
                "keys do not rise");
  // The directory is a matter of group 0.
  ExpectRefused(
      [](Content& c) {
        c.records.insert(c.records.begin() + 1, {DirectoryKey(kGroup), ""});
      },
      "unknown record");
  ExpectRefused([](Content& c) { c.records[1].second += "x"; },
                "unknown record");
}

TEST(SnapshotContent, MustBeAllOfIt) {
  ExpectRefused([](Content& c) { c.more_records = 1; },
                "wrong number of records");
  ExpectRefused([](Content& c) { c.digest = 1; }, "totals differ");
  ExpectRefused([](Content& c) { c.cut = true; }, "malformed record");
  // An answer of the session whose old value does not come.
  ExpectRefused(
      [](Content& c) {
        Answer answer;
        answer.sequence = 3;
        answer.version = 40;
        answer.old_size = 2000;
        std::string session = std::string("\x01\x01\x05\x01", 4);
        AppendAnswer(answer, &session);
        c.records[1].second = session;
      },
      "an old value is missing");
}

TEST(DurablePosition, IsWhatACrashWouldLeave) {
  TestEngine engine(TestEngine::Kind::kMemory);
  ASSERT_TRUE(StateMachine::Create(engine.get(), kGroup, ThreeVoters()).ok());
  EXPECT_EQ(DurablePosition(*engine.get(), kGroup).status().code(),
            absl::StatusCode::kNotFound);
  ASSERT_TRUE(engine.get()->Flush().ok());
  const auto position = DurablePosition(*engine.get(), kGroup);
  ASSERT_TRUE(position.ok()) << position.status();
  EXPECT_EQ(*position, kFirstPosition);
  const auto batch = engine.get()->NewBatch();
  batch->Put(MetaKey(kGroup), "nonsense");
  ASSERT_TRUE(engine.get()->Apply(batch.get()).ok());
  ASSERT_TRUE(engine.get()->Flush().ok());
  EXPECT_EQ(DurablePosition(*engine.get(), kGroup).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_FALSE(SnapshotReader::Open(engine.get(), kGroup).ok());
}

TEST(SnapshotReaderFork, BeginsAnewOnTheSameView) {
  TestGroup group(TestEngine::Kind::kMemory, kGroup);
  group.Do(Op::kPut, "key", "before");
  auto reader = SnapshotReader::Open(&group.engine(), kGroup);
  ASSERT_TRUE(reader.ok());
  std::string first;
  ASSERT_TRUE(*(*reader)->Next(&first));
  group.Do(Op::kPut, "key", "after");
  const std::unique_ptr<SnapshotReader> fork = (*reader)->Fork();
  EXPECT_EQ(fork->snapshot_id(), (*reader)->snapshot_id());
  EXPECT_EQ(fork->meta().applied, (*reader)->meta().applied);
  std::string again;
  ASSERT_TRUE(*fork->Next(&again));
  EXPECT_EQ(again, first);
}

}  // namespace
}  // namespace kv739::kv
