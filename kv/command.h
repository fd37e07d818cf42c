// What a group's log entries say: one command an entry, in a form of our own
// that is encoded once and read in place.
//
// Applying a command depends on nothing but the command and the replicated
// state: no clock, no setting, no random number.
#ifndef KV739_KV_COMMAND_H_
#define KV739_KV_COMMAND_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/types.h"

namespace kv739::kv {

// The numbers are on disk and on the wire.
enum class Op : uint8_t {
  kPut = 1,
  kDelete = 2,
  kAppend = 3,
  kCompareAndSwap = 4,  // puts `value` when the version is `expected`
  kOpenSession = 5,     // makes a session and answers its id
  kCloseSession = 6,    // forgets `session`
  kDirectory = 7,       // `value` is a change of the directory; group 0 alone
  kAudit = 8,           // changes nothing: replicas hash what they hold here
};

// Views into the caller's bytes or into the entry.
struct Command {
  Op op = Op::kPut;
  // Given by the leader: hybrid logical time of the proposal. The state
  // machine makes the version of it, see StateMachine.
  Version stamp = 0;
  // Exactly once: all writes of the session below `floor` are answered and
  // will not be asked again.
  SessionId session = 0;
  Sequence sequence = 0;
  Sequence floor = 0;
  Version expected = 0;  // kCompareAndSwap; 0: the key must not be there
  absl::string_view key;
  absl::string_view value;
};

// Of those that write `key`.
inline bool IsWrite(Op op) {
  return op == Op::kPut || op == Op::kDelete || op == Op::kAppend ||
         op == Op::kCompareAndSwap;
}

// Begins with a version byte. Decode is INVALID_ARGUMENT for anything that
// Encode does not make, and its views point into `bytes`.
std::string EncodeCommand(const Command& command);
absl::StatusOr<Command> DecodeCommand(absl::string_view bytes);
// Of what EncodeCommand makes, without decoding it.
bool IsAudit(absl::string_view bytes);

// How a command ended, the same on all replicas.
enum class ApplyCode : uint8_t {
  kOk = 0,
  kCompareFailed = 1,   // version differs; `version` is the one there
  kValueTooLarge = 2,   // an append would pass the limit; nothing changed
  kSessionUnknown = 3,  // never opened, closed or evicted; nothing changed
  kSequenceStale = 4,   // below the session's floor; nothing changed
  kSessionWindow = 5,   // too far above the floor; nothing changed
  // A change of the directory: `old_value` says why, `version` is the
  // absl::StatusCode.
  kRefused = 6,
};

struct ApplyResult {
  ApplyCode code = ApplyCode::kOk;
  bool existed = false;    // there was a value before
  bool duplicate = false;  // a repetition: this is the first answer again
  // Of the write; of the value there on kCompareFailed; kDirectory: the epoch.
  Version version = 0;
  SessionId session = 0;  // kOpenSession
  std::string old_value;  // value before; value there on kCompareFailed
};

}  // namespace kv739::kv

#endif  // KV739_KV_COMMAND_H_
