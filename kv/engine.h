// Ordered storage for the state machines of all groups of a node. RocksDB
// today; an interface so that a cheaper write buffer, or the simulator's
// memory, can take its place.
#ifndef KV739_KV_ENGINE_H_
#define KV739_KV_ENGINE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "kv/lent_value.h"

namespace rocksdb {
class Env;
}

namespace kv739::kv {

// A key with its hash, for who needs it more than once: an engine may use it to
// find the key, and need not use it.
struct HashedKey {
  absl::string_view bytes;
  uint64_t hash = 0;  // HashKey(bytes)
};
uint64_t HashKey(absl::string_view key);

// One of several keys that are read together.
struct KeyRead {
  HashedKey key;
  LentValue* value = nullptr;
  bool done = false;   // in: has to be false
  bool found = false;  // when done
};
inline constexpr size_t kMaxReadTogether = 32;

// Changes that take effect together or not at all. For the engine that made it
// only.
class Batch {
 public:
  virtual ~Batch() = default;
  virtual void Put(absl::string_view key, absl::string_view value) = 0;
  // The same.
  virtual void PutHashed(const HashedKey& key, absl::string_view value) {
    Put(key.bytes, value);
  }
  virtual void Delete(absl::string_view key) = 0;
  // [begin, end)
  virtual void DeleteRange(absl::string_view begin, absl::string_view end) = 0;
  virtual void Clear() = 0;
  virtual uint64_t bytes() const = 0;
};

// About how much a range holds.
struct RangeEstimate {
  uint64_t keys = 0;
  uint64_t bytes = 0;  // keys and values, before compression
};

// Goes over the keys of a range, in order. One thread at a time; the view that
// made it must live longer.
class Cursor {
 public:
  virtual ~Cursor() = default;
  // To the first key of the range that is not below `key`. Before the first
  // Seek it stands nowhere.
  virtual void Seek(absl::string_view key) = 0;
  // Valid() before: to the key after this one.
  virtual void Next() = 0;
  // It stands at a key; false at the end of the range, or for an error.
  virtual bool Valid() const = 0;
  // Until it moves.
  virtual absl::string_view key() const = 0;
  virtual absl::string_view value() const = 0;
  virtual absl::Status status() const = 0;
};

// Whether what is read may come to lie in the engine's caches: what a client
// asks for is likely to be asked for again; who goes over a whole group must
// not push out what is hot.
enum class CacheUse { kFill, kLeave };

// What the store holds at one instant, for as long as it lives; the engine
// must live longer. Any thread.
class View {
 public:
  virtual ~View() = default;
  // True and *value set when there; false when not.
  virtual absl::StatusOr<bool> Get(absl::string_view key,
                                   std::string* value) const = 0;
  // Of [begin, end), which are copied.
  virtual std::unique_ptr<Cursor> NewCursor(absl::string_view begin,
                                            absl::string_view end,
                                            CacheUse cache) const = 0;
  // Calls `visit` for every key of [begin, end) in order until it returns
  // false. Leaves caches alone.
  absl::Status Scan(
      absl::string_view begin, absl::string_view end,
      absl::FunctionRef<bool(absl::string_view key, absl::string_view value)>
          visit) const {
    const std::unique_ptr<Cursor> at = NewCursor(begin, end, CacheUse::kLeave);
    for (at->Seek(begin); at->Valid(); at->Next()) {
      if (!visit(at->key(), at->value())) return absl::OkStatus();
    }
    return at->status();
  }
  // Without reading the range; what was written since may count too.
  virtual RangeEstimate Estimate(absl::string_view begin,
                                 absl::string_view end) const = 0;
};

// The whole content of a key range, built beside the range's old content and
// put in its place in one step. Nothing is seen of it before Commit(), and
// ending its life without one removes all that it has made; the engine must
// live longer. One thread at a time.
class Ingestion {
 public:
  virtual ~Ingestion() = default;
  // Keys of the range, strictly rising. Blocks for the disk.
  virtual absl::Status Put(absl::string_view key, absl::string_view value) = 0;
  // The range now holds what was Put and nothing else: a reader sees all of
  // the old or all of the new, a view from before keeps the old, and a crash
  // leaves all of the old or all of the new. On return it is durable. Nobody
  // may write to the range meanwhile. Blocks for the disk; writers of other
  // ranges wait only as long as it takes to note the new files. After an error
  // the old content is in place and Commit may be tried again; where
  // background_error() is set as well, the next opening shows which of the
  // two the disk has.
  virtual absl::Status Commit() = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;

