// Reading entries back: from the cache where it has them, else from the files.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/wal/wal_impl.h"

namespace kv739::wal {
namespace {

// Neighbouring records are fetched with one read of at most this much, other
// groups' records between them included.
constexpr uint64_t kMaxReadBytes = 1 << 20;

}  // namespace

// One entry: complete when it was cached, else where it lies. Holding the
// segment keeps its file from being used again.
struct WalImpl::Piece {
  raft::Entry entry;
  Location at;
  std::shared_ptr<Segment> segment;
};

absl::StatusOr<std::vector<raft::Entry>> WalImpl::Read(raft::GroupId group,
                                                       raft::Index first,
                                                       raft::Index last,
                                                       uint64_t max_bytes) {
  std::vector<Piece> pieces;
  {
    std::lock_guard lock(mu_);
    if (!failure_.ok()) return failure_;
    const GroupLog* log = index_.Find(group);
    if (log == nullptr || !log->Has(first) || last < first) {
      return absl::OutOfRangeError(absl::StrCat(
          "group ", group.value(), " has no entry ", first.value()));
    }
    uint64_t bytes = 0;
    for (raft::Index i = first; i <= std::min(last, log->last()); ++i) {
      const Slot& slot = log->At(i);
      bytes += slot.at.payload_bytes;
      if (bytes > max_bytes && i > first) break;
      Piece& piece = pieces.emplace_back();
      piece.entry = {log->TermAt(i), i, slot.kind, slot.cached};
      if (slot.cached == nullptr) {
        piece.at = slot.at;
        const uint64_t front = segments_.front().segment->number;
        piece.segment = segments_[slot.at.segment - front].segment;
      }
    }
  }
  std::string buffer;
  std::vector<raft::Entry> entries;
  entries.reserve(pieces.size());
  for (size_t i = 0; i < pieces.size();) {
    if (pieces[i].entry.data != nullptr) {
      entries.push_back(std::move(pieces[i++].entry));
      continue;
    }
    // As many as lie behind one another in one stretch.
    const Segment& segment = *pieces[i].segment;
    const uint64_t begin = pieces[i].at.offset();
    uint64_t end = begin + pieces[i].at.bytes();
    size_t behind = i + 1;
    for (; behind < pieces.size(); ++behind) {
      const Piece& next = pieces[behind];
      if (next.entry.data != nullptr || next.segment.get() != &segment) break;
      const uint64_t next_end = next.at.offset() + next.at.bytes();
      if (next.at.offset() < end || next_end - begin > kMaxReadBytes) break;
      end = next_end;
    }
    buffer.resize(end - begin);
    absl::Status s = segment.file->ReadAt(begin, end - begin, buffer.data());
    if (!s.ok()) return s;
    for (; i < behind; ++i) {
      Piece& piece = pieces[i];
      const std::optional<Record> record = DecodeRecord(
          absl::string_view(buffer).substr(piece.at.offset() - begin),
          segment.seal.At(piece.at.offset()));
      if (!record || record->kind != RecordKind::kEntry ||
          record->group != group || record->index != piece.entry.index ||
          record->term != piece.entry.term) {
        return absl::DataLossError(
            absl::StrCat(segment.path, " at offset ", piece.at.offset(),
                         ": entry ", piece.entry.index.value(), " of group ",
                         group.value(), " fails its checksum"));
      }
      piece.entry.data = raft::MakePayload(std::string(record->payload));
      entries.push_back(std::move(piece.entry));
    }
  }
  return entries;
}

}  // namespace kv739::wal
