// The real file system.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "server/wal/file_system.h"

namespace kv739::wal {
namespace {

constexpr uint64_t kFillBytes = 1 << 20;
constexpr uint64_t kBounceBytes = 256 << 10;

absl::Status Error(int error, absl::string_view what, absl::string_view path) {
  const std::string message =
      absl::StrCat(what, " ", path, ": ", std::strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EEXIST:
      return absl::AlreadyExistsError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(message);
    default:
      return absl::InternalError(message);
  }
}

struct FreeDeleter {
  void operator()(char* p) const { std::free(p); }
};
using AlignedBytes = std::unique_ptr<char, FreeDeleter>;

AlignedBytes AllocateAligned(uint64_t size) {
  AlignedBytes bytes(static_cast<char*>(std::aligned_alloc(kBlockBytes, size)));
  if (bytes == nullptr) std::abort();
  return bytes;
}

// Writes all of `data`; 0 or an errno.
int WriteFully(int fd, uint64_t offset, absl::string_view data) {
  while (!data.empty()) {
    const ssize_t n = pwrite(fd, data.data(), data.size(), offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    if (n == 0) return EIO;
    data.remove_prefix(n);
    offset += n;
  }
  return 0;
}

class PosixFile : public File {
 public:
  PosixFile(std::string path, int fd, bool direct)
      : path_(std::move(path)), fd_(fd), direct_(direct) {}
  ~PosixFile() override {
    close(fd_);
    if (direct_fd_ >= 0) close(direct_fd_);
  }

  absl::Status WriteAt(uint64_t offset, absl::string_view data) override {
    int error = WriteFully(fd_, offset, data);
    if (error == EINVAL && direct_) {
      // Granted at open and refused now, as some file systems do.
      if (absl::Status s = LeaveDirect(); !s.ok()) return s;
      error = WriteFully(fd_, offset, data);
    }
    return error == 0 ? absl::OkStatus() : Error(error, "write", path_);
  }

  absl::Status ReadAt(uint64_t offset, uint64_t size,
                      char* out) const override {
    return direct_ ? ReadDirect(offset, size, out)
                   : ReadBuffered(offset, size, out);
  }

  absl::Status Sync() override {
    if (fdatasync(fd_) != 0) return Error(errno, "sync", path_);
    return absl::OkStatus();
  }

  absl::StatusOr<uint64_t> Size() const override {
    struct stat st;
    if (fstat(fd_, &st) != 0) return Error(errno, "stat", path_);
    return st.st_size;
  }

  bool sync_on_write() const override { return direct_; }

 private:
  absl::Status LeaveDirect() {
    const int fd = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return Error(errno, "open", path_);
    direct_fd_ = fd_;  // a read may be using it
    fd_ = fd;
    direct_ = false;
    return absl::OkStatus();
  }

  absl::Status Short(uint64_t offset, uint64_t size) const {
    return absl::OutOfRangeError(
        absl::StrCat(path_, " ends before offset ", offset, " + ", size));
  }

  absl::Status ReadBuffered(uint64_t offset, uint64_t size, char* out) const {
    uint64_t done = 0;
    while (done < size) {
      const ssize_t n = pread(fd_, out + done, size - done, offset + done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Error(errno, "read", path_);
      if (n == 0) return Short(offset, size);
      done += n;
    }
    return absl::OkStatus();
  }

  // Whole blocks into aligned memory, copied from there.
  absl::Status ReadDirect(uint64_t offset, uint64_t size, char* out) const {
    const uint64_t begin = offset / kBlockBytes * kBlockBytes;
    const uint64_t end =
        (offset + size + kBlockBytes - 1) / kBlockBytes * kBlockBytes;
    const uint64_t step = std::min(end - begin, kBounceBytes);
    const AlignedBytes bounce = AllocateAligned(step);
    uint64_t done = 0;
    for (uint64_t at = begin; done < size;) {
      const uint64_t want = std::min(step, end - at);
      const ssize_t n = pread(fd_, bounce.get(), want, at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EINVAL) {
        return ReadBuffered(offset, size, out);  // LeaveDirect was here
      }
      if (n < 0) return Error(errno, "read", path_);
      const uint64_t skip = offset + done - at;
      if (static_cast<uint64_t>(n) <= skip) return Short(offset, size);
      const uint64_t take = std::min<uint64_t>(n - skip, size - done);
      std::memcpy(out + done, bounce.get() + skip, take);
      done += take;
      at = (offset + done) / kBlockBytes * kBlockBytes;
      if (done < size && static_cast<uint64_t>(n) < want &&
          n % kBlockBytes != 0) {
        return Short(offset, size);
      }
    }
    return absl::OkStatus();
  }

  const std::string path_;
  std::atomic<int> fd_;
  std::atomic<bool> direct_;
  int direct_fd_ = -1;
};

class PosixFileSystem : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<File>> Open(const std::string& path,
                                             bool direct) override {
    int fd = -1;
    if (direct) {
      fd = open(path.c_str(), O_RDWR | O_CLOEXEC | O_DIRECT | O_DSYNC);
      if (fd < 0 && errno != EINVAL) return Error(errno, "open", path);
    }
    const bool granted = fd >= 0;
    if (!granted) fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0) return Error(errno, "open", path);
    return std::make_unique<PosixFile>(path, fd, granted);
  }

  absl::Status CreateFilled(const std::string& path, uint64_t size) override {
    const int fd =
        open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return Error(errno, "create", path);
    const int error = Fill(fd, size);
    close(fd);
    if (error == 0) return absl::OkStatus();
    unlink(path.c_str());  // what is there of it is of no use
    return Error(error, absl::StrCat("fill with ", size, " bytes"), path);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) != 0) {
      return Error(errno, absl::StrCat("rename to ", to), from);
    }
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    if (unlink(path.c_str()) != 0) return Error(errno, "remove", path);
    return absl::OkStatus();
  }

