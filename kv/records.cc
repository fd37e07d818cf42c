#include "kv/records.h"

#include <xxhash.h>

#include <limits>

#include "kv/coding.h"

namespace kv739::kv {
namespace {

using raft::GroupId;

constexpr uint8_t kMetaName = 1;
constexpr uint8_t kConfigurationName = 2;
constexpr uint8_t kDirectoryName = 3;

constexpr uint8_t kMetaFormat = 1;
constexpr uint8_t kValueFormat = 2;
constexpr uint8_t kNoFlags = 0;

constexpr uint8_t kExistedFlag = 0x80;  // beside the code of an answer

std::string SessionSpaceKey(GroupId group, SessionId session,
                            SessionRecordKey::Kind kind) {
  std::string key = SpaceBegin(group, Space::kSession);
  AppendBigEndian64(&key, session);
  key.push_back(static_cast<char>(kind));
  return key;
}

uint32_t ValueChecksum(absl::string_view key, Version version,
                       absl::string_view value) {
  const uint64_t seed = XXH3_64bits_withSeed(key.data(), key.size(), version);
  return static_cast<uint32_t>(
      XXH3_64bits_withSeed(value.data(), value.size(), seed));
}

}  // namespace

std::string GroupBegin(GroupId group) {
  std::string key;
  key.reserve(32);
  AppendBigEndian64(&key, group.value());
  return key;
}

std::string SpaceBegin(GroupId group, Space space) {
  std::string key = GroupBegin(group);
  key.push_back(static_cast<char>(space));
  return key;
}

std::string SlotBegin(GroupId group, uint32_t slot) {
  std::string key = SpaceBegin(group, Space::kData);
  AppendBigEndian16(&key, static_cast<uint16_t>(slot));
  return key;
}

std::string MetaKey(GroupId group) {
  std::string key = SpaceBegin(group, Space::kMeta);
  key.push_back(static_cast<char>(kMetaName));
  return key;
}

std::string ConfigurationKey(GroupId group) {
  std::string key = SpaceBegin(group, Space::kMeta);
  key.push_back(static_cast<char>(kConfigurationName));
  return key;
}

std::string DirectoryKey(GroupId group) {
  std::string key = SpaceBegin(group, Space::kMeta);
  key.push_back(static_cast<char>(kDirectoryName));
  return key;
}

std::string SessionKey(GroupId group, SessionId session) {
  return SessionSpaceKey(group, session, SessionRecordKey::Kind::kSession);
}

std::string BlockKey(GroupId group, SessionId session, uint64_t block) {
  std::string key =
      SessionSpaceKey(group, session, SessionRecordKey::Kind::kBlock);
  AppendBigEndian64(&key, block);
  return key;
}

std::string OldValueKey(GroupId group, SessionId session, Sequence sequence) {
  std::string key =
      SessionSpaceKey(group, session, SessionRecordKey::Kind::kOldValue);
  AppendBigEndian64(&key, sequence);
  return key;
}

void SetDataKey(GroupId group, absl::string_view key, std::string* out) {
  out->clear();
  AppendBigEndian64(out, group.value());
  out->push_back(static_cast<char>(Space::kData));
  AppendBigEndian16(out, SlotOf(key));
  out->append(key.data(), key.size());
}

bool ParseSessionKey(absl::string_view key, SessionRecordKey* out) {
  Reader in(key);
  uint64_t group = 0;
  uint8_t space = 0;
  uint8_t kind = 0;
  if (!in.BigEndian64(&group) || !in.Byte(&space) ||
      space != static_cast<uint8_t>(Space::kSession) ||
      !in.BigEndian64(&out->session) || !in.Byte(&kind) || kind > 2) {
    return false;
  }
  out->kind = static_cast<SessionRecordKey::Kind>(kind);
  out->number = 0;
  if (out->kind != SessionRecordKey::Kind::kSession &&
      !in.BigEndian64(&out->number)) {
    return false;
  }
  return in.done();
}

bool ParseGroup(absl::string_view key, GroupId* out) {
  Reader in(key);
  uint64_t group = 0;
  if (!in.BigEndian64(&group)) return false;
  *out = GroupId(group);
  return true;
}

bool ParseDataKey(absl::string_view whole, uint32_t* slot,
                  absl::string_view* key) {
  constexpr size_t kBefore = 8 + 1 + 2;  // group, space, slot
  if (whole.size() < kBefore || whole[8] != static_cast<char>(Space::kData)) {
    return false;
  }
  *slot = static_cast<uint32_t>(static_cast<uint8_t>(whole[9])) << 8 |
          static_cast<uint8_t>(whole[10]);
  *key = whole.substr(kBefore);
  return true;
}

std::string EncodeMeta(const Meta& meta) {
  std::string out;
  out.reserve(1 + 4 * 8);
  out.push_back(static_cast<char>(kMetaFormat));
  AppendFixed64(&out, meta.applied.term.value());
  AppendFixed64(&out, meta.applied.index.value());
  AppendFixed64(&out, meta.last_version);
  AppendFixed64(&out, meta.sessions_opened);
  return out;
}

bool DecodeMeta(absl::string_view bytes, Meta* out) {
  Reader in(bytes);
  uint8_t format = 0;
  uint64_t term = 0;
  uint64_t index = 0;
  if (!in.Byte(&format) || format != kMetaFormat || !in.Fixed64(&term) ||
      !in.Fixed64(&index) || !in.Fixed64(&out->last_version) ||
      !in.Fixed64(&out->sessions_opened) || !in.done()) {
    return false;
  }
  out->applied = {raft::Term(term), raft::Index(index)};
  return true;
}

void SetValueRecord(absl::string_view key, Version version,
                    absl::string_view value, std::string* out) {
  out->clear();
  out->push_back(static_cast<char>(kValueFormat));
  out->push_back(static_cast<char>(kNoFlags));
  AppendFixed64(out, version);
  AppendFixed32(out, ValueChecksum(key, version, value));
  out->append(value.data(), value.size());
}

bool DecodeValueRecord(absl::string_view key, absl::string_view record,
                       Version* version, absl::string_view* value) {
  Reader in(record);
  uint8_t format = 0;
  uint8_t flags = 0;
  uint32_t checksum = 0;
  if (!in.Byte(&format) || format != kValueFormat || !in.Byte(&flags) ||
      flags != kNoFlags || !in.Fixed64(version) || !in.Fixed32(&checksum)) {
    return false;
  }
  *value = in.rest();
  return checksum == ValueChecksum(key, *version, *value);
}

void AppendAnswer(const Answer& answer, std::string* out) {
  AppendVarint(out, answer.sequence);
  out->push_back(static_cast<char>(static_cast<uint8_t>(answer.code) |
                                   (answer.existed ? kExistedFlag : 0)));
  AppendFixed64(out, answer.version);
  AppendVarint(out, answer.old_size);
  if (!answer.large()) *out += answer.old_value;
}

bool ReadAnswer(Reader* in, Answer* out) {
  uint8_t code = 0;
  uint64_t size = 0;
  if (!in->Varint(&out->sequence) || !in->Byte(&code) ||
      !in->Fixed64(&out->version) || !in->Varint(&size) ||
      size > std::numeric_limits<uint32_t>::max()) {
    return false;
  }
  out->existed = (code & kExistedFlag) != 0;
  out->code = static_cast<ApplyCode>(code & ~kExistedFlag);
  out->old_size = static_cast<uint32_t>(size);
  out->old_value.clear();
  if (out->large()) return true;
  absl::string_view rest = in->rest();
  if (rest.size() < size) return false;
  out->old_value.assign(rest.data(), size);
  *in = Reader(rest.substr(size));
  return true;
}

}  // namespace kv739::kv
