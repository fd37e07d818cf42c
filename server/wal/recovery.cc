#include "server/wal/recovery.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "raft/planted.h"
#include "server/wal/record.h"
#include "server/wal/replay.h"

namespace kv739::wal {
namespace {

absl::Status DataLossAt(const std::string& path, uint64_t offset,
                        absl::string_view what) {
  return absl::DataLossError(
      absl::StrCat(path, " at offset ", offset, ": ", what));
}

// The oldest write_start that proves a byte at `offset` to have been durable
// before: a valid record behind a bad one was written by the same write, in
// which case the write was torn, or by a later one, in which case the bad
// record had been durable and is damaged now.
std::optional<uint64_t> LaterWriteBehind(absl::string_view bytes,
                                         uint64_t offset, const Seal& seal) {
  uint64_t at = offset;
  while (at + kRecordHeaderBytes <= bytes.size()) {
    const std::optional<Record> record =
        DecodeRecord(bytes.substr(at), seal.At(at));
    if (!record) {
      at += kRecordAlignment;
      continue;
    }
    if (record->write_start > offset) return at;
    at += RecordBytes(record->payload.size());
  }
  return std::nullopt;
}

class Recovery {
 public:
  Recovery(FileSystem* fs, const std::string& dir, bool direct,
           uint64_t segment_bytes)
      : fs_(fs), dir_(dir), direct_(direct), segment_bytes_(segment_bytes) {}

  absl::StatusOr<RecoveredLog> Run();

 private:
  absl::Status TakeStock();
  absl::Status OpenSegments();
  absl::Status TakeHeader(Segment& segment, bool newest, bool* unused);
  absl::Status CheckUnused(const Segment& segment);
  absl::Status ReadSegment(size_t i);
  absl::Status LoadBytes(const Segment& segment, uint64_t size);
  absl::Status WriteLastAgain();
  absl::Status MakeDurable();
  std::string Path(absl::string_view name) const {
    return absl::StrCat(dir_, "/", name);
  }

