// A log that was cut, torn, flipped or lost: what was unacknowledged may go,
// anything else is reported and never skipped.
#include <xxhash.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/wal/record.h"
#include "server/wal/segment.h"
#include "server/wal/wal.h"
#include "tests/support/fake_file_system.h"
#include "tests/support/wal_model.h"

namespace kv739::wal {
namespace {

using raft::GroupId;
using raft::HardState;
using raft::Index;
using raft::NodeId;
using raft::Term;
using testing::HasSubstr;

constexpr char kDir[] = "wal";
constexpr uint64_t kLogId = 739;
constexpr uint64_t kHeaderBytes = 48;  // of a segment, that are used

WalOptions Options(uint64_t blocks) {
  WalOptions options;
  options.segment_bytes = blocks * kBlockBytes;
  options.new_log_id = kLogId;
  return options;
}

std::vector<GroupWrite> Write(uint64_t group, uint64_t term, uint64_t first,
                              uint64_t count, uint64_t size) {
  GroupWrite write;
  write.group = GroupId(group);
  write.hard_state = HardState{Term(term), NodeId(1), Index()};
  for (uint64_t i = 0; i < count; ++i) {
    write.entries.push_back(MakeEntry(
        term, first + i, std::string(size, static_cast<char>('a' + i % 26))));
  }
  return {write};
}

std::string SegmentPath(uint64_t number) {
  return absl::StrCat(kDir, "/", SegmentName(number));
}

// The offsets at which a segment's records begin, and last where they end.
std::vector<uint64_t> RecordOffsets(const std::string& bytes, uint64_t number) {
  std::vector<uint64_t> offsets = {kFirstRecord};
  const Seal seal = SealOf({kLogId, number});
  while (auto record =
             DecodeRecord(absl::string_view(bytes).substr(offsets.back()),
                          seal.At(offsets.back()))) {
    offsets.push_back(offsets.back() + RecordBytes(record->payload.size()));
  }
  return offsets;
}

class WalDamage : public testing::Test {
 protected:
  absl::StatusOr<ModelState> Reopen() {
    wal_.reset();
    auto wal = Wal::Open(&fs_, kDir, options_);
    if (!wal.ok()) return wal.status();
    wal_ = *std::move(wal);
    return Observe(*wal_);
  }
  void Append(const std::vector<GroupWrite>& writes) {
    ASSERT_TRUE(wal_->Append(writes).ok());
    before_ = state_;
    last_ = writes;
    appends_.emplace_back(state_, writes);
    state_ = ModelAfter(state_, writes);
  }
  // Whether `found` is a state that losing part of the last append may leave.
  bool IsPrefixOfLast(const ModelState& found) const {
    for (const ModelState& step : ModelSteps(before_, last_)) {
      if (found == Normalized(step)) return true;
    }
    return false;
  }

  bool IsPrefixOfAny(const ModelState& found) const {
    for (const auto& [before, writes] : appends_) {
      for (const ModelState& step : ModelSteps(before, writes)) {
        if (found == Normalized(step)) return true;
      }
    }
    return false;
  }
  void Misdirect(uint64_t count, uint64_t* reported);

  FakeFileSystem fs_;
  WalOptions options_ = Options(8);
  std::unique_ptr<Wal> wal_;
  ModelState state_;   // after the last append
  ModelState before_;  // before it
  std::vector<GroupWrite> last_;
  std::vector<std::pair<ModelState, std::vector<GroupWrite>>> appends_;
};

// D4. The last append is torn by cutting the file at every byte of it.
TEST_F(WalDamage, CutAtEveryByteOfTheTail) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 5, 100));
  const uint64_t synced = RecordOffsets(fs_.Contents(SegmentPath(1)), 1).back();
  Append(Write(1, 2, 4, 6, 700));
  wal_.reset();
  const std::string whole = fs_.Contents(SegmentPath(1));
  const uint64_t end = RecordOffsets(whole, 1).back();
  ASSERT_GT(end, synced + 4000);
  for (uint64_t size = synced; size <= end; ++size) {
    fs_.SetContents(SegmentPath(1), whole.substr(0, size));
    auto found = Reopen();
    ASSERT_TRUE(found.ok()) << size << " " << found.status();
    ASSERT_TRUE(IsPrefixOfLast(*found)) << size << "\n" << Describe(*found);
    ASSERT_EQ(*found == Normalized(state_), size == end);
  }
}

