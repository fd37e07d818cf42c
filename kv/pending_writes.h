// What the batch under way has read and written so far: the second write of a
// key in one batch sees the first. One record per key reaches the engine.
// Not thread-safe.
#ifndef KV739_KV_PENDING_WRITES_H_
#define KV739_KV_PENDING_WRITES_H_

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "kv/engine.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

class PendingWrites {
 public:
  // A key as the batch has left it so far; Read() it first, unless it is only
  // set or removed.
  class Item {
   public:
    bool found() const { return found_; }
    Version version() const { return version_; }
    absl::string_view value() const { return value_; }

    // What comes before the batch matters to the command: see ReadTogether().
    void Want() { wanted_ = true; }

    // `value` must live until Clear().
    void Set(Version version, absl::string_view value) {
      known_ = found_ = changed_ = true;
      version_ = version;
      value_ = value;
    }
    void SetOwned(Version version, std::string value) {
      made_ = std::move(value);
      Set(version, made_);
    }
    void Remove() {
      found_ = false;
      known_ = changed_ = true;
      version_ = 0;
      value_ = {};
    }

   private:
    friend class PendingWrites;
    HashedKey data_key() const { return {data_key_, hash_}; }
    bool IsToBeRead() const { return wanted_ && !known_; }
    void Reset();
    // What lent_ holds now is the record. False when it is none.
    bool Decode();

    std::string data_key_;  // the engine's
    uint64_t hash_ = 0;     // of it
    bool wanted_ = false;
    bool known_ = false;  // by reading or by what the batch has made of it
    bool found_ = false;
    bool changed_ = false;
    Version version_ = 0;
    absl::string_view value_;  // into a command, into lent_ or made_
    LentValue lent_;           // the record as the engine has it
    std::string made_;         // a new value that no command holds
  };

  explicit PendingWrites(raft::GroupId group) : group_(group) {}

  // The item of a key, the same one for all writes of the batch to it. It lives
  // until Clear().
  Item* Name(absl::string_view key);
  // Reads what was named since, is wanted and not known, as far as that is
  // cheaper together; Read() does the rest, and says what is wrong.
  void ReadTogether(const Engine& engine);
  // Reads the item unless it is known. DATA_LOSS for a record that is none.
  absl::Status Read(const Engine& engine, Item* item);
  // Adds the records of all keys that were changed, in the order in which
  // they were first named.
  void WriteTo(Batch* batch);
  void Clear();
  // So many keys may come: saves growing by and by.
  void Expect(size_t keys) { by_key_.reserve(keys); }

 private:
  // Memory of items is kept for later batches up to this many.
  static constexpr size_t kItemsKept = 1024;

  struct Hash {
    using is_transparent = void;
    size_t operator()(const Item* item) const { return item->hash_; }
    size_t operator()(const HashedKey& key) const { return key.hash; }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const Item* a, const HashedKey& b) const {
      return a->hash_ == b.hash && a->data_key_ == b.bytes;
    }
    bool operator()(const Item* a, const Item* b) const {
      return (*this)(a, b->data_key());
    }
  };

  const raft::GroupId group_;
  std::deque<Item> items_;  // stays in place as it grows
  size_t used_ = 0;         // of items_
  size_t looked_at_ = 0;    // of those, by ReadTogether()
  absl::flat_hash_set<Item*, Hash, Equal> by_key_;
  std::string key_buffer_;
  std::string record_buffer_;
  std::vector<KeyRead> reads_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_PENDING_WRITES_H_
