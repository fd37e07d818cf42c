#include "kv/buffered_view.h"

#include <algorithm>
#include <string>
#include <utility>

namespace kv739::kv {
namespace {

using Sequence = BufferGeneration::Sequence;

Sequence::const_iterator LowerBound(Sequence::const_iterator first,
                                    Sequence::const_iterator last,
                                    absl::string_view key) {
  return std::lower_bound(first, last, key,
                          [](const BufferRecord* record, absl::string_view k) {
                            return record->key() < k;
                          });
}

// The records of one generation, from where a cursor stands.
struct Run {
  Sequence::const_iterator begin;
  Sequence::const_iterator end;
  Sequence::const_iterator at;

  // Mostly forward and not far: the steps double until they are too long.
  void Seek(absl::string_view key) {
    auto first = begin;
    auto last = end;
    if (at != end && (*at)->key() < key) {
      first = at + 1;
      for (std::ptrdiff_t step = 1; step < end - first; step *= 2) {
        if ((*(first + step))->key() >= key) {
          last = first + step;
          break;
        }
        first += step;
      }
    }
    at = LowerBound(first, last, key);
  }
};

}  // namespace

// Merges the generations, each of which is in order, and the view below, as far
// as it is asked to.
class BufferedView::MergingCursor : public Cursor {
 public:
  MergingCursor(const BufferedView* view, absl::string_view begin,
                absl::string_view end, CacheUse cache)
      : view_(view),
        begin_(begin),
        end_(end),
        below_(view->below_->NewCursor(begin, end, cache)) {
    runs_.reserve(view->frozen_.size());
    for (const BufferTable::Frozen& generation : view->frozen_) {
      const Sequence& records = generation->Sorted();
      if (records.empty()) continue;
      runs_.push_back({records.begin(), records.end(), records.end()});
    }
  }

  void Seek(absl::string_view key) override {
    const absl::string_view first = std::max<absl::string_view>(key, begin_);
    for (Run& run : runs_) run.Seek(first);
    below_->Seek(first);
    Settle();
  }
  void Next() override {
    Pass();
    Settle();
  }
  bool Valid() const override { return valid_; }
  absl::string_view key() const override { return key_; }
  absl::string_view value() const override {
    return record_ != nullptr ? record_->value() : below_->value();
  }
  absl::Status status() const override { return below_->status(); }

 private:
  // Of all that stand at the smallest key, the newest; not if it says that the
  // key is gone.
  void Settle() {
    for (;; Pass()) {
      valid_ = below_->Valid();
      if (!valid_ && !below_->status().ok()) return;
      record_ = nullptr;
      if (valid_) key_ = below_->key();
      for (const Run& run : runs_) {
        if (run.at == run.end) continue;
        const BufferRecord* record = *run.at;
        const absl::string_view key = record->key();
        if (valid_ && (record_ != nullptr ? key >= key_ : key > key_)) continue;
        valid_ = true;
        record_ = record;
        key_ = key;
      }
      if (!valid_) return;
      if (key_ >= end_) {
        valid_ = false;
        return;
      }
      if (record_ != nullptr ? !record_->deleted() : !view_->Hidden(key_)) {
        return;
      }
    }
  }
  // Takes all that stand at this key beyond it.
  void Pass() {
    const bool below = below_->Valid() && below_->key() == key_;
    for (Run& run : runs_) {
      if (run.at != run.end && (*run.at)->key() == key_) ++run.at;
    }
    if (below) below_->Next();  // the end of key_, where it is the one below's
  }

  const BufferedView* const view_;
  const std::string begin_;
  const std::string end_;
  const std::unique_ptr<Cursor> below_;
  std::vector<Run> runs_;  // newest first
  bool valid_ = false;
  absl::string_view key_;
  const BufferRecord* record_ = nullptr;  // null: below_ has it
};

BufferedView::BufferedView(std::vector<BufferTable::Frozen> frozen,
                           std::unique_ptr<View> below)
    : frozen_(std::move(frozen)), below_(std::move(below)) {
  std::reverse(frozen_.begin(), frozen_.end());
  for (const BufferTable::Frozen& generation : frozen_) {
    for (const DeletedRange& range : generation->ranges) {
      ranges_.push_back(&range);
    }
  }
}

bool BufferedView::Hidden(absl::string_view key) const {
  return std::any_of(
      ranges_.begin(), ranges_.end(),
      [key](const DeletedRange* range) { return range->Covers(key); });
}

absl::StatusOr<bool> BufferedView::Get(absl::string_view key,
                                       std::string* value) const {
  for (const BufferTable::Frozen& generation : frozen_) {
    const Sequence& records = generation->Sorted();
    const auto it = LowerBound(records.begin(), records.end(), key);
    if (it == records.end() || (*it)->key() != key) continue;
    if ((*it)->deleted()) return false;
    value->assign((*it)->value().data(), (*it)->value().size());
    return true;
  }
  if (Hidden(key)) return false;
  return below_->Get(key, value);
}

std::unique_ptr<Cursor> BufferedView::NewCursor(absl::string_view begin,
                                                absl::string_view end,
                                                CacheUse cache) const {
  return std::make_unique<MergingCursor>(this, begin, end, cache);
}

RangeEstimate BufferedView::Estimate(absl::string_view begin,
                                     absl::string_view end) const {
  RangeEstimate estimate = below_->Estimate(begin, end);
  for (const BufferTable::Frozen& generation : frozen_) {
    const Sequence& records = generation->Sorted();
    for (auto it = LowerBound(records.begin(), records.end(), begin);
         it != records.end() && (*it)->key() < end; ++it) {
      ++estimate.keys;
      estimate.bytes += (*it)->key().size() + (*it)->value().size();
    }
  }
  return estimate;
}

}  // namespace kv739::kv
