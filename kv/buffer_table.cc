#include "kv/buffer_table.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <utility>

#include "kv/invariant.h"

namespace kv739::kv {
namespace {

constexpr size_t kCacheLine = 64;

}  // namespace

uint64_t HashKey(absl::string_view key) {
  return XXH3_64bits(key.data(), key.size());
}

BufferTable::BufferTable(uint64_t cache_bytes)
    : cache_bytes_(cache_bytes), active_(std::make_shared<Generation>()) {
  active_->number = 1;  // 0: in no table
}

void BufferTable::Apply(absl::Span<const Change> changes) {
  const std::lock_guard lock(mutex_);
  for (; !changes.empty();
       changes.remove_prefix(std::min(changes.size(), kPrefetched))) {
    ApplySome(changes.subspan(0, kPrefetched));
  }
}

void BufferTable::ApplySome(absl::Span<const Change> changes) {
  if (changes.size() >= kMinPrefetched) {
    // Of a large batch, what was read for it has left the caches again.
    std::array<uint64_t, kPrefetched> hashes;
    size_t count = 0;
    for (const Change& change : changes) {
      if (change.record) hashes[count++] = change.record->hash();
    }
    PrefetchSome({hashes.data(), count}, false);
  }
  for (const Change& change : changes) {
    if (!change.record) {
      DeleteRange(change.range);
    } else if (change.record->generation == 0) {
      Put(change.record);
    } else {
      // A batch that is applied again: a record is in the table once.
      const BufferRecord& old = *change.record.get();
      Put(RecordRef::Make(old.hash(), old.key(), old.value(), old.deleted()));
    }
  }
}

void BufferTable::Put(RecordRef record) {
  Generation& active = *active_;
  record->generation = active.number;
  active.cost += record->cost();
  const auto it = slots_.find(HashedKey{record->key(), record->hash()});
  if (it == slots_.end()) {
    record->position = static_cast<uint32_t>(active.records.size());
    active.records.push_back(record);
    const uint64_t hash = record->hash();
    slots_.insert(Slot{hash, std::move(record)});
    return;
  }
  BufferRecord* old = it->record.get();
  if (old->generation == active.number) {
    active.cost -= old->cost();
    record->position = old->position;
    active.records[old->position] = record;
  } else {
    record->position = static_cast<uint32_t>(active.records.size());
    active.records.push_back(record);
    Supersede(old);
  }
  it->record = std::move(record);
}

const RecordRef* BufferTable::PlaceOf(const BufferRecord& record) const {
  if (record.clean) {
    return &clean_[record.generation - clean_.front().number]
                .records[record.position];
  }
  return record.generation == active_->number
             ? &active_->records[record.position]
             : nullptr;
}

std::vector<RecordRef>& BufferTable::CleanRecords(uint64_t generation) {
  return clean_[generation - clean_.front().number].records;
}

void BufferTable::Supersede(BufferRecord* old) {
  if (!old->clean) {
    old->superseded = true;  // MakeClean() passes it over
    return;
  }
  clean_cost_ -= old->cost();
  CleanRecords(old->generation)[old->position] = RecordRef();
}

void BufferTable::DeleteRange(const DeletedRange& range) {
  if (range.begin >= range.end) return;
  std::vector<RecordRef> covered;
  for (const Slot& slot : slots_) {
    if (range.Covers(slot.record->key())) covered.push_back(slot.record);
  }
  for (const RecordRef& old : covered) {
    Put(RecordRef::Make(old->hash(), old->key(), "", true));
  }
  active_->ranges.push_back(range);
  active_->cost += range.cost();
}

bool BufferTable::Hidden(absl::string_view key) const {
  const auto covers = [key](const DeletedRange& range) {
    return range.Covers(key);
  };
  const auto hides = [&](const Generation& generation) {
    return std::any_of(generation.ranges.begin(), generation.ranges.end(),
                       covers);
  };
  return hides(*active_) ||
         std::any_of(frozen_.begin(), frozen_.end(),
                     [&](const Frozen& frozen) { return hides(*frozen); });
}

BufferTable::Where BufferTable::Find(const HashedKey& key,
                                     RecordRef* record) const {
  const std::lock_guard lock(mutex_);
  const auto it = slots_.find(key);
  if (it != slots_.end()) {
    *record = it->record;
    return Where::kHere;
  }
  return Hidden(key.bytes) ? Where::kHidden : Where::kBelow;
}

void BufferTable::Prefetch(absl::Span<const uint64_t> hashes) const {
  const std::lock_guard lock(mutex_);
  for (; !hashes.empty();
       hashes.remove_prefix(std::min(hashes.size(), kPrefetched))) {
    PrefetchSome(hashes.subspan(0, kPrefetched), true);
  }
}

// In steps, each of which waits for all that the one before has asked for: the
// slots, the first lines of the records, the rest of them if the values are to
// be read, and their places.
void BufferTable::PrefetchSome(absl::Span<const uint64_t> hashes,
                               bool values) const {
  for (const uint64_t hash : hashes) slots_.prefetch(AnyOf{hash});
  std::array<const BufferRecord*, kPrefetched> records;
  size_t count = 0;
  for (const uint64_t hash : hashes) {
    const auto it = slots_.find(AnyOf{hash});
    if (it == slots_.end()) continue;
    records[count++] = it->record.get();
    __builtin_prefetch(it->record.get(), 1);  // its count of users changes
  }
  for (size_t n = 0; n < count; ++n) {
    if (values) {
      const absl::string_view bytes = records[n]->value();
      const char* const first = reinterpret_cast<const char*>(records[n]);
      const char* const end =
          std::min(bytes.data() + bytes.size(), first + kPrefetchedBytes);
      for (const char* at = first + kCacheLine; at < end; at += kCacheLine) {
        __builtin_prefetch(at);
      }
    }
    const RecordRef* const place = PlaceOf(*records[n]);
    if (place != nullptr) __builtin_prefetch(place, 1);
  }
}

std::vector<BufferTable::Frozen> BufferTable::Freeze(
    absl::FunctionRef<void()> locked) {
  const std::lock_guard lock(mutex_);
  if (!active_->empty()) {
    auto next = std::make_shared<Generation>();
    next->number = active_->number + 1;
    // The next one is likely to be as large.
    next->records.reserve(active_->records.size());
    frozen_cost_ += active_->cost;
    frozen_.push_back(std::exchange(active_, std::move(next)));
  }
  locked();
  return {frozen_.begin(), frozen_.end()};
}

std::vector<BufferTable::Frozen> BufferTable::FreezeForView(
    absl::FunctionRef<void()> locked) {
  std::vector<Frozen> frozen = Freeze(locked);
  for (size_t newer = frozen.size(); newer-- > 1;) {
    const size_t older = newer - 1;
    if (!WorthMerging(*frozen[older], *frozen[newer])) continue;
    if (!BeginMerge()) break;
    Frozen merged = Generation::Merge(*frozen[older], *frozen[newer]);
    EndMerge(frozen[older], frozen[newer], merged);
    frozen[older] = std::move(merged);
    frozen.erase(frozen.begin() + static_cast<std::ptrdiff_t>(newer));
  }
  return frozen;
}

bool BufferTable::BeginMerge() {
  const std::lock_guard lock(mutex_);
  return !std::exchange(merging_, true);
}

void BufferTable::EndMerge(const Frozen& older, const Frozen& newer,
                           Frozen merged) {
  const std::lock_guard lock(mutex_);
  merging_ = false;
  const auto at = std::find(frozen_.begin(), frozen_.end(), older);
  if (at == frozen_.end() || at + 1 == frozen_.end() || *(at + 1) != newer) {
    return;
  }
  if (writing_out_ && at == frozen_.begin()) return;
  frozen_cost_ -= older->cost + newer->cost - merged->cost;
  *frozen_.erase(at) = std::move(merged);
}

BufferTable::Frozen BufferTable::OldestFrozen() {
  const std::lock_guard lock(mutex_);
  writing_out_ = !frozen_.empty();
  return writing_out_ ? frozen_.front() : nullptr;
}

void BufferTable::WrittenOut() {
  Frozen written;
  {
    const std::lock_guard lock(mutex_);
    KV739_KV_CHECK(!frozen_.empty(), "nothing was to be written out");
    written = std::move(frozen_.front());
    frozen_.pop_front();
    writing_out_ = false;
    frozen_cost_ -= written->cost;
    clean_.emplace_back();
    clean_.back().number = ++last_clean_;
    clean_.back().records.reserve(written->records.size());
    clean_cost_ += kGenerationCost;
  }
  MakeClean(*written);
  Evict();
}

void BufferTable::MakeClean(const Generation& generation) {
  const std::vector<RecordRef>& written = generation.records;
  size_t next = 0;
  while (next < written.size()) {
    const std::lock_guard lock(mutex_);
    std::vector<RecordRef>& records = clean_.back().records;
    const size_t end = std::min(next + kChunk, written.size());
    for (; next < end; ++next) {
      const RecordRef& record = written[next];
      if (record->superseded) continue;
      record->clean = true;
      record->generation = clean_.back().number;
      record->position = static_cast<uint32_t>(records.size());
      clean_cost_ += kPlaceCost + record->cost();
      records.push_back(record);
    }
  }
}

void BufferTable::Evict() {
  while (true) {
    std::vector<RecordRef> freed;  // without the lock
    const std::lock_guard lock(mutex_);
    if (clean_.empty() || clean_cost_ <= cache_bytes_) return;
    std::vector<RecordRef>& records = clean_.front().records;
    for (size_t n = 0; n < kChunk && !records.empty(); ++n) {
      RecordRef record = std::move(records.back());
      records.pop_back();
      clean_cost_ -= kPlaceCost;
      if (!record) continue;
      clean_cost_ -= record->cost();
      slots_.erase(slots_.find(HashedKey{record->key(), record->hash()}));
      freed.push_back(std::move(record));
    }
    if (!records.empty()) continue;
    clean_.pop_front();
    clean_cost_ -= kGenerationCost;
  }
}

void BufferTable::Forget(absl::string_view begin, absl::string_view end) {
  const std::lock_guard lock(mutex_);
  for (auto it = slots_.begin(); it != slots_.end();) {
    const auto at = it++;
    const RecordRef record = at->record;
    if (record->key() < begin || record->key() >= end) continue;
    KV739_KV_CHECK(record->clean, "a range is written to while it is replaced");
    clean_cost_ -= record->cost();
    CleanRecords(record->generation)[record->position] = RecordRef();
    slots_.erase(at);
  }
}

uint64_t BufferTable::active_cost() const {
  const std::lock_guard lock(mutex_);
  return active_->cost;
}

uint64_t BufferTable::dirty_cost() const {
  const std::lock_guard lock(mutex_);
  return active_->cost + frozen_cost_;
}

uint64_t BufferTable::cached_cost() const {
  const std::lock_guard lock(mutex_);
  return clean_cost_;
}

size_t BufferTable::frozen_count() const {
  const std::lock_guard lock(mutex_);
  return frozen_.size();
}

}  // namespace kv739::kv
