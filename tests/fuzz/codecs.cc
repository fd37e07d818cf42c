// Everything that is decoded from bytes of others: what decodes, encodes to
// what means the same; where a form has one encoding, to the same bytes.
#include <memory>
#include <string>

#include "kv/cluster_map.h"
#include "kv/coding.h"
#include "kv/command.h"
#include "kv/directory.h"
#include "kv/records.h"
#include "kv/supervisor_protocol.h"
#include "raft/configuration.h"
#include "server/audit.h"
#include "server/message_codec.h"
#include "server/operation_codec.h"
#include "server/snapshot_codec.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

void Commands(absl::string_view bytes) {
  const auto command = kv::DecodeCommand(bytes);
  kv::IsAudit(bytes);
  if (!command.ok()) return;
  KV739_FUZZ_CHECK(kv::EncodeCommand(*command) == bytes, "another command");
}

void Changes(absl::string_view bytes) {
  const auto change = kv::DecodeDirectoryChange(bytes);
  if (!change.ok()) return;
  KV739_FUZZ_CHECK(kv::EncodeDirectoryChange(*change) == bytes,
                   "another change");
}

void Maps(absl::string_view bytes) {
  const auto map = kv::DecodeClusterMap(bytes);
  if (!map.ok()) return;
  KV739_FUZZ_CHECK(kv::CheckClusterMap(*map).ok(), "a map that is none");
  KV739_FUZZ_CHECK(kv::EncodeClusterMap(*map) == bytes, "another map");
  map->Spares();
}

void Configurations(absl::string_view bytes) {
  const auto configuration = raft::DecodeConfiguration(bytes);
  if (!configuration.ok()) return;
  KV739_FUZZ_CHECK(raft::EncodeConfiguration(*configuration) == bytes,
                   "another configuration");
}

void Audits(absl::string_view bytes) {
  const auto message = server::DecodeAuditMessage(bytes);
  if (!message.ok()) return;
  KV739_FUZZ_CHECK(server::EncodeAuditMessage(*message) == bytes,
                   "another audit message");
}

void Records(Input* in) {
  const uint64_t kind = in->Below(5);
  const std::string key(in->Bytes(64));
  const absl::string_view bytes = in->rest();
  kv::Meta meta;
  kv::Version version = 0;
  absl::string_view value;
  kv::SessionRecordKey name;
  raft::GroupId group;
  kv::Answer answer;
  kv::Reader reader(bytes);
  std::string again;
  switch (kind) {
    case 0:
      if (!kv::DecodeMeta(bytes, &meta)) return;
      KV739_FUZZ_CHECK(kv::EncodeMeta(meta) == bytes, "another meta record");
      return;
    case 1:
      kv::DecodeValueRecord(key, bytes, &version, &value);
      // And one with a good checksum.
      kv::SetValueRecord(key, meta.last_version, bytes, &again);
      KV739_FUZZ_CHECK(
          kv::DecodeValueRecord(key, again, &version, &value) && value == bytes,
          "a value was lost");
      return;
    case 2:
      kv::ParseGroup(bytes, &group);
      if (!kv::ParseSessionKey(bytes, &name)) return;
      KV739_FUZZ_CHECK(kv::ParseGroup(bytes, &group), "a key of no group");
      switch (name.kind) {
        case kv::SessionRecordKey::Kind::kSession:
          again = kv::SessionKey(group, name.session);
          break;
        case kv::SessionRecordKey::Kind::kBlock:
          again = kv::BlockKey(group, name.session, name.number);
          break;
        case kv::SessionRecordKey::Kind::kOldValue:
          again = kv::OldValueKey(group, name.session, name.number);
          break;
      }
      KV739_FUZZ_CHECK(again == bytes, "another key of a session");
      return;
    case 3:
      if (!kv::ReadAnswer(&reader, &answer)) return;
      kv::AppendAnswer(answer, &again);
      KV739_FUZZ_CHECK(
          again == bytes.substr(0, bytes.size() - reader.rest().size()),
          "another answer");
      return;
    default: {
      uint64_t number = 0;
      if (!reader.Varint(&number)) return;
      kv::AppendVarint(&again, number);
      KV739_FUZZ_CHECK(
          again == bytes.substr(0, bytes.size() - reader.rest().size()) &&
              again.size() == kv::VarintBytes(number),
          "another number");
    }
  }
}