// D4. Each sector of the last append keeps what was there before it, alone and
// together with all behind it. (A sector that held synced bytes too keeps
// those: disks write sectors as a whole.)
TEST_F(WalDamage, EverySectorOfTheTailMissing) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 5, 100));
  const std::string before = fs_.Contents(SegmentPath(1));
  Append(Write(1, 2, 4, 9, 900));
  wal_.reset();
  const std::string after = fs_.Contents(SegmentPath(1));
  int torn = 0;
  for (uint64_t at = 0; at < after.size(); at += kSectorBytes) {
    if (before.compare(at, kSectorBytes, after, at, kSectorBytes) == 0) {
      continue;
    }
    ++torn;
    for (uint64_t length : {kSectorBytes, after.size() - at}) {
      std::string bytes = after;
      bytes.replace(at, length, before, at, length);
      fs_.SetContents(SegmentPath(1), bytes);
      auto found = Reopen();
      ASSERT_TRUE(found.ok()) << at << " " << found.status();
      ASSERT_TRUE(IsPrefixOfLast(*found)) << at;
      ASSERT_NE(*found, state_) << at;
    }
  }
  EXPECT_GT(torn, 10);
}

// It opened once, and not again: the next segment's header said that this one
// reached beyond its own end.
TEST_F(WalDamage, ASegmentCutWithinItsHeaderIsReported) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 2, 10));
  wal_.reset();
  const std::string whole = fs_.Contents(SegmentPath(1));
  for (uint64_t size : {uint64_t{48}, uint64_t{1000}, kFirstRecord - 1}) {
    fs_.SetContents(SegmentPath(1), whole.substr(0, size));
    EXPECT_EQ(Reopen().status().code(), absl::StatusCode::kDataLoss) << size;
  }
}

// Records with good checksums that no log of ours has: a number that would wrap
// around, or an entry so far from the others that the memory would not do.
TEST_F(WalDamage, NumbersBeyondAllBoundsAreReported) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 2, 10));
  wal_.reset();
  const std::string whole = fs_.Contents(SegmentPath(1));
  const uint64_t end = RecordOffsets(whole, 1).back();
  const auto with = [&](RecordKind kind, uint64_t term, uint64_t index) {
    Record record;
    record.kind = kind;
    record.group = GroupId(1);
    record.term = Term(term);
    record.index = Index(index);
    record.write_start = end;
    std::string bytes = whole;
    EncodeRecord(record, SealOf({kLogId, 1}).At(end), bytes.data() + end);
    fs_.SetContents(SegmentPath(1), bytes);
    return Reopen().status().code();
  };
  const uint64_t top = ~uint64_t{0};
  EXPECT_EQ(with(RecordKind::kCompaction, 1, top), absl::StatusCode::kDataLoss);
  EXPECT_EQ(with(RecordKind::kEntry, top, 3), absl::StatusCode::kDataLoss);
  EXPECT_EQ(with(RecordKind::kEntry, 1, uint64_t{1} << 31),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(with(RecordKind::kEntry, 1, 3), absl::StatusCode::kOk);
}

