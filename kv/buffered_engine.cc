// A write buffer in front of an engine. What it promises is kv/engine.h; how:
//
// - A change goes into a hash table (kv/buffer_table.h) that knows the newest
//   record of every key that was written lately. Reads ask it first.
// - The table is cut into generations, each of which is written to the engine
//   below in one step, in key order and in the order of the generations: as a
//   batch, or by ApplySorted() when it is large. So what the engine below
//   holds, and what it leaves after a crash, is the state as of the end of some
//   generation: never a part of a batch.
// - Generations are cut when one is large, when all must become durable, and
//   for a view, which then needs no copy: frozen generations never change.
//   Views cut small ones; these are merged with their neighbours, and what is
//   left of them is bounded by its number too.
//
// Threads: one of its own writes out what became too much; Flush() and
// Ingestion::Commit() do it where they are called. write_out_mutex_ makes it
// one at a time and is held while the engine below is written to; whoever
// reads or applies never takes it.
#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/buffer_table.h"
#include "kv/buffered_view.h"
#include "kv/engine.h"

namespace kv739::kv {
namespace {

// Generations that views may cut before they are written out.
constexpr size_t kMaxFrozen = 8;
// After a Flush() the engine below has room; it is asked so many times.
constexpr int kWriteOutTries = 10;

class BufferBatch : public Batch {
 public:
  void Put(absl::string_view key, absl::string_view value) override {
    Add({key, HashKey(key)}, value, false);
  }
  void PutHashed(const HashedKey& key, absl::string_view value) override {
    Add(key, value, false);
  }
  void Delete(absl::string_view key) override {
    Add({key, HashKey(key)}, "", true);
  }
  void DeleteRange(absl::string_view begin, absl::string_view end) override {
    bytes_ += begin.size() + end.size();
    changes_.push_back({RecordRef(), {std::string(begin), std::string(end)}});
  }
  void Clear() override {
    changes_.clear();
    bytes_ = 0;
  }
  uint64_t bytes() const override { return bytes_; }

  absl::Span<const BufferTable::Change> changes() const { return changes_; }

 private:
  void Add(const HashedKey& key, absl::string_view value, bool deleted) {
    bytes_ += key.bytes.size() + value.size();
    changes_.push_back(
        {RecordRef::Make(key.hash, key.bytes, value, deleted), {}});
  }

  std::vector<BufferTable::Change> changes_;
  uint64_t bytes_ = 0;
};

void WriteTo(const BufferTable::Frozen& generation, Batch* batch) {
  for (const DeletedRange& range : generation->ranges) {
    batch->DeleteRange(range.begin, range.end);
  }
  for (const BufferRecord* record : generation->Sorted()) {
    if (record->deleted()) {
      batch->Delete(record->key());
    } else {
      batch->Put(record->key(), record->value());
    }
  }
}

class BufferedEngine : public Engine {
 public:
  BufferedEngine(std::unique_ptr<Engine> below, const BufferOptions& options)
      : options_(options),
        below_(std::move(below)),
        table_(options.cache_bytes),
        writer_([this] { Run(); }) {}

  ~BufferedEngine() override {
    {
      const std::lock_guard lock(wake_mutex_);
      stopping_ = true;
    }
    wake_.notify_one();
    writer_.join();
    // What cannot be written is applied again from the log.
    Flush().IgnoreError();
  }

  std::unique_ptr<Batch> NewBatch() override {
    return std::make_unique<BufferBatch>();
  }

  absl::Status Apply(Batch* batch) override {
    absl::Status error = below_->background_error();
    if (!error.ok()) return error;
    if (table_.dirty_cost() >= options_.max_dirty_bytes) {
      Wake();
      return absl::ResourceExhaustedError(
          "more is to be written out than is held in memory");
    }
    table_.Apply(static_cast<BufferBatch*>(batch)->changes());
    if (table_.active_cost() >= options_.write_out_bytes) {
      table_.Freeze();
      Wake();
    }
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    RecordRef record;
    const BufferTable::Where where = table_.Find({key, HashKey(key)}, &record);
    if (where == BufferTable::Where::kBelow) return below_->Get(key, value);
    if (!record || record->deleted()) return false;
    value->assign(record->value().data(), record->value().size());
    return true;
  }

  absl::StatusOr<bool> Read(const HashedKey& key,
                            LentValue* value) const override {
    RecordRef record;
    const BufferTable::Where where = table_.Find(key, &record);
    if (where == BufferTable::Where::kBelow) return below_->Read(key, value);
    if (!record || record->deleted()) return false;
    value->Lend(std::move(record));
    return true;
  }