  absl::Status SyncDir(const std::string& dir) override {
    const int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return Error(errno, "open directory", dir);
    const int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error == 0 ? absl::OkStatus() : Error(error, "sync directory", dir);
  }

  absl::StatusOr<std::vector<std::string>> List(
      const std::string& dir) override {
    DIR* stream = opendir(dir.c_str());
    if (stream == nullptr) return Error(errno, "list", dir);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = readdir(stream)) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    const int error = errno;
    closedir(stream);
    if (error != 0) return Error(error, "list", dir);
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  // Past the page cache where that is possible: 64 MiB of pages that nobody
  // will read cost several times the writing itself, and have to be thrown out
  // again.
  static int Fill(int fd, uint64_t size) {
    bool direct = fcntl(fd, F_SETFL, O_DIRECT) == 0;
    const AlignedBytes zeros = AllocateAligned(kFillBytes);
    std::memset(zeros.get(), 0, kFillBytes);
    // Piece by piece, or a sync of the log beside it waits for all of them at
    // once.
    for (uint64_t at = 0; at < size; at += kFillBytes) {
      const absl::string_view piece(zeros.get(),
                                    std::min(kFillBytes, size - at));
      int error = WriteFully(fd, at, piece);
      if (error == EINVAL && direct) {
        // Granted and refused, as some file systems do.
        direct = false;
        if (fcntl(fd, F_SETFL, 0) != 0) return errno;
        error = WriteFully(fd, at, piece);
      }
      if (error != 0) return error;
      if (!direct) FlushPiece(fd, at, piece.size());
    }
    if (fsync(fd) != 0) return errno;
    // Cached zeros would have to be thrown out by every direct write.
    if (!direct) posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return 0;
  }

  // Errors come back with fsync.
  static void FlushPiece(int fd, uint64_t at, uint64_t size) {
    (void)sync_file_range(fd, static_cast<off64_t>(at),
                          static_cast<off64_t>(size),
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                              SYNC_FILE_RANGE_WAIT_AFTER);
  }
};

}  // namespace

FileSystem* FileSystem::Posix() {
  static FileSystem* const file_system = new PosixFileSystem();
  return file_system;
}

}  // namespace kv739::wal
