// Engine on RocksDB. Facts of RocksDB 7.8 that this file relies on:
// - With its log off, a WriteBatch of one column family is in one memtable,
//   memtables are flushed in order, and a flush is installed atomically: what
//   a crash leaves is the state after some earlier batch, never a part of one.
// - kPersistedTier reads then skip the memtables: what they find is durable.
// - no_slowdown turns every wait for the disk into Status::Incomplete.
// - A failed flush keeps its memtable and RocksDB tries again by itself.
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/listener.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kv/engine.h"
#include "kv/range_set.h"
#include "kv/rocks_direct_write.h"
#include "kv/rocks_ingestion.h"
#include "kv/rocks_log.h"
#include "kv/rocks_support.h"

namespace kv739::kv {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxWriteBuffers = 4;
// Every flush makes a file, and there is one every few seconds under load. When
// so many are there they are merged with all of the level below, so that more
// of them mean less work for each write; a read asks the filter of each.
constexpr int kMaxNewFiles = 20;
// With so many of them RocksDB's compaction is behind. Table files are taken
// over whatever their number; memtables are not flushed then, so that writers
// wait.
constexpr int kMaxDirectFiles = 2 * kMaxNewFiles;
// Batches wait as well then.
constexpr int kMaxFilesForWrites = kMaxDirectFiles + 4;
constexpr char kNewFilesProperty[] = "rocksdb.num-files-at-level0";
constexpr double kBloomBitsPerKey = 10;  // 1 % false positives
// A write reads what it replaces, and all of the block that has it.
constexpr size_t kBlockBytes = 4 << 10;
// A store that is smaller has one level below the newest files: these are
// merged with all of it, which with so many of them rewrites less than one
// more level in between would. Merging takes up to as much free space.
constexpr uint64_t kLevelBaseBytes = uint64_t{4} << 30;
constexpr size_t kBatchReserveBytes = 64 << 10;
constexpr size_t kBytesPerSync = 1 << 20;
constexpr size_t kInfoLogBytes = 16 << 20;
constexpr size_t kInfoLogFiles = 4;

class RocksBatch : public Batch {
 public:
  void Put(absl::string_view key, absl::string_view value) override {
    Note(batch_.Put(ToSlice(key), ToSlice(value)));
  }
  void Delete(absl::string_view key) override {
    Note(batch_.Delete(ToSlice(key)));
  }
  void DeleteRange(absl::string_view begin, absl::string_view end) override {
    Note(batch_.DeleteRange(ToSlice(begin), ToSlice(end)));
  }
  void Clear() override {
    batch_.Clear();
    error_ = absl::OkStatus();
  }
  uint64_t bytes() const override { return batch_.GetDataSize(); }

  rocksdb::WriteBatch* batch() { return &batch_; }
  // Of the first change that could not be taken up (a key over 4 GiB).
  const absl::Status& error() const { return error_; }

 private:
  void Note(const rocksdb::Status& status) { error_.Update(ToStatus(status)); }

  rocksdb::WriteBatch batch_{kBatchReserveBytes};
  absl::Status error_;
};

absl::StatusOr<bool> Get(rocksdb::DB* db, const rocksdb::ReadOptions& options,
                         absl::string_view key, std::string* value) {
  const rocksdb::Status status =
      db->Get(options, db->DefaultColumnFamily(), ToSlice(key), value);
  if (status.ok()) return true;
  if (status.IsNotFound()) return false;
  return ToStatus(status);
}

// Debian's RocksDB is not built for the thread sanitizer, which takes reading
// what its iterators show for a race. It is copied then, here, where that is
// known (tests/support/tsan_suppressions.txt): races of whoever reads on are
// still seen.
#if defined(__SANITIZE_THREAD__)
using Shown = std::string;
#else
using Shown = absl::string_view;
#endif

class RocksCursor : public Cursor {
 public:
  RocksCursor(rocksdb::DB* db, const rocksdb::Snapshot* snapshot,
              absl::string_view begin, absl::string_view end, CacheUse cache)
      : begin_(begin), end_(end), lower_(begin_), upper_(end_) {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot;
    options.iterate_lower_bound = &lower_;
    options.iterate_upper_bound = &upper_;
    options.fill_cache = cache == CacheUse::kFill;
    options.readahead_size = 0;  // most clients want a few blocks
    it_.reset(db->NewIterator(options));
  }
  RocksCursor(const RocksCursor&) = delete;
  RocksCursor& operator=(const RocksCursor&) = delete;

  void Seek(absl::string_view key) override {
    it_->Seek(ToSlice(key));
    Show();
  }
  void Next() override {
    it_->Next();
    Show();
  }
  bool Valid() const override { return it_->Valid(); }
  absl::string_view key() const override { return key_; }
  absl::string_view value() const override { return value_; }
  absl::Status status() const override { return ToStatus(it_->status()); }

