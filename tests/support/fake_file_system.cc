#include "tests/support/fake_file_system.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kv739::wal {

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
    FakeFileSystem::Outcome outcome;
    if (absl::Status s = fs_->Begin(&outcome); !s.ok()) return s;
    std::lock_guard lock(fs_->mu_);
    if (offset + data.size() > inode_->now.size()) {
      std::fprintf(stderr, "write behind the end of the file\n");
      std::abort();
    }
    inode_->now.replace(offset, data.size(), data.data(), data.size());
    for (uint64_t at = offset; at < offset + data.size(); at += kSectorBytes) {
      inode_->dirty.insert(at / kSectorBytes);
    }
    if (outcome != FakeFileSystem::Outcome::kDone) {
      return FakeFileSystem::Injected(outcome);
    }
    if (direct_) {
      FakeFileSystem::SyncInode(*inode_);
      ++fs_->syncs_;
    }
    return absl::OkStatus();
  }

  absl::Status ReadAt(uint64_t offset, uint64_t size,
                      char* out) const override {
    std::function<void()> hook;
    {
      std::lock_guard lock(fs_->mu_);
      hook = fs_->read_hook_;
    }
    if (hook) hook();
    std::lock_guard lock(fs_->mu_);
    if (offset + size > inode_->now.size()) {
      return absl::OutOfRangeError("behind the end of the file");
    }
    inode_->now.copy(out, size, offset);
    return absl::OkStatus();
  }

  absl::Status Sync() override {
    FakeFileSystem::Outcome outcome;
    if (absl::Status s = fs_->Begin(&outcome); !s.ok()) return s;
    std::lock_guard lock(fs_->mu_);
    if (outcome != FakeFileSystem::Outcome::kDone) {
      return FakeFileSystem::Injected(outcome);
    }
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

absl::Status FakeFileSystem::Begin(Outcome* outcome) {
  std::function<void()> hook;
  {
    std::lock_guard lock(mu_);
    hook = hook_;
  }
  if (hook) hook();
  std::lock_guard lock(mu_);
  if (down_) return Injected(Outcome::kCrash);
  ++operations_;
  *outcome = operations_ == crash_at_  ? Outcome::kCrash
             : operations_ == fail_at_ ? Outcome::kFail
                                       : Outcome::kDone;
  down_ = *outcome == Outcome::kCrash;
  return absl::OkStatus();
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
  Outcome outcome;
  if (absl::Status s = Begin(&outcome); !s.ok()) return s;
  std::lock_guard lock(mu_);
  if (now_.contains(path)) return absl::AlreadyExistsError(path);
  uint64_t used = 0;
  for (const auto& [name, inode] : now_) used += inode->now.size();
  if (used + size > capacity_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("fill with ", size, " bytes ", path, ": no space"));
  }
  auto inode = std::make_shared<Inode>();
  const bool done = outcome == Outcome::kDone;
  inode->now.assign(done ? size : size / 2, '\0');
  inode->durable = inode->now;
  const DirectoryChange change{"", path, inode};
  if (outcome != Outcome::kFail) {
    Apply(change, &now_);
    changes_.push_back(change);
  }
  return done ? absl::OkStatus() : Injected(outcome);
}

absl::Status FakeFileSystem::Rename(const std::string& from,
                                    const std::string& to) {
  Outcome outcome;
  if (absl::Status s = Begin(&outcome); !s.ok()) return s;
  std::lock_guard lock(mu_);
  auto it = now_.find(from);
  if (it == now_.end()) return absl::NotFoundError(from);
  if (outcome == Outcome::kFail) return Injected(outcome);
  const DirectoryChange change{from, to, it->second};
  Apply(change, &now_);
  changes_.push_back(change);
  return outcome == Outcome::kDone ? absl::OkStatus() : Injected(outcome);
}

absl::Status FakeFileSystem::Remove(const std::string& path) {
  Outcome outcome;
  if (absl::Status s = Begin(&outcome); !s.ok()) return s;
  std::lock_guard lock(mu_);
  auto it = now_.find(path);
  if (it == now_.end()) return absl::NotFoundError(path);
  if (outcome == Outcome::kFail) return Injected(outcome);
  const DirectoryChange change{path, "", it->second};
  Apply(change, &now_);
  changes_.push_back(change);
  return outcome == Outcome::kDone ? absl::OkStatus() : Injected(outcome);
}

absl::Status FakeFileSystem::SyncDir(const std::string& /*dir*/) {
  Outcome outcome;
  if (absl::Status s = Begin(&outcome); !s.ok()) return s;
  if (outcome != Outcome::kDone) return Injected(outcome);
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

void FakeFileSystem::SetCapacity(uint64_t bytes) {
  std::lock_guard lock(mu_);
  capacity_ = bytes;
}

void FakeFileSystem::PowerLoss(const Survives& survives) {
  std::lock_guard lock(mu_);
  for (const DirectoryChange& change : changes_) {
    if (survives()) Apply(change, &durable_);
  }
  changes_.clear();
  now_ = durable_;
  for (auto& [path, inode] : now_) {
    for (uint64_t sector : inode->dirty) {
      const uint64_t at = sector * kSectorBytes;
      if (survives()) {
        inode->durable.replace(at, kSectorBytes, inode->now, at, kSectorBytes);
      }
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
