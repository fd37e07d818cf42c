// What the write-ahead log costs per entry apart from the disk: records,
// checksums, index, cache and the copies, on files in memory whose sync does
// nothing. The disk's part: wal_bench.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "server/wal/wal.h"

namespace kv739::wal {
namespace {

class MemoryFile : public File {
 public:
  explicit MemoryFile(std::shared_ptr<std::string> bytes)
      : bytes_(std::move(bytes)) {}
  absl::Status WriteAt(uint64_t offset, absl::string_view data) override {
    if (offset + data.size() > bytes_->size()) {
      return absl::OutOfRangeError("beyond the file");
    }
    std::memcpy(bytes_->data() + offset, data.data(), data.size());
    return absl::OkStatus();
  }
  absl::Status ReadAt(uint64_t offset, uint64_t size,
                      char* out) const override {
    if (offset + size > bytes_->size()) {
      return absl::OutOfRangeError("beyond the file");
    }
    std::memcpy(out, bytes_->data() + offset, size);
    return absl::OkStatus();
  }
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::StatusOr<uint64_t> Size() const override { return bytes_->size(); }
  bool sync_on_write() const override { return true; }

 private:
  const std::shared_ptr<std::string> bytes_;
};

class MemoryFileSystem : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             bool) override {
    const auto found = files_.find(path);
    if (found == files_.end()) return absl::NotFoundError(path);
    return std::make_unique<MemoryFile>(found->second);
  }
  absl::Status CreateFilled(const std::string& path, uint64_t size) override {
    const auto made = files_.emplace(path, nullptr);
    if (!made.second) return absl::AlreadyExistsError(path);
    made.first->second = std::make_shared<std::string>(size, '\0');
    return absl::OkStatus();
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    auto node = files_.extract(from);
    if (node.empty()) return absl::NotFoundError(from);
    node.key() = to;
    files_.erase(to);
    files_.insert(std::move(node));
    return absl::OkStatus();
  }
  absl::Status Remove(const std::string& path) override {
    files_.erase(path);
    return absl::OkStatus();
  }
  absl::Status SyncDir(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override {
    std::vector<std::string> names;
    for (const auto& [path, bytes] : files_) {
      if (absl::StartsWith(path, dir + "/")) {
        names.push_back(path.substr(dir.size() + 1));
      }
    }
    return names;
  }

 private:
  std::map<std::string, std::shared_ptr<std::string>> files_;
};

void Require(const absl::Status& status) {
  if (!status.ok()) std::abort();
}

// `groups` groups get `batch` entries of 256 bytes each in one append.
void BM_LogAppend(benchmark::State& state) {
  const auto groups = static_cast<uint64_t>(state.range(0));
  const auto batch = static_cast<uint64_t>(state.range(1));
  constexpr uint64_t kKept = 4096;  // entries of a group, then it is compacted
  MemoryFileSystem files;
  WalOptions options;
  options.segment_bytes = 4 << 20;
  options.new_log_id = 739;
  auto wal = Wal::Open(&files, "wal", options);
  Require(wal.status());
  const raft::Payload payload = raft::MakePayload(std::string(256, 'x'));
  raft::Index last;
  std::vector<GroupWrite> writes(groups);
  for (auto _ : state) {
    for (uint64_t g = 0; g < groups; ++g) {
      GroupWrite& write = writes[g];
      write.group = raft::GroupId(g);
      write.hard_state = raft::HardState();
      write.hard_state->term = raft::Term(1);
      write.hard_state->commit = last;
      write.entries.clear();
      for (uint64_t i = 1; i <= batch; ++i) {
        write.entries.push_back(
            {raft::Term(1), last + i, raft::EntryKind::kCommand, payload});
      }
      write.compact.reset();
      if (last.value() > kKept && last.value() % kKept < batch) {
        write.compact = {raft::Term(1), last - batch};
      }
    }
    last = last + batch;
    Require((*wal)->Append(writes));
    while ((*wal)->wants_maintenance()) Require((*wal)->Maintain());
  }
  state.SetItemsProcessed(
      static_cast<int64_t>(state.iterations() * groups * batch));
}
BENCHMARK(BM_LogAppend)->Args({1, 1})->Args({1, 32})->Args({16, 4});

}  // namespace
}  // namespace kv739::wal
