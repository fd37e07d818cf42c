// One page of the keys of a group, in the order in which the store has them: by
// slot, then by key. Bounded in what it holds and in what it looks at, so that
// a thread that serves others too is not held for long; a page may end
// anywhere, and says where the next one begins.
#ifndef KV739_KV_SCAN_H_
#define KV739_KV_SCAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kv/engine.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

// Of one page: entries,
inline constexpr uint32_t kMaxScanKeys = 1000;
// ... their bytes (one entry always fits); together with what else a message
// holds they stay below gRPC's 4 MiB,
inline constexpr uint32_t kMaxScanBytes = 1 << 20;
// ... bytes of values that are read, which are more when keys alone are wanted,
inline constexpr uint64_t kMaxScanReadBytes = 4 << 20;
// ... and places that are looked for: a prefix may match few keys, and is
// looked for in each slot.
inline constexpr uint32_t kMaxScanSeeks = 512;
// What an entry takes beside its key and value.
inline constexpr uint64_t kScanEntryOverhead = 16;

struct ScanRequest {
  // Keys of `slot` from `from` on; empty: from its first.
  uint32_t slot = 0;
  std::string from;
  std::string prefix;
  // 0, or more than the limits above: these.
  uint32_t max_keys = 0;
  uint32_t max_bytes = 0;
  bool keys_only = false;
  // The first slot behind `slot` that is not the group's.
  uint32_t end_slot = kSlotCount;
};

struct ScanPage {
  struct Entry {
    std::string key;
    std::string value;
    Version version = 0;
  };
  std::vector<Entry> entries;
  uint64_t bytes = 0;  // of the entries
  uint32_t seeks = 0;
  // False: the last slot is done.
  bool more = false;
  uint32_t next_slot = kSlotCount;
  std::string next_from;

  // What it cost, in small keys or their like.
  uint64_t work() const { return entries.size() + seeks + bytes / 1024; }
};

// See StateMachine::Scan().
absl::Status ScanGroup(const View& view, raft::GroupId group,
                       const ScanRequest& request, ScanPage* page);

}  // namespace kv739::kv

#endif  // KV739_KV_SCAN_H_
