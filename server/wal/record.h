// One record of the write-ahead log, as bytes. Format: docs/wal_format.md.
//
// The checksum is XXH3 (64 bits): recovery looks for records at every aligned
// offset behind a damaged one, where 32 bits would sooner or later believe
// noise, and the library is there already for the hash ring. It is seeded per
// segment, so bytes that a recycled file still holds never pass for records.
//
// Pure functions, any thread.
#ifndef KV739_SERVER_WAL_RECORD_H_
#define KV739_SERVER_WAL_RECORD_H_

#include <cstdint>
#include <optional>

#include "absl/strings/string_view.h"
#include "raft/types.h"

namespace kv739::wal {

// The numbers are on disk.
enum class RecordKind : uint8_t {
  kEntry = 1,
  kHardState = 2,   // term, index = commit, payload = vote
  kCompaction = 3,  // term and index: the position behind which the log begins
  kRemoval = 4,     // of the group before, only the hard state counts
};

// A copy of a live record out of an old segment. It moves the record and says
// nothing new: above all, a moved entry does not cut what follows it.
inline constexpr uint8_t kFlagMoved = 1;
// Of a compaction: every entry before this record is void, also those behind
// the position, because they belong to another history.
inline constexpr uint8_t kFlagDropsAll = 2;

inline constexpr uint64_t kRecordHeaderBytes = 48;
inline constexpr uint64_t kRecordAlignment = 8;
inline constexpr uint64_t kMaxPayloadBytes = uint64_t{1} << 30;

struct Record {
  RecordKind kind = RecordKind::kEntry;
  uint8_t flags = 0;
  raft::EntryKind entry_kind = raft::EntryKind::kCommand;
  raft::GroupId group;
  raft::Term term;
  raft::Index index;
  // Offset in the segment at which the write began that this record was part
  // of: everything before it was durable then.
  uint64_t write_start = 0;
  absl::string_view payload;
};

// Size of a record on disk.
inline constexpr uint64_t RecordBytes(uint64_t payload_bytes) {
  return (kRecordHeaderBytes + payload_bytes + kRecordAlignment - 1) &
         ~(kRecordAlignment - 1);
}

// Writes RecordBytes(record.payload.size()) bytes to `out`.
void EncodeRecord(const Record& record, uint64_t seed, char* out);

// The record that `bytes` begins with (more may follow), or none when they
// are not a record of the segment with this seed. The payload points into
// `bytes`.
std::optional<Record> DecodeRecord(absl::string_view bytes, uint64_t seed);

// A vote as the payload of a hard state record.
inline constexpr uint64_t kVoteBytes = 8;
void EncodeVote(raft::NodeId vote, char* out);
raft::NodeId DecodeVote(absl::string_view payload);

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_RECORD_H_