void Supervisors(Input* in) {
  const uint64_t kind = in->Below(2);
  const absl::string_view line = in->rest();
  kv::SupervisorRequest request;
  request.server = {"localhost", 50051};
  if (kind == 0) {
    const auto parsed = kv::ParseRequest(line);
    if (!parsed.ok()) return;
    const auto again = kv::ParseRequest(kv::FormatRequest(*parsed));
    KV739_FUZZ_CHECK(again.ok() && again->verb == parsed->verb &&
                         again->server == parsed->server &&
                         again->is_new == parsed->is_new,
                     "another request");
    return;
  }
  request.verb = line.size() % 2 == 0 ? kv::SupervisorRequest::Verb::kStart
                                      : kv::SupervisorRequest::Verb::kStatus;
  const auto answer = kv::ParseAnswer(request, line);
  if (!answer.ok()) return;
  const auto again =
      kv::ParseAnswer(request, kv::FormatAnswer(request, answer));
  KV739_FUZZ_CHECK(again.ok() && again->state == answer->state &&
                       again->pid == answer->pid && again->code == answer->code,
                   "another answer");
}

void GroupMessages(absl::string_view bytes) {
  ::raft::v1::GroupMessage wire;
  if (!wire.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return;
  auto message = server::DecodeMessage(&wire);
  if (!message.ok()) return;
  server::ApproximateBytes(*message);
  ::raft::v1::GroupMessage again;
  server::EncodeMessage(*message, &again);
  const std::string first = again.SerializeAsString();
  auto twice = server::DecodeMessage(&again);
  KV739_FUZZ_CHECK(twice.ok(), twice.status().ToString());
  server::EncodeMessage(*twice, &again);
  KV739_FUZZ_CHECK(again.SerializeAsString() == first, "another message");
}

void Operations(absl::string_view bytes) {
  v1::OperationBatch batch;
  if (!batch.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return;
  }
  for (v1::Operation& wire : *batch.mutable_operations()) {
    server::Operation operation;
    server::DecodeOperation(&wire, &operation);
    server::OpName(operation.kind);
    for (auto code : {server::ReplyCode::kOk, server::ReplyCode::kRefused}) {
      server::Reply reply = server::RefusedReply(operation, code, "why");
      server::ToStatus(reply);
      if (operation.scan != nullptr) {
        const kv::ScanRequest& scan = *operation.scan;
        reply.page = std::make_shared<kv::ScanPage>();
        reply.page->entries.push_back({scan.prefix, scan.from, scan.slot});
        reply.page->more = scan.keys_only;
        reply.page->next_slot = scan.slot;
        reply.page->next_from = scan.from;
      }
      v1::OperationResult result;
      server::EncodeResult(&reply, &result);
      if (code == server::ReplyCode::kOk && operation.scan != nullptr) {
        const v1::ScanResponse& page = result.scan();
        KV739_FUZZ_CHECK(page.entries_size() == 1 &&
                             page.entries(0).key() == operation.scan->prefix &&
                             page.entries(0).value() == operation.scan->from &&
                             page.more() == operation.scan->keys_only,
                         "another page");
      }
    }
  }
}

void Snapshots(absl::string_view bytes) {
  ::raft::v1::FetchSnapshotRequest request;
  if (request.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    const auto decoded = server::DecodeSnapshotRequest(request);
    if (decoded.ok()) {
      server::EncodeSnapshotRequest(*decoded, &request);
      KV739_FUZZ_CHECK(server::DecodeSnapshotRequest(request).ok(),
                       "a request is lost");
    }
  }
  ::raft::v1::SnapshotInfo info;
  if (!info.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())))
    return;
  const auto decoded = server::DecodeSnapshotInfo(info);
  if (!decoded.ok()) return;
  server::EncodeSnapshotInfo(*decoded, &info);
  const auto again = server::DecodeSnapshotInfo(info);
  KV739_FUZZ_CHECK(again.ok() && again->meta.position == decoded->meta.position,
                   "another snapshot");
}

}  // namespace

KV739_FUZZ_TARGET(codecs, 4000) {
  Input in(bytes);
  switch (in.Below(10)) {
    case 0:
      return Commands(in.rest());
    case 1:
      return Changes(in.rest());
    case 2:
      return Maps(in.rest());
    case 3:
      return Configurations(in.rest());
    case 4:
      return Audits(in.rest());
    case 5:
      return Records(&in);
    case 6:
      return Supervisors(&in);
    case 7:
      return GroupMessages(in.rest());
    case 8:
      return Operations(in.rest());
    default:
      return Snapshots(in.rest());
  }
}

}  // namespace kv739::fuzz