  virtual std::unique_ptr<Batch> NewBatch() = 0;
  // Visible to every read that begins after it returns; durable only after a
  // later Flush(). Never waits for the disk: RESOURCE_EXHAUSTED, with nothing
  // applied, when the store must first write out what it holds; try again
  // later. Any other error: background_error(), nothing applied. Any thread;
  // one writer per group. The batch stays as it is.
  virtual absl::Status Apply(Batch* batch) = 0;

  // For many changes at once: what `fill` puts into the batch that it gets,
  // deleted ranges first (they hide nothing of the batch), then every key once,
  // in order. Takes effect as Apply() does, and is durable on return. May wait
  // for the disk. After any error nothing is applied, and Apply() is to be
  // tried, which says what is wrong; UNAVAILABLE when the engine would rather
  // have it so. One thread at a time.
  virtual absl::Status ApplySorted(
      absl::FunctionRef<void(Batch* batch)> /*fill*/) {
    return absl::UnavailableError("no way around a batch");
  }

  virtual absl::StatusOr<bool> Get(absl::string_view key,
                                   std::string* value) const = 0;
  // The same, without a copy where the engine can lend the value.
  virtual absl::StatusOr<bool> Read(const HashedKey& key,
                                    LentValue* value) const {
    return Get(key.bytes, value->copy());
  }
  // Reads many keys at once where that is cheaper than one by one. What is not
  // `done` then, be it for an error or because nothing is gained, is to be read
  // by Read(). At most kMaxReadTogether.
  virtual void ReadTogether(absl::Span<KeyRead> /*reads*/) const {}
  virtual std::unique_ptr<View> NewView() const = 0;

  // Everything applied before the call is durable on return. May take long.
  virtual absl::Status Flush() = 0;

  // Durable copy of `key` after a crash: what a Get would find if the process
  // died now. Tells how much of the log must be kept.
  virtual absl::StatusOr<bool> GetDurable(absl::string_view key,
                                          std::string* value) const = 0;

  // For the keys of [begin, end). Files that it needs are made in `dir`, which
  // is created, for this engine alone; on the file system of the store they are
  // moved there without a copy. The first one in `dir` removes there what an
  // earlier process has left. FAILED_PRECONDITION while another one for some of
  // these keys lives.
  virtual absl::StatusOr<std::unique_ptr<Ingestion>> NewIngestion(
      absl::string_view begin, absl::string_view end,
      const std::string& dir) = 0;

  // OK, or what keeps the store from writing in the background (disk full,
  // I/O error). Apply answers the same until the store has recovered; nothing
  // that was applied is lost meanwhile as long as the process lives. ABORTED:
  // the disk works again, and so will an engine that is opened anew; this one
  // says the same to all that writes from now on.
  virtual absl::Status background_error() const = 0;
};

struct EngineOptions {
  uint64_t write_buffer_bytes = 64 << 20;  // one; up to four are held
  uint64_t block_cache_bytes = 256 << 20;  // with indexes and filters
  int background_threads = 2;
  rocksdb::Env* env = nullptr;  // tests put theirs below the store
};

// RocksDB in `dir`, created when it is not there; RocksDB's own log is off,
// the Raft log is the only one. FAILED_PRECONDITION when it is open already,
// here or in another process, DATA_LOSS when it is damaged. Closing it flushes,
// so that a restart has little to apply again.
absl::StatusOr<std::unique_ptr<Engine>> OpenRocksEngine(
    const std::string& dir, const EngineOptions& options);

struct BufferOptions {
  // Changes that are not in the engine below: written out when they are this
  // much,
  uint64_t write_out_bytes = 32 << 20;
  // ... by Engine::ApplySorted() from this size on: it makes a file each time.
  uint64_t direct_bytes = 1 << 20;
  // Refused when they are as much as this.
  uint64_t max_dirty_bytes = 96 << 20;
  // Values that were written out and are still at hand.
  uint64_t cache_bytes = 64 << 20;
};

// Puts a write buffer and cache of values in front of `engine`: a change costs
// a hash table's, and reaches the engine when it is written out, in key order
// and once for all changes of a key until then.
std::unique_ptr<Engine> NewBufferedEngine(std::unique_ptr<Engine> engine,
                                          const BufferOptions& options);

// Removes what the ingestions of a process that has died left in `dir`. For
// before the first ingestion of this process, so that they take no room until
// then.
absl::Status RemoveIngestionFiles(const std::string& dir);

// In memory; a crash (`Crash()`) loses what was not flushed. For tests and
// the simulator.
class MemoryEngine : public Engine {
 public:
  virtual void Crash() = 0;
};
std::unique_ptr<MemoryEngine> NewMemoryEngine();

}  // namespace kv739::kv

#endif  // KV739_KV_ENGINE_H_