// D2. A flipped bit in anything that a later write has followed is damage.
// The check is exhaustive over bits of a small log in two segments.
TEST_F(WalDamage, EveryFlippedBitOfSyncedRecordsIsReported) {
  options_ = Options(3);
  ASSERT_TRUE(Reopen().ok());
  for (uint64_t i = 0; i < 7; ++i) Append(Write(1, 1, 1 + 2 * i, 2, 700));
  Append(Write(1, 2, 4, 1, 20));  // something shorter at the very end
  const std::vector<GroupWrite> last = last_;
  wal_.reset();
  ASSERT_EQ(fs_.Paths().size(), 2u);
  uint64_t reported = 0;
  for (uint64_t number : {1, 2}) {
    const std::string path = SegmentPath(number);
    const std::string whole = fs_.Contents(path);
    const std::vector<uint64_t> offsets = RecordOffsets(whole, number);
    const size_t last_records = number == 2 ? 2 : 0;
    const uint64_t synced_end = offsets[offsets.size() - 1 - last_records];
    const auto check = [&](uint64_t bit) {
      fs_.FlipBit(path, bit);
      auto found = Reopen();
      ASSERT_EQ(found.status().code(), absl::StatusCode::kDataLoss)
          << path << " bit " << bit;
      ASSERT_THAT(found.status().message(), HasSubstr(path));
      ASSERT_THAT(found.status().message(), HasSubstr("at offset "));
      ++reported;
      fs_.SetContents(path, whole);
    };
    for (uint64_t bit = 0; bit < 48 * 8; ++bit) check(bit);
    // All bits of headers, every 13th of payloads.
    for (size_t r = 0; r + 1 + last_records < offsets.size(); ++r) {
      for (uint64_t at = offsets[r]; at < offsets[r + 1]; ++at) {
        const bool header = at < offsets[r] + kRecordHeaderBytes;
        for (uint64_t bit = 8 * at; bit < 8 * at + 8; ++bit) {
          if (header || bit % 13 == 0) check(bit);
          if (HasFatalFailure()) return;
        }
      }
    }
    // In the last write a flip looks like a torn write: it is cut there, and
    // nothing behind it is used.
    for (uint64_t bit = 8 * synced_end; bit < 8 * offsets.back(); ++bit) {
      if (last_records == 0) break;
      fs_.FlipBit(path, bit);
      auto found = Reopen();
      ASSERT_TRUE(found.ok()) << found.status();
      ASSERT_TRUE(IsPrefixOfLast(*found));
      ASSERT_NE(*found, Normalized(state_));
      fs_.SetContents(path, whole);
    }
  }
  EXPECT_GT(reported, 4000u);
  auto found = Reopen();
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, state_);
}

