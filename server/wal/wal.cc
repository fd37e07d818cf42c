#include "server/wal/wal.h"

#include <algorithm>
#include <limits>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/planted.h"
#include "server/wal/wal_impl.h"

namespace kv739::wal {
namespace {

uint64_t RandomId() {
  std::random_device random;
  uint64_t id = 0;
  while (id == 0) id = uint64_t{random()} << 32 | random();
  return id;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Wal>> Wal::Open(FileSystem* fs,
                                               const std::string& dir,
                                               const WalOptions& options) {
  if (options.segment_bytes % kBlockBytes != 0 ||
      options.segment_bytes < 2 * kBlockBytes ||
      options.segment_bytes > uint64_t{1} << 32) {
    return absl::InvalidArgumentError(
        absl::StrCat("segment_bytes is ", options.segment_bytes,
                     "; it must be a multiple of ", kBlockBytes, " from ",
                     2 * kBlockBytes, " to ", uint64_t{1} << 32));
  }
  if (options.format_version < kOldestFormat ||
      options.format_version > kFormatVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat("format_version is ", options.format_version));
  }
  absl::StatusOr<RecoveredLog> recovered =
      RecoverLog(fs, dir, options.direct, options.segment_bytes);
  if (!recovered.ok()) return recovered.status();
  if (recovered->log_id == 0) {
    recovered->log_id =
        options.new_log_id != 0 ? options.new_log_id : RandomId();
  }
  return std::make_unique<WalImpl>(fs, dir, options, *std::move(recovered));
}

WalImpl::WalImpl(FileSystem* fs, std::string dir, const WalOptions& options,
                 RecoveredLog recovered)
    : fs_(fs),
      dir_(std::move(dir)),
      options_(options),
      log_id_(recovered.log_id),
      last_number_(
          recovered.segments.empty() ? 0 : recovered.segments.back()->number),
      last_end_(recovered.ends.empty() ? 0 : recovered.ends.back()),
      index_(options.cache_bytes),
      spares_(std::move(recovered.spares)),
      next_file_id_(recovered.next_file_id) {
  for (size_t i = 0; i < recovered.segments.size(); ++i) {
    segments_.push_back({std::move(recovered.segments[i]), recovered.ends[i]});
  }
  for (auto& [id, log] : recovered.groups) {
    recovered_[id] = {log.hard_state, log.start, log.last(), log.terms};
    index_.Adopt(id, std::move(log));
  }
}

std::string WalImpl::Path(absl::string_view name) const {
  return absl::StrCat(dir_, "/", name);
}

// Nobody can say any more what is on the disk: the log is over.
absl::Status WalImpl::Fail(const absl::Status& cause) {
  std::lock_guard lock(mu_);
  if (failure_.ok()) {
    const absl::StatusCode code = absl::IsResourceExhausted(cause)
                                      ? absl::StatusCode::kResourceExhausted
                                      : absl::StatusCode::kInternal;
    failure_ = absl::Status(
        code, absl::StrCat("the log has failed: ", cause.message()));
  }
  return failure_;
}

absl::Status WalImpl::Append(absl::Span<const GroupWrite> writes) {
  {
    std::lock_guard lock(mu_);
    if (!failure_.ok()) return failure_;
    if (absl::Status s = Plan(writes); !s.ok()) return s;
    TakeRewrites();
  }
  placed_.clear();
  counted_ = WalStats();
  absl::Status status = EncodeAll(writes);
  if (status.ok() && !placed_.empty()) status = Flush();
  if (!status.ok() && KV739_PLANTED(D1_failed_sync_tried_again)) {
    status = Flush();
  }
  if (!status.ok()) return Fail(status);
  if (placed_.empty()) return absl::OkStatus();
  std::lock_guard lock(mu_);
  Apply(writes);
  return absl::OkStatus();
}

// Those that are still live where they were found; nothing but Append makes
// records die, so they stay live until this one is through.
void WalImpl::TakeRewrites() {
  rewrites_.clear();
  rewrites_.swap(noted_);
  std::erase_if(rewrites_, [this](const Rewrite& rewrite) {
    return !index_.IsLive(rewrite.record.kind, rewrite.record.group,
                          rewrite.record.index, rewrite.from);
  });
}

// Moved records come first: they were live before these writes, and a write
// that voids one must stand behind it. A group's hard state comes before its
// entries, so that no entry is ever found without its term and vote.
absl::Status WalImpl::EncodeAll(absl::Span<const GroupWrite> writes) {
  for (const Rewrite& rewrite : rewrites_) {
    Record record = rewrite.record;
    record.payload = rewrite.payload;
    if (absl::Status s = Put(record); !s.ok()) return s;
    counted_.rewritten_bytes += RecordBytes(record.payload.size());
  }
  for (size_t i = 0; i < writes.size(); ++i) {
    const GroupWrite& write = writes[i];
    Record record;
    record.group = write.group;
    if (write.hard_state) {
      char vote[kVoteBytes];
      EncodeVote(write.hard_state->vote, vote);
      record.kind = RecordKind::kHardState;
      record.term = write.hard_state->term;
      record.index = write.hard_state->commit;
      record.payload = absl::string_view(vote, sizeof(vote));
      if (absl::Status s = Put(record); !s.ok()) return s;
    }
    record.kind = RecordKind::kEntry;
    for (const raft::Entry& entry : write.entries) {
      record.entry_kind = entry.kind;
      record.term = entry.term;
      record.index = entry.index;
      record.payload = *entry.data;
      if (absl::Status s = Put(record); !s.ok()) return s;
    }
    counted_.entries += write.entries.size();
    record.payload = absl::string_view();
    if (compactions_[i] != CompactionPlan::kNone) {
      record.kind = RecordKind::kCompaction;
      record.flags =
          compactions_[i] == CompactionPlan::kDropsAll ? kFlagDropsAll : 0;
      record.term = write.compact->term;
      record.index = write.compact->index;
      if (absl::Status s = Put(record); !s.ok()) return s;
    }
    if (write.remove_group) {
      Record removal;
      removal.kind = RecordKind::kRemoval;
      removal.group = write.group;
      if (absl::Status s = Put(removal); !s.ok()) return s;
    }
  }
  return absl::OkStatus();
}

absl::Status WalImpl::Put(const Record& record) {
  const uint64_t size = RecordBytes(record.payload.size());
  if (active_ == nullptr || buffer_.end() + size > active_->size) {
    // In order: the old segment's part is durable before the new one exists.
    if (buffer_.unwritten() > 0) {
      if (absl::Status s = Flush(); !s.ok()) return s;
    }
    if (absl::Status s = BeginSegment(size); !s.ok()) return s;
  } else if (buffer_.unwritten() > 0 &&
             buffer_.unwritten() + size > kMaxWriteBytes) {
    if (absl::Status s = Flush(); !s.ok()) return s;
  }
  const uint64_t offset = buffer_.end();
  Record stamped = record;
  stamped.write_start = write_start_;
  EncodeRecord(stamped, active_->seal.At(offset), buffer_.Extend(size));
  placed_.push_back({static_cast<uint32_t>(active_->number),
                     static_cast<uint32_t>(offset / kRecordAlignment),
                     static_cast<uint32_t>(record.payload.size())});
  counted_.bytes += size;
  return absl::OkStatus();
}

// Makes durable what was encoded.
absl::Status WalImpl::Flush() {
  const absl::string_view blocks = buffer_.Blocks();
  File& file = *active_->file;
  absl::Status s = file.WriteAt(buffer_.write_offset(), blocks);
  if (s.ok() && !file.sync_on_write()) s = file.Sync();
  if (!s.ok()) return s;
  ++counted_.syncs;
  counted_.disk_bytes += blocks.size();
  buffer_.Written(2 * kMaxWriteBytes);
  write_start_ = last_end_ = buffer_.end();
  if (!active_listed_) {
    // Only now is the segment part of the log, and the one before it no more
    // the newest, which may never go.
    std::lock_guard lock(mu_);
    segments_.push_back({active_, 0});
    active_listed_ = true;
  }
  return absl::OkStatus();
}

absl::Status WalImpl::BeginSegment(uint64_t record_bytes) {
  if (last_number_ >= std::numeric_limits<uint32_t>::max()) {
    return absl::InternalError("segment numbers are used up");
  }
  const uint64_t size =
      std::max(options_.segment_bytes,
               WriteBuffer::RoundUp(kFirstRecord + record_bytes));
  absl::StatusOr<std::string> spare = SpareFor(size);
  if (!spare.ok()) return spare.status();
  auto segment = std::make_shared<Segment>();
  segment->number = last_number_ + 1;
  segment->path = Path(SegmentName(segment->number));
  segment->size = size;
  absl::Status s = fs_->Rename(*spare, segment->path);
  if (s.ok() && !KV739_PLANTED(D3_directory_not_synced)) {
    s = fs_->SyncDir(dir_);
  }
  if (!s.ok()) return s;
  auto file = fs_->Open(segment->path, options_.direct);
  if (!file.ok()) return file.status();
  segment->file = *std::move(file);
  if (active_ != nullptr) {
    std::lock_guard lock(mu_);
    segments_.back().end = last_end_;
  }
  buffer_.Reset();
  const SegmentHeader header = {log_id_, segment->number, last_end_,
                                options_.format_version};
  segment->seal = SealOf(header);
  EncodeSegmentHeader(header, buffer_.Extend(kBlockBytes));
  const bool first_of_log = last_number_ == 0;
  active_ = std::move(segment);
  active_listed_ = false;
  last_number_ = active_->number;
  write_start_ = kFirstRecord;
  // The log's very first header is durable before any record, so that records
  // without a header are damage and not a torn write.
  return first_of_log ? Flush() : absl::OkStatus();
}

// Path of a filled file of that size that is nobody's.
absl::StatusOr<std::string> WalImpl::SpareFor(uint64_t size) {
  if (size == options_.segment_bytes) {
    std::lock_guard lock(mu_);
    filling_blocked_ = false;
    if (!spares_.empty()) {
      std::string spare = std::move(spares_.back());
      spares_.pop_back();
      return spare;
    }
  }
  const std::string path = NewFillingPath();
  if (absl::Status s = fs_->CreateFilled(path, size); !s.ok()) return s;
  ++counted_.inline_segments;
  return path;
}

void WalImpl::Apply(absl::Span<const GroupWrite> writes) {
  const Location* at = placed_.data();
  for (const Rewrite& rewrite : rewrites_) {
    index_.Move(rewrite.record.kind, rewrite.record.group, rewrite.record.index,
                *at++);
  }
  for (size_t i = 0; i < writes.size(); ++i) {
    const GroupWrite& write = writes[i];
    if (write.hard_state) {
      index_.SetHardState(write.group, *write.hard_state, *at++);
    }
    for (const raft::Entry& entry : write.entries) {
      index_.Append(write.group, entry, *at++);
    }
    if (compactions_[i] != CompactionPlan::kNone) {
      index_.Compact(write.group, *write.compact,
                     compactions_[i] == CompactionPlan::kDropsAll, *at++);
    }
    if (write.remove_group) {
      index_.Remove(write.group);
      ++at;
    }
  }
  rewrites_.clear();
  ++stats_.appends;
  stats_.syncs += counted_.syncs;
  stats_.entries += counted_.entries;
  stats_.bytes += counted_.bytes;
  stats_.disk_bytes += counted_.disk_bytes;
  stats_.rewritten_bytes += counted_.rewritten_bytes;
  stats_.inline_segments += counted_.inline_segments;
}

uint64_t WalImpl::log_bytes(raft::GroupId group) const {
  std::lock_guard lock(mu_);
  const GroupLog* log = index_.Find(group);
  return log != nullptr ? log->bytes : 0;
}

WalStats WalImpl::stats() const {
  std::lock_guard lock(mu_);
  WalStats stats = stats_;
  stats.segments = segments_.size();
  stats.spares = spares_.size();
  stats.live_bytes = index_.live_bytes();
  stats.cached_bytes = index_.cached_bytes();
  return stats;
}

}  // namespace kv739::wal
