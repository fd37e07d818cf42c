// What the batch under way has read and written so far: the second write of a
// key in one batch sees the first. One record per key reaches the engine.
// Not thread-safe.
#ifndef KV739_KV_PENDING_WRITES_H_
#define KV739_KV_PENDING_WRITES_H_

#include <deque>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/engine.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

class PendingWrites {
 public:
  class Item {
   public:
    bool found() const { return found_; }
    Version version() const { return version_; }
    absl::string_view value() const { return value_; }

    // `value` must live until Clear().
    void Set(Version version, absl::string_view value) {
      found_ = changed_ = true;
      version_ = version;
      value_ = value;
    }
    void SetOwned(Version version, std::string value) {
      made_ = std::move(value);
      Set(version, made_);
    }
    void Remove() {
      found_ = false;
      changed_ = true;
      version_ = 0;
      value_ = {};
    }

   private:
    friend class PendingWrites;
    absl::string_view key_;
    bool found_ = false;
    bool changed_ = false;
    Version version_ = 0;
    absl::string_view value_;  // into a command, into read_ or made_
    LentValue read_;           // the record as the engine has it
    std::string made_;         // a new value that no command holds
  };

  explicit PendingWrites(raft::GroupId group) : group_(group) {}

  // The key as the batch has left it so far. `key` must live until Clear(),
  // which ends the life of the item too. DATA_LOSS for a record that is none.
  absl::StatusOr<Item*> Find(const Engine& engine, absl::string_view key);
  // Adds the records of all keys that were changed, in the order in which
  // they were first asked for.
  void WriteTo(Batch* batch);
  void Clear();
  // So many keys may come: saves growing by and by.
  void Expect(size_t keys) { by_key_.reserve(keys); }

 private:
  const raft::GroupId group_;
  std::deque<Item> items_;  // stays in place as it grows
  absl::flat_hash_map<absl::string_view, Item*> by_key_;
  std::string key_buffer_;
  std::string record_buffer_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_PENDING_WRITES_H_