// D8. A disk puts sectors at the place of others,
// every run of `count` of them, each to the place of every other one. Records
// here begin at sectors, so that what comes there is whole and looks right.
void WalDamage::Misdirect(uint64_t count, uint64_t* reported) {
  constexpr uint64_t kPayload = kSectorBytes - kRecordHeaderBytes;
  ASSERT_TRUE(Reopen().ok());
  auto writes = Write(1, 1, 1, 1, kPayload - kRecordHeaderBytes - kVoteBytes);
  Append(writes);
  for (uint64_t i = 0; i < 9; ++i) {
    writes = Write(1, 1, 2 + 2 * i, 2, kPayload);
    // An entry that nothing follows in its group would not be missed.
    if (i == 2) writes.push_back(Write(2, 1, 1, 1, kPayload)[0]);
    for (GroupWrite& write : writes) write.hard_state.reset();
    Append(writes);
  }
  wal_.reset();
  ASSERT_EQ(fs_.Paths().size(), 2u);
  struct Sector {
    uint64_t number, at;
  };
  std::vector<Sector> sectors;
  std::map<uint64_t, std::string> whole;
  std::map<uint64_t, uint64_t> end;
  for (uint64_t number : {1, 2}) {
    whole[number] = fs_.Contents(SegmentPath(number));
    end[number] = RecordOffsets(whole[number], number).back();
    for (uint64_t at = 0; at + count * kSectorBytes <= whole[number].size();
         at += kSectorBytes) {
      sectors.push_back({number, at});
    }
  }
  // The last write: two records.
  const uint64_t synced = end[2] - 2 * kSectorBytes;
  for (const Sector& from : sectors) {
    for (const Sector& to : sectors) {
      if (from.number == to.number && from.at == to.at) continue;
      const std::string moved =
          whole[from.number].substr(from.at, count * kSectorBytes);
      std::string bytes = whole[to.number];
      bytes.replace(to.at, moved.size(), moved);
      const auto used = [&](const std::string& of) {
        return of.substr(0, kHeaderBytes) +
               of.substr(kFirstRecord, end[to.number] - kFirstRecord);
      };
      const bool same = used(bytes) == used(whole[to.number]);
      const bool last = to.number == 2 && to.at + moved.size() > synced;
      fs_.SetContents(SegmentPath(to.number), bytes);
      auto found = Reopen();
      const std::string what =
          absl::StrCat(count, " sectors from ", from.number, "+", from.at,
                       " to ", to.number, "+", to.at);
      if (!found.ok()) {
        ASSERT_EQ(found.status().code(), absl::StatusCode::kDataLoss) << what;
        ASSERT_FALSE(same) << what << found.status();
        ++*reported;
      } else if (same) {
        ASSERT_EQ(*found, Normalized(state_)) << what;
      } else {
        ASSERT_TRUE(last) << what;
        // With what comes before the last write in the same sectors.
        ASSERT_TRUE(IsPrefixOfAny(*found)) << what;
      }
      wal_.reset();
      for (uint64_t number : {1, 2}) {
        fs_.SetContents(SegmentPath(number), whole[number]);
      }
    }
  }
}

TEST_F(WalDamage, MisdirectedSectorsAreNeverTakenForRecords) {
  options_ = Options(3);
  uint64_t reported = 0;
  Misdirect(1, &reported);
  EXPECT_GT(reported, 500u);
}

TEST_F(WalDamage, MisdirectedBlocksAreNeverTakenForRecords) {
  options_ = Options(3);
  uint64_t reported = 0;
  Misdirect(kBlockBytes / kSectorBytes, &reported);
  EXPECT_GT(reported, 200u);
}

// Format 1 knows the place of a record only by the write that it was of.
TEST_F(WalDamage, Format1TakesNoRecordOfAnotherWrite) {
  options_.format_version = 1;
  ASSERT_TRUE(Reopen().ok());
  constexpr uint64_t kPayload = kSectorBytes - kRecordHeaderBytes;
  Append(Write(1, 1, 1, 1, kPayload - kRecordHeaderBytes - kVoteBytes));
  for (uint64_t i = 0; i < 4; ++i) {
    auto writes = Write(1, 1, 2 + i, 1, kPayload);
    writes[0].hard_state.reset();
    Append(writes);
  }
  wal_.reset();
  const std::string whole = fs_.Contents(SegmentPath(1));
  const uint64_t end = kFirstRecord + 5 * kSectorBytes;
  for (uint64_t from = 1; from < 5; ++from) {
    std::string bytes = whole;
    bytes.replace(end, kSectorBytes, whole, kFirstRecord + from * kSectorBytes,
                  kSectorBytes);
    fs_.SetContents(SegmentPath(1), bytes);
    auto found = Reopen();
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(*found, Normalized(state_)) << from;
    wal_.reset();
  }
}

// A log of format 1 goes on in format 2, and its records move there.
TEST_F(WalDamage, ALogOfFormat1GoesOn) {
  options_ = Options(3);
  options_.format_version = 1;
  ASSERT_TRUE(Reopen().ok());
  for (uint64_t i = 0; i < 7; ++i) Append(Write(1, 1, 1 + 2 * i, 2, 700));
  EXPECT_EQ(fs_.Contents(SegmentPath(1))[8], 1);
  options_.format_version = kFormatVersion;
  auto found = Reopen();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, Normalized(state_));
  for (uint64_t i = 0; i < 20; ++i) {
    Append(Write(2, 2, 1 + 2 * i, 2, 700));
    ASSERT_TRUE(wal_->Maintain().ok());
  }
  std::string newest;
  for (const std::string& path : fs_.Paths()) {
    if (path.ends_with(".wal")) newest = path;
  }
  EXPECT_EQ(fs_.Contents(newest)[8], 2);
  found = Reopen();
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(*found, Normalized(state_));
}

