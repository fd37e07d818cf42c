#include "server/wal/record.h"

#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kv739::wal {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little-endian and copied as it is in memory");

// Offsets of the fields.
constexpr uint64_t kChecksum = 0;     // u64, of everything behind it
constexpr uint64_t kLength = 8;       // u32, payload bytes
constexpr uint64_t kWriteStart = 12;  // u32, in units of kRecordAlignment
constexpr uint64_t kGroup = 16;       // u64
constexpr uint64_t kTerm = 24;        // u64
constexpr uint64_t kIndex = 32;       // u64
constexpr uint64_t kKind = 40;        // u8
constexpr uint64_t kFlags = 41;       // u8
constexpr uint64_t kEntryKind = 42;   // u8
constexpr uint64_t kReserved = 43;    // 5 bytes, zero

template <typename T>
void Store(char* out, T value) {
  std::memcpy(out, &value, sizeof(value));
}

template <typename T>
T Load(const char* in) {
  T value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

uint64_t Checksum(const char* record, uint64_t size, uint64_t seed) {
  return XXH3_64bits_withSeed(record + kLength, size - kLength, seed);
}

// Whether the fixed fields can be those of a record at all; spares most
// offsets the checksum when damaged data is searched.
bool Plausible(const char* in) {
  const uint8_t kind = static_cast<uint8_t>(in[kKind]);
  const uint8_t flags = static_cast<uint8_t>(in[kFlags]);
  const uint8_t entry_kind = static_cast<uint8_t>(in[kEntryKind]);
  if (kind < 1 || kind > 4) return false;
  if ((flags & ~(kFlagMoved | kFlagDropsAll)) != 0) return false;
  if (kind == 1 ? (entry_kind < 1 || entry_kind > 3) : entry_kind != 0) {
    return false;
  }
  if (kind == 2 && Load<uint32_t>(in + kLength) != kVoteBytes) return false;
  constexpr char kZeros[5] = {};
  return std::memcmp(in + kReserved, kZeros, sizeof(kZeros)) == 0;
}

}  // namespace

void EncodeRecord(const Record& record, uint64_t seed, char* out) {
  const uint64_t size = RecordBytes(record.payload.size());
  Store(out + size - kRecordAlignment, uint64_t{0});  // the padding
  Store(out + kLength, static_cast<uint32_t>(record.payload.size()));
  Store(out + kWriteStart,
        static_cast<uint32_t>(record.write_start / kRecordAlignment));
  Store(out + kGroup, record.group.value());
  Store(out + kTerm, record.term.value());
  Store(out + kIndex, record.index.value());
  const bool entry = record.kind == RecordKind::kEntry;
  const uint64_t kinds =
      uint64_t{static_cast<uint8_t>(record.kind)} |
      uint64_t{record.flags} << 8 |
      (entry ? uint64_t{static_cast<uint8_t>(record.entry_kind)} << 16 : 0);
  Store(out + kKind, kinds);
  if (!record.payload.empty()) {
    std::memcpy(out + kRecordHeaderBytes, record.payload.data(),
                record.payload.size());
  }
  Store(out + kChecksum, Checksum(out, size, seed));
}

std::optional<Record> DecodeRecord(absl::string_view bytes, uint64_t seed) {
  if (bytes.size() < kRecordHeaderBytes) return std::nullopt;
  const char* in = bytes.data();
  if (!Plausible(in)) return std::nullopt;
  const uint64_t length = Load<uint32_t>(in + kLength);
  const uint64_t size = RecordBytes(length);
  if (length > kMaxPayloadBytes || size > bytes.size()) return std::nullopt;
  if (Load<uint64_t>(in + kChecksum) != Checksum(in, size, seed)) {
    return std::nullopt;
  }
  Record record;
  record.kind = static_cast<RecordKind>(in[kKind]);
  record.flags = static_cast<uint8_t>(in[kFlags]);
  if (record.kind == RecordKind::kEntry) {
    record.entry_kind = static_cast<raft::EntryKind>(in[kEntryKind]);
  }
  record.group = raft::GroupId(Load<uint64_t>(in + kGroup));
  record.term = raft::Term(Load<uint64_t>(in + kTerm));
  record.index = raft::Index(Load<uint64_t>(in + kIndex));
  record.write_start =
      uint64_t{Load<uint32_t>(in + kWriteStart)} * kRecordAlignment;
  record.payload = bytes.substr(kRecordHeaderBytes, length);
  return record;
}

void EncodeVote(raft::NodeId vote, char* out) { Store(out, vote.value()); }

raft::NodeId DecodeVote(absl::string_view payload) {
  return raft::NodeId(Load<uint64_t>(payload.data()));
}

}  // namespace kv739::wal
