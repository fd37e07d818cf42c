// What a BufferedEngine holds in memory: the newest record of every key that
// was written lately, in one hash table, and lists that say which of them the
// engine below does not have yet.
//
//   active   generation of the changes that come in; one record per key
//   frozen   generations that were closed and change no more, oldest first:
//            to be written out, or seen by a view
//   clean    generations that were written out, kept as a cache of values for
//            as long as they fit; the oldest goes first
//
// The table knows the newest record of each of these keys, whatever
// generation it is of, so a key that it does not know is in the engine below
// as it is (or hidden there by a range that was deleted and is not written
// out). Records never come in by reading: an old value could come in behind a
// newer one.
//
// Threads: any; every method takes the mutex, and none holds it for longer
// than a batch or kChunk records take, but Forget() and deleted ranges, which
// look at every key.
#ifndef KV739_KV_BUFFER_TABLE_H_
#define KV739_KV_BUFFER_TABLE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kv/buffer_generation.h"
#include "kv/buffer_record.h"
#include "kv/engine.h"

namespace kv739::kv {

class BufferTable {
 public:
  // A record, or a deleted range where there is none.
  struct Change {
    RecordRef record;
    DeletedRange range;
  };
  using Generation = BufferGeneration;
  using Frozen = std::shared_ptr<const Generation>;

  // Clean records are kept up to `cache_bytes`.
  explicit BufferTable(uint64_t cache_bytes);

  // All of them in one step.
  void Apply(absl::Span<const Change> changes);

  enum class Where { kHere, kHidden, kBelow };
  // kHere: *record is set, which may say that the key is deleted.
  Where Find(const HashedKey& key, RecordRef* record) const;
  // Brings what a Find() and an Apply() of these keys will touch into the
  // processor's caches. By the hashes alone: of two keys with the same one it
  // is a record of either.
  void Prefetch(absl::Span<const uint64_t> hashes) const;

  // Closes the active generation and returns all that are frozen. `locked`
  // runs before anything else is applied or frozen.
  std::vector<Frozen> Freeze(absl::FunctionRef<void()> locked);
  std::vector<Frozen> Freeze() {
    return Freeze([] {});
  }
  // The same for a view. Views cut generations, many of them small ones, so
  // small neighbours are made one first: there are fewer to be looked at, and
  // it takes many writes, not many views, until there are too many.
  std::vector<Frozen> FreezeForView(absl::FunctionRef<void()> locked);
  // The next one to be written out, or null.
  Frozen OldestFrozen();
  // The engine below has the oldest frozen generation now. One thread at a
  // time.
  void WrittenOut();

  // Forgets the keys of a range, which are all clean.
  void Forget(absl::string_view begin, absl::string_view end);

  uint64_t active_cost() const;
  // Of what is not clean.
  uint64_t dirty_cost() const;
  uint64_t cached_cost() const;
  size_t frozen_count() const;

 private:
  static constexpr size_t kChunk = 512;
  // Neighbours are made one up to so many records, when the older one has no
  // more than so many times the records of the newer one: a record is copied
  // a few times for each such factor, and the sizes of those that are left fall
  // by it.
  static constexpr size_t kMaxMerged = 16384;
  static constexpr size_t kMergeFactor = 4;
  // So many are on their way to the caches at once; with longer values, only
  // their beginnings.
  static constexpr size_t kPrefetched = 32;
  static constexpr size_t kMinPrefetched = 4;  // fewer are not worth it
  static constexpr size_t kPrefetchedBytes = 512;
  // Of what a clean generation takes beside its records: the places of those
  // that were superseded stay until it is their turn to go.
  static constexpr uint64_t kPlaceCost = sizeof(RecordRef);
  static constexpr uint64_t kGenerationCost = 256;

  // Of a key that has this hash; which one, does not matter.
  struct AnyOf {
    uint64_t hash;
  };
  struct Slot {
    // The record's: looking for a key, and growing, touch no other record.
    uint64_t hash;
    // Replaced by another record of the same key.
    mutable RecordRef record;
  };
  struct Hash {
    using is_transparent = void;
    size_t operator()(const Slot& slot) const { return slot.hash; }
    size_t operator()(const HashedKey& key) const { return key.hash; }
    size_t operator()(const AnyOf& key) const { return key.hash; }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Slot& a, const HashedKey& b) const {
      return a.hash == b.hash && a.record->key() == b.bytes;
    }
    bool operator()(const Slot& a, const Slot& b) const {
      return a.hash == b.hash && a.record->key() == b.record->key();
    }
    bool operator()(const Slot& a, const AnyOf& b) const {
      return a.hash == b.hash;
    }
  };
  using Slots = absl::flat_hash_set<Slot, Hash, Equal>;
  struct CleanGeneration {
    uint64_t number = 0;  // in the order in which they were written out
    std::vector<RecordRef> records;
  };

  static bool WorthMerging(const Generation& older, const Generation& newer) {
    const size_t both = older.records.size() + newer.records.size();
    return both <= kMaxMerged &&
           older.records.size() <= kMergeFactor * newer.records.size();
  }
  // False: somebody else merges.
  bool BeginMerge();
  // Puts `merged` into the place of these two if that is still theirs.
  void EndMerge(const Frozen& older, const Frozen& newer, Frozen merged);

  // mutex_ is held, for all of these.
  void ApplySome(absl::Span<const Change> changes);
  void Put(RecordRef record);
  void Supersede(BufferRecord* old);
  void DeleteRange(const DeletedRange& range);
  bool Hidden(absl::string_view key) const;
  std::vector<RecordRef>& CleanRecords(uint64_t generation);
  // The place of a record in its generation, or null when a later record of the
  // key leaves that as it is.
  const RecordRef* PlaceOf(const BufferRecord& record) const;
  void PrefetchSome(absl::Span<const uint64_t> hashes, bool values) const;

  void MakeClean(const Generation& generation);
  void Evict();

  const uint64_t cache_bytes_;
  mutable std::mutex mutex_;  // guards what follows
  Slots slots_;
  std::shared_ptr<Generation> active_;
  std::deque<Frozen> frozen_;
  uint64_t frozen_cost_ = 0;
  bool writing_out_ = false;  // the oldest of them, which stays as it is
  bool merging_ = false;
  // Records that were superseded since are gone from these.
  std::deque<CleanGeneration> clean_;
  uint64_t last_clean_ = 0;  // never more than active_->number
  uint64_t clean_cost_ = 0;
};

}  // namespace kv739::kv

#endif  // KV739_KV_BUFFER_TABLE_H_
