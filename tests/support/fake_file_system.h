// A file system in memory that does what a disk may do to those who do not
// sync: unsynced sectors and directory entries survive a power loss or not,
// each for itself. And one that fails, fills up, or stops at a chosen
// operation.
//
// An operation is a call that changes something: WriteAt, Sync, CreateFilled,
// Rename, Remove, SyncDir. They are counted from 1. Thread-safe.
#ifndef KV739_TESTS_SUPPORT_FAKE_FILE_SYSTEM_H_
#define KV739_TESTS_SUPPORT_FAKE_FILE_SYSTEM_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "server/wal/file_system.h"

namespace kv739::wal {

inline constexpr uint64_t kSectorBytes = 512;

class FakeFileSystem : public FileSystem {
 public:
  // Decides for each unsynced sector or directory change whether it survives.
  using Survives = std::function<bool()>;

  // With `grant_direct`, files opened direct are durable when WriteAt returns.
  explicit FakeFileSystem(bool grant_direct = true)
      : grant_direct_(grant_direct) {}

  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             bool direct) override;
  absl::Status CreateFilled(const std::string& path, uint64_t size) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDir(const std::string& dir) override;
  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override;

  // ---- faults ----

  // The operation with this number is begun and not finished: what it writes
  // may or may not survive. It and all later ones fail until PowerLoss() or
  // Restart(). 0: never.
  void CrashAt(uint64_t operation);
  // The operation with this number fails, and only that one. What it writes is
  // not durable. 0: never.
  void FailAt(uint64_t operation);
  void SetCapacity(uint64_t bytes);  // of all files; CreateFilled obeys it
  // What is not synced survives or not as `survives` says.
  void PowerLoss(const Survives& survives);
  // Only the process ended: everything written is there, and what was not
  // synced is still not.
  void Restart();

  // ---- looking in, and damage ----

  uint64_t operations() const;
  uint64_t syncs() const;  // durable writes and syncs of files
  std::vector<std::string> Paths() const;
  std::string Contents(const std::string& path) const;
  // Replaces a file's bytes, durably.
  void SetContents(const std::string& path, std::string bytes);
  void FlipBit(const std::string& path, uint64_t bit);
  void Delete(const std::string& path);
  // Called at the start of every operation, without locks.
  void SetHook(std::function<void()> hook);
  // The same for every ReadAt.
  void SetReadHook(std::function<void()> hook);

 private:
  friend class FakeFile;

  struct Inode {
    std::string now;           // what a reader sees
    std::string durable;       // what is on the disk
    std::set<uint64_t> dirty;  // sectors that differ
  };
  using InodePtr = std::shared_ptr<Inode>;
  struct DirectoryChange {
    std::string from;  // empty: created
    std::string to;    // empty: removed
    InodePtr inode;
  };
  enum class Outcome { kDone, kCrash, kFail };

  static void Apply(const DirectoryChange& change,
                    std::map<std::string, InodePtr>* names);
  static void SyncInode(Inode& inode);
  absl::Status Begin(Outcome* outcome);
  static absl::Status Injected(Outcome outcome);

  const bool grant_direct_;
  mutable std::mutex mu_;
  std::map<std::string, InodePtr> now_;
  std::map<std::string, InodePtr> durable_;
  std::vector<DirectoryChange> changes_;  // unsynced
  uint64_t operations_ = 0;
  uint64_t syncs_ = 0;
  uint64_t crash_at_ = 0;
  uint64_t fail_at_ = 0;
  uint64_t capacity_ = ~uint64_t{0};
  bool down_ = false;
  std::function<void()> hook_;
  std::function<void()> read_hook_;
};

}  // namespace kv739::wal

#endif  // KV739_TESTS_SUPPORT_FAKE_FILE_SYSTEM_H_
