// Namespaces of the kernel for a test program of its own: mounts and networks
// that nobody else sees, and that are gone with the program however it ends.
#ifndef KV739_TESTS_SUPPORT_PRIVATE_WORLD_H_
#define KV739_TESTS_SUPPORT_PRIVATE_WORLD_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/support/process.h"

namespace kv739::test {

// From here on what this program and its children mount is seen by them
// alone; with `network`, they also have a network of their own, with a
// loopback. As root of the host, or else of a user namespace. Main thread,
// before there are others. UNAVAILABLE where this machine does not allow it.
absl::Status EnterPrivateWorld(bool network);

// A file system of a fixed size in memory. After EnterPrivateWorld(). Must
// outlive the processes that use it.
class SmallDisk {
 public:
  static absl::StatusOr<std::unique_ptr<SmallDisk>> Mount(uint64_t bytes);
  ~SmallDisk();
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  const std::string& path() const { return dir_.path(); }
  uint64_t free_bytes() const;
  // Takes up all room but this; no effect where there is less.
  absl::Status FillUpTo(uint64_t left);
  // Gives back what FillUpTo() has taken.
  void MakeRoom();

 private:
  SmallDisk() = default;
  TempDir dir_;
  int fillings_ = 0;
};

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_PRIVATE_WORLD_H_