TEST_F(WalDamage, MissingShortAndForeignSegmentsAreReported) {
  options_ = Options(3);
  ASSERT_TRUE(Reopen().ok());
  for (uint64_t i = 0; i < 12; ++i) Append(Write(1, 1, 1 + 2 * i, 2, 1000));
  wal_.reset();
  ASSERT_GE(fs_.Paths().size(), 4u);
  const std::string second = fs_.Contents(SegmentPath(2));
  const auto expect_loss = [&](absl::string_view what) {
    auto found = Reopen();
    EXPECT_EQ(found.status().code(), absl::StatusCode::kDataLoss) << what;
    EXPECT_THAT(found.status().message(), HasSubstr(SegmentName(2))) << what;
  };
  fs_.SetContents(SegmentPath(2), second.substr(0, kBlockBytes * 2));
  expect_loss("short");
  fs_.SetContents(SegmentPath(2), std::string(second.size(), '\0'));
  expect_loss("zeros");
  fs_.SetContents(SegmentPath(2), fs_.Contents(SegmentPath(3)));
  expect_loss("another segment's bytes");
  std::string foreign = second;
  EncodeSegmentHeader({kLogId + 1, 2, 0}, foreign.data());
  fs_.SetContents(SegmentPath(2), foreign);
  expect_loss("another log's");
  fs_.Delete(SegmentPath(2));
  expect_loss("missing");
}

// The oldest segment is gone: nothing says that it was there, but the log
// that is left begins in its middle.
TEST_F(WalDamage, MissingFirstSegmentIsReported) {
  options_ = Options(3);
  ASSERT_TRUE(Reopen().ok());
  for (uint64_t i = 0; i < 12; ++i) Append(Write(1, 1, 1 + 2 * i, 2, 1000));
  wal_.reset();
  fs_.Delete(SegmentPath(1));
  auto found = Reopen();
  EXPECT_EQ(found.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(found.status().message(), HasSubstr("group 1"));
}

TEST_F(WalDamage, NewerFormatVersionIsRefused) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 1, 10));
  wal_.reset();
  std::string bytes = fs_.Contents(SegmentPath(1));
  bytes[8] = kFormatVersion + 1;
  const uint64_t checksum = XXH3_64bits(bytes.data(), 40);
  std::memcpy(bytes.data() + 40, &checksum, sizeof(checksum));
  fs_.SetContents(SegmentPath(1), bytes);
  const absl::Status status = Reopen().status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(status.message(),
              HasSubstr(absl::StrCat("version ", kFormatVersion + 1)));
}

// What a cut tail held never comes back, although its bytes are still in the
// file and the log goes on at the same indexes.
TEST_F(WalDamage, CutTailNeverComesBack) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 3, 100));
  const std::string before = fs_.Contents(SegmentPath(1));
  Append(Write(1, 2, 4, 9, 900));
  wal_.reset();
  // The first sector of the tail is lost, all records behind it are there.
  std::string torn = fs_.Contents(SegmentPath(1));
  const uint64_t at =
      RecordOffsets(before, 1).back() / kSectorBytes * kSectorBytes;
  torn.replace(at, kSectorBytes, before, at, kSectorBytes);
  fs_.SetContents(SegmentPath(1), torn);
  auto found = Reopen();
  ASSERT_TRUE(found.ok()) << found.status();
  ModelState model = *found;
  EXPECT_EQ(model[GroupId(1)].last(), Index(3));
  // Write records of exactly the sizes that would lead into the old ones.
  for (uint64_t i = 4; i < 8; ++i) {
    const auto writes = Write(1, 3, i, 1, 900);
    ASSERT_TRUE(wal_->Append(writes).ok());
    model = ModelAfter(model, writes);
    fs_.PowerLoss([] { return false; });
    found = Reopen();
    ASSERT_TRUE(found.ok()) << found.status();
    ASSERT_EQ(*found, model);
  }
}

