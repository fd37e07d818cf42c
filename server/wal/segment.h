// A segment: one file of the log, its name and its first block. Format:
// docs/wal_format.md.
#ifndef KV739_SERVER_WAL_SEGMENT_H_
#define KV739_SERVER_WAL_SEGMENT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/wal/file_system.h"

namespace kv739::wal {

// Format 1 bound records to their segment alone, so a block that a disk put at
// the place of another one of its segment passed. It is read and not written.
inline constexpr uint32_t kFormatVersion = 2;
inline constexpr uint32_t kOldestFormat = 1;
// Records begin behind the header block.
inline constexpr uint64_t kFirstRecord = kBlockBytes;

struct SegmentHeader {
  uint64_t log_id = 0;  // the same in all segments of a log
  uint64_t number = 0;
  // Where the log ends in the segment before this one. What lies behind it
  // there was cut and never counts again.
  uint64_t previous_end = 0;
  uint32_t version = kFormatVersion;
};

// Fills one block.
void EncodeSegmentHeader(const SegmentHeader& header, char* block);

// The header at the start of `bytes`. NOT_FOUND when there is none: zeros or
// nothing; DATA_LOSS when there is something else; FAILED_PRECONDITION for a
// version that this program does not know.
absl::StatusOr<SegmentHeader> DecodeSegmentHeader(absl::string_view bytes);

// What the checksums of its records are seeded with, before their places are.
uint64_t SegmentSeed(uint64_t log_id, uint64_t number);

// What binds records to their segment and their place in it.
struct Seal {
  uint64_t seed = 0;  // of the segment
  uint32_t version = kFormatVersion;
  // Of the record at this offset.
  uint64_t At(uint64_t offset) const;
};
inline Seal SealOf(const SegmentHeader& header) {
  return {SegmentSeed(header.log_id, header.number), header.version};
}

std::string SegmentName(uint64_t number);  // "000000000007.wal"
std::optional<uint64_t> ParseSegmentName(absl::string_view name);
// Files that are filled and wait to become segments.
std::string SpareName(uint64_t id);  // "spare-000007"
std::optional<uint64_t> ParseSpareName(absl::string_view name);
// A file that is being filled; worthless after a crash.
std::string FillingName(uint64_t id);  // "filling-000007"
bool IsFillingName(absl::string_view name);

// Shared by the log and the reads that are under way in it.
struct Segment {
  uint64_t number = 0;
  Seal seal;
  std::string path;
  uint64_t size = 0;  // of the file
  std::unique_ptr<File> file;
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_SEGMENT_H_
