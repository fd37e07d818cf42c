// A generation of a BufferTable: the changes between two cuts, one record a
// key. It is filled by the table, then frozen, and changes no more.
#ifndef KV739_KV_BUFFER_GENERATION_H_
#define KV739_KV_BUFFER_GENERATION_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "kv/buffer_record.h"

namespace kv739::kv {

// [begin, end)
struct DeletedRange {
  std::string begin;
  std::string end;
  bool Covers(absl::string_view key) const { return key >= begin && key < end; }
  uint64_t cost() const {
    return BufferRecord::kOverhead + begin.size() + end.size();
  }
};

// Written out, the ranges come first: what was written after one of them is
// among the records, and so is the end of what was written before.
class BufferGeneration {
 public:
  using Sequence = std::vector<const BufferRecord*>;

  uint64_t number = 0;
  // At their positions: about as they were written, and so as they lie in
  // memory.
  std::vector<RecordRef> records;
  std::vector<DeletedRange> ranges;
  uint64_t cost = 0;

  bool empty() const { return records.empty() && ranges.empty(); }

  // Of a frozen one: the records in the order of their keys, which is made when
  // it is first asked for. Any thread.
  const Sequence& Sorted() const;

  // The end of two that follow each other, with the number of the newer one.
  static std::shared_ptr<const BufferGeneration> Merge(
      const BufferGeneration& older, const BufferGeneration& newer);

 private:
  mutable std::once_flag sorted_once_;
  mutable Sequence sorted_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_BUFFER_GENERATION_H_
