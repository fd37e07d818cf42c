#include "kv/buffer_generation.h"

#include <algorithm>
#include <utility>

namespace kv739::kv {
namespace {

// Sorted without looking at most of the records: the first bytes in which they
// may differ decide.
struct SortItem {
  uint64_t first;
  uint64_t second;
  const BufferRecord* record;
};

uint64_t BigEndian(absl::string_view bytes, size_t at) {
  uint64_t number = 0;
  for (size_t i = at; i < at + 8; ++i) {
    number = number << 8 |
             (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
  }
  return number;
}

bool Before(const SortItem& a, const SortItem& b) {
  if (a.first != b.first) return a.first < b.first;
  if (a.second != b.second) return a.second < b.second;
  return a.record->key() < b.record->key();
}

// Bytes that all keys begin with: those of one group have its number.
size_t CommonPrefix(const std::vector<RecordRef>& records) {
  if (records.empty()) return 0;
  const absl::string_view first = records.front()->key();
  size_t common = first.size();
  for (const RecordRef& record : records) {
    const absl::string_view key = record->key();
    const auto end = first.begin() + std::min(common, key.size());
    common = static_cast<size_t>(
        std::mismatch(first.begin(), end, key.begin()).first - first.begin());
  }
  return common;
}

BufferGeneration::Sequence InOrder(const std::vector<RecordRef>& records) {
  const size_t skip = CommonPrefix(records);
  std::vector<SortItem> items;
  items.reserve(records.size());
  for (const RecordRef& record : records) {
    const absl::string_view key = record->key();
    items.push_back(
        {BigEndian(key, skip), BigEndian(key, skip + 8), record.get()});
  }
  std::sort(items.begin(), items.end(), Before);
  BufferGeneration::Sequence sorted;
  sorted.reserve(items.size());
  for (const SortItem& item : items) sorted.push_back(item.record);
  return sorted;
}

}  // namespace

const BufferGeneration::Sequence& BufferGeneration::Sorted() const {
  std::call_once(sorted_once_, [this] { sorted_ = InOrder(records); });
  return sorted_;
}

std::shared_ptr<const BufferGeneration> BufferGeneration::Merge(
    const BufferGeneration& older, const BufferGeneration& newer) {
  auto merged = std::make_shared<BufferGeneration>();
  merged->number = newer.number;
  // What the newer one has deleted of the older one's is among its records.
  merged->ranges = older.ranges;
  merged->ranges.insert(merged->ranges.end(), newer.ranges.begin(),
                        newer.ranges.end());
  for (const DeletedRange& range : merged->ranges) merged->cost += range.cost();
  const Sequence& old = older.Sorted();
  const Sequence& young = newer.Sorted();
  Sequence sorted;
  sorted.reserve(old.size() + young.size());
  const auto add = [&](const BufferRecord* record) {
    merged->cost += record->cost();
    sorted.push_back(record);
  };
  auto a = old.begin();
  for (const BufferRecord* record : young) {
    while (a != old.end() && (*a)->key() < record->key()) add(*a++);
    if (a != old.end() && (*a)->key() == record->key()) ++a;
    add(record);
  }
  while (a != old.end()) add(*a++);
  merged->records.reserve(sorted.size());
  for (const BufferRecord* record : sorted) {
    merged->records.push_back(RecordRef::Share(record));
  }
  std::call_once(merged->sorted_once_,
                 [&] { merged->sorted_ = std::move(sorted); });
  return merged;
}

}  // namespace kv739::kv
