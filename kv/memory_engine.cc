// Engine in memory: an ordered map that views and flushes share until the next
// change copies it. Deterministic; meant for small states.
#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <utility>
#include <vector>

#include "kv/engine.h"
#include "kv/range_set.h"
#include "raft/planted.h"

namespace kv739::kv {
namespace {

using Map = std::map<std::string, std::string, std::less<>>;

std::string Owned(absl::string_view bytes) { return std::string(bytes); }

bool Find(const Map& map, absl::string_view key, std::string* value) {
  const auto it = map.find(Owned(key));
  if (it == map.end()) return false;
  *value = it->second;
  return true;
}

class MemoryBatch : public Batch {
 public:
  void Put(absl::string_view key, absl::string_view value) override {
    bytes_ += key.size() + value.size();
    changes_.push_back({Change::kPut, Owned(key), Owned(value)});
  }
  void Delete(absl::string_view key) override {
    bytes_ += key.size();
    changes_.push_back({Change::kDelete, Owned(key), ""});
  }
  void DeleteRange(absl::string_view begin, absl::string_view end) override {
    bytes_ += begin.size() + end.size();
    changes_.push_back({Change::kDeleteRange, Owned(begin), Owned(end)});
  }
  void Clear() override {
    changes_.clear();
    bytes_ = 0;
  }
  uint64_t bytes() const override { return bytes_; }

  void ApplyTo(Map* map) const {
    for (const Change& change : changes_) {
      switch (change.kind) {
        case Change::kPut:
          (*map)[change.key] = change.value;
          break;
        case Change::kDelete:
          map->erase(change.key);
          break;
        case Change::kDeleteRange:
          if (change.key < change.value) {
            map->erase(map->lower_bound(change.key),
                       map->lower_bound(change.value));
          }
          break;
      }
    }
  }

 private:
  struct Change {
    enum Kind { kPut, kDelete, kDeleteRange } kind;
    std::string key;
    std::string value;  // end of the range, for kDeleteRange
  };
  std::vector<Change> changes_;
  uint64_t bytes_ = 0;
};

class MemoryCursor : public Cursor {
 public:
  MemoryCursor(std::shared_ptr<const Map> map, absl::string_view begin,
               absl::string_view end)
      : map_(std::move(map)), begin_(begin), end_(end), it_(map_->end()) {}

  void Seek(absl::string_view key) override {
    it_ = map_->lower_bound(std::max(begin_, Owned(key)));
  }
  void Next() override { ++it_; }
  bool Valid() const override {
    return it_ != map_->end() && it_->first < end_;
  }
  absl::string_view key() const override { return it_->first; }
  absl::string_view value() const override { return it_->second; }
  absl::Status status() const override { return absl::OkStatus(); }

 private:
  const std::shared_ptr<const Map> map_;
  const std::string begin_;
  const std::string end_;
  Map::const_iterator it_;
};

class MemoryView : public View {
 public:
  explicit MemoryView(std::shared_ptr<const Map> map) : map_(std::move(map)) {}

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    return Find(*map_, key, value);
  }

  std::unique_ptr<Cursor> NewCursor(absl::string_view begin,
                                    absl::string_view end,
                                    CacheUse) const override {
    return std::make_unique<MemoryCursor>(map_, begin, end);
  }

  RangeEstimate Estimate(absl::string_view begin,
                         absl::string_view end) const override {
    RangeEstimate estimate;
    for (auto it = map_->lower_bound(Owned(begin));
         it != map_->end() && it->first < end; ++it) {
      ++estimate.keys;
      estimate.bytes += it->first.size() + it->second.size();
    }
    return estimate;
  }

 private:
  const std::shared_ptr<const Map> map_;
};

class MemoryEngineImpl : public MemoryEngine {
 public:
  std::unique_ptr<Batch> NewBatch() override {
    return std::make_unique<MemoryBatch>();
  }

  absl::Status Apply(Batch* batch) override {
    const std::lock_guard lock(mutex_);
    if (shared_) {  // someone holds this map: it never changes again
      map_ = std::make_shared<Map>(*map_);
      shared_ = false;
    }
    static_cast<MemoryBatch*>(batch)->ApplyTo(map_.get());
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Get(absl::string_view key,
                           std::string* value) const override {
    const std::shared_lock lock(mutex_);
    return Find(*map_, key, value);
  }

  std::unique_ptr<View> NewView() const override {
    const std::lock_guard lock(mutex_);
    shared_ = true;
    return std::make_unique<MemoryView>(map_);
  }

  absl::Status Flush() override {
    const std::lock_guard lock(mutex_);
    shared_ = true;
    durable_ = map_;
    return absl::OkStatus();
  }

  absl::StatusOr<bool> GetDurable(absl::string_view key,
                                  std::string* value) const override {
    const std::shared_lock lock(mutex_);
    return Find(*durable_, key, value);
  }

  absl::StatusOr<std::unique_ptr<Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) override;
  void Replace(const std::string& begin, const std::string& end,
               const Map& content);

  absl::Status background_error() const override { return absl::OkStatus(); }

  void Crash() override {
    const std::lock_guard lock(mutex_);
    map_ = std::make_shared<Map>(*durable_);
    shared_ = false;
  }

 private:
  mutable std::shared_mutex mutex_;  // guards all below
  std::shared_ptr<Map> map_ = std::make_shared<Map>();
  std::shared_ptr<const Map> durable_ = std::make_shared<Map>();
  // map_ may be in a view or in durable_.
  mutable bool shared_ = false;
  RangeSet ingested_ranges_;
};

class MemoryIngestion : public Ingestion {
 public:
  MemoryIngestion(MemoryEngineImpl* engine, RangeSet::Claim claim)
      : engine_(engine), claim_(std::move(claim)) {}

  absl::Status Put(absl::string_view key, absl::string_view value) override {
    absl::Status status = CheckIngestedKey(claim_, last_, key);
    if (!status.ok()) return status;
    last_ = Owned(key);
    content_.emplace_hint(content_.end(), last_, Owned(value));
    return absl::OkStatus();
  }

  absl::Status Commit() override {
    engine_->Replace(claim_.begin(), claim_.end(), content_);
    return absl::OkStatus();
  }

 private:
  MemoryEngineImpl* const engine_;
  const RangeSet::Claim claim_;
  std::string last_;
  Map content_;
};

absl::StatusOr<std::unique_ptr<Ingestion>> MemoryEngineImpl::NewIngestion(
    absl::string_view begin, absl::string_view end, const std::string&) {
  absl::StatusOr<RangeSet::Claim> claim = ingested_ranges_.Take(begin, end);
  if (!claim.ok()) return claim.status();
  return std::make_unique<MemoryIngestion>(this, *std::move(claim));
}

// In what is seen and in what a crash leaves; nothing else of what is seen
// becomes durable by it.
void MemoryEngineImpl::Replace(const std::string& begin, const std::string& end,
                               const Map& content) {
  const std::lock_guard lock(mutex_);
  const auto replaced = [&](const Map& old) {
    auto map = std::make_shared<Map>(old);
    if (!KV739_PLANTED(S6_old_keys_survive)) {
      map->erase(map->lower_bound(begin), map->lower_bound(end));
    }
    map->insert(content.begin(), content.end());
    return map;
  };
  durable_ = replaced(*durable_);
  map_ = replaced(*map_);
  shared_ = false;
}

}  // namespace

std::unique_ptr<MemoryEngine> NewMemoryEngine() {
  return std::make_unique<MemoryEngineImpl>();
}

}  // namespace kv739::kv
