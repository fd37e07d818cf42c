// Keys and records of the state machines in the engine. The page that
// describes them, for readers of a data directory: docs/storage_format.md.
//
//   group(8) | 1 | 1                        meta: applied position, counters
//   group(8) | 1 | 2                        meta: applied configuration
//   group(8) | 1 | 3                        meta: cluster map, group 0 alone
//   group(8) | 2 | session(8) | 0           session and its newest answers
//   group(8) | 2 | session(8) | 1 | block(8)    older answers
//   group(8) | 2 | session(8) | 2 | sequence(8) one large old value
//   group(8) | 3 | slot(2) | key            value of a key
//
// Numbers in keys are big-endian, so that a group is one range, and a slot of
// a group is one range. Every record begins with a version byte.
#ifndef KV739_KV_RECORDS_H_
#define KV739_KV_RECORDS_H_

#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "kv/command.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

enum class Space : uint8_t { kMeta = 1, kSession = 2, kData = 3 };

// Ids of sessions hold 24 bits of the group.
inline constexpr uint64_t kMaxGroupId = (uint64_t{1} << 24) - 1;

std::string MetaKey(raft::GroupId group);
std::string ConfigurationKey(raft::GroupId group);
// The record is kv::EncodeClusterMap.
std::string DirectoryKey(raft::GroupId group);
std::string SessionKey(raft::GroupId group, SessionId session);
std::string BlockKey(raft::GroupId group, SessionId session, uint64_t block);
std::string OldValueKey(raft::GroupId group, SessionId session,
                        Sequence sequence);
// Puts the key of a value into *out, whose memory is used again.
void SetDataKey(raft::GroupId group, absl::string_view key, std::string* out);

// First key of the group, of a space of it, of a slot of it; each is also the
// end of the range before it.
std::string GroupBegin(raft::GroupId group);
std::string SpaceBegin(raft::GroupId group, Space space);
std::string SlotBegin(raft::GroupId group, uint32_t slot);  // 0..kSlotCount

// What a key of the session space stands for.
struct SessionRecordKey {
  enum class Kind : uint8_t { kSession = 0, kBlock = 1, kOldValue = 2 };
  SessionId session = 0;
  Kind kind = Kind::kSession;
  uint64_t number = 0;  // block or sequence
};
bool ParseSessionKey(absl::string_view key, SessionRecordKey* out);
bool ParseGroup(absl::string_view key, raft::GroupId* out);
// Of the key of a value; `key` is a part of it.
bool ParseDataKey(absl::string_view whole, uint32_t* slot,
                  absl::string_view* key);

// Changes with every batch that is applied.
struct Meta {
  raft::LogPosition applied;
  Version last_version = 0;
  uint64_t sessions_opened = 0;
  bool operator==(const Meta&) const = default;
};
std::string EncodeMeta(const Meta& meta);
bool DecodeMeta(absl::string_view bytes, Meta* out);

// A value: header, then the bytes of the value. The header has a checksum over
// version, value and the key that the record stands under: a value that was
// damaged, or is another key's, is not taken for this one's. Large old values
// of sessions have this form too.
inline constexpr size_t kValueHeaderBytes = 14;
// Puts the record into *out, whose memory is used again. `key` is the whole
// key of the engine.
void SetValueRecord(absl::string_view key, Version version,
                    absl::string_view value, std::string* out);
// False for a record of another form, one with a flag that we do not know (it
// would change what the value means), or one that is damaged. Reads all of it.
bool DecodeValueRecord(absl::string_view key, absl::string_view record,
                       Version* version, absl::string_view* value);

// A first answer that a session keeps.
struct Answer {
  Sequence sequence = 0;
  ApplyCode code = ApplyCode::kOk;
  bool existed = false;
  Version version = 0;
  uint32_t old_size = 0;
  // Empty for a large one that is in the engine alone.
  std::string old_value;

  // Its old value has a key of its own.
  bool large() const;
};
// Old values up to this stand in the answer's record; larger ones under keys
// of their own, so that they are written once and not with every neighbour.
inline constexpr uint32_t kMaxInlineOldValueBytes = 1024;
inline bool Answer::large() const { return old_size > kMaxInlineOldValueBytes; }

void AppendAnswer(const Answer& answer, std::string* out);
class Reader;
bool ReadAnswer(Reader* in, Answer* out);

}  // namespace kv739::kv

#endif  // KV739_KV_RECORDS_H_
