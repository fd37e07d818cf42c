// The bytes of records and segment headers.
#include <string>

#include "gtest/gtest.h"
#include "server/wal/record.h"
#include "server/wal/segment.h"

namespace kv739::wal {
namespace {

Record SomeEntry(absl::string_view payload) {
  Record record;
  record.entry_kind = raft::EntryKind::kConfiguration;
  record.flags = kFlagMoved;
  record.group = raft::GroupId(0x1122334455667788);
  record.term = raft::Term(9);
  record.index = raft::Index(1234567890123);
  record.write_start = 4096;
  record.payload = payload;
  return record;
}

std::string Encode(const Record& record, uint64_t seed) {
  std::string bytes(RecordBytes(record.payload.size()), 'x');
  EncodeRecord(record, seed, bytes.data());
  return bytes;
}

TEST(WalRecord, RoundTripsAtEveryPadding) {
  for (size_t size = 0; size < 40; ++size) {
    const std::string payload(size, 'p');
    const std::string bytes = Encode(SomeEntry(payload), 7) + "rest";
    ASSERT_EQ((bytes.size() - 4) % kRecordAlignment, 0u);
    const auto record = DecodeRecord(bytes, 7);
    ASSERT_TRUE(record.has_value()) << size;
    EXPECT_EQ(record->kind, RecordKind::kEntry);
    EXPECT_EQ(record->entry_kind, raft::EntryKind::kConfiguration);
    EXPECT_EQ(record->flags, kFlagMoved);
    EXPECT_EQ(record->group.value(), 0x1122334455667788u);
    EXPECT_EQ(record->term, raft::Term(9));
    EXPECT_EQ(record->index, raft::Index(1234567890123));
    EXPECT_EQ(record->write_start, 4096u);
    EXPECT_EQ(record->payload, payload);
  }
}

TEST(WalRecord, AnyFlippedBitAndAnyCutIsSeen) {
  const std::string bytes = Encode(SomeEntry("some payload"), 7);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_FALSE(DecodeRecord(flipped, 7).has_value()) << bit;
  }
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeRecord(bytes.substr(0, size), 7).has_value()) << size;
  }
}

TEST(WalRecord, IsOfOneSegmentOnly) {
  const std::string bytes = Encode(SomeEntry("p"), SegmentSeed(1, 7));
  EXPECT_TRUE(DecodeRecord(bytes, SegmentSeed(1, 7)).has_value());
  EXPECT_FALSE(DecodeRecord(bytes, SegmentSeed(1, 8)).has_value());
  EXPECT_FALSE(DecodeRecord(bytes, SegmentSeed(2, 7)).has_value());
}

TEST(WalRecord, ZerosAreNoRecord) {
  EXPECT_FALSE(DecodeRecord(std::string(4096, '\0'), 0).has_value());
}

// The format is on disks: these bytes must not change without a new version.
TEST(WalRecord, LayoutStays) {
  const std::string bytes = Encode(SomeEntry("ab"), 0);
  ASSERT_EQ(bytes.size(), 56u);
  EXPECT_EQ(bytes.substr(8, 8), std::string("\2\0\0\0\0\2\0\0", 8));
  EXPECT_EQ(bytes.substr(16, 8), "\x88\x77\x66\x55\x44\x33\x22\x11");
  EXPECT_EQ(bytes.substr(40, 8), std::string("\1\1\3\0\0\0\0\0", 8));
  EXPECT_EQ(bytes.substr(48, 8), std::string("ab\0\0\0\0\0\0", 8));
}

TEST(WalSegment, HeaderRoundTripsAndEveryFlipIsSeen) {
  std::string block(kBlockBytes, 'x');
  EncodeSegmentHeader({11, 12, 13, kFormatVersion, 14}, block.data());
  const auto header = DecodeSegmentHeader(block);
  ASSERT_TRUE(header.ok());
  EXPECT_EQ(header->log_id, 11u);
  EXPECT_EQ(header->number, 12u);
  EXPECT_EQ(header->previous_end, 13u);
  EXPECT_EQ(header->file_bytes, 14u);
  for (size_t bit = 0; bit < 56 * 8; ++bit) {
    std::string flipped = block;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(DecodeSegmentHeader(flipped).status().code(),
              absl::StatusCode::kDataLoss)
        << bit;
  }
  EXPECT_EQ(DecodeSegmentHeader(std::string(kBlockBytes, '\0')).status().code(),
            absl::StatusCode::kNotFound);
}

TEST(WalSegment, NamesRoundTrip) {
  EXPECT_EQ(SegmentName(7), "000000000007.wal");
  EXPECT_EQ(ParseSegmentName("000000000007.wal"), 7u);
  EXPECT_EQ(ParseSegmentName("7.wal"), std::nullopt);
  EXPECT_EQ(ParseSegmentName("00000000000x.wal"), std::nullopt);
  EXPECT_EQ(ParseSpareName(SpareName(3)), 3u);
  EXPECT_EQ(ParseSpareName("spare-"), std::nullopt);
  EXPECT_TRUE(IsFillingName(FillingName(3)));
}

}  // namespace
}  // namespace kv739::wal
