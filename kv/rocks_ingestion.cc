// Facts of RocksDB 7.8 that this file relies on, beside those of
// kv/rocks_engine.cc:
// - All entries of an ingested file get one sequence number, above all there
//   were; a range tombstone hides what is below its number, so that of a file
//   hides what the store held and nothing of the file itself.
// - Files that are ingested together become visible, and durable, by one
//   record of the manifest, which is synced before the call returns.
// - An ingestion flushes first, with all writers held, when a memtable has
//   keys of its range; after a flush and with no writer of the range it has
//   none.
#include "kv/rocks_ingestion.h"

#include <rocksdb/db.h>
#include <rocksdb/sst_file_writer.h>

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/rocks_support.h"

namespace kv739::kv {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kIngestedFileBytes = 64 << 20;  // about; compressed
constexpr char kIngestionPrefix[] = "ingestion-";
constexpr char kIngestionEnding[] = ".sst";

// Sorted files, each of which covers a part of the range without a gap and
// begins with a tombstone over all of that part.
class RocksIngestion : public Ingestion {
 public:
  RocksIngestion(rocksdb::DB* db, BackgroundError background_error,
                 RangeSet::Claim claim, std::string path)
      : db_(db),
        background_error_(std::move(background_error)),
        claim_(std::move(claim)),
        path_(std::move(path)) {}
  ~RocksIngestion() override;
  RocksIngestion(const RocksIngestion&) = delete;
  RocksIngestion& operator=(const RocksIngestion&) = delete;

  absl::Status Put(absl::string_view key, absl::string_view value) override;
  absl::Status Commit() override;

 private:
  absl::Status OpenFile(absl::string_view begin);
  absl::Status CloseFile(absl::string_view end);

  rocksdb::DB* const db_;
  const BackgroundError background_error_;
  const RangeSet::Claim claim_;
  const std::string path_;  // of the files, without number and ending
  std::vector<std::string> files_;
  std::unique_ptr<rocksdb::SstFileWriter> writer_;  // of the last one
  std::string file_begin_;
  std::string last_;
  absl::Status error_;     // of a file that could not be written
  bool complete_ = false;  // no more Put
};

RocksIngestion::~RocksIngestion() {
  writer_.reset();
  std::error_code ignored;  // a later RemoveIngestionFiles() does it
  for (const std::string& file : files_) fs::remove(file, ignored);
}

absl::Status RocksIngestion::OpenFile(absl::string_view begin) {
  // Compressed as the store's last level is.
  const rocksdb::Options options = db_->GetOptions();
  writer_ = std::make_unique<rocksdb::SstFileWriter>(
      rocksdb::EnvOptions(options), options);
  file_begin_ = std::string(begin);
  files_.push_back(absl::StrCat(path_, files_.size(), kIngestionEnding));
  // What has this name may be a second link to a file of the store, left by a
  // crash: to write over it would destroy that file.
  std::error_code error;
  fs::remove(files_.back(), error);
  if (error) {
    return absl::InternalError(
        absl::StrCat(files_.back(), ": ", error.message()));
  }
  return ToStatus(writer_->Open(files_.back()));
}

absl::Status RocksIngestion::CloseFile(absl::string_view end) {
  absl::Status status =
      ToStatus(writer_->DeleteRange(ToSlice(file_begin_), ToSlice(end)));
  if (status.ok()) status = ToStatus(writer_->Finish());
  writer_.reset();
  return status;
}

absl::Status RocksIngestion::Put(absl::string_view key,
                                 absl::string_view value) {
  if (!error_.ok()) return error_;
  if (complete_) return absl::FailedPreconditionError("Put after Commit");
  absl::Status status = CheckIngestedKey(claim_, last_, key);
  if (!status.ok()) return status;
  if (writer_ != nullptr && writer_->FileSize() >= kIngestedFileBytes) {
    error_.Update(CloseFile(key));
  }
  if (error_.ok() && writer_ == nullptr) {
    error_.Update(
        OpenFile(files_.empty() ? absl::string_view(claim_.begin()) : key));
  }
  if (error_.ok()) {
    error_.Update(ToStatus(writer_->Put(ToSlice(key), ToSlice(value))));
  }
  last_.assign(key.data(), key.size());
  return error_;
}

absl::Status RocksIngestion::Commit() {
  if (!complete_) {
    if (error_.ok() && writer_ == nullptr) error_ = OpenFile(claim_.begin());
    if (error_.ok()) error_ = CloseFile(claim_.end());
    complete_ = true;
  }
  if (!error_.ok()) return error_;
  // Or the ingestion would do it with the writers of all groups waiting.
  absl::Status status = ToStatus(db_->Flush(rocksdb::FlushOptions()));
  if (status.ok()) status = background_error_();
  if (!status.ok()) return status;
  rocksdb::IngestExternalFileOptions options;
  options.move_files = true;  // links; the destructor removes the old names
  options.failed_move_fall_back_to_copy = true;
  options.snapshot_consistency = true;
  options.allow_global_seqno = true;
  options.allow_blocking_flush = true;  // right even when the flush was not
  options.write_global_seqno = false;   // the manifest knows it
  return ToStatus(db_->IngestExternalFile(files_, options));
}

}  // namespace

std::unique_ptr<Ingestion> NewRocksIngestion(rocksdb::DB* db,
                                             BackgroundError background_error,
                                             RangeSet::Claim claim,
                                             const std::string& dir,
                                             uint64_t number) {
  return std::make_unique<RocksIngestion>(
      db, std::move(background_error), std::move(claim),
      absl::StrCat(dir, "/", kIngestionPrefix, number, "-"));
}

absl::Status RemoveIngestionFiles(const std::string& dir) {
  std::error_code error;
  std::vector<fs::path> old;
  for (fs::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (absl::StartsWith(name, kIngestionPrefix) &&
        absl::EndsWith(name, kIngestionEnding)) {
      old.push_back(it->path());
    }
  }
  if (error == std::errc::no_such_file_or_directory) return absl::OkStatus();
  for (const fs::path& file : old) {
    if (!error) fs::remove(file, error);
  }
  return error ? absl::InternalError(absl::StrCat(dir, ": ", error.message()))
               : absl::OkStatus();
}

}  // namespace kv739::kv
