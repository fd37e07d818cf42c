// The form of the chunks that a group's snapshot is sent in. Described for
// readers of bytes in docs/storage_format.md. Values, no threads.
//
// A chunk can be judged alone: it says which snapshot and which part of it it
// is, and a checksum covers all of it. Its records are keys without the prefix
// of the group, and values, as they stand in the engine.
#ifndef KV739_KV_SNAPSHOT_CHUNK_H_
#define KV739_KV_SNAPSHOT_CHUNK_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/coding.h"
#include "raft/types.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace kv739::kv {

// Records of a chunk before compression; a record that is larger is alone.
inline constexpr size_t kMaxChunkRecordBytes = 1 << 20;
// The largest record that is ever accepted; the store's own are below 1 MiB.
inline constexpr size_t kMaxSnapshotRecordBytes = 8 << 20;
// A key without the prefix of its group.
inline constexpr size_t kMaxSnapshotKeyBytes = 4096;

// What a number of records comes to. A function of the records in their
// order, not of how they are cut into chunks.
struct SnapshotTotals {
  uint64_t records = 0;
  uint64_t bytes = 0;   // keys and values
  uint64_t digest = 0;  // XXH3 of each record, seeded with the one before

  void Add(absl::string_view key, absl::string_view value);
  bool operator==(const SnapshotTotals&) const = default;
};

// Equal positions of a group are equal states, so this names the content,
// whichever node sends it.
uint64_t SnapshotId(raft::GroupId group, const raft::LogPosition& position);

struct ChunkHeader {
  uint64_t snapshot_id = 0;
  raft::LogPosition position;
  uint64_t number = 0;   // from 0
  std::string after;     // last key of the chunk before; empty for the first
  uint64_t records = 0;  // in this chunk
  bool last = false;
  SnapshotTotals totals;  // of the whole snapshot; in the last chunk alone
};

inline void AppendRecord(std::string* records, absl::string_view key,
                         absl::string_view value) {
  AppendBytes(records, key);
  AppendBytes(records, value);
}

class ChunkEncoder {
 public:
  ChunkEncoder();
  ~ChunkEncoder();
  ChunkEncoder(const ChunkEncoder&) = delete;
  ChunkEncoder& operator=(const ChunkEncoder&) = delete;

  // Puts the chunk into *chunk, whose memory is used again.
  absl::Status Encode(const ChunkHeader& header, absl::string_view records,
                      std::string* chunk);

 private:
  ZSTD_CCtx_s* const context_;
};

class ChunkDecoder {
 public:
  ChunkDecoder();
  ~ChunkDecoder();
  ChunkDecoder(const ChunkDecoder&) = delete;
  ChunkDecoder& operator=(const ChunkDecoder&) = delete;

  // Checks form and checksum. The records are not decompressed.
  // INVALID_ARGUMENT for a version that is not known, DATA_LOSS for bytes that
  // are no chunk.
  absl::StatusOr<ChunkHeader> DecodeHeader(absl::string_view chunk);
  // Of the chunk whose header was decoded last, which must still be there.
  // Valid until the next call.
  absl::StatusOr<absl::string_view> DecodeRecords();

  size_t buffer_bytes() const { return records_.capacity(); }

 private:
  ZSTD_DCtx_s* const context_;
  absl::string_view compressed_;
  uint64_t raw_bytes_ = 0;
  std::string records_;
};

// The checksum of a chunk: what it ends with. `chunk` has been decoded.
uint64_t ChunkChecksum(absl::string_view chunk);

}  // namespace kv739::kv

#endif  // KV739_KV_SNAPSHOT_CHUNK_H_
