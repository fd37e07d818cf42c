#include "kv/snapshot_chunk.h"

#include <xxhash.h>
#include <zstd.h>

#include "absl/strings/str_cat.h"
#include "kv/invariant.h"

namespace kv739::kv {
namespace {

constexpr uint8_t kChunkFormat = 1;
constexpr uint8_t kLastFlag = 1;
constexpr size_t kChecksumBytes = 8;
constexpr int kCompressionLevel = 1;  // the network is faster than level 3

absl::Status NoChunk(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("damaged snapshot chunk: ", what));
}

}  // namespace

void SnapshotTotals::Add(absl::string_view key, absl::string_view value) {
  ++records;
  bytes += key.size() + value.size();
  digest = XXH3_64bits_withSeed(key.data(), key.size(), digest + key.size());
  digest =
      XXH3_64bits_withSeed(value.data(), value.size(), digest + value.size());
}

uint64_t SnapshotId(raft::GroupId group, const raft::LogPosition& position) {
  std::string name;
  AppendFixed64(&name, group.value());
  AppendFixed64(&name, position.term.value());
  AppendFixed64(&name, position.index.value());
  return XXH3_64bits(name.data(), name.size());
}

uint64_t ChunkChecksum(absl::string_view chunk) {
  uint64_t checksum = 0;
  Reader in(chunk.substr(chunk.size() - kChecksumBytes));
  KV739_KV_CHECK(in.Fixed64(&checksum), "no chunk");
  return checksum;
}

ChunkEncoder::ChunkEncoder() : context_(ZSTD_createCCtx()) {
  KV739_KV_CHECK(context_ != nullptr, "out of memory");
}
ChunkEncoder::~ChunkEncoder() { ZSTD_freeCCtx(context_); }

absl::Status ChunkEncoder::Encode(const ChunkHeader& header,
                                  absl::string_view records,
                                  std::string* chunk) {
  chunk->clear();
  chunk->push_back(static_cast<char>(kChunkFormat));
  chunk->push_back(static_cast<char>(header.last ? kLastFlag : 0));
  AppendFixed64(chunk, header.snapshot_id);
  AppendVarint(chunk, header.position.term.value());
  AppendVarint(chunk, header.position.index.value());
  AppendVarint(chunk, header.number);
  AppendBytes(chunk, header.after);
  AppendVarint(chunk, header.records);
  AppendVarint(chunk, records.size());
  if (header.last) {
    AppendVarint(chunk, header.totals.records);
    AppendVarint(chunk, header.totals.bytes);
    AppendFixed64(chunk, header.totals.digest);
  }
  const size_t begin = chunk->size();
  chunk->resize(begin + ZSTD_compressBound(records.size()));
  const size_t size =
      ZSTD_compressCCtx(context_, chunk->data() + begin, chunk->size() - begin,
                        records.data(), records.size(), kCompressionLevel);
  if (ZSTD_isError(size)) {
    return absl::InternalError(absl::StrCat("zstd: ", ZSTD_getErrorName(size)));
  }
  chunk->resize(begin + size);
  AppendFixed64(chunk, XXH3_64bits(chunk->data(), chunk->size()));
  return absl::OkStatus();
}

ChunkDecoder::ChunkDecoder() : context_(ZSTD_createDCtx()) {
  KV739_KV_CHECK(context_ != nullptr, "out of memory");
}
ChunkDecoder::~ChunkDecoder() { ZSTD_freeDCtx(context_); }

absl::StatusOr<ChunkHeader> ChunkDecoder::DecodeHeader(
    absl::string_view chunk) {
  compressed_ = {};
  if (chunk.size() < kChecksumBytes) return NoChunk("too short");
  const absl::string_view body = chunk.substr(0, chunk.size() - kChecksumBytes);
  if (XXH3_64bits(body.data(), body.size()) != ChunkChecksum(chunk)) {
    return NoChunk("wrong checksum");
  }
  Reader in(body);
  uint8_t format = 0;
  uint8_t flags = 0;
  uint64_t term = 0;
  uint64_t index = 0;
  absl::string_view after;
  ChunkHeader header;
  if (!in.Byte(&format)) return NoChunk("empty");
  if (format != kChunkFormat) {
    return absl::InvalidArgumentError(
        absl::StrCat("snapshot chunk of the unknown version ", format));
  }
  if (!in.Byte(&flags) || flags > kLastFlag ||
      !in.Fixed64(&header.snapshot_id) || !in.Varint(&term) ||
      !in.Varint(&index) || !in.Varint(&header.number) || !in.Bytes(&after) ||
      !in.Varint(&header.records) || !in.Varint(&raw_bytes_)) {
    return NoChunk("malformed header");
  }
  header.position = {raft::Term(term), raft::Index(index)};
  header.after = std::string(after);
  header.last = flags == kLastFlag;
  if (header.last &&
      (!in.Varint(&header.totals.records) || !in.Varint(&header.totals.bytes) ||
       !in.Fixed64(&header.totals.digest))) {
    return NoChunk("malformed totals");
  }
  // One record above the usual bound has a key, a value and two lengths.
  constexpr uint64_t kMost =
      kMaxSnapshotRecordBytes + kMaxSnapshotKeyBytes + 2 * kMaxVarintBytes;
  if (raw_bytes_ > (header.records == 1 ? kMost : kMaxChunkRecordBytes)) {
    return NoChunk("too large");
  }
  compressed_ = in.rest();
  return header;
}

absl::StatusOr<absl::string_view> ChunkDecoder::DecodeRecords() {
  records_.resize(raw_bytes_);
  const size_t size =
      ZSTD_decompressDCtx(context_, records_.data(), records_.size(),
                          compressed_.data(), compressed_.size());
  if (ZSTD_isError(size) || size != raw_bytes_) {
    return NoChunk("records do not decompress");
  }
  return absl::string_view(records_);
}

}  // namespace kv739::kv
