// A file system in memory that does what a disk may do to those who do not
// sync: unsynced sectors and directory entries survive a power loss or not,
// each for itself. And one that fails, fills up, or stops at a chosen
// operation; loses, misplaces and forgets what it was given; becomes
// unreadable; or takes its time. It draws nothing itself: callbacks decide, so
// a simulator that answers them from its seed has the same disk every time.
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

enum class DiskOp { kWrite, kSync, kCreate, kRename, kRemove, kSyncDir, kRead };

// A call that is about to be carried out.
struct DiskCall {
  DiskOp op;
  std::string path;        // of SyncDir the directory
  uint64_t offset = 0;     // of kWrite and kRead
  uint64_t size = 0;       // of kWrite, kRead and kCreate
  uint64_t operation = 0;  // its number; of kRead 0
};

// What befalls it.
struct DiskFault {
  enum Kind {
    kNone,
    // The call fails and only it. What a write has written may reach the disk
    // later or never, as after any write without a sync.
    kError,
    // RESOURCE_EXHAUSTED and nothing changed.
    kNoSpace,
    // The machine stops in the middle of it: see CrashAt().
    kCrash,
    // A write that reports success. Its bytes land in `path` (empty: the same
    // file) at `offset`, cut at that file's end, or nowhere; where they
    // belonged is what was there before.
    kMisdirect,
    kLose,
    // A sync that fails the way kernels do: each unsynced sector gets to the
    // disk or not, as `survives` says, and all count as clean from then on.
    // Readers see the new bytes, the next sync succeeds, and the lost sectors
    // are gone with the next power loss or DropCaches(). The same for a write
    // to a file that syncs on write.
    kSyncFails,
  };
  Kind kind = kNone;
  uint64_t nanos = 0;  // that the call takes, whatever becomes of it
  std::string path;
  uint64_t offset = 0;             // a multiple of kSectorBytes
  std::function<bool()> survives;  // none: nothing does
};

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
  // Of all files; CreateFilled obeys it. With `copy_on_write`, overwriting
  // needs room of the size of the write too.
  void SetCapacity(uint64_t bytes, bool copy_on_write = false);
  // Asked before every call, ReadAt too; without locks. Called for each call
  // that takes time, after it, with that time: nobody waits here, the caller
  // lets its clock go on by as much.
  using FaultSource = std::function<DiskFault(const DiskCall&)>;
  using Spend = std::function<void(const DiskCall&, uint64_t nanos)>;
  void SetFaults(FaultSource faults, Spend spend = nullptr);
  // Reads that touch these bytes fail until all of them were written again or
  // the file is removed.
  void MakeUnreadable(const std::string& path, uint64_t offset, uint64_t size);
  // What is not synced survives or not as `survives` says; it is asked for each
  // directory change and for each sector that differs from the disk, so
  // unsynced() times at most (a change that builds on a lost one is lost
  // with it). Of a sector that
  // does, `arrives` says how many of its first bytes are the new ones (more
  // than a sector: all); without it all are.
  using Arrives = std::function<uint64_t()>;
  void PowerLoss(const Survives& survives, const Arrives& arrives = nullptr);
  // Clean sectors are read from the disk again: what a failed sync lost shows.
  void DropCaches();
  // Only the process ended: everything written is there, and what was not
  // synced is still not.
  void Restart();

  // ---- looking in, and damage ----

  uint64_t operations() const;
  uint64_t unsynced() const;
  uint64_t syncs() const;  // durable writes and syncs of files
  std::vector<std::string> Paths() const;
  std::string Contents(const std::string& path) const;
  uint64_t FileBytes(const std::string& path) const;
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
  friend class Call;

  struct Inode {
    std::string now;                // what a reader sees
    std::string durable;            // what is on the disk
    std::set<uint64_t> dirty;       // sectors that a sync would write
    std::set<uint64_t> unreadable;  // sectors
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
  static bool Differs(const Inode& inode, uint64_t sector);
  class Call;
  static absl::Status Injected(Outcome outcome);
  std::string PathOf(const InodePtr& inode) const;
  uint64_t Used() const;
  static void Write(Inode& inode, uint64_t offset, absl::string_view data);
  static void FailSync(Inode& inode, const DiskFault& fault);

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
  bool copy_on_write_ = false;
  bool down_ = false;
  std::function<void()> hook_;
  std::function<void()> read_hook_;
  std::shared_ptr<FaultSource> faults_;  // null: none
  Spend spend_;
};

}  // namespace kv739::wal

#endif  // KV739_TESTS_SUPPORT_FAKE_FILE_SYSTEM_H_
