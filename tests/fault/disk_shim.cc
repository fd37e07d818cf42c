// Loaded with LD_PRELOAD: syncs of the process fail or wait as the file named
// by kShimVariable says. Does nothing without it. A sync that fails writes
// nothing: what it was for is in the page cache at best, as after a failure of
// a real disk.
#include "tests/fault/disk_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

namespace {

using kv739::test::ShimControl;
using kv739::test::ShimMode;

ShimControl* Map() {
  const char* path = getenv(kv739::test::kShimVariable);
  if (path == nullptr) return nullptr;
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) return nullptr;
  void* at = mmap(nullptr, sizeof(ShimControl), PROT_READ | PROT_WRITE,
                  MAP_SHARED, fd, 0);
  close(fd);
  return at == MAP_FAILED ? nullptr : static_cast<ShimControl*>(at);
}

// False when the sync is to fail.
bool MaySync() {
  static ShimControl* const control = Map();
  if (control == nullptr) return true;
  auto mode = static_cast<ShimMode>(control->mode.load());
  if (mode == ShimMode::kNone) return true;
  ++control->hits;
  while (mode == ShimMode::kStall) {
    const timespec pause = {.tv_sec = 0, .tv_nsec = 2'000'000};
    nanosleep(&pause, nullptr);
    mode = static_cast<ShimMode>(control->mode.load());
  }
  if (mode == ShimMode::kFail) return false;
  auto once = static_cast<uint32_t>(ShimMode::kFailOnce);
  return mode != ShimMode::kFailOnce ||
         !control->mode.compare_exchange_strong(
             once, static_cast<uint32_t>(ShimMode::kNone));
}

template <typename Function>
Function Next(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

bool Allowed() {
  if (MaySync()) return true;
  errno = EIO;
  return false;
}

bool WritesThrough(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DSYNC) != 0;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) int fsync(int fd) {
  static const auto next = Next<int (*)(int)>("fsync");
  return Allowed() ? next(fd) : -1;
}
__attribute__((visibility("default"))) int fdatasync(int fd) {
  static const auto next = Next<int (*)(int)>("fdatasync");
  return Allowed() ? next(fd) : -1;
}
__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void* bytes,
                                                      size_t size,
                                                      off_t offset) {
  static const auto next =
      Next<ssize_t (*)(int, const void*, size_t, off_t)>("pwrite");
  return !WritesThrough(fd) || Allowed() ? next(fd, bytes, size, offset) : -1;
}
__attribute__((visibility("default"))) ssize_t pwrite64(int fd,
                                                        const void* bytes,
                                                        size_t size,
                                                        off64_t offset) {
  static const auto next =
      Next<ssize_t (*)(int, const void*, size_t, off64_t)>("pwrite64");
  return !WritesThrough(fd) || Allowed() ? next(fd, bytes, size, offset) : -1;
}

}  // extern "C"
