// What the shim of the disk (disk_shim.cc, loaded into a server before its
// libraries) and the tests share: one small file for each server, mapped by
// both.
#ifndef KV739_TESTS_FAULT_DISK_SHIM_H_
#define KV739_TESTS_FAULT_DISK_SHIM_H_

#include <atomic>
#include <cstdint>

namespace kv739::test {

// In the server's environment: the path of its file.
inline constexpr char kShimVariable[] = "KV739_TEST_DISK_SHIM";

enum class ShimMode : uint32_t {
  kNone = 0,
  kFailOnce = 1,  // the next sync fails with EIO, and the ones after it do not
  kFail = 2,      // every sync fails
  kStall = 3,     // syncs wait until the mode is another
};
// A sync is fsync, fdatasync, or a write to a file opened with O_DSYNC.
struct ShimControl {
  std::atomic<uint32_t> mode;
  std::atomic<uint32_t> hits;  // syncs that failed or waited
};
static_assert(std::atomic<uint32_t>::is_always_lock_free);

}  // namespace kv739::test

#endif  // KV739_TESTS_FAULT_DISK_SHIM_H_
