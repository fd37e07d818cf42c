// Background work. Segments are freed oldest first and only oldest first: what
// a record voids was always written before it, so a stream that begins later
// can never bring back what a freed record had voided.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/wal/wal_impl.h"

namespace kv739::wal {
namespace {

// So many old segments may lie around before live records are moved.
constexpr size_t kUnhurriedSegments = 2;
// Segments that are kept for use beyond spare_segments, when freed.
constexpr uint32_t kExtraSpares = 1;
// How much of an old segment is looked at in one read.
constexpr uint64_t kScanBytes = 1 << 20;

}  // namespace

absl::Status WalImpl::Maintain() {
  {
    std::lock_guard lock(mu_);
    if (!failure_.ok()) return failure_;
  }
  if (absl::Status s = FreeDeadSegments(); !s.ok()) return Fail(s);
  // A damaged live record does not stop the log: it is safe where it is, as
  // far as it can be. The caller decides.
  if (absl::Status s = NoteLiveRecords(); !s.ok()) return s;
  absl::Status s = FillSpares();
  if (!s.ok() && !absl::IsResourceExhausted(s)) return Fail(s);
  return s;
}

bool WalImpl::wants_maintenance() const {
  std::lock_guard lock(mu_);
  if (!failure_.ok()) return false;
  const bool fill =
      spares_.size() < options_.spare_segments && !filling_blocked_;
  return fill || FrontIsDead() || (noted_.empty() && FrontIsToBeEmptied());
}

// The newest segment never goes: it says where the log ends, and the numbers
// go on from it.
bool WalImpl::FrontIsDead() const {
  return segments_.size() > 1 &&
         index_.live(segments_.front().segment->number).records == 0;
}

// The oldest segment holds up all others. It is emptied when little in it is
// alive, or when the old segments together hold more dead than live bytes.
bool WalImpl::FrontIsToBeEmptied() const {
  if (segments_.size() <= 1 + kUnhurriedSegments) return false;
  const Segment& front = *segments_.front().segment;
  const LogIndex::Usage live = index_.live(front.number);
  if (live.records == 0) return false;
  const uint64_t used =
      (segments_.size() - 1 - kUnhurriedSegments) * options_.segment_bytes;
  return live.bytes <= front.size / 4 || used > 2 * index_.live_bytes();
}

absl::Status WalImpl::FreeDeadSegments() {
  while (true) {
    std::shared_ptr<Segment> segment;
    {
      std::lock_guard lock(mu_);
      if (!FrontIsDead()) return absl::OkStatus();
      segment = std::move(segments_.front().segment);
      segments_.pop_front();
      index_.ForgetSegment(segment->number);
      filling_blocked_ = false;
    }
    if (absl::Status s = Dispose(std::move(segment)); !s.ok()) return s;
  }
}

// Recycles the file, or removes it when it is not needed or somebody still
// reads in it. Durable on return, so that an older segment never outlives a
// younger one.
absl::Status WalImpl::Dispose(std::shared_ptr<Segment> segment) {
  const std::string path = segment->path;
  std::string spare;
  // Nobody can come by this segment any more, so a count of one stays.
  if (segment.use_count() == 1 && segment->size == options_.segment_bytes) {
    std::lock_guard lock(mu_);
    if (spares_.size() < options_.spare_segments + kExtraSpares) {
      spare = Path(SpareName(next_file_id_++));
    }
  }
  segment.reset();  // closes it, unless it is read
  absl::Status s = spare.empty() ? fs_->Remove(path) : fs_->Rename(path, spare);
  if (s.ok()) s = fs_->SyncDir(dir_);
  if (!s.ok()) return s;
  std::lock_guard lock(mu_);
  if (spare.empty()) {
    ++stats_.removed_segments;
  } else {
    ++stats_.recycled_segments;
    spares_.push_back(std::move(spare));
  }
  return absl::OkStatus();
}

std::string WalImpl::NewFillingPath() {
  std::lock_guard lock(mu_);
  return Path(FillingName(next_file_id_++));
}

// One file per call. Its name need not be durable: a spare that is lost is
// made again, and one that is taken has its directory synced then.
absl::Status WalImpl::FillSpares() {
  {
    std::lock_guard lock(mu_);
    if (spares_.size() >= options_.spare_segments || filling_blocked_) {
      return absl::OkStatus();
    }
  }
  const std::string path = NewFillingPath();
  if (absl::Status s = fs_->CreateFilled(path, options_.segment_bytes);
      !s.ok()) {
    std::lock_guard lock(mu_);
    filling_blocked_ = true;
    return s;
  }
  std::string spare;
  {
    std::lock_guard lock(mu_);
    spare = Path(SpareName(next_file_id_++));
  }
  if (absl::Status s = fs_->Rename(path, spare); !s.ok()) return s;
  std::lock_guard lock(mu_);
  spares_.push_back(std::move(spare));
  return absl::OkStatus();
}

// The records that `window`, which begins at `offset` of the segment, begins
// with. Their payloads point into it.
std::vector<WalImpl::Rewrite> WalImpl::DecodeAll(absl::string_view window,
                                                 uint64_t offset,
                                                 const Segment& segment) {
  std::vector<Rewrite> records;
  uint64_t at = 0;
  while (at < window.size()) {
    const std::optional<Record> record =
        DecodeRecord(window.substr(at), segment.seal.At(offset + at));
    if (!record) break;
    const Location from{static_cast<uint32_t>(segment.number),
                        static_cast<uint32_t>((offset + at) / kRecordAlignment),
                        static_cast<uint32_t>(record->payload.size())};
    records.push_back({from, *record, std::string()});
    at += from.bytes();
  }
  return records;
}

// Adds the live ones to `found` until it is full. Returns the offset behind
// the last one that was looked at.
uint64_t WalImpl::KeepLive(const std::vector<Rewrite>& candidates,
                           std::vector<Rewrite>* found,
                           uint64_t* found_bytes) const {
  std::lock_guard lock(mu_);
  for (const Rewrite& candidate : candidates) {
    const Record& record = candidate.record;
    const Location from = candidate.from;
    if (!index_.IsLive(record.kind, record.group, record.index, from)) {
      continue;
    }
    if (!found->empty() && *found_bytes + from.bytes() > kMaxRewriteBytes) {
      *found_bytes = kMaxRewriteBytes;  // full; this one opens the next turn
      return from.offset();
    }
    *found_bytes += from.bytes();
    found->push_back(candidate);
    Rewrite& rewrite = found->back();
    rewrite.payload = std::string(record.payload);
    rewrite.record.payload = absl::string_view();
    rewrite.record.flags = kFlagMoved;
  }
  return candidates.back().from.offset() + candidates.back().from.bytes();
}

// Collects live records of the oldest segment for the next Append to move,
// going on where the last call stopped.
absl::Status WalImpl::NoteLiveRecords() {
  std::shared_ptr<Segment> front;
  uint64_t end = 0;
  {
    std::lock_guard lock(mu_);
    if (!noted_.empty() || !FrontIsToBeEmptied()) return absl::OkStatus();
    front = segments_.front().segment;
    end = segments_.front().end;
  }
  if (scan_segment_ != front->number || scan_offset_ >= end) {
    scan_segment_ = front->number;
    scan_offset_ = kFirstRecord;
  }
  std::vector<Rewrite> found;
  uint64_t found_bytes = 0;
  uint64_t want = kScanBytes;
  while (scan_offset_ < end && found_bytes < kMaxRewriteBytes) {
    std::string window(std::min(want, end - scan_offset_), '\0');
    absl::Status s =
        front->file->ReadAt(scan_offset_, window.size(), window.data());
    if (!s.ok()) return s;
    const std::vector<Rewrite> candidates =
        DecodeAll(window, scan_offset_, *front);
    if (!candidates.empty()) {
      want = kScanBytes;
      scan_offset_ = KeepLive(candidates, &found, &found_bytes);
    } else if (window.size() < end - scan_offset_) {
      want *= 4;  // a record larger than the window
    } else {
      return absl::DataLossError(absl::StrCat(front->path, " at offset ",
                                              scan_offset_,
                                              ": record fails its checksum"));
    }
  }
  std::lock_guard lock(mu_);
  noted_ = std::move(found);
  return absl::OkStatus();
}

}  // namespace kv739::wal
