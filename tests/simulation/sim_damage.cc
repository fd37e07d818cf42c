#include "tests/simulation/sim_damage.h"

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "server/wal/record.h"
#include "server/wal/segment.h"

namespace kv739::world {
namespace {

using wal::kSectorBytes;

// A file of the log and where damage in it is found.
struct LogFile {
  std::string path;
  std::string bytes;
  uint32_t version = 0;           // 0: no segment
  std::vector<uint64_t> records;  // that begin with a sector; last the end
  uint64_t end = 0;
  uint64_t last_write = 0;
  bool newest = false;

  bool FindsDamage(uint64_t begin, uint64_t size) const {
    if (version == 0 || !newest || begin >= end) return true;
    return last_write > wal::kFirstRecord && begin + size <= last_write;
  }
};

// False: a segment without a header.
bool Scan(uint64_t number, LogFile* file) {
  const auto header = wal::DecodeSegmentHeader(file->bytes);
  if (!header.ok() || header->number != number) return false;
  file->version = header->version;
  const wal::Seal seal = wal::SealOf(*header);
  uint64_t at = wal::kFirstRecord;
  while (at < file->bytes.size()) {
    if (at % kSectorBytes == 0) file->records.push_back(at);
    const auto record = wal::DecodeRecord(
        absl::string_view(file->bytes).substr(at), seal.At(at));
    if (!record) break;
    file->last_write = record->write_start;
    at += wal::RecordBytes(record->payload.size());
  }
  file->end = at;
  return true;
}

std::vector<LogFile> ScanAll(const wal::FakeFileSystem& files) {
  std::vector<LogFile> all;
  uint64_t newest = 0;
  size_t newest_at = 0;
  for (const std::string& path : files.Paths()) {
    LogFile file{.path = path, .bytes = files.Contents(path)};
    const auto number = wal::ParseSegmentName(path.substr(path.rfind('/') + 1));
    if (number && !Scan(*number, &file)) return {};
    if (number && *number > newest) {
      newest = *number;
      newest_at = all.size();
    }
    all.push_back(std::move(file));
  }
  if (newest == 0) return {};
  all[newest_at].newest = true;
  return all;
}

// Mostly where a record begins with a sector, so that what comes there is read
// from its beginning.
uint64_t DrawSector(const LogFile& file, sim::SimRandom* random) {
  if (!file.records.empty() && random->Chance(1, 2)) {
    return file.records[random->Below(file.records.size())];
  }
  // Where something is, or just behind.
  const uint64_t used = std::min<uint64_t>(
      file.bytes.size(), std::max(file.end, wal::kFirstRecord) + 8192);
  return random->Below(used / kSectorBytes) * kSectorBytes;
}

}  // namespace

bool FlipBit(wal::FakeFileSystem* files, sim::SimRandom* random) {
  const std::vector<LogFile> all = ScanAll(*files);
  if (all.empty()) return false;
  const LogFile& file = all[random->Below(all.size())];
  for (int i = 0; i < 50 && !file.bytes.empty(); ++i) {
    const uint64_t at = random->Below(file.bytes.size());
    if (file.bytes[at] == 0 || !file.FindsDamage(at, 1)) continue;
    files->FlipBit(file.path, at * 8 + random->Below(8));
    return true;
  }
  return false;
}

bool Misdirect(wal::FakeFileSystem* files, sim::SimRandom* random) {
  const std::vector<LogFile> all = ScanAll(*files);
  if (all.empty()) return false;
  for (int i = 0; i < 20; ++i) {
    const LogFile& from = all[random->Below(all.size())];
    const LogFile& to =
        random->Chance(1, 2) ? from : all[random->Below(all.size())];
    if (from.version == 0) continue;
    // Within one write of one segment, format 1 cannot tell.
    if (to.version == 1 && &to == &from) continue;
    const uint64_t source = DrawSector(from, random);
    const uint64_t target = DrawSector(to, random);
    const uint64_t size =
        std::min({random->Between(1, 16) * kSectorBytes,
                  from.bytes.size() - source, to.bytes.size() - target});
    const bool lost = random->Chance(1, 2);
    if (!to.FindsDamage(target, size) ||
        (lost && !from.FindsDamage(source, size))) {
      continue;
    }
    const std::string moved = from.bytes.substr(source, size);
    if (to.bytes.compare(target, size, moved) == 0) continue;
    std::string bytes = from.bytes;
    if (lost) {
      bytes.replace(source, size, size, '\0');
      files->SetContents(from.path, bytes);
    }
    if (&to != &from) bytes = to.bytes;
    bytes.replace(target, size, moved);
    files->SetContents(to.path, bytes);
    return true;
  }
  return false;
}

}  // namespace kv739::world
