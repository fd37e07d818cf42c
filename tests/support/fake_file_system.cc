#include "tests/support/fake_file_system.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kv739::wal {

// One call from its beginning to its end: asks the callbacks before it and
// tells the time after it, both without the lock.
class FakeFileSystem::Call {
 public:
  Call(FakeFileSystem* fs, DiskCall call) : fs_(fs), call_(std::move(call)) {
    const bool read = call_.op == DiskOp::kRead;
    std::unique_lock lock(fs_->mu_);
    if (auto hook = read ? fs_->read_hook_ : fs_->hook_; hook) {
      lock.unlock();
      hook();
      lock.lock();
    }
    if (!read) {
      if (fs_->down_) {
        status_ = Injected(Outcome::kCrash);
        return;
      }
      call_.operation = ++fs_->operations_;
    }
    if (auto faults = fs_->faults_; faults) {
      lock.unlock();
      fault_ = (*faults)(call_);
      lock.lock();
    }
    if (fault_.kind == DiskFault::kNoSpace) status_ = NoSpace();
    if (call_.op == DiskOp::kRead) {
      if (fault_.kind == DiskFault::kError) status_ = Injected(Outcome::kFail);
      return;
    }
    if (fault_.kind == DiskFault::kCrash || call_.operation == fs_->crash_at_) {
      outcome_ = Outcome::kCrash;
      fs_->down_ = true;
    } else if (fault_.kind == DiskFault::kError ||
               call_.operation == fs_->fail_at_) {
      outcome_ = Outcome::kFail;
    }
  }

  ~Call() {
    if (fault_.nanos == 0) return;
    Spend spend;
    {
      std::lock_guard lock(fs_->mu_);
      spend = fs_->spend_;
    }
    if (spend) spend(call_, fault_.nanos);
  }

  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // An error: the call ends with it before anything changes.
  const absl::Status& status() const { return status_; }
  Outcome outcome() const { return outcome_; }
  bool done() const { return outcome_ == Outcome::kDone; }
  const DiskFault& fault() const { return fault_; }
  absl::Status Result() const {
    return done() ? absl::OkStatus() : Injected(outcome_);
  }
  absl::Status NoSpace() const {
    return absl::ResourceExhaustedError(
        absl::StrCat(call_.size, " bytes for ", call_.path, ": no space"));
  }

 private:
  FakeFileSystem* const fs_;
  DiskCall call_;
  DiskFault fault_;
  absl::Status status_;
  Outcome outcome_ = Outcome::kDone;
};

class FakeFile : public File {
 public:
  FakeFile(FakeFileSystem* fs, FakeFileSystem::InodePtr inode, bool direct)
      : fs_(fs), inode_(std::move(inode)), direct_(direct) {}

  absl::Status WriteAt(uint64_t offset, absl::string_view data) override {
    if (offset % kBlockBytes != 0 || data.size() % kBlockBytes != 0 ||
        reinterpret_cast<uintptr_t>(data.data()) % kBlockBytes != 0) {
      std::fprintf(stderr, "unaligned write\n");
      std::abort();
    }
    FakeFileSystem::Call call(fs_,
                              {DiskOp::kWrite, Path(), offset, data.size()});
    if (!call.status().ok()) return call.status();
    std::lock_guard lock(fs_->mu_);
    if (offset + data.size() > inode_->now.size()) {
      std::fprintf(stderr, "write behind the end of the file\n");
      std::abort();
    }
    if (fs_->copy_on_write_ && fs_->Used() + data.size() > fs_->capacity_) {
      return call.NoSpace();
    }
    const DiskFault& fault = call.fault();
    if (fault.kind == DiskFault::kLose) return absl::OkStatus();
    FakeFileSystem::InodePtr target = inode_;
    if (fault.kind == DiskFault::kMisdirect) {
      offset = fault.offset;
      if (!fault.path.empty()) {
        auto it = fs_->now_.find(fault.path);
        if (it == fs_->now_.end()) return absl::OkStatus();
        target = it->second;
      }
    }
    FakeFileSystem::Write(*target, offset, data);
    if (fault.kind == DiskFault::kSyncFails && direct_) {
      FakeFileSystem::FailSync(*target, fault);
      return FakeFileSystem::Injected(FakeFileSystem::Outcome::kFail);
    }
    if (!call.done()) return call.Result();
    if (direct_) {
      FakeFileSystem::SyncInode(*target);
      ++fs_->syncs_;
    }
    return absl::OkStatus();
  }

