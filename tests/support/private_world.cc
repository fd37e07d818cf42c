#include "tests/support/private_world.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"

namespace kv739::test {
namespace {

absl::Status Missing(const char* what) {
  return absl::UnavailableError(absl::StrCat(
      "this machine does not allow it: ", what, ": ", std::strerror(errno)));
}

bool WriteTo(const char* path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  return static_cast<bool>(file.flush());
}

// Root within it is this user outside.
absl::Status EnterUserNamespace(int flags) {
  const uid_t user = geteuid();
  const gid_t group = getegid();
  if (unshare(CLONE_NEWUSER | flags) != 0) return Missing("unshare");
  if (!WriteTo("/proc/self/setgroups", "deny") ||
      !WriteTo("/proc/self/uid_map", absl::StrCat("0 ", user, " 1")) ||
      !WriteTo("/proc/self/gid_map", absl::StrCat("0 ", group, " 1"))) {
    return Missing("uid_map");
  }
  return absl::OkStatus();
}

absl::Status RaiseLoopback() {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  ifreq request = {};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  const int result = ioctl(fd, SIOCSIFFLAGS, &request);
  close(fd);
  return result == 0 ? absl::OkStatus() : Missing("loopback");
}

}  // namespace

absl::Status EnterPrivateWorld(bool network) {
  const int flags = CLONE_NEWNS | (network ? CLONE_NEWNET : 0);
  if (unshare(flags) != 0) {
    if (errno != EPERM) return Missing("unshare");
    absl::Status entered = EnterUserNamespace(flags);
    if (!entered.ok()) return entered;
  }
  if (mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return Missing("private mounts");
  }
  return network ? RaiseLoopback() : absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<SmallDisk>> SmallDisk::Mount(uint64_t bytes) {
  auto disk = std::unique_ptr<SmallDisk>(new SmallDisk);
  const std::string options = absl::StrCat("size=", bytes, ",mode=700");
  if (mount("kv739-test", disk->path().c_str(), "tmpfs", MS_NOSUID | MS_NODEV,
            options.c_str()) != 0) {
    return Missing("mount of a tmpfs");
  }
  return disk;
}

// Lazily: what still has files open there ends by itself.
SmallDisk::~SmallDisk() { umount2(path().c_str(), MNT_DETACH); }

uint64_t SmallDisk::free_bytes() const {
  struct statvfs space;
  if (statvfs(path().c_str(), &space) != 0) return 0;
  return uint64_t{space.f_bavail} * space.f_frsize;
}

absl::Status SmallDisk::FillUpTo(uint64_t left) {
  const uint64_t free = free_bytes();
  if (free <= left) return absl::OkStatus();
  const std::string name = absl::StrCat(path(), "/filling", fillings_++);
  const int fd = open(name.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  int error = fd < 0 ? errno : 0;
  if (fd >= 0) {
    // The last pages may go to somebody else meanwhile.
    uint64_t want = free - left;
    while ((error = posix_fallocate(fd, 0, static_cast<off_t>(want))) ==
               ENOSPC &&
           want > 4096) {
      const uint64_t now = free_bytes();
      want = now > left ? std::min(want - 4096, now - left) : 0;
      if (want == 0) {
        error = 0;
        break;
      }
    }
    close(fd);
  }
  return error == 0 ? absl::OkStatus()
                    : absl::InternalError(
                          absl::StrCat(name, ": ", std::strerror(error)));
}

void SmallDisk::MakeRoom() {
  for (; fillings_ > 0; --fillings_) {
    unlink(absl::StrCat(path(), "/filling", fillings_ - 1).c_str());
  }
}

}  // namespace kv739::test