 private:
  void Show() {
    if (!it_->Valid()) return;
    key_ = Shown(ToView(it_->key()));
    value_ = Shown(ToView(it_->value()));
  }

  const std::string begin_;
  const std::string end_;
  const rocksdb::Slice lower_;
  const rocksdb::Slice upper_;
  std::unique_ptr<rocksdb::Iterator> it_;
  Shown key_;
  Shown value_;
};

class RocksView : public View {
 public:
  explicit RocksView(rocksdb::DB* db) : db_(db), snapshot_(db->GetSnapshot()) {}
  ~RocksView() override { db_->ReleaseSnapshot(snapshot_); }
  RocksView(const RocksView&) = delete;
  RocksView& operator=(const RocksView&) = delete;

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    rocksdb::ReadOptions options;
    options.snapshot = snapshot_;
    return kv::Get(db_, options, key, value);
  }

  std::unique_ptr<Cursor> NewCursor(absl::string_view begin,
                                    absl::string_view end,
                                    CacheUse cache) const override {
    return std::make_unique<RocksCursor>(db_, snapshot_, begin, end, cache);
  }

  RangeEstimate Estimate(absl::string_view begin,
                         absl::string_view end) const override;

 private:
  rocksdb::DB* const db_;
  const rocksdb::Snapshot* const snapshot_;
};

// From the sizes of memtables and of parts of files, and from what the files
// say of their average records.
RangeEstimate RocksView::Estimate(absl::string_view begin,
                                  absl::string_view end) const {
  RangeEstimate estimate;
  const rocksdb::Range range(ToSlice(begin), ToSlice(end));
  db_->GetApproximateMemTableStats(range, &estimate.keys, &estimate.bytes);
  uint64_t file_bytes = 0;
  rocksdb::TablePropertiesCollection files;
  if (!db_->GetApproximateSizes(&range, 1, &file_bytes).ok() ||
      !db_->GetPropertiesOfTablesInRange(db_->DefaultColumnFamily(), &range, 1,
                                         &files)
           .ok()) {
    return estimate;  // of the memtables alone; it is no more than a hint
  }
  double stored = 0;
  double raw = 0;
  double keys = 0;
  for (const auto& [name, file] : files) {
    stored += static_cast<double>(file->data_size);
    raw += static_cast<double>(file->raw_key_size + file->raw_value_size);
    keys += static_cast<double>(file->num_entries);
  }
  if (stored > 0) {
    const double part = static_cast<double>(file_bytes) / stored;
    estimate.keys += static_cast<uint64_t>(keys * part);
    estimate.bytes += static_cast<uint64_t>(raw * part);
  }
  return estimate;
}

// Remembers the error that keeps RocksDB from working in the background.
// RocksDB calls it from its own threads.
class ErrorKeeper : public rocksdb::EventListener {
 public:
  void OnBackgroundError(rocksdb::BackgroundErrorReason,
                         rocksdb::Status* status) override {
    Set(ToStatus(*status));
  }
  void OnErrorRecoveryEnd(
      const rocksdb::BackgroundErrorRecoveryInfo& info) override {
    // RocksDB 7.8 goes on believing that it is stopped after it has recovered:
    // flushes are not waited for, and ingestions not refused but made with file
    // number 0.
    Set(info.new_bg_error.ok()
            ? absl::AbortedError(
                  "the disk works again; the store must be opened anew")
            : ToStatus(info.new_bg_error));
  }

  absl::Status error() const {
    if (!failed_.load(std::memory_order_acquire)) return absl::OkStatus();
    const std::lock_guard lock(mutex_);
    return error_;
  }

 private:
  void Set(absl::Status status) {
    const std::lock_guard lock(mutex_);
    error_ = std::move(status);
    failed_.store(!error_.ok(), std::memory_order_release);
  }

  std::atomic<bool> failed_{false};  // spares Apply the lock
  mutable std::mutex mutex_;
  absl::Status error_;  // under mutex_
};

class RocksEngine : public Engine {
 public:
  RocksEngine(std::unique_ptr<rocksdb::DB> db,
              std::shared_ptr<ErrorKeeper> errors)
      : errors_(std::move(errors)), db_(std::move(db)) {
    write_options_.disableWAL = true;
    write_options_.no_slowdown = true;
  }

  // What cannot be flushed is applied again from the log, so an error here is
  // no loss.
  ~RocksEngine() override {
    Flush().IgnoreError();
    db_->Close().PermitUncheckedError();
  }

