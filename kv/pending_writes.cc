#include "kv/pending_writes.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/records.h"

namespace kv739::kv {

absl::StatusOr<PendingWrites::Item*> PendingWrites::Find(
    const Engine& engine, absl::string_view key) {
  const auto [it, fresh] = by_key_.try_emplace(key, nullptr);
  if (!fresh) return it->second;
  Item& item = items_.emplace_back();
  it->second = &item;
  item.key_ = key;
  SetDataKey(group_, key, &key_buffer_);
  absl::StatusOr<bool> found = engine.Read(key_buffer_, &item.read_);
  if (!found.ok()) return found.status();
  if (*found) {
    if (!DecodeValueRecord(key_buffer_, item.read_.bytes(), &item.version_,
                           &item.value_)) {
      return absl::DataLossError(
          absl::StrCat("group ", group_.value(), ": damaged value"));
    }
    item.found_ = true;
  }
  return &item;
}

void PendingWrites::WriteTo(Batch* batch) {
  for (const Item& item : items_) {
    if (!item.changed_) continue;
    SetDataKey(group_, item.key_, &key_buffer_);
    if (item.found_) {
      SetValueRecord(key_buffer_, item.version_, item.value_, &record_buffer_);
      batch->Put(key_buffer_, record_buffer_);
    } else {
      batch->Delete(key_buffer_);
    }
  }
}

void PendingWrites::Clear() {
  by_key_.clear();
  items_.clear();
}

}  // namespace kv739::kv
