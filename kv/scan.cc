#include "kv/scan.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kv/records.h"

namespace kv739::kv {
namespace {

using raft::GroupId;

uint32_t Bound(uint32_t wanted, uint32_t limit) {
  return wanted == 0 ? limit : std::min(wanted, limit);
}

class Pager {
 public:
  Pager(const View& view, GroupId group, const ScanRequest& request,
        ScanPage* page)
      : group_(group),
        request_(request),
        page_(page),
        max_keys_(Bound(request.max_keys, kMaxScanKeys)),
        max_bytes_(Bound(request.max_bytes, kMaxScanBytes)),
        cursor_(view.NewCursor(SlotBegin(group, request.slot),
                               SlotBegin(group, request.end_slot),
                               CacheUse::kFill)) {}

  absl::Status Run() {
    // What ends the page sooner says where.
    EndAt(request_.end_slot, "");
    if (!Seek(request_.slot, std::max(request_.from, request_.prefix))) {
      return absl::OkStatus();
    }
    uint32_t slot = request_.slot;
    while (cursor_->Valid()) {
      uint32_t at = 0;
      absl::string_view key;
      if (!ParseDataKey(cursor_->key(), &at, &key)) return Damaged("key");
      if (at != slot && key < request_.prefix) {
        slot = at;
        if (!Seek(slot, request_.prefix)) break;
        continue;
      }
      slot = at;
      if (!absl::StartsWith(key, request_.prefix)) {
        // Beyond all that begin with it.
        if (++slot >= request_.end_slot || !Seek(slot, request_.prefix)) break;
        continue;
      }
      bool full = false;
      absl::Status status = Take(slot, key, &full);
      if (!status.ok()) return status;
      if (full) return absl::OkStatus();
      cursor_->Next();
    }
    return cursor_->status();
  }

 private:
  absl::Status Damaged(absl::string_view what) const {
    return absl::DataLossError(absl::StrCat("group ", group_.value(),
                                            ": damaged or malformed ", what));
  }
  void EndAt(uint32_t slot, absl::string_view from) {
    page_->more = slot < kSlotCount;
    page_->next_slot = slot;
    page_->next_from = std::string(from);
  }
  // False: it was done often enough, the page is over.
  bool Seek(uint32_t slot, const std::string& from) {
    if (page_->seeks == kMaxScanSeeks) {
      EndAt(slot, from == request_.prefix ? "" : from);
      return false;
    }
    ++page_->seeks;
    cursor_->Seek(SlotBegin(group_, slot) + from);
    return true;
  }
  absl::Status Take(uint32_t slot, absl::string_view key, bool* full) {
    ScanPage::Entry entry;
    absl::string_view value;
    const absl::string_view record = cursor_->value();
    if (!DecodeValueRecord(cursor_->key(), record, &entry.version, &value)) {
      return Damaged("value");
    }
    const absl::string_view wanted =
        request_.keys_only ? absl::string_view() : value;
    const uint64_t bytes = key.size() + wanted.size() + kScanEntryOverhead;
    *full =
        !page_->entries.empty() && (page_->entries.size() == max_keys_ ||
                                    page_->bytes + bytes > max_bytes_ ||
                                    read_ + value.size() > kMaxScanReadBytes);
    if (*full) {
      EndAt(slot, key);
      return absl::OkStatus();
    }
    entry.key = std::string(key);
    entry.value = std::string(wanted);
    page_->entries.push_back(std::move(entry));
    page_->bytes += bytes;
    read_ += value.size();
    return absl::OkStatus();
  }

  const GroupId group_;
  const ScanRequest& request_;
  ScanPage* const page_;
  const uint64_t max_keys_;
  const uint64_t max_bytes_;
  uint64_t read_ = 0;
  const std::unique_ptr<Cursor> cursor_;
};

}  // namespace

absl::Status ScanGroup(const View& view, GroupId group,
                       const ScanRequest& request, ScanPage* page) {
  // The group may have been taken from this store meanwhile; that there are no
  // keys would not be true then.
  std::string meta;
  const absl::StatusOr<bool> found = view.Get(MetaKey(group), &meta);
  if (!found.ok()) return found.status();
  if (!*found) {
    return absl::NotFoundError(
        absl::StrCat("group ", group.value(), " is not in this store"));
  }
  return Pager(view, group, request, page).Run();
}

}  // namespace kv739::kv
