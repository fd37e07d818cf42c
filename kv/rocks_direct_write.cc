#include "kv/rocks_direct_write.h"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/sst_file_writer.h>

#include "absl/strings/str_cat.h"
#include "kv/rocks_support.h"

namespace kv739::kv {
namespace {

// RocksDB passes over names that it does not know.
std::string FileName(rocksdb::DB* db) {
  return absl::StrCat(db->GetName(), "/written-out.tmp");
}

class FileBatch : public Batch {
 public:
  explicit FileBatch(const rocksdb::Options& options)
      : writer_(rocksdb::EnvOptions(options), options, nullptr,
                /*invalidate_page_cache=*/false) {}

  absl::Status Open(const std::string& path) {
    return ToStatus(writer_.Open(path));
  }
  // Durable on return, but for its name.
  absl::Status Finish() {
    if (error_.ok()) error_ = ToStatus(writer_.Finish());
    return error_;
  }

  void Put(absl::string_view key, absl::string_view value) override {
    if (error_.ok())
      error_ = ToStatus(writer_.Put(ToSlice(key), ToSlice(value)));
  }
  void Delete(absl::string_view key) override {
    if (error_.ok()) error_ = ToStatus(writer_.Delete(ToSlice(key)));
  }
  void DeleteRange(absl::string_view begin, absl::string_view end) override {
    if (!error_.ok()) return;
    error_ = ToStatus(writer_.DeleteRange(ToSlice(begin), ToSlice(end)));
  }
  void Clear() override {
    error_ = absl::FailedPreconditionError("what is in the file stays there");
  }
  uint64_t bytes() const override {
    return const_cast<rocksdb::SstFileWriter&>(writer_).FileSize();
  }

 private:
  rocksdb::SstFileWriter writer_;
  absl::Status error_;  // the first one
};

absl::Status WriteFile(rocksdb::DB* db, const std::string& path,
                       absl::FunctionRef<void(Batch* batch)> fill) {
  // As files of level 0 are, where it will be.
  rocksdb::Options options = db->GetOptions();
  options.compression = options.compression_per_level.empty()
                            ? options.compression
                            : options.compression_per_level.front();
  options.compression_per_level.clear();
  options.bottommost_compression = rocksdb::kDisableCompressionOption;
  FileBatch batch(options);
  absl::Status status = batch.Open(path);
  if (!status.ok()) return status;
  fill(&batch);
  return batch.Finish();
}

}  // namespace

absl::Status RemoveDirectWrite(rocksdb::DB* db) {
  const std::string path = FileName(db);
  const rocksdb::Status there = db->GetEnv()->FileExists(path);
  if (there.IsNotFound()) return absl::OkStatus();
  return ToStatus(db->GetEnv()->DeleteFile(path));
}

absl::Status WriteDirectly(rocksdb::DB* db,
                           absl::FunctionRef<void(Batch* batch)> fill) {
  // What is there may be a second link to a file of the store, after an error
  // or a crash: to write over it would destroy that file.
  absl::Status status = RemoveDirectWrite(db);
  if (!status.ok()) return status;
  const std::string path = FileName(db);
  status = WriteFile(db, path, fill);
  if (status.ok()) {
    rocksdb::IngestExternalFileOptions options;
    options.move_files = true;  // a link; the old name is removed
    options.failed_move_fall_back_to_copy = false;
    options.snapshot_consistency = true;
    options.allow_global_seqno = true;
    options.allow_blocking_flush = true;  // of small batches before this one
    options.write_global_seqno = false;   // the manifest knows it
    status = ToStatus(db->IngestExternalFile({path}, options));
  }
  if (!status.ok()) RemoveDirectWrite(db).IgnoreError();  // the next one tries
  return status;
}

}  // namespace kv739::kv
