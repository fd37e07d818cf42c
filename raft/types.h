// Types that a term, an index and an id cannot be mistaken in.
//
// Everything above the consensus core uses these too. They are values without
// threads or ownership; 0 means "none" for every one of them.
#ifndef KV739_RAFT_TYPES_H_
#define KV739_RAFT_TYPES_H_

#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <utility>

namespace kv739::raft {

// A 64-bit number that converts to no other one by accident.
template <typename Tag>
class StrongInt {
 public:
  constexpr StrongInt() = default;
  constexpr explicit StrongInt(uint64_t value) : value_(value) {}

  constexpr uint64_t value() const { return value_; }
  constexpr explicit operator bool() const { return value_ != 0; }
  constexpr auto operator<=>(const StrongInt&) const = default;

  // Steps and distances; the difference of two ids of one kind is a count.
  constexpr StrongInt& operator++() {
    ++value_;
    return *this;
  }
  constexpr StrongInt operator+(uint64_t n) const {
    return StrongInt(value_ + n);
  }
  constexpr StrongInt operator-(uint64_t n) const {
    return StrongInt(value_ - n);
  }
  constexpr uint64_t operator-(StrongInt other) const {
    return value_ - other.value_;
  }

  template <typename H>
  friend H AbslHashValue(H h, StrongInt v) {
    return H::combine(std::move(h), v.value_);
  }
  friend std::ostream& operator<<(std::ostream& out, StrongInt v) {
    return out << v.value_;
  }

 private:
  uint64_t value_ = 0;
};

using Term = StrongInt<struct TermTag>;
using Index = StrongInt<struct IndexTag>;
// One server process. Stable over restarts; see server/identity.h.
using NodeId = StrongInt<struct NodeIdTag>;
// One Raft group. Group 0 is a group like any other, so "none" is kNoGroup.
using GroupId = StrongInt<struct GroupIdTag>;
inline constexpr GroupId kNoGroup{~uint64_t{0}};

// Terms and indexes of others are below it. No group ever gets there; it leaves
// room, so that what is counted up from a number of theirs never wraps around.
inline constexpr uint64_t kNumberLimit = uint64_t{1} << 62;

// The position of an entry. Two logs that agree on it agree on everything
// before it (Log Matching, Raft paper section 5.3).
struct LogPosition {
  Term term;
  Index index;
  constexpr bool operator==(const LogPosition&) const = default;
};

// Bytes that are encoded once and then shared by the log, the wire, the WAL
// and the state machine. Never changed after they are made. Never null in an
// Entry that the core accepts.
using Payload = std::shared_ptr<const std::string>;

inline Payload MakePayload(std::string bytes) {
  return std::make_shared<const std::string>(std::move(bytes));
}

// The numbers are on disk and on the wire.
enum class EntryKind : uint8_t {
  kCommand = 1,        // opaque to the core
  kNoop = 2,           // first entry of a leader's term (thesis section 6.4)
  kConfiguration = 3,  // encoded raft::Configuration
};

struct Entry {
  Term term;
  Index index;
  EntryKind kind = EntryKind::kCommand;
  Payload data;
};

// What a replica must remember before it answers (Raft paper figure 2), and
// the commit index, which is a hint that saves work after a restart.
struct HardState {
  Term term;
  NodeId vote;
  Index commit;
  bool operator==(const HardState&) const = default;
};

}  // namespace kv739::raft

template <typename Tag>
struct std::hash<kv739::raft::StrongInt<Tag>> {
  size_t operator()(kv739::raft::StrongInt<Tag> v) const noexcept {
    return std::hash<uint64_t>()(v.value());
  }
};

#endif  // KV739_RAFT_TYPES_H_
