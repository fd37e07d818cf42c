// A key with its newest value, or the note that it is gone: one block of
// memory, shared by whoever needs it as it is, never changed.
#ifndef KV739_KV_BUFFER_RECORD_H_
#define KV739_KV_BUFFER_RECORD_H_

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "absl/strings/string_view.h"
#include "kv/invariant.h"

namespace kv739::kv {

class BufferRecord {
 public:
  // What the allocator and the tables need for one, about.
  static constexpr uint64_t kOverhead = 96;

  absl::string_view key() const { return {bytes(), key_size_}; }
  absl::string_view value() const { return {bytes() + key_size_, value_size_}; }
  bool deleted() const { return deleted_; }
  uint64_t hash() const { return hash_; }
  uint64_t cost() const { return kOverhead + key_size_ + value_size_; }

  // ---- BufferTable's, under its mutex ----
  // Set when it enters the table and kept then, so that those who got it from
  // there may read it.
  uint64_t generation = 0;
  uint32_t position = 0;    // in its generation's records
  bool clean = false;       // the engine below has it
  bool superseded = false;  // by a later record, before it was clean

 private:
  friend class RecordRef;
  BufferRecord(uint64_t hash, uint32_t key_size, uint32_t value_size,
               bool deleted)
      : hash_(hash),
        key_size_(key_size),
        value_size_(value_size),
        deleted_(deleted) {}
  const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }

  const uint64_t hash_;
  const uint32_t key_size_;
  const uint32_t value_size_;
  std::atomic<uint32_t> refs_{1};
  const bool deleted_;
};

// Counts as one of those who share a record.
class RecordRef {
 public:
  static RecordRef Make(uint64_t hash, absl::string_view key,
                        absl::string_view value, bool deleted) {
    void* memory =
        std::malloc(sizeof(BufferRecord) + key.size() + value.size());
    KV739_KV_CHECK(memory != nullptr, "out of memory");
    auto* record =
        new (memory) BufferRecord(hash, static_cast<uint32_t>(key.size()),
                                  static_cast<uint32_t>(value.size()), deleted);
    char* bytes = reinterpret_cast<char*>(record + 1);
    if (!key.empty()) std::memcpy(bytes, key.data(), key.size());
    if (!value.empty()) {
      std::memcpy(bytes + key.size(), value.data(), value.size());
    }
    return RecordRef(record);
  }

  static RecordRef Share(const BufferRecord* record) {
    auto* shared = const_cast<BufferRecord*>(record);
    shared->refs_.fetch_add(1, std::memory_order_relaxed);
    return RecordRef(shared);
  }

  RecordRef() = default;
  RecordRef(const RecordRef& other) : record_(other.record_) {
    if (record_ != nullptr) {
      record_->refs_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  RecordRef(RecordRef&& other) noexcept
      : record_(std::exchange(other.record_, nullptr)) {}
  RecordRef& operator=(RecordRef other) noexcept {
    std::swap(record_, other.record_);
    return *this;
  }
  ~RecordRef() {
    if (record_ == nullptr ||
        record_->refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) {
      return;
    }
    record_->~BufferRecord();
    std::free(record_);
  }

  BufferRecord* get() const { return record_; }
  BufferRecord* operator->() const { return record_; }
  explicit operator bool() const { return record_ != nullptr; }

 private:
  explicit RecordRef(BufferRecord* record) : record_(record) {}
  BufferRecord* record_ = nullptr;
};

}  // namespace kv739::kv

#endif  // KV739_KV_BUFFER_RECORD_H_