  FileSystem* const fs_;
  const std::string dir_;
  const bool direct_;
  const uint64_t segment_bytes_;
  RecoveredLog log_;
  std::vector<uint64_t> numbers_;        // of the files named as segments
  std::vector<uint64_t> previous_ends_;  // of log_.segments
  std::vector<std::string> doomed_;      // paths to remove
  std::vector<std::string> spare_paths_;
  std::string bytes_;  // of one segment
  // Where the write of its last record began.
  uint64_t last_write_ = 0;
  Replay replay_;
};

absl::StatusOr<RecoveredLog> Recovery::Run() {
  if (absl::Status s = TakeStock(); !s.ok()) return s;
  if (absl::Status s = OpenSegments(); !s.ok()) return s;
  uint64_t size = 0;
  for (const auto& segment : log_.segments) size += segment->size;
  replay_.Begin(size);
  for (size_t i = 0; i < log_.segments.size(); ++i) {
    if (absl::Status s = ReadSegment(i); !s.ok()) return s;
  }
  auto groups = replay_.Finish();
  if (!groups.ok()) {
    return absl::Status(groups.status().code(),
                        absl::StrCat(dir_, ": ", groups.status().message()));
  }
  log_.groups = *std::move(groups);
  if (absl::Status s = MakeDurable(); !s.ok()) return s;
  return std::move(log_);
}

absl::Status Recovery::TakeStock() {
  absl::StatusOr<std::vector<std::string>> names = fs_->List(dir_);
  if (!names.ok()) return names.status();
  for (const std::string& name : *names) {
    if (auto number = ParseSegmentName(name)) {
      numbers_.push_back(*number);
    } else if (auto id = ParseSpareName(name)) {
      log_.next_file_id = std::max(log_.next_file_id, *id + 1);
      spare_paths_.push_back(Path(name));
    } else if (IsFillingName(name)) {
      doomed_.push_back(Path(name));
    }
  }
  std::sort(numbers_.begin(), numbers_.end());
  for (size_t i = 1; i < numbers_.size(); ++i) {
    if (numbers_[i] != numbers_[i - 1] + 1) {
      return absl::DataLossError(absl::StrCat(
          Path(SegmentName(numbers_[i - 1] + 1)), ": segment is missing, ",
          SegmentName(numbers_[i]), " is there"));
    }
  }
  return absl::OkStatus();
}

absl::Status Recovery::OpenSegments() {
  for (uint64_t number : numbers_) {
    auto segment = std::make_shared<Segment>();
    segment->number = number;
    segment->path = Path(SegmentName(number));
    absl::StatusOr<std::unique_ptr<File>> file =
        fs_->Open(segment->path, direct_);
    if (!file.ok()) return file.status();
    segment->file = *std::move(file);
    absl::StatusOr<uint64_t> size = segment->file->Size();
    if (!size.ok()) return size.status();
    segment->size = *size;
    bool unused = false;
    const bool newest = number == numbers_.back();
    if (absl::Status s = TakeHeader(*segment, newest, &unused); !s.ok()) {
      return s;
    }
    if (unused) {
      doomed_.push_back(segment->path);
    } else {
      log_.segments.push_back(std::move(segment));
    }
  }
  return absl::OkStatus();
}

absl::Status Recovery::TakeHeader(Segment& segment, bool newest, bool* unused) {
  const uint64_t size = std::min(segment.size, kBlockBytes);
  if (absl::Status s = LoadBytes(segment, size); !s.ok()) return s;
  absl::StatusOr<SegmentHeader> header = DecodeSegmentHeader(bytes_);
  // A file that was given its name but whose first write never arrived still
  // begins as it was filled, with zeros, or with the header of its former
  // life.
  const bool former = header.ok() && header->number != segment.number;
  if (absl::IsNotFound(header.status()) || former) {
    if (!newest) return DataLossAt(segment.path, 0, "segment has no header");
    *unused = true;
    return CheckUnused(segment);
  }
  if (!header.ok()) {
    return absl::Status(header.status().code(),
                        absl::StrCat(segment.path, " at offset 0: ",
                                     header.status().message()));
  }
  if (log_.segments.empty()) {
    log_.log_id = header->log_id;
  } else if (header->log_id != log_.log_id) {
    return DataLossAt(segment.path, 0, "segment of another log");
  }
  segment.seal = SealOf(*header);
  previous_ends_.push_back(header->previous_end);
  return absl::OkStatus();
}

// A newest segment without a header is no part of the log, unless it holds
// what could only be written after the header was durable.
absl::Status Recovery::CheckUnused(const Segment& segment) {
  if (absl::Status s = LoadBytes(segment, segment.size); !s.ok()) return s;
  if (log_.segments.empty()) {
    // The first segment of a log gets its header before anything else.
    const size_t used = bytes_.find_first_not_of('\0');
    if (used == std::string::npos) return absl::OkStatus();
    return DataLossAt(segment.path, used, "data in a log without a header");
  }
  // The header would tell in which format it was written.
  for (uint32_t version = kOldestFormat; version <= kFormatVersion; ++version) {
    const Seal seal = SealOf({log_.log_id, segment.number, 0, version});
    for (uint64_t at = kFirstRecord; at < bytes_.size();) {
      const absl::string_view rest = absl::string_view(bytes_).substr(at);
      const std::optional<Record> record = DecodeRecord(rest, seal.At(at));
      if (!record) {
        at += kRecordAlignment;
        continue;
      }
      if (record->write_start > kFirstRecord) {
        return DataLossAt(segment.path, 0,
                          "the header is gone and records are there");
      }
      at += RecordBytes(record->payload.size());
    }
  }
  return absl::OkStatus();
}

absl::Status Recovery::ReadSegment(size_t i) {
  const Segment& segment = *log_.segments[i];
  const bool newest = i + 1 == log_.segments.size();
  const uint64_t limit = newest ? segment.size : previous_ends_[i + 1];
  // Not even the newest one is ever shorter than its header: files are filled
  // before they are used.
  if (limit > segment.size || limit < kFirstRecord) {
    return DataLossAt(
        segment.path, segment.size,
        absl::StrCat("the segment must reach to ",
                     newest ? kFirstRecord : std::max(limit, kFirstRecord)));
  }
  if (absl::Status s = LoadBytes(segment, limit); !s.ok()) return s;
  const absl::string_view bytes = bytes_;
  uint64_t at = kFirstRecord;
  bool first = true;
  last_write_ = 0;
  while (at < limit) {
    const std::optional<Record> record =
        DecodeRecord(bytes.substr(at), segment.seal.At(at));
    // It is the first record of its write or of the same one as the record
    // before it.
    if (!record || (record->write_start != at &&
                    (record->write_start != last_write_ || first))) {
      break;
    }
    first = false;
    const Location location{static_cast<uint32_t>(segment.number),
                            static_cast<uint32_t>(at / kRecordAlignment),
                            static_cast<uint32_t>(record->payload.size())};
    if (absl::Status s = replay_.Add(*record, location); !s.ok()) {
      return DataLossAt(
          segment.path, at,
          absl::StrCat("group ", record->group.value(), ": ", s.message()));
    }
    last_write_ = record->write_start;
    at += RecordBytes(record->payload.size());
  }
  log_.ends.push_back(at);
  if (!newest) {
    if (at == limit) return absl::OkStatus();
    return DataLossAt(segment.path, at, "record fails its checksum");
  }
  if (at >= limit) return absl::OkStatus();
  if (KV739_PLANTED(D4_torn_tail_refused) &&
      bytes.find_first_not_of('\0', at) != absl::string_view::npos) {
    return DataLossAt(segment.path, at, "record fails its checksum");
  }
  auto later = LaterWriteBehind(bytes, at, segment.seal);
  if (KV739_PLANTED(D2_damage_cut_like_a_torn_tail)) later.reset();
  if (later) {
    return DataLossAt(
        segment.path, at,
        absl::StrCat("record fails its checksum; good ones follow at offset ",
                     *later));
  }
  return absl::OkStatus();
}

absl::Status Recovery::LoadBytes(const Segment& segment, uint64_t size) {
  bytes_.resize(size);
  if (size == 0) return absl::OkStatus();
  return segment.file->ReadAt(0, size, bytes_.data());
}

// A cache, the kernel's or the disk's, may hold what a failed sync has not
// written and does not try again: Linux marks such pages clean. A sync alone
// would pass over them, so the last write that was found is made once more.
// What is before it was durable when it began.
absl::Status Recovery::WriteLastAgain() {
  File& file = *log_.segments.back()->file;
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  static_assert(kPiece % kBlockBytes == 0);
  // bytes_ is of the newest segment: it was read last. The header may be as
  // young as the first record.
  uint64_t at = last_write_ <= kFirstRecord ? 0 : last_write_;
  at = at / kBlockBytes * kBlockBytes;
  const uint64_t end = std::min<uint64_t>(
      (log_.ends.back() + kBlockBytes - 1) / kBlockBytes * kBlockBytes,
      bytes_.size() / kBlockBytes * kBlockBytes);
  const std::unique_ptr<char, decltype(&std::free)> piece(
      static_cast<char*>(std::aligned_alloc(kBlockBytes, kPiece)), &std::free);
  if (piece == nullptr) return absl::ResourceExhaustedError("out of memory");
  for (; at < end; at += kPiece) {
    const uint64_t size = std::min(kPiece, end - at);
    std::memcpy(piece.get(), bytes_.data() + at, size);
    absl::Status s = file.WriteAt(at, absl::string_view(piece.get(), size));
    if (!s.ok()) return s;
  }
  return absl::OkStatus();
}

// What was read may have been in a cache only, when the process was killed
// between a write and its sync. From here on it is relied upon.
absl::Status Recovery::MakeDurable() {
  if (!log_.segments.empty()) {
    if (absl::Status s = WriteLastAgain(); !s.ok()) return s;
    if (absl::Status s = log_.segments.back()->file->Sync(); !s.ok()) return s;
  }
  for (const std::string& path : spare_paths_) {
    absl::StatusOr<std::unique_ptr<File>> file = fs_->Open(path, direct_);
    if (!file.ok()) return file.status();
    absl::StatusOr<uint64_t> size = (*file)->Size();
    if (!size.ok()) return size.status();
    // Without a log there is no telling which numbers were used in them.
    if (*size == segment_bytes_ && !log_.segments.empty()) {
      log_.spares.push_back(path);
    } else {
      doomed_.push_back(path);
    }
  }
  for (const std::string& path : doomed_) {
    if (absl::Status s = fs_->Remove(path); !s.ok()) return s;
  }
  return fs_->SyncDir(dir_);
}

}  // namespace

absl::StatusOr<RecoveredLog> RecoverLog(FileSystem* fs, const std::string& dir,
                                        bool direct, uint64_t segment_bytes) {
  return Recovery(fs, dir, direct, segment_bytes).Run();
}

}  // namespace kv739::wal
