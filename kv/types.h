// Words that keys, slots and versions are spoken of in. Values, no threads.
#ifndef KV739_KV_TYPES_H_
#define KV739_KV_TYPES_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "raft/types.h"

namespace kv739::kv {

// One of kSlotCount equal parts of the 64-bit hash ring; what moves between
// groups is slots.
using Slot = uint16_t;
inline constexpr int kSlotBits = 12;
inline constexpr uint32_t kSlotCount = 1u << kSlotBits;

// XXH3_64(key) >> 52.
Slot SlotOf(absl::string_view key);

// Stamp of a write: hybrid logical clock, milliseconds since 1970 in the
// upper 48 bits and a counter in the lower 16. Rises with every write of a
// group. 0: no version, "not there".
using Version = uint64_t;
inline constexpr int kVersionCounterBits = 16;

// A client's identity in one group: given by the group when it is opened,
// never given twice. 0: none, the write is not protected against repetition.
using SessionId = uint64_t;
// Number of a write within its session, from 1.
using Sequence = uint64_t;

// Defaults of the limits; the settings may lower them. That of values is also
// a rule of the replicas, which refuse to let an append pass it.
inline constexpr uint32_t kMaxKeyBytes = 256;
inline constexpr uint32_t kMaxValueBytes = 1'024'000;

}  // namespace kv739::kv

#endif  // KV739_KV_TYPES_H_