// Recycled files hold valid-looking records of their former number behind the
// new ones, at every offset at which a reader may look.
TEST_F(WalDamage, RecycledBytesNeverComeBack) {
  options_ = Options(3);
  options_.spare_segments = 2;
  ASSERT_TRUE(Reopen().ok());
  for (uint64_t i = 1; i < 60; ++i) {
    // Always the same sizes, so that old records begin where new ones end.
    std::vector<GroupWrite> writes = Write(1, 1, i, 1, 960);
    if (i > 3) writes[0].compact = raft::LogPosition{Term(1), Index(i - 3)};
    Append(writes);
    while (wal_->wants_maintenance()) ASSERT_TRUE(wal_->Maintain().ok());
    if (i % 7 == 0) {
      fs_.PowerLoss([] { return false; });
      auto found = Reopen();
      ASSERT_TRUE(found.ok()) << i << " " << found.status();
      ASSERT_EQ(*found, state_) << i;
    }
  }
  EXPECT_LE(fs_.Paths().size(), 8u);
}

// Records inside a value are not taken for records.
TEST_F(WalDamage, RecordsInsideAValueAreNotRecords) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 3, 100));
  const std::string image = fs_.Contents(SegmentPath(1)).substr(kFirstRecord);
  GroupWrite write;
  write.group = GroupId(1);
  write.entries = {MakeEntry(1, 4, image.substr(0, 600))};
  Append({write});
  auto found = Reopen();
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, state_);
}

// Bits that rot while the log is open are met by the read.
TEST_F(WalDamage, ReadReportsRot) {
  options_.cache_bytes = 0;
  ASSERT_TRUE(Reopen().ok());
  Append(Write(1, 1, 1, 3, 100));
  const std::vector<uint64_t> offsets =
      RecordOffsets(fs_.Contents(SegmentPath(1)), 1);
  fs_.FlipBit(SegmentPath(1), 8 * (offsets[2] + 60));  // entry 2
  EXPECT_TRUE(wal_->Read(GroupId(1), Index(1), Index(1), 1000).ok());
  auto read = wal_->Read(GroupId(1), Index(1), Index(3), 1000);
  EXPECT_EQ(read.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(read.status().message(), HasSubstr(SegmentPath(1)));
  EXPECT_THAT(read.status().message(), HasSubstr(absl::StrCat(offsets[2])));
}

// An idle group's record rots before it is moved: it is reported when it is
// met and not left behind, and its segment stays.
TEST_F(WalDamage, MovingReportsRot) {
  ASSERT_TRUE(Reopen().ok());
  Append(Write(7, 1, 1, 2, 100));
  Append(Write(1, 1, 1, 2, 5000));  // the block with them is full
  const uint64_t second = RecordOffsets(fs_.Contents(SegmentPath(1)), 1)[1];
  fs_.FlipBit(SegmentPath(1), 8 * (second + 60));
  absl::Status status;
  for (uint64_t i = 3; i < 60 && status.ok(); ++i) {
    std::vector<GroupWrite> writes = Write(1, 1, i, 1, 3000);
    writes[0].compact = raft::LogPosition{Term(1), Index(i - 1)};
    Append(writes);
    while (status.ok() && wal_->wants_maintenance()) status = wal_->Maintain();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(status.message(), HasSubstr(SegmentPath(1)));
  EXPECT_THAT(status.message(), HasSubstr(absl::StrCat("offset ", second)));
  EXPECT_THAT(fs_.Paths(), testing::Contains(SegmentPath(1)));
}

}  // namespace
}  // namespace kv739::wal
