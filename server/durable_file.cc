#include "server/durable_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv739::server {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

int OpenRetrying(const std::string& path, int flags, mode_t mode = 0) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (fd < 0 && errno == EINTR);
  return fd;
}

std::string ParentOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

absl::Status WriteNew(const std::string& path, absl::string_view content) {
  const Descriptor file(
      OpenRetrying(path, O_WRONLY | O_CREAT | O_TRUNC, S_IRUSR | S_IWUSR));
  if (file.get() < 0) return FileError("cannot create", path, errno);
  while (!content.empty()) {
    const ssize_t n = ::write(file.get(), content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("cannot write", path, errno);
    content.remove_prefix(static_cast<size_t>(n));
  }
  if (::fsync(file.get()) != 0) return FileError("cannot sync", path, errno);
  return absl::OkStatus();
}

}  // namespace

absl::Status FileError(absl::string_view what, absl::string_view path,
                       int error) {
  const std::string message =
      absl::StrCat(what, " ", path, ": ", strerror(error));
  switch (error) {
    case ENOENT:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::Status SyncDirectory(const std::string& path) {
  const Descriptor dir(OpenRetrying(path, O_RDONLY | O_DIRECTORY));
  if (dir.get() < 0) return FileError("cannot open", path, errno);
  if (::fsync(dir.get()) != 0) return FileError("cannot sync", path, errno);
  return absl::OkStatus();
}

absl::Status WriteFileDurably(const std::string& path,
                              absl::string_view content) {
  const std::string unfinished = absl::StrCat(path, kUnfinishedSuffix);
  if (absl::Status s = WriteNew(unfinished, content); !s.ok()) {
    ::unlink(unfinished.c_str());  // best effort; it is ignored anyway
    return s;
  }
  if (::rename(unfinished.c_str(), path.c_str()) != 0) {
    return FileError("cannot rename to", path, errno);
  }
  return SyncDirectory(ParentOf(path));
}

absl::StatusOr<std::string> ReadWholeFile(const std::string& path,
                                          size_t max_bytes) {
  const Descriptor file(OpenRetrying(path, O_RDONLY));
  if (file.get() < 0) return FileError("cannot open", path, errno);
  std::string content(max_bytes + 1, '\0');
  size_t size = 0;
  while (size < content.size()) {
    const ssize_t n =
        ::read(file.get(), content.data() + size, content.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return FileError("cannot read", path, errno);
    if (n == 0) break;
    size += static_cast<size_t>(n);
  }
  if (size > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrCat(path, " is larger than ", max_bytes, " bytes"));
  }
  content.resize(size);
  return content;
}

absl::Status MakeDirectories(const std::string& path) {
  std::string trimmed = path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  struct stat info;
  if (::stat(trimmed.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is there and is not a directory"));
  }
  if (errno == ENOTDIR) {
    return absl::InvalidArgumentError(
        absl::StrCat("cannot create ", path, ": ", strerror(errno)));
  }
  if (errno != ENOENT) return FileError("cannot create", path, errno);
  const std::string parent = ParentOf(trimmed);
  if (parent != trimmed) {
    if (absl::Status s = MakeDirectories(parent); !s.ok()) return s;
  }
  if (::mkdir(trimmed.c_str(), S_IRWXU | S_IRGRP | S_IXGRP) != 0 &&
      errno != EEXIST) {
    return FileError("cannot create", path, errno);
  }
  return SyncDirectory(parent);
}

}  // namespace kv739::server