  void ReadTogether(absl::Span<KeyRead> reads) const override {
    std::array<uint64_t, kMaxReadTogether> hashes;
    size_t count = 0;
    for (const KeyRead& read : reads) hashes[count++] = read.key.hash;
    table_.Prefetch(absl::MakeConstSpan(hashes.data(), count));
    std::array<KeyRead, kMaxReadTogether> below;
    std::array<KeyRead*, kMaxReadTogether> origins;
    count = 0;
    for (KeyRead& read : reads) {
      RecordRef record;
      if (table_.Find(read.key, &record) == BufferTable::Where::kBelow) {
        below[count] = read;
        origins[count++] = &read;
        continue;
      }
      read.done = true;
      read.found = record && !record->deleted();
      if (read.found) read.value->Lend(std::move(record));
    }
    if (count == 0) return;
    below_->ReadTogether(absl::MakeSpan(below.data(), count));
    for (size_t n = 0; n < count; ++n) *origins[n] = below[n];
  }

  std::unique_ptr<View> NewView() const override {
    std::unique_ptr<View> below;
    auto frozen = table_.FreezeForView([&] { below = below_->NewView(); });
    if (frozen.size() > kMaxFrozen) Wake();
    return std::make_unique<BufferedView>(std::move(frozen), std::move(below));
  }

  absl::Status Flush() override {
    {
      const std::lock_guard lock(write_out_mutex_);
      absl::Status status = WriteOut();
      if (!status.ok()) return status;
    }
    return below_->Flush();
  }

  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    return below_->GetDurable(key, value);
  }

  absl::StatusOr<std::unique_ptr<Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) override;

  absl::Status background_error() const override {
    return below_->background_error();
  }

  // Before an ingestion of the range is committed below, so that the range is
  // there alone.
  absl::Status HandOver(absl::string_view begin, absl::string_view end) {
    const std::lock_guard lock(write_out_mutex_);
    absl::Status status = WriteOut();
    if (status.ok()) table_.Forget(begin, end);
    return status;
  }

 private:
  void Run() {
    while (true) {
      {
        std::unique_lock lock(wake_mutex_);
        wake_.wait(lock, [this] { return wanted_ || stopping_; });
        if (stopping_) return;
        wanted_ = false;
      }
      const std::lock_guard lock(write_out_mutex_);
      // After an error it is tried again when more has come, and Apply() says
      // what is wrong or that there is no room.
      WriteOutFrozen().IgnoreError();
    }
  }
  void Wake() const {
    {
      const std::lock_guard lock(wake_mutex_);
      if (wanted_) return;
      wanted_ = true;
    }
    wake_.notify_one();
  }

  // write_out_mutex_ is held, for these three.
  absl::Status WriteOut() {
    table_.Freeze();
    return WriteOutFrozen();
  }
  absl::Status WriteOutFrozen() {
    while (BufferTable::Frozen generation = table_.OldestFrozen()) {
      absl::Status status = WriteOutOne(generation);
      if (!status.ok()) return status;
      table_.WrittenOut();
    }
    return absl::OkStatus();
  }
  absl::Status WriteOutOne(const BufferTable::Frozen& generation) {
    const auto fill = [&](Batch* batch) { WriteTo(generation, batch); };
    if (generation->cost >= options_.direct_bytes &&
        below_->ApplySorted(fill).ok()) {
      return absl::OkStatus();
    }
    const std::unique_ptr<Batch> batch = below_->NewBatch();
    fill(batch.get());
    absl::Status status = below_->Apply(batch.get());
    for (int n = 1; n < kWriteOutTries && absl::IsResourceExhausted(status);
         ++n) {
      status = below_->Flush();
      if (status.ok()) status = below_->Apply(batch.get());
    }
    return status;
  }

  const BufferOptions options_;
  const std::unique_ptr<Engine> below_;
  mutable BufferTable table_;  // a view closes a generation
  std::mutex write_out_mutex_;

  mutable std::mutex wake_mutex_;  // guards these
  mutable std::condition_variable wake_;
  mutable bool wanted_ = false;
  bool stopping_ = false;
  std::thread writer_;  // last: it uses all of the above
};

class BufferedIngestion : public Ingestion {
 public:
  BufferedIngestion(BufferedEngine* engine, std::string begin, std::string end,
                    std::unique_ptr<Ingestion> below)
      : engine_(engine),
        begin_(std::move(begin)),
        end_(std::move(end)),
        below_(std::move(below)) {}

  absl::Status Put(absl::string_view key, absl::string_view value) override {
    return below_->Put(key, value);
  }
  absl::Status Commit() override {
    absl::Status status = engine_->HandOver(begin_, end_);
    if (!status.ok()) return status;
    return below_->Commit();
  }

 private:
  BufferedEngine* const engine_;
  const std::string begin_;
  const std::string end_;
  const std::unique_ptr<Ingestion> below_;
};

absl::StatusOr<std::unique_ptr<Ingestion>> BufferedEngine::NewIngestion(
    absl::string_view begin, absl::string_view end, const std::string& dir) {
  auto below = below_->NewIngestion(begin, end, dir);
  if (!below.ok()) return below.status();
  return std::make_unique<BufferedIngestion>(
      this, std::string(begin), std::string(end), *std::move(below));
}

}  // namespace

std::unique_ptr<Engine> NewBufferedEngine(std::unique_ptr<Engine> engine,
                                          const BufferOptions& options) {
  return std::make_unique<BufferedEngine>(std::move(engine), options);
}

}  // namespace kv739::kv
