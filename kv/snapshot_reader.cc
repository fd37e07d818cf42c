// The sender of snapshots.
#include <xxhash.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "kv/records.h"
#include "kv/snapshot.h"

namespace kv739::kv {
namespace {

uint64_t KeyHash(absl::string_view key) {
  return XXH3_64bits(key.data(), key.size());
}

}  // namespace

absl::StatusOr<raft::LogPosition> DurablePosition(const Engine& engine,
                                                  raft::GroupId group) {
  std::string record;
  absl::StatusOr<bool> found = engine.GetDurable(MetaKey(group), &record);
  if (!found.ok()) return found.status();
  if (!*found) {
    return absl::NotFoundError(
        absl::StrCat("group ", group.value(), " is not durable in this store"));
  }
  Meta meta;
  if (!DecodeMeta(record, &meta)) {
    return absl::DataLossError(
        absl::StrCat("group ", group.value(), ": malformed meta record"));
  }
  return meta.applied;
}

SnapshotReader::SnapshotReader(std::shared_ptr<const View> view,
                               raft::GroupId group)
    : group_(group),
      view_(std::move(view)),
      begin_(GroupBegin(group)),
      end_(GroupBegin(group + 1)) {}

absl::StatusOr<std::unique_ptr<SnapshotReader>> SnapshotReader::Open(
    Engine* engine, raft::GroupId group) {
  std::unique_ptr<SnapshotReader> reader(
      new SnapshotReader(engine->NewView(), group));
  absl::Status status = reader->Describe(group);
  if (!status.ok()) return status;
  return reader;
}

std::unique_ptr<SnapshotReader> SnapshotReader::Fork() const {
  std::unique_ptr<SnapshotReader> reader(new SnapshotReader(view_, group_));
  reader->meta_ = meta_;
  reader->id_ = id_;
  return reader;
}

absl::Status SnapshotReader::Describe(raft::GroupId group) {
  std::string record;
  absl::StatusOr<bool> found = view_->Get(MetaKey(group), &record);
  if (!found.ok()) return found.status();
  if (!*found) {
    return absl::NotFoundError(
        absl::StrCat("group ", group.value(), " is not in this store"));
  }
  Meta meta;
  if (!DecodeMeta(record, &meta)) {
    return absl::DataLossError(
        absl::StrCat("group ", group.value(), ": malformed meta record"));
  }
  found = view_->Get(ConfigurationKey(group), &record);
  if (!found.ok()) return found.status();
  absl::StatusOr<raft::Configuration> configuration =
      raft::DecodeConfiguration(*found ? record : "");
  if (!configuration.ok()) {
    return absl::DataLossError(
        absl::StrCat("group ", group.value(), ": malformed configuration"));
  }
  const RangeEstimate size = view_->Estimate(begin_, end_);
  meta_ = {meta.applied, *std::move(configuration), meta.last_version,
           size.keys, size.bytes};
  id_ = SnapshotId(group, meta.applied);
  return absl::OkStatus();
}

absl::StatusOr<bool> SnapshotReader::Next(std::string* chunk) {
  if (done_) return false;
  records_.clear();
  ChunkHeader header;
  header.snapshot_id = id_;
  header.position = meta_.applied;
  header.number = number_;
  header.after = last_key_;
  header.last = true;
  SnapshotTotals totals = totals_;
  std::string last_key = last_key_;
  absl::Status bad;
  // The first key that follows: the last one and a zero byte.
  std::string from = begin_ + last_key_;
  if (number_ > 0) from.push_back('\0');
  absl::Status status = view_->Scan(
      from, end_, [&](absl::string_view key, absl::string_view value) {
        key.remove_prefix(begin_.size());
        if (key.size() > kMaxSnapshotKeyBytes ||
            value.size() > kMaxSnapshotRecordBytes) {
          bad = absl::DataLossError("a record too large for a snapshot");
          return false;
        }
        const size_t bytes = VarintBytes(key.size()) + key.size() +
                             VarintBytes(value.size()) + value.size();
        if (header.records > 0 &&
            records_.size() + bytes > kMaxChunkRecordBytes) {
          header.last = false;
          return false;
        }
        AppendRecord(&records_, key, value);
        totals.Add(key, value);
        last_key.assign(key.data(), key.size());
        ++header.records;
        return true;
      });
  if (status.ok()) status = bad;
  if (!status.ok()) return status;
  if (header.last) header.totals = totals;
  status = encoder_.Encode(header, records_, chunk);
  if (!status.ok()) return status;
  totals_ = totals;
  last_key_ = std::move(last_key);
  done_ = header.last;
  if (number_ == places_.size()) {
    places_.push_back({KeyHash(last_key_), done_, totals_});
  }
  ++number_;
  return true;
}

absl::Status SnapshotReader::Seek(uint64_t chunk, absl::string_view last_key) {
  if ((chunk == 0) != last_key.empty()) {
    return absl::InvalidArgumentError(
        "the first chunk, and no other, follows no key");
  }
  SnapshotTotals totals;
  bool done = false;
  if (chunk > 0 && chunk <= places_.size() &&
      places_[chunk - 1].key_hash == KeyHash(last_key)) {
    totals = places_[chunk - 1].totals;
    done = places_[chunk - 1].end;
  } else if (chunk > 0) {
    absl::Status status = SeekByReading(last_key, &totals);
    if (!status.ok()) return status;
  }
  number_ = chunk;
  last_key_ = std::string(last_key);
  totals_ = totals;
  done_ = done;
  // What follows may be cut at other places than before.
  if (places_.size() > chunk) places_.resize(chunk);
  return absl::OkStatus();
}

absl::Status SnapshotReader::SeekByReading(absl::string_view last_key,
                                           SnapshotTotals* totals) const {
  bool there = false;
  absl::Status status = view_->Scan(
      begin_, end_, [&](absl::string_view key, absl::string_view value) {
        key.remove_prefix(begin_.size());
        if (key > last_key) return false;
        totals->Add(key, value);
        there = key == last_key;
        return !there;
      });
  if (status.ok() && !there) {
    status = absl::InvalidArgumentError(
        "the snapshot has no such key: it is another one; start anew");
  }
  return status;
}

}  // namespace kv739::kv
