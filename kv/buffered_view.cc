#include "kv/buffered_view.h"

#include <algorithm>
#include <string>
#include <utility>

namespace kv739::kv {
namespace {

// Sorted without looking at most of the records: their first bytes decide.
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
  const int order = a.record->key().compare(b.record->key());
  if (order != 0) return order < 0;
  return a.record->generation > b.record->generation;
}

}  // namespace

std::vector<const BufferRecord*> SortedRecords(
    absl::Span<const BufferTable::Frozen> generations) {
  std::vector<SortItem> items;
  size_t count = 0;
  for (const BufferTable::Frozen& g : generations) count += g->records.size();
  items.reserve(count);
  for (const BufferTable::Frozen& generation : generations) {
    for (const RecordRef& record : generation->records) {
      items.push_back({BigEndian(record->key(), 0), BigEndian(record->key(), 8),
                       record.get()});
    }
  }
  std::sort(items.begin(), items.end(), Before);
  std::vector<const BufferRecord*> sorted;
  sorted.reserve(count);
  for (const SortItem& item : items) {
    const bool same_key = generations.size() > 1 && !sorted.empty() &&
                          sorted.back()->key() == item.record->key();
    if (!same_key) sorted.push_back(item.record);
  }
  return sorted;
}

BufferedView::BufferedView(std::vector<BufferTable::Frozen> frozen,
                           std::unique_ptr<View> below)
    : frozen_(std::move(frozen)), below_(std::move(below)) {}

const BufferedView::Records& BufferedView::records() const {
  std::call_once(sorted_once_, [this] { sorted_ = SortedRecords(frozen_); });
  return sorted_;
}

BufferedView::Records::const_iterator BufferedView::From(
    absl::string_view key) const {
  return std::lower_bound(records().begin(), records().end(), key,
                          [](const BufferRecord* record, absl::string_view k) {
                            return record->key() < k;
                          });
}

bool BufferedView::Hidden(absl::string_view key) const {
  for (const BufferTable::Frozen& generation : frozen_) {
    for (const DeletedRange& range : generation->ranges) {
      if (range.Covers(key)) return true;
    }
  }
  return false;
}

absl::StatusOr<bool> BufferedView::Get(absl::string_view key,
                                       std::string* value) const {
  const auto it = From(key);
  if (it != records().end() && (*it)->key() == key) {
    if ((*it)->deleted()) return false;
    value->assign((*it)->value().data(), (*it)->value().size());
    return true;
  }
  if (Hidden(key)) return false;
  return below_->Get(key, value);
}

absl::Status BufferedView::Scan(
    absl::string_view begin, absl::string_view end,
    absl::FunctionRef<bool(absl::string_view key, absl::string_view value)>
        visit) const {
  auto next = From(begin);
  bool stopped = false;
  // Visits our records before `key`; at the end of the range, all that are
  // left.
  const auto visit_before = [&](absl::string_view key) {
    for (; next != records().end() && (*next)->key() < key; ++next) {
      if ((*next)->deleted()) continue;
      if (!visit((*next)->key(), (*next)->value())) {
        stopped = true;
        return;
      }
    }
  };
  const absl::Status status = below_->Scan(
      begin, end, [&](absl::string_view key, absl::string_view value) {
        visit_before(key);
        if (stopped) return false;
        const bool ours = next != records().end() && (*next)->key() == key;
        if (ours || Hidden(key)) return true;
        stopped = !visit(key, value);
        return !stopped;
      });
  if (!status.ok() || stopped) return status;
  visit_before(end);
  return absl::OkStatus();
}

RangeEstimate BufferedView::Estimate(absl::string_view begin,
                                     absl::string_view end) const {
  RangeEstimate estimate = below_->Estimate(begin, end);
  for (auto it = From(begin); it != records().end() && (*it)->key() < end;
       ++it) {
    ++estimate.keys;
    estimate.bytes += (*it)->key().size() + (*it)->value().size();
  }
  return estimate;
}

}  // namespace kv739::kv
