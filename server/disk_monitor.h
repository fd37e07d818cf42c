// Watches the free space of the data directory. Below the reserve this node
// refuses writes that take room, hands its leaderships to nodes that have some,
// and goes on otherwise: deletes, reads, replication and compaction need little
// and make room. It is over when the space is back above the reserve by an
// eighth, so that it does not flicker.
//
// Threads: Check() by one at a time; it asks the file system.
#ifndef KV739_SERVER_DISK_MONITOR_H_
#define KV739_SERVER_DISK_MONITOR_H_

#include <sys/statvfs.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kv739::server {

class DiskMonitor {
 public:
  // Free bytes of the file system, nothing when it does not say.
  using Probe = std::function<std::optional<uint64_t>()>;

  DiskMonitor(Probe probe, uint64_t reserve_bytes)
      : probe_(std::move(probe)), reserve_(reserve_bytes) {}

  static Probe OfDirectory(std::string path) {
    return [path = std::move(path)]() -> std::optional<uint64_t> {
      struct statvfs space;
      if (::statvfs(path.c_str(), &space) != 0) return std::nullopt;
      return uint64_t{space.f_bavail} * space.f_frsize;
    };
  }

  // True when it has changed whether there is room; see low() and Describe().
  bool Check() {
    const std::optional<uint64_t> free = probe_();
    if (!free) return false;
    free_.store(*free, std::memory_order_relaxed);
    const bool low =
        *free < reserve_ || (low_ && *free < reserve_ + reserve_ / 8);
    return std::exchange(low_, low) != low;
  }
  bool low() const { return low_; }
  std::string Describe() const {
    return absl::StrCat("the disk is full: ", free_bytes() >> 20,
                        " MiB are free, ", reserve_ >> 20,
                        " MiB are kept in reserve; only deletes are taken");
  }
  // As last seen; any thread.
  uint64_t free_bytes() const { return free_.load(std::memory_order_relaxed); }

 private:
  const Probe probe_;
  const uint64_t reserve_;
  bool low_ = false;
  std::atomic<uint64_t> free_{0};
};

}  // namespace kv739::server

#endif  // KV739_SERVER_DISK_MONITOR_H_
