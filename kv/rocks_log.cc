#include "kv/rocks_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace kv739::kv {
namespace {

// Longer lines are cut.
constexpr size_t kMaxLine = 4096;

}  // namespace

RocksLog::RocksLog(std::string dir, uint64_t max_bytes)
    : rocksdb::Logger(rocksdb::InfoLogLevel::INFO_LEVEL),
      path_(std::move(dir) + "/LOG"),
      max_bytes_(max_bytes) {}

RocksLog::~RocksLog() {
  if (fd_ >= 0) close(fd_);
}

bool RocksLog::Open() {
  if (fd_ >= 0) return true;
  fd_ = open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) return false;
  struct stat file;
  bytes_ = fstat(fd_, &file) == 0 ? static_cast<uint64_t>(file.st_size) : 0;
  return true;
}

void RocksLog::Rotate() {
  if (rename(path_.c_str(), (path_ + ".old").c_str()) != 0) return;
  close(fd_);
  fd_ = -1;
}

void RocksLog::Logv(const char* format, va_list arguments) {
  char line[kMaxLine];
  const std::string time =
      absl::FormatTime("%Y/%m/%d-%H:%M:%E6S", absl::Now(), absl::UTCTimeZone());
  int size = std::snprintf(line, sizeof line, "%s %ld ", time.c_str(),
                           syscall(SYS_gettid));
  const int text =
      std::vsnprintf(line + size, sizeof line - size - 1, format, arguments);
  size = std::min<int>(size + std::max(text, 0), sizeof line - 2);
  if (size > 0 && line[size - 1] != '\n') line[size++] = '\n';

  const std::lock_guard lock(mutex_);
  if (!Open()) return;
  const ssize_t written = write(fd_, line, static_cast<size_t>(size));
  if (written > 0) bytes_ += static_cast<uint64_t>(written);
  if (bytes_ >= max_bytes_) Rotate();
}

size_t RocksLog::GetLogFileSize() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

}  // namespace kv739::kv
