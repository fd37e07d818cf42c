// The block-aligned memory that records are encoded into and written from. It
// holds the end of one segment: what is to be written next, and before that
// the part of its first block which is on disk already, because blocks are
// written whole.
//
// Reused for every write; grows to the largest one.
#ifndef KV739_SERVER_WAL_WRITE_BUFFER_H_
#define KV739_SERVER_WAL_WRITE_BUFFER_H_

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "absl/strings/string_view.h"
#include "server/wal/file_system.h"

namespace kv739::wal {

class WriteBuffer {
 public:
  // Starts at the beginning of a segment.
  void Reset() { start_ = fill_ = written_ = 0; }
  // Room for `bytes` more, to be filled by the caller.
  char* Extend(uint64_t bytes) {
    Reserve(fill_ + bytes);
    char* out = data_.get() + fill_;
    fill_ += bytes;
    return out;
  }
  // Offset in the segment behind what was encoded.
  uint64_t end() const { return start_ + fill_; }
  uint64_t unwritten() const { return fill_ - written_; }

  // What to write, in whole blocks, and where to.
  uint64_t write_offset() const { return start_; }
  absl::string_view Blocks() {
    const uint64_t size = RoundUp(fill_);
    Reserve(size);
    std::memset(data_.get() + fill_, 0, size - fill_);
    return absl::string_view(data_.get(), size);
  }
  // All of it is on disk: keeps the last, partial block.
  void Written(uint64_t keep_capacity) {
    const uint64_t whole = fill_ / kBlockBytes * kBlockBytes;
    fill_ -= whole;
    start_ += whole;
    written_ = fill_;
    if (capacity_ > keep_capacity && whole > 0) {
      Reallocate(kBlockBytes, whole);
    } else if (whole > 0 && fill_ > 0) {
      std::memmove(data_.get(), data_.get() + whole, fill_);
    }
  }

  static constexpr uint64_t RoundUp(uint64_t bytes) {
    return (bytes + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
  }

 private:
  struct Free {
    void operator()(char* p) const { std::free(p); }
  };

  void Reserve(uint64_t bytes) {
    if (bytes <= capacity_) return;
    uint64_t capacity = capacity_ == 0 ? 16 * kBlockBytes : capacity_;
    while (capacity < bytes) capacity *= 2;
    Reallocate(capacity, 0);
  }
  void Reallocate(uint64_t capacity, uint64_t from) {
    std::unique_ptr<char, Free> data(
        static_cast<char*>(std::aligned_alloc(kBlockBytes, capacity)));
    if (data == nullptr) std::abort();
    if (fill_ > 0) std::memcpy(data.get(), data_.get() + from, fill_);
    data_ = std::move(data);
    capacity_ = capacity;
  }

  std::unique_ptr<char, Free> data_;
  uint64_t capacity_ = 0;
  uint64_t start_ = 0;    // of data_ in the segment, whole blocks
  uint64_t fill_ = 0;     // bytes in data_
  uint64_t written_ = 0;  // of these, on disk
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_WRITE_BUFFER_H_
