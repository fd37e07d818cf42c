#include "kv/pending_writes.h"

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "kv/records.h"

namespace kv739::kv {

void PendingWrites::Item::Reset() {
  wanted_ = known_ = found_ = changed_ = false;
  version_ = 0;
  value_ = {};
  lent_ = LentValue();
  made_ = std::string();
}

PendingWrites::Item* PendingWrites::Name(absl::string_view key) {
  SetDataKey(group_, key, &key_buffer_);
  const HashedKey data_key{key_buffer_, HashKey(key_buffer_)};
  const auto it = by_key_.find(data_key);
  if (it != by_key_.end()) return *it;
  if (used_ == items_.size()) items_.emplace_back();
  Item& item = items_[used_++];
  item.data_key_.assign(key_buffer_);
  item.hash_ = data_key.hash;
  by_key_.insert(&item);
  return &item;
}

bool PendingWrites::Item::Decode() {
  known_ = found_ =
      DecodeValueRecord(data_key_, lent_.bytes(), &version_, &value_);
  return found_;
}

void PendingWrites::ReadTogether(const Engine& engine) {
  while (looked_at_ < used_) {
    reads_.clear();
    const size_t first = looked_at_;
    for (; looked_at_ < used_ && reads_.size() < kMaxReadTogether;
         ++looked_at_) {
      Item& item = items_[looked_at_];
      if (item.IsToBeRead()) {
        reads_.push_back({item.data_key(), &item.lent_});
      }
    }
    if (reads_.empty()) continue;
    engine.ReadTogether(absl::MakeSpan(reads_));
    auto read = reads_.begin();
    for (size_t n = first; n < looked_at_; ++n) {
      Item& item = items_[n];
      if (!item.IsToBeRead()) continue;
      if (read->done && !read->found) item.known_ = true;
      // A record that is none is found again, and told, by Read().
      if (read->done && read->found) item.Decode();
      ++read;
    }
  }
}

absl::Status PendingWrites::Read(const Engine& engine, Item* item) {
  if (item->known_) return absl::OkStatus();
  absl::StatusOr<bool> found = engine.Read(item->data_key(), &item->lent_);
  if (!found.ok()) return found.status();
  if (*found && !item->Decode()) {
    return absl::DataLossError(
        absl::StrCat("group ", group_.value(), ": damaged value"));
  }
  item->known_ = true;
  return absl::OkStatus();
}

void PendingWrites::WriteTo(Batch* batch) {
  for (size_t n = 0; n < used_; ++n) {
    const Item& item = items_[n];
    if (!item.changed_) continue;
    if (item.found_) {
      SetValueRecord(item.data_key_, item.version_, item.value_,
                     &record_buffer_);
      batch->PutHashed(item.data_key(), record_buffer_);
    } else {
      batch->Delete(item.data_key_);
    }
  }
}

void PendingWrites::Clear() {
  by_key_.clear();
  for (size_t n = 0; n < used_; ++n) items_[n].Reset();
  if (items_.size() > kItemsKept) items_.resize(kItemsKept);
  used_ = looked_at_ = 0;
}

}  // namespace kv739::kv
