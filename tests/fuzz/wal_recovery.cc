// Opens a log whose files are not what was written. Promises: no bytes stop the
// process; a log that opens holds a state that holds together, goes on, and
// opens again with the same; and of a log that was whole, damage leaves the
// state after some prefix of what was written, or a refusal.
#include <algorithm>
#include <memory>
#include <random>

#include "raft/core.h"
#include "server/wal/record.h"
#include "server/wal/segment.h"
#include "server/wal/wal.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_file_system.h"
#include "tests/support/wal_model.h"

namespace kv739::fuzz {
namespace {

using namespace wal;  // NOLINT: a target of that namespace

constexpr char kDir[] = "wal";
constexpr uint64_t kLogId = 739;
constexpr uint64_t kSegmentBlocks = 4;
constexpr size_t kMaxFileBytes = 4 * kSegmentBlocks * kBlockBytes;

WalOptions Options() {
  WalOptions options;
  options.segment_bytes = kSegmentBlocks * kBlockBytes;
  options.new_log_id = kLogId;
  options.cache_bytes = 4096;
  return options;
}

// What opens must hold together, go on, and open again.
// `found` is for logs that were written as a whole.
void Use(FakeFileSystem* fs, ModelState* found) {
  auto opened = Wal::Open(fs, kDir, Options());
  if (!opened.ok()) return;
  std::unique_ptr<Wal> log = *std::move(opened);
  absl::StatusOr<ModelState> state = Observe(*log);
  KV739_FUZZ_CHECK(state.ok(), state.status().ToString());
  if (found != nullptr) *found = *state;
  std::vector<GroupWrite> writes;
  ModelState expected = *state;
  for (const auto& [group, model] : *state) {
    GroupWrite write;
    write.group = group;
    const raft::Term term =
        model.entries.empty() ? model.start.term : model.entries.back().term;
    write.entries.push_back(MakeEntry(std::max<uint64_t>(term.value(), 1),
                                      model.last().value() + 1, "goes on"));
    writes.push_back(std::move(write));
  }
  const absl::Status appended = log->Append(writes);
  KV739_FUZZ_CHECK(appended.ok(), appended.ToString());
  expected = ModelAfter(expected, writes);
  log.reset();
  auto again = Wal::Open(fs, kDir, Options());
  KV739_FUZZ_CHECK(again.ok(), again.status().ToString());
  state = Observe(**again);
  KV739_FUZZ_CHECK(state.ok(), state.status().ToString());
  // A commit index that was held down to the end of the log may rise with it.
  for (auto& [group, model] : *state) {
    model.hard_state.commit = expected[group].hard_state.commit;
  }
  KV739_FUZZ_CHECK(*state == Normalized(expected),
                   Describe(*state) + "\ninstead of\n" + Describe(expected));
}

std::string FileName(Input* in) {
  switch (in->Below(8)) {
    case 0:
      return SpareName(in->Number());
    case 1:
      return FillingName(in->Number());
    case 2:
      return SegmentName(in->Number());
    case 3:
      return absl::StrCat(std::string(in->Bytes(16)), ".wal");
    default:
      return SegmentName(1 + in->Below(3));
  }
}

void AddRecord(Input* in, uint64_t number, uint32_t version,
               std::string* file) {
  Record record;
  record.kind = static_cast<RecordKind>(in->Below(6));
  record.flags = in->Below(4) == 0 ? in->Byte() : 0;
  record.entry_kind = static_cast<raft::EntryKind>(1 + in->Below(3));
  record.group = raft::GroupId(in->Below(3));
  record.term = raft::Term(in->Number());
  record.index = raft::Index(in->Number());
  record.write_start = in->Below(4) == 0 ? 8 * in->Number() : file->size();
  const std::string payload(in->Bytes(300));
  char vote[kVoteBytes];
  record.payload = payload;
  if (record.kind == RecordKind::kHardState && in->Below(8) != 0) {
    EncodeVote(raft::NodeId(in->Number()), vote);
    record.payload = absl::string_view(vote, sizeof vote);
  }
  const size_t at = file->size();
  file->resize(at + RecordBytes(record.payload.size()));
  EncodeRecord(record, SealOf({kLogId, number, 0, version}).At(at),
               file->data() + at);
}

// Records with good checksums that say anything.
std::string File(Input* in, uint64_t number) {
  std::string file(kBlockBytes, '\0');
  SegmentHeader header{kLogId, number, kFirstRecord};
  if (in->Below(4) == 0) header.previous_end = 8 * in->Number();
  if (in->Below(16) == 0) header.log_id = in->Number();
  if (in->Below(16) == 0) header.number = in->Number();
  // Both, without asking the input, so that kept inputs mean what they did.
  header.version = number % 2 == 0 ? kOldestFormat : kFormatVersion;
  EncodeSegmentHeader(header, file.data());
  for (uint64_t records = in->Below(24); records > 0; --records) {
    AddRecord(in, number, header.version, &file);
  }
  if (in->Below(4) == 0) Damage(in, &file);
  if (in->Below(4) != 0 && file.size() < Options().segment_bytes) {
    file.resize(Options().segment_bytes);
  }
  return file;
}

void Put(FakeFileSystem* fs, const std::string& path, std::string bytes) {
  // There may be one of this name already.
  fs->CreateFilled(path, 0).IgnoreError();
  fs->SetContents(path, std::move(bytes));
}

void Arbitrary(Input* in) {
  FakeFileSystem fs;
  for (uint64_t files = 1 + in->Below(4); files > 0; --files) {
    const std::string path = absl::StrCat(kDir, "/", FileName(in));
    Put(&fs, path, std::string(in->Bytes(kMaxFileBytes)));
  }
  Use(&fs, nullptr);
}

void Wellformed(Input* in) {
  FakeFileSystem fs;
  const uint64_t first = 1 + in->Below(3);
  std::string before;
  for (uint64_t i = 0, files = 1 + in->Below(3); i < files; ++i) {
    const uint64_t number = first + i;
    std::string file = File(in, number);
    if (i > 0 && in->Below(4) != 0 && file.size() >= kBlockBytes) {
      // Where the one before really ends.
      uint64_t end = kFirstRecord;
      const auto former = DecodeSegmentHeader(before);
      const Seal seal =
          SealOf({kLogId, number - 1, 0, former.ok() ? former->version : 1});
      while (end < before.size()) {
        const auto record =
            DecodeRecord(absl::string_view(before).substr(end), seal.At(end));
        if (!record) break;
        end += RecordBytes(record->payload.size());
      }
      const auto header = DecodeSegmentHeader(file);
      EncodeSegmentHeader(
          {kLogId, number, end, header.ok() ? header->version : kFormatVersion},
          file.data());
    }
    Put(&fs, absl::StrCat(kDir, "/", SegmentName(number)), file);
    before = std::move(file);
  }
  Use(&fs, nullptr);
}

void Damaged(Input* in) {
  FakeFileSystem fs;
  std::mt19937_64 random(in->Byte());
  WorkloadOptions workload;
  workload.max_payload = 700;
  ModelState state;
  // A state may follow from more than one prefix.
  std::vector<ModelState> prefixes = {Normalized(state)};
  {
    auto log = Wal::Open(&fs, kDir, Options());
    KV739_FUZZ_CHECK(log.ok(), log.status().ToString());
    for (uint64_t appends = 1 + in->Below(12); appends > 0; --appends) {
      const std::vector<GroupWrite> writes =
          RandomWrites(state, workload, random);
      for (const ModelState& step : ModelSteps(state, writes)) {
        prefixes.push_back(Normalized(step));
      }
      KV739_FUZZ_CHECK((*log)->Append(writes).ok(), "an append failed");
      state = ModelAfter(state, writes);
      if (in->Bool()) (*log)->Maintain().IgnoreError();
    }
  }
  std::vector<std::string> segments;
  for (const std::string& path : fs.Paths()) {
    if (path.size() > 4 && path.substr(path.size() - 4) == ".wal") {
      segments.push_back(path);
    }
  }
  for (uint64_t times = 1 + in->Below(3); times > 0; --times) {
    const std::string& path = segments[in->Below(segments.size())];
    std::string file = fs.Contents(path);
    // Damage() reaches 64 KiB; these files are as large at most.
    Damage(in, &file);
    fs.SetContents(path, std::move(file));
  }
  ModelState found;
  Use(&fs, &found);
  // A log without segments in force reads as empty too; so does one that was
  // refused, as far as `found` goes.
  KV739_FUZZ_CHECK(found.empty() || std::find(prefixes.begin(), prefixes.end(),
                                              found) != prefixes.end(),
                   Describe(found));
}

}  // namespace

KV739_FUZZ_TARGET(wal_recovery, 600) {
  Input in(bytes);
  switch (in.Below(4)) {
    case 0:
      return Arbitrary(&in);
    case 1:
      return Damaged(&in);
    default:
      return Wellformed(&in);
  }
}

}  // namespace kv739::fuzz
