// The receiver of snapshots.
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/directory.h"
#include "kv/records.h"
#include "kv/session_table.h"
#include "kv/snapshot.h"
#include "raft/planted.h"

namespace kv739::kv {
namespace {

// Stamps end at 1 << 63; above it versions are counted, one a write.
constexpr Version kMaxForeignVersion = Version{3} << 62;

// Whether it is a record that the group may have at this place. `key` with the
// prefix of the group.
bool IsRecord(raft::GroupId group, absl::string_view key,
              absl::string_view value, SessionCheck* sessions) {
  constexpr size_t kSpace = 8;
  if (key.size() <= kSpace) return false;
  Version version = 0;
  absl::string_view bytes;
  switch (static_cast<Space>(key[kSpace])) {
    case Space::kMeta: {
      Meta meta;
      return (key == MetaKey(group) && DecodeMeta(value, &meta)) ||
             (key == ConfigurationKey(group) &&
              raft::DecodeConfiguration(value).ok()) ||
             (group == kDirectoryGroup && key == DirectoryKey(group) &&
              DecodeClusterMap(value).ok());
    }
    case Space::kSession:
      return sessions->Add(key, value);
    case Space::kData: {
      constexpr size_t kUserKey = kSpace + 3;
      if (key.size() < kUserKey ||
          !DecodeValueRecord(key, value, &version, &bytes)) {
        return false;
      }
      const uint32_t slot = SlotOf(key.substr(kUserKey));
      return absl::StartsWith(key, SlotBegin(group, slot));
    }
  }
  return false;
}

absl::Status NotOfAGroup(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("snapshot chunk: ", what));
}

}  // namespace

SnapshotWriter::SnapshotWriter(Engine* engine, raft::GroupId group,
                               std::unique_ptr<Ingestion> ingestion)
    : engine_(engine),
      group_(group),
      begin_(GroupBegin(group)),
      ingestion_(std::move(ingestion)),
      sessions_(group) {}

absl::StatusOr<std::unique_ptr<SnapshotWriter>> SnapshotWriter::Create(
    Engine* engine, raft::GroupId group, const std::string& dir) {
  if (group.value() > kMaxGroupId) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group ", group.value(), " is above the limit of ", kMaxGroupId));
  }
  auto ingestion =
      engine->NewIngestion(GroupBegin(group), GroupBegin(group + 1), dir);
  if (!ingestion.ok()) return ingestion.status();
  return std::unique_ptr<SnapshotWriter>(
      new SnapshotWriter(engine, group, *std::move(ingestion)));
}

absl::Status SnapshotWriter::Add(absl::string_view chunk) {
  if (!error_.ok()) return error_;
  if (ingestion_ == nullptr) {
    return absl::FailedPreconditionError("this snapshot was ended");
  }
  absl::StatusOr<ChunkHeader> header = decoder_.DecodeHeader(chunk);
  if (!header.ok()) return header.status();
  bool repeated = false;
  absl::Status status = CheckPlace(*header, chunk, &repeated);
  if (!status.ok() || repeated) return status;
  absl::StatusOr<absl::string_view> records = decoder_.DecodeRecords();
  if (!records.ok()) return records.status();
  SnapshotTotals totals = totals_;
  SessionCheck sessions = sessions_;
  status = CheckRecords(*header, *records, &totals, &sessions);
  if (!status.ok()) return status;

  Reader in(*records);
  absl::string_view key;
  absl::string_view value;
  while (!in.done() && in.Bytes(&key) && in.Bytes(&value)) {
    key_.assign(begin_).append(key.data(), key.size());
    error_ = ingestion_->Put(key_, value);
    if (!error_.ok()) return error_;
  }
  id_ = header->snapshot_id;
  position_ = header->position;
  last_key_.assign(key.data(), key.size());
  totals_ = totals;
  sessions_ = std::move(sessions);
  complete_ = header->last;
  checksums_.push_back(ChunkChecksum(chunk));
  return absl::OkStatus();
}