  absl::Status ReadAt(uint64_t offset, uint64_t size,
                      char* out) const override {
    FakeFileSystem::Call call(fs_, {DiskOp::kRead, Path(), offset, size});
    if (!call.status().ok()) return call.status();
    std::lock_guard lock(fs_->mu_);
    if (offset + size > inode_->now.size()) {
      return absl::OutOfRangeError("behind the end of the file");
    }
    auto bad = inode_->unreadable.lower_bound(offset / kSectorBytes);
    if (bad != inode_->unreadable.end() &&
        *bad * kSectorBytes < offset + size) {
      return absl::InternalError(
          absl::StrCat("unreadable sector ", *bad, " (injected)"));
    }
    inode_->now.copy(out, size, offset);
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    FakeFileSystem::Call call(fs_, {DiskOp::kSync, Path()});
    if (!call.status().ok()) return call.status();
    std::lock_guard lock(fs_->mu_);
    if (call.fault().kind == DiskFault::kSyncFails) {
      FakeFileSystem::FailSync(*inode_, call.fault());
      return FakeFileSystem::Injected(FakeFileSystem::Outcome::kFail);
    }
    if (!call.done()) return call.Result();
    FakeFileSystem::SyncInode(*inode_);
    ++fs_->syncs_;
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Size() const override {
    std::lock_guard lock(fs_->mu_);
    return inode_->now.size();
  }

  bool sync_on_write() const override { return direct_; }

 private:
  std::string Path() const {
    std::lock_guard lock(fs_->mu_);
    return fs_->PathOf(inode_);
  }

  FakeFileSystem* const fs_;
  const FakeFileSystem::InodePtr inode_;
  const bool direct_;
};

void FakeFileSystem::Apply(const DirectoryChange& change,
                           std::map<std::string, InodePtr>* names) {
  if (!change.from.empty()) {
    auto it = names->find(change.from);
    // A change that builds on a lost one is lost with it.
    if (it == names->end() || it->second != change.inode) return;
    names->erase(it);
  }
  if (!change.to.empty()) (*names)[change.to] = change.inode;
}

void FakeFileSystem::SyncInode(Inode& inode) {
  for (uint64_t sector : inode.dirty) {
    const uint64_t at = sector * kSectorBytes;
    inode.durable.replace(at, kSectorBytes, inode.now, at, kSectorBytes);
  }
  inode.dirty.clear();
}

bool FakeFileSystem::Differs(const Inode& inode, uint64_t sector) {
  const uint64_t at = sector * kSectorBytes;
  return inode.now.compare(at, kSectorBytes, inode.durable, at, kSectorBytes) !=
         0;
}

void FakeFileSystem::Write(Inode& inode, uint64_t offset,
                           absl::string_view data) {
  if (offset >= inode.now.size()) return;
  data = data.substr(0, inode.now.size() - offset);
  inode.now.replace(offset, data.size(), data.data(), data.size());
  for (uint64_t at = offset; at < offset + data.size(); at += kSectorBytes) {
    inode.dirty.insert(at / kSectorBytes);
    inode.unreadable.erase(at / kSectorBytes);
  }
}

void FakeFileSystem::FailSync(Inode& inode, const DiskFault& fault) {
  for (uint64_t sector : inode.dirty) {
    if (!fault.survives || !fault.survives()) continue;
    const uint64_t at = sector * kSectorBytes;
    inode.durable.replace(at, kSectorBytes, inode.now, at, kSectorBytes);
  }
  inode.dirty.clear();
}

// Empty: the file was removed.
std::string FakeFileSystem::PathOf(const InodePtr& inode) const {
  if (!faults_) return "";  // nobody asks
  for (const auto& [path, other] : now_) {
    if (other == inode) return path;
  }
  return "";
}

uint64_t FakeFileSystem::Used() const {
  uint64_t used = 0;
  for (const auto& [name, inode] : now_) used += inode->now.size();
  return used;
}

absl::Status FakeFileSystem::Injected(Outcome outcome) {
  return outcome == Outcome::kCrash ? absl::AbortedError("the machine is down")
                                    : absl::InternalError("injected failure");
}

absl::StatusOr<std::unique_ptr<File>> FakeFileSystem::Open(
    const std::string& path, bool direct) {
  std::lock_guard lock(mu_);
  auto it = now_.find(path);
  if (it == now_.end()) return absl::NotFoundError(path);
  return std::make_unique<FakeFile>(this, it->second, direct && grant_direct_);
}

absl::Status FakeFileSystem::CreateFilled(const std::string& path,
                                          uint64_t size) {
  Call call(this, {DiskOp::kCreate, path, 0, size});
  if (!call.status().ok()) return call.status();
  std::lock_guard lock(mu_);
  if (now_.contains(path)) return absl::AlreadyExistsError(path);
  if (Used() + size > capacity_) return call.NoSpace();
  auto inode = std::make_shared<Inode>();
  inode->now.assign(call.done() ? size : size / 2, '\0');
  inode->durable = inode->now;
  const DirectoryChange change{"", path, inode};
  if (call.outcome() != Outcome::kFail) {
    Apply(change, &now_);
    changes_.push_back(change);
  }
  return call.Result();
}

absl::Status FakeFileSystem::Rename(const std::string& from,
                                    const std::string& to) {
  Call call(this, {DiskOp::kRename, from});
  if (!call.status().ok()) return call.status();
  std::lock_guard lock(mu_);
  auto it = now_.find(from);
  if (it == now_.end()) return absl::NotFoundError(from);
  if (call.outcome() == Outcome::kFail) return call.Result();
  const DirectoryChange change{from, to, it->second};
  Apply(change, &now_);
  changes_.push_back(change);
  return call.Result();
}

absl::Status FakeFileSystem::Remove(const std::string& path) {
  Call call(this, {DiskOp::kRemove, path});
  if (!call.status().ok()) return call.status();
  std::lock_guard lock(mu_);
  auto it = now_.find(path);
  if (it == now_.end()) return absl::NotFoundError(path);
  if (call.outcome() == Outcome::kFail) return call.Result();
  const DirectoryChange change{path, "", it->second};
  Apply(change, &now_);
  changes_.push_back(change);
  return call.Result();
}

absl::Status FakeFileSystem::SyncDir(const std::string& dir) {
  Call call(this, {DiskOp::kSyncDir, dir});
  if (!call.status().ok()) return call.status();
  if (call.fault().kind == DiskFault::kSyncFails) {
    return Injected(Outcome::kFail);
  }
  if (!call.done()) return call.Result();
  std::lock_guard lock(mu_);
  changes_.clear();
  durable_ = now_;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> FakeFileSystem::List(
    const std::string& dir) {
  std::lock_guard lock(mu_);
  std::vector<std::string> names;
  for (const auto& [path, inode] : now_) {
    const std::string prefix = dir + "/";
    if (absl::StartsWith(path, prefix)) {
      names.push_back(path.substr(prefix.size()));
    }
  }
  return names;
}

void FakeFileSystem::CrashAt(uint64_t operation) {
  std::lock_guard lock(mu_);
  crash_at_ = operation;
}

void FakeFileSystem::FailAt(uint64_t operation) {
  std::lock_guard lock(mu_);
  fail_at_ = operation;
}

void FakeFileSystem::SetCapacity(uint64_t bytes, bool copy_on_write) {
  std::lock_guard lock(mu_);
  capacity_ = bytes;
  copy_on_write_ = copy_on_write;
}

void FakeFileSystem::SetFaults(FaultSource faults, Spend spend) {
  std::lock_guard lock(mu_);
  faults_ = faults ? std::make_shared<FaultSource>(std::move(faults)) : nullptr;
  spend_ = std::move(spend);
}

void FakeFileSystem::MakeUnreadable(const std::string& path, uint64_t offset,
                                    uint64_t size) {
  std::lock_guard lock(mu_);
  Inode& inode = *now_.at(path);
  for (uint64_t at = offset / kSectorBytes; at * kSectorBytes < offset + size;
       ++at) {
    inode.unreadable.insert(at);
  }
}

void FakeFileSystem::DropCaches() {
  std::lock_guard lock(mu_);
  for (auto& [path, inode] : now_) {
    std::string fresh = inode->durable;
    for (uint64_t sector : inode->dirty) {
      const uint64_t at = sector * kSectorBytes;
      fresh.replace(at, kSectorBytes, inode->now, at, kSectorBytes);
    }
    inode->now = std::move(fresh);
  }
}

void FakeFileSystem::PowerLoss(const Survives& survives,
                               const Arrives& arrives) {
  std::lock_guard lock(mu_);
  for (const DirectoryChange& change : changes_) {
    if (survives()) Apply(change, &durable_);
  }
  changes_.clear();
  now_ = durable_;
  for (auto& [path, inode] : now_) {
    for (uint64_t sector : inode->dirty) {
      const uint64_t at = sector * kSectorBytes;
      if (!Differs(*inode, sector) || !survives()) continue;
      const uint64_t bytes =
          arrives ? std::min(arrives(), kSectorBytes) : kSectorBytes;
      inode->durable.replace(at, bytes, inode->now, at, bytes);
    }
    inode->dirty.clear();
    inode->now = inode->durable;
  }
  crash_at_ = 0;
  down_ = false;
}

void FakeFileSystem::Restart() {
  std::lock_guard lock(mu_);
  crash_at_ = 0;
  down_ = false;
}

uint64_t FakeFileSystem::operations() const {
  std::lock_guard lock(mu_);
  return operations_;
}

uint64_t FakeFileSystem::unsynced() const {
  std::lock_guard lock(mu_);
  uint64_t count = changes_.size();
  for (const auto& [path, inode] : now_) {
    for (uint64_t sector : inode->dirty) count += Differs(*inode, sector);
  }
  return count;
}

uint64_t FakeFileSystem::syncs() const {
  std::lock_guard lock(mu_);
  return syncs_;
}

std::vector<std::string> FakeFileSystem::Paths() const {
  std::lock_guard lock(mu_);
  std::vector<std::string> paths;
  for (const auto& [path, inode] : now_) paths.push_back(path);
  return paths;
}

std::string FakeFileSystem::Contents(const std::string& path) const {
  std::lock_guard lock(mu_);
  return now_.at(path)->now;
}

uint64_t FakeFileSystem::FileBytes(const std::string& path) const {
  std::lock_guard lock(mu_);
  return now_.at(path)->now.size();
}

void FakeFileSystem::SetContents(const std::string& path, std::string bytes) {
  std::lock_guard lock(mu_);
  Inode& inode = *now_.at(path);
  inode.now = inode.durable = std::move(bytes);
  inode.dirty.clear();
}

void FakeFileSystem::FlipBit(const std::string& path, uint64_t bit) {
  std::lock_guard lock(mu_);
  Inode& inode = *now_.at(path);
  for (std::string* bytes : {&inode.now, &inode.durable}) {
    (*bytes)[bit / 8] = static_cast<char>((*bytes)[bit / 8] ^ (1 << bit % 8));
  }
}

void FakeFileSystem::Delete(const std::string& path) {
  std::lock_guard lock(mu_);
  now_.erase(path);
  durable_.erase(path);
}

void FakeFileSystem::SetHook(std::function<void()> hook) {
  std::lock_guard lock(mu_);
  hook_ = std::move(hook);
}

void FakeFileSystem::SetReadHook(std::function<void()> hook) {
  std::lock_guard lock(mu_);
  read_hook_ = std::move(hook);
}

}  // namespace kv739::wal