  std::unique_ptr<Batch> NewBatch() override {
    return std::make_unique<RocksBatch>();
  }

  absl::Status Apply(Batch* batch) override {
    absl::Status error = errors_->error();
    if (!error.ok()) return error;
    auto* rocks = static_cast<RocksBatch*>(batch);
    if (!rocks->error().ok()) return rocks->error();
    return ToStatus(db_->Write(write_options_, rocks->batch()));
  }

  absl::Status ApplySorted(
      absl::FunctionRef<void(Batch* batch)> fill) override {
    absl::Status error = errors_->error();
    if (!error.ok()) return error;
    std::string files;
    int count = 0;
    if (!db_->GetProperty(kNewFilesProperty, &files) ||
        !absl::SimpleAtoi(files, &count) || count >= kMaxDirectFiles) {
      return absl::UnavailableError("too many files are to be compacted");
    }
    return WriteDirectly(db_.get(), fill);
  }

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    return kv::Get(db_.get(), rocksdb::ReadOptions(), key, value);
  }

  // Filters, indexes and files are gone through once for all.
  void ReadTogether(absl::Span<KeyRead> reads) const override {
    if (reads.size() < 2) return;
    std::array<rocksdb::Slice, kMaxReadTogether> keys;
    std::array<rocksdb::PinnableSlice, kMaxReadTogether> values;
    std::array<rocksdb::Status, kMaxReadTogether> statuses;
    for (size_t n = 0; n < reads.size(); ++n) {
      keys[n] = ToSlice(reads[n].key.bytes);
    }
    db_->MultiGet(rocksdb::ReadOptions(), db_->DefaultColumnFamily(),
                  reads.size(), keys.data(), values.data(), statuses.data());
    for (size_t n = 0; n < reads.size(); ++n) {
      const rocksdb::Status& status = statuses[n];
      reads[n].done = status.ok() || status.IsNotFound();
      reads[n].found = status.ok();
      if (reads[n].found) {
        reads[n].value->copy()->assign(values[n].data(), values[n].size());
      }
    }
  }

  std::unique_ptr<View> NewView() const override {
    return std::make_unique<RocksView>(db_.get());
  }

  absl::Status Flush() override {
    absl::Status status = ToStatus(db_->Flush(rocksdb::FlushOptions()));
    return status.ok() ? errors_->error() : status;
  }

  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    rocksdb::ReadOptions options;
    options.read_tier = rocksdb::kPersistedTier;
    return kv::Get(db_.get(), options, key, value);
  }

  absl::StatusOr<std::unique_ptr<Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) override {
    absl::StatusOr<RangeSet::Claim> claim = ingested_ranges_.Take(begin, end);
    if (!claim.ok()) return claim.status();
    std::error_code error;
    fs::create_directories(dir, error);
    if (error) {
      return absl::InternalError(absl::StrCat(dir, ": ", error.message()));
    }
    {
      const std::lock_guard lock(cleaned_mutex_);
      if (!cleaned_.contains(dir)) {
        absl::Status status = RemoveIngestionFiles(dir);
        if (!status.ok()) return status;
        cleaned_.insert(dir);
      }
    }
    return NewRocksIngestion(
        db_.get(), [errors = errors_] { return errors->error(); },
        *std::move(claim), dir, ++ingestions_);
  }

  absl::Status background_error() const override { return errors_->error(); }

 private:
  const std::shared_ptr<ErrorKeeper> errors_;
  const std::unique_ptr<rocksdb::DB> db_;
  rocksdb::WriteOptions write_options_;
  RangeSet ingested_ranges_;
  std::atomic<uint64_t> ingestions_{0};
  std::mutex cleaned_mutex_;
  std::set<std::string> cleaned_;  // directories; under cleaned_mutex_
};

rocksdb::BlockBasedTableOptions TableOptions(const EngineOptions& options) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(options.block_cache_bytes);
  table.block_size = kBlockBytes;
  table.format_version = 5;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(kBloomBitsPerKey));
  // All files are open at all times, and every read needs their indexes and
  // filters, some three bytes for each key: they stay, counted as a part of the
  // cache, and are not looked for in it.
  table.cache_index_and_filter_blocks = true;
  table.metadata_cache_options.top_level_index_pinning =
      rocksdb::PinningTier::kAll;
  table.metadata_cache_options.unpartitioned_pinning =
      rocksdb::PinningTier::kAll;
  table.data_block_index_type =
      rocksdb::BlockBasedTableOptions::kDataBlockBinaryAndHash;
  return table;
}