absl::Status SnapshotWriter::CheckPlace(const ChunkHeader& header,
                                        absl::string_view chunk,
                                        bool* repeated) const {
  if (header.snapshot_id != SnapshotId(group_, header.position) ||
      (!checksums_.empty() && header.snapshot_id != id_)) {
    return absl::FailedPreconditionError("chunk of another snapshot");
  }
  *repeated = header.number < checksums_.size() &&
              checksums_[header.number] == ChunkChecksum(chunk);
  if (KV739_PLANTED(S7_repeated_chunk_refused)) *repeated = false;
  if (*repeated) return absl::OkStatus();
  if (complete_) {
    return absl::OutOfRangeError(
        absl::StrCat("got chunk ", header.number, ", expected none: all ",
                     checksums_.size(), " were taken"));
  }
  if (header.number != next_chunk() || header.after != last_key_) {
    return absl::OutOfRangeError(
        absl::StrCat("got chunk ", header.number, ", expected chunk ",
                     next_chunk(), " that follows the last key taken"));
  }
  return absl::OkStatus();
}

// All of them before one is taken.
absl::Status SnapshotWriter::CheckRecords(const ChunkHeader& header,
                                          absl::string_view records,
                                          SnapshotTotals* totals,
                                          SessionCheck* sessions) const {
  Reader in(records);
  std::string full;
  std::string last = last_key_;
  uint64_t count = 0;
  for (; !in.done(); ++count) {
    absl::string_view key;
    absl::string_view value;
    if (!in.Bytes(&key) || !in.Bytes(&value) ||
        key.size() > kMaxSnapshotKeyBytes ||
        value.size() > kMaxSnapshotRecordBytes) {
      return NotOfAGroup("malformed record");
    }
    if (key <= last) return NotOfAGroup("keys do not rise");
    full.assign(begin_).append(key.data(), key.size());
    if (!IsRecord(group_, full, value, sessions))
      return NotOfAGroup("unknown record");
    // The first two records say what the rest is the state of.
    if (totals->records == 0) {
      Meta meta;
      if (full != MetaKey(group_) || !DecodeMeta(value, &meta) ||
          meta.applied != header.position) {
        return NotOfAGroup("it does not begin with its position");
      }
      if (meta.applied.term.value() >= raft::kNumberLimit ||
          meta.applied.index.value() >= raft::kNumberLimit ||
          meta.last_version > kMaxForeignVersion ||
          meta.sessions_opened > kMaxSessionsOpened) {
        return NotOfAGroup("counters beyond all bounds");
      }
      sessions->Begin(meta);
    } else if (totals->records == 1 && full != ConfigurationKey(group_)) {
      return NotOfAGroup("no configuration");
    }
    totals->Add(key, value);
    last.assign(key.data(), key.size());
  }
  if (count != header.records || count == 0) {
    return NotOfAGroup("wrong number of records");
  }
  if (header.last && !sessions->End()) {
    return NotOfAGroup("an old value is missing");
  }
  if (header.last && (*totals != header.totals || totals->records < 2)) {
    return NotOfAGroup("totals differ");
  }
  return absl::OkStatus();
}

// What cannot be read is no reason to keep it: a damaged replica is rebuilt
// from a snapshot.
absl::Status SnapshotWriter::CheckNotBehind() const {
  std::string record;
  Meta meta;
  absl::StatusOr<bool> found = engine_->Get(MetaKey(group_), &record);
  if (!found.ok()) {
    return absl::IsDataLoss(found.status()) ? absl::OkStatus() : found.status();
  }
  if (!*found || !DecodeMeta(record, &meta) ||
      meta.applied.index <= position_.index) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "group ", group_.value(), " is at index ", meta.applied.index.value(),
      ", beyond the snapshot's ", position_.index.value()));
}

absl::Status SnapshotWriter::Commit() {
  if (!error_.ok()) return error_;
  if (ingestion_ == nullptr) {
    return absl::FailedPreconditionError("this snapshot was ended");
  }
  if (!complete_) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the snapshot is not complete: expected chunk ", next_chunk()));
  }
  absl::Status status = CheckNotBehind();
  if (status.ok()) status = ingestion_->Commit();
  if (status.ok()) ingestion_.reset();
  return status;
}

void SnapshotWriter::Abandon() { ingestion_.reset(); }

}  // namespace kv739::kv
