#include "server/wal/segment.h"

#include <cstring>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "raft/planted.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace kv739::wal {
namespace {

constexpr char kMagic[8] = {'k', 'v', '7', '3', '9', 'w', 'a', 'l'};

// Little-endian like the records. Lies in the first 512 bytes, which a disk
// writes as a whole or not at all.
struct HeaderOnDisk {
  char magic[8];
  uint32_t version;
  uint32_t block_bytes;
  uint64_t log_id;
  uint64_t number;
  uint64_t previous_end;
  uint64_t checksum;  // XXH3 of the fields before it
};
static_assert(sizeof(HeaderOnDisk) == 48);

uint64_t HeaderChecksum(const HeaderOnDisk& header) {
  return XXH3_64bits(&header, offsetof(HeaderOnDisk, checksum));
}

std::optional<uint64_t> ParseNumber(absl::string_view digits,
                                    size_t min_digits) {
  uint64_t number = 0;
  if (digits.size() < min_digits || !absl::SimpleAtoi(digits, &number)) {
    return std::nullopt;
  }
  return number;
}

}  // namespace

void EncodeSegmentHeader(const SegmentHeader& header, char* block) {
  HeaderOnDisk disk = {};
  std::memcpy(disk.magic, kMagic, sizeof(kMagic));
  disk.version = header.version;
  disk.block_bytes = kBlockBytes;
  disk.log_id = header.log_id;
  disk.number = header.number;
  disk.previous_end = header.previous_end;
  disk.checksum = HeaderChecksum(disk);
  std::memset(block, 0, kBlockBytes);
  std::memcpy(block, &disk, sizeof(disk));
}

absl::StatusOr<SegmentHeader> DecodeSegmentHeader(absl::string_view bytes) {
  if (bytes.substr(0, sizeof(HeaderOnDisk)).find_first_not_of('\0') ==
      absl::string_view::npos) {
    return absl::NotFoundError("no segment header");
  }
  HeaderOnDisk disk;
  if (bytes.size() < sizeof(disk)) {
    return absl::DataLossError("segment header cut short");
  }
  std::memcpy(&disk, bytes.data(), sizeof(disk));
  if (std::memcmp(disk.magic, kMagic, sizeof(kMagic)) != 0) {
    return absl::DataLossError("not a segment header");
  }
  if (disk.checksum != HeaderChecksum(disk)) {
    return absl::DataLossError("segment header fails its checksum");
  }
  if (disk.version < kOldestFormat || disk.version > kFormatVersion ||
      disk.block_bytes != kBlockBytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        "log format version ", disk.version, " with blocks of ",
        disk.block_bytes, " bytes; this program reads versions ", kOldestFormat,
        " to ", kFormatVersion, " with blocks of ", kBlockBytes));
  }
  return SegmentHeader{disk.log_id, disk.number, disk.previous_end,
                       disk.version};
}

uint64_t SegmentSeed(uint64_t log_id, uint64_t number) {
  const uint64_t key[2] = {log_id, number};
  return XXH3_64bits(key, sizeof(key));
}

uint64_t Seal::At(uint64_t offset) const {
  // The multiplier spreads neighbouring offsets over all bits: it is 2^64
  // divided by the golden ratio.
  if (version == 1 || KV739_PLANTED(D8_place_not_sealed)) return seed;
  return seed ^ (offset * 0x9e3779b97f4a7c15ULL);
}

std::string SegmentName(uint64_t number) {
  return absl::StrFormat("%012d.wal", number);
}

std::optional<uint64_t> ParseSegmentName(absl::string_view name) {
  if (!absl::EndsWith(name, ".wal")) return std::nullopt;
  return ParseNumber(name.substr(0, name.size() - 4), 12);
}

std::string SpareName(uint64_t id) { return absl::StrFormat("spare-%06d", id); }

std::optional<uint64_t> ParseSpareName(absl::string_view name) {
  if (!absl::StartsWith(name, "spare-")) return std::nullopt;
  return ParseNumber(name.substr(6), 6);
}

std::string FillingName(uint64_t id) {
  return absl::StrFormat("filling-%06d", id);
}

bool IsFillingName(absl::string_view name) {
  return absl::StartsWith(name, "filling-");
}

}  // namespace kv739::wal