rocksdb::Options MakeOptions(const std::string& dir,
                             const EngineOptions& options) {
  rocksdb::Options o;
  o.create_if_missing = true;
  // With files of its own it keeps its log there too.
  if (options.env != nullptr) {
    o.env = options.env;
  } else {
    o.info_log = std::make_shared<RocksLog>(dir, kInfoLogBytes);
  }
  o.table_factory.reset(
      rocksdb::NewBlockBasedTableFactory(TableOptions(options)));
  o.write_buffer_size = options.write_buffer_bytes;
  o.max_write_buffer_number = kMaxWriteBuffers;
  o.level_compaction_dynamic_level_bytes = true;
  o.max_bytes_for_level_base = kLevelBaseBytes;
  o.level0_file_num_compaction_trigger = kMaxNewFiles;
  o.level0_slowdown_writes_trigger = kMaxFilesForWrites;
  o.level0_stop_writes_trigger = kMaxFilesForWrites;
  // Level 0, then the levels that are in use. A file of level 0 lives for
  // seconds. The last level is written anew with every compaction of a store
  // that is small: zstd there was a third of the work of all compactions.
  o.compression_per_level = {rocksdb::kNoCompression, rocksdb::kLZ4Compression};
  // Many range tombstones are slow to read without this; also no open() on
  // the path of a read.
  o.max_open_files = -1;
  o.max_background_jobs = std::max(2, options.background_threads);
  o.bytes_per_sync = kBytesPerSync;
  // The log is off. These are RocksDB's defaults, written down because
  // nothing here is right with other values.
  o.two_write_queues = false;
  o.unordered_write = false;
  o.enable_pipelined_write = false;
  o.recycle_log_file_num = 0;
  o.wal_bytes_per_sync = 0;
  o.avoid_flush_during_shutdown = false;
  o.paranoid_checks = true;
  o.max_log_file_size = kInfoLogBytes;
  o.keep_log_file_num = kInfoLogFiles;
  o.stats_persist_period_sec = 0;
  return o;
}

// What RocksDB made of the options that correctness rests on.
absl::Status CheckOptions(const rocksdb::DB& db) {
  const rocksdb::Options o = db.GetOptions();
  const bool good = !o.two_write_queues && !o.unordered_write &&
                    !o.enable_pipelined_write && o.recycle_log_file_num == 0 &&
                    o.wal_bytes_per_sync == 0 && o.paranoid_checks &&
                    o.max_open_files == -1 && o.inplace_update_support == false;
  return good ? absl::OkStatus()
              : absl::InternalError(
                    "RocksDB changed an option that correctness rests on");
}

// RocksDB makes a new store where CURRENT is missing; over the files of an
// old one that would be a loss without a word.
absl::Status CheckDirectory(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) {
    return absl::InternalError(absl::StrCat(dir, ": ", error.message()));
  }
  if (fs::exists(fs::path(dir) / "CURRENT", error)) return absl::OkStatus();
  for (fs::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename();
    if (absl::EndsWith(name, ".sst") || absl::StartsWith(name, "MANIFEST-")) {
      return absl::DataLossError(
          absl::StrCat(dir, ": there is ", name, " but no CURRENT"));
    }
  }
  return error ? absl::InternalError(absl::StrCat(dir, ": ", error.message()))
               : absl::OkStatus();
}

// RocksDB tells a lock that is held by its text alone.
bool IsLocked(const rocksdb::Status& status) {
  const std::string what = status.ToString();
  return status.IsIOError() &&
         (absl::StrContains(what, "lock hold by current process") ||
          (absl::StrContains(what, "While lock file") &&
           absl::StrContains(what, "temporarily unavailable")));
}

absl::Status OpenError(const std::string& dir, const rocksdb::Status& status) {
  const std::string what = absl::StrCat(dir, ": ", status.ToString());
  if (IsLocked(status)) return absl::FailedPreconditionError(what);
  // A file that CURRENT or the manifest names is not there.
  if (status.IsCorruption() || status.IsPathNotFound()) {
    return absl::DataLossError(what);
  }
  return absl::Status(ToStatus(status).code(), what);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> OpenRocksEngine(
    const std::string& dir, const EngineOptions& options) {
  absl::Status status = CheckDirectory(dir);
  if (!status.ok()) return status;
  auto errors = std::make_shared<ErrorKeeper>();
  rocksdb::Options rocks = MakeOptions(dir, options);
  rocks.listeners.push_back(errors);
  rocksdb::DB* raw = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(rocks, dir, &raw);
  if (!opened.ok()) return OpenError(dir, opened);
  std::unique_ptr<rocksdb::DB> db(raw);
  status = CheckOptions(*db);
  if (status.ok()) status = RemoveDirectWrite(db.get());
  if (!status.ok()) return status;
  return std::make_unique<RocksEngine>(std::move(db), std::move(errors));
}

}  // namespace kv739::kv
