#include "server/timed_file_system.h"

#include <string>
#include <utility>
#include <vector>

namespace kv739::server {
namespace {

class TimedFile : public wal::File {
 public:
  TimedFile(std::unique_ptr<wal::File> below, SyncMonitor* monitor)
      : below_(std::move(below)), monitor_(monitor) {}

  absl::Status WriteAt(uint64_t offset, absl::string_view data) override {
    // Otherwise it only fills the page cache, and Sync() is what takes time.
    if (!below_->sync_on_write()) return below_->WriteAt(offset, data);
    SyncMonitor::Sync sync(monitor_);
    absl::Status s = below_->WriteAt(offset, data);
    sync.Done(s.ok());
    return s;
  }

  absl::Status ReadAt(uint64_t offset, uint64_t size,
                      char* out) const override {
    return below_->ReadAt(offset, size, out);
  }

  absl::Status Sync() override {
    if (below_->sync_on_write()) return below_->Sync();
    SyncMonitor::Sync sync(monitor_);
    absl::Status s = below_->Sync();
    sync.Done(s.ok());
    return s;
  }

  absl::StatusOr<uint64_t> Size() const override { return below_->Size(); }
  bool sync_on_write() const override { return below_->sync_on_write(); }

 private:
  const std::unique_ptr<wal::File> below_;
  SyncMonitor* const monitor_;
};

class TimedFileSystem : public wal::FileSystem {
 public:
  TimedFileSystem(wal::FileSystem* below, SyncMonitor* monitor)
      : below_(below), monitor_(monitor) {}

  absl::StatusOr<std::unique_ptr<wal::File>> Open(const std::string& path,
                                                  bool direct) override {
    auto file = below_->Open(path, direct);
    if (!file.ok()) return file.status();
    return std::make_unique<TimedFile>(*std::move(file), monitor_);
  }
  absl::Status CreateFilled(const std::string& path, uint64_t size) override {
    return below_->CreateFilled(path, size);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return below_->Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override {
    return below_->Remove(path);
  }
  absl::Status SyncDir(const std::string& dir) override {
    return below_->SyncDir(dir);
  }
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override {
    return below_->List(dir);
  }

 private:
  wal::FileSystem* const below_;
  SyncMonitor* const monitor_;
};

}  // namespace

std::unique_ptr<wal::FileSystem> MakeTimedFileSystem(wal::FileSystem* below,
                                                     SyncMonitor* monitor) {
  return std::make_unique<TimedFileSystem>(below, monitor);
}

}  // namespace kv739::server
