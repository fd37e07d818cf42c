#include "server/operation_codec.h"

#include <string>
#include <utility>

namespace kv739::server {
namespace {

void SetId(const v1::WriteId& id, Operation* out) {
  out->session = id.session();
  out->sequence = id.sequence();
  out->floor = id.floor();
}

}  // namespace

void DecodeRequest(v1::GetRequest* in, Operation* out) {
  out->kind = in->consistency() == v1::STALE ? OpKind::kGetStale : OpKind::kGet;
  out->key = std::move(*in->mutable_key());
}
void DecodeRequest(v1::PutRequest* in, Operation* out) {
  out->kind = OpKind::kPut;
  out->key = std::move(*in->mutable_key());
  out->value = std::move(*in->mutable_value());
  SetId(in->id(), out);
}
void DecodeRequest(v1::DeleteRequest* in, Operation* out) {
  out->kind = OpKind::kDelete;
  out->key = std::move(*in->mutable_key());
  SetId(in->id(), out);
}
void DecodeRequest(v1::AppendRequest* in, Operation* out) {
  out->kind = OpKind::kAppend;
  out->key = std::move(*in->mutable_key());
  out->value = std::move(*in->mutable_value());
  SetId(in->id(), out);
}
void DecodeRequest(v1::CompareAndSwapRequest* in, Operation* out) {
  out->kind = OpKind::kCompareAndSwap;
  out->key = std::move(*in->mutable_key());
  out->value = std::move(*in->mutable_value());
  out->expected = in->expected_version();
  SetId(in->id(), out);
}
void DecodeRequest(v1::OpenSessionRequest* in, Operation* out) {
  out->kind = OpKind::kOpenSession;
  out->group = raft::GroupId(in->group());
}

void DecodeRequest(v1::ScanRequest* in, Operation* out) {
  out->kind =
      in->consistency() == v1::STALE ? OpKind::kScanStale : OpKind::kScan;
  out->scan = std::make_shared<kv::ScanRequest>();
  out->scan->slot = in->slot();
  out->scan->from = std::move(*in->mutable_from());
  out->scan->prefix = std::move(*in->mutable_prefix());
  out->scan->max_keys = in->max_keys();
  out->scan->max_bytes = in->max_bytes();
  out->scan->keys_only = in->keys_only();
}

bool DecodeOperation(v1::Operation* in, Operation* out) {
  out->tag = in->tag();
  switch (in->kind_case()) {
    case v1::Operation::kGet:
      DecodeRequest(in->mutable_get(), out);
      return true;
    case v1::Operation::kPut:
      DecodeRequest(in->mutable_put(), out);
      return true;
    case v1::Operation::kDelete:
      DecodeRequest(in->mutable_delete_(), out);
      return true;
    case v1::Operation::kAppend:
      DecodeRequest(in->mutable_append(), out);
      return true;
    case v1::Operation::kCompareAndSwap:
      DecodeRequest(in->mutable_compare_and_swap(), out);
      return true;
    case v1::Operation::kOpenSession:
      DecodeRequest(in->mutable_open_session(), out);
      return true;
    case v1::Operation::kScan:
      DecodeRequest(in->mutable_scan(), out);
      return true;
    case v1::Operation::KIND_NOT_SET:
      return false;
  }
  return false;
}

void EncodeResponse(Reply* in, v1::GetResponse* out) {
  out->set_found(in->found);
  out->set_value(std::move(in->value));
  out->set_version(in->version);
}
void EncodeResponse(Reply* in, v1::WriteResponse* out) {
  out->set_existed(in->found);
  out->set_old_value(std::move(in->value));
  out->set_version(in->version);
  out->set_swapped(in->swapped);
}
void EncodeResponse(Reply* in, v1::OpenSessionResponse* out) {
  out->set_session(in->session);
}

void EncodeResponse(Reply* in, v1::ScanResponse* out) {
  if (in->page == nullptr) return;
  kv::ScanPage& page = *in->page;
  out->mutable_entries()->Reserve(static_cast<int>(page.entries.size()));
  for (kv::ScanPage::Entry& entry : page.entries) {
    v1::ScanResponse::Entry* to = out->add_entries();
    to->set_key(std::move(entry.key));
    to->set_value(std::move(entry.value));
    to->set_version(entry.version);
  }
  out->set_more(page.more);
  if (!page.more) return;
  out->set_next_slot(page.next_slot);
  out->set_next_from(std::move(page.next_from));
}

void EncodeError(const Reply& in, v1::Error* out) {
  out->set_code(ToErrorCode(in.code));
  out->set_message(in.message);
  out->set_leader(in.leader);
  out->set_map_epoch(in.map_epoch);
  if (in.group != raft::kNoGroup) out->set_group(in.group.value());
}

void EncodeResult(Reply* in, v1::OperationResult* out) {
  out->set_tag(in->tag);
  if (in->code != ReplyCode::kOk) {
    EncodeError(*in, out->mutable_error());
  } else if (IsScan(in->kind)) {
    EncodeResponse(in, out->mutable_scan());
  } else if (IsRead(in->kind)) {
    EncodeResponse(in, out->mutable_get());
  } else if (in->kind == OpKind::kOpenSession) {
    EncodeResponse(in, out->mutable_open_session());
  } else {
    EncodeResponse(in, out->mutable_write());
  }
}

v1::ErrorCode ToErrorCode(ReplyCode code) {
  switch (code) {
    case ReplyCode::kOk:
      return v1::OK;
    case ReplyCode::kInvalidArgument:
      return v1::INVALID_ARGUMENT;
    case ReplyCode::kNotLeader:
      return v1::NOT_LEADER;
    case ReplyCode::kWrongGroup:
      return v1::WRONG_GROUP;
    case ReplyCode::kOverloaded:
      return v1::OVERLOADED;
    case ReplyCode::kUnavailable:
      return v1::UNAVAILABLE;
    case ReplyCode::kUnknown:
      return v1::UNKNOWN;
    case ReplyCode::kSessionUnknown:
      return v1::SESSION_UNKNOWN;
    case ReplyCode::kSequenceRefused:
      return v1::SEQUENCE_REFUSED;
    case ReplyCode::kValueTooLarge:
      return v1::VALUE_TOO_LARGE;
    case ReplyCode::kInternal:
    case ReplyCode::kRefused:  // clients cannot ask for what it answers
      return v1::INTERNAL;
  }
  return v1::INTERNAL;
}

grpc::StatusCode ToStatusCode(ReplyCode code) {
  switch (code) {
    case ReplyCode::kOk:
      return grpc::StatusCode::OK;
    case ReplyCode::kInvalidArgument:
    case ReplyCode::kValueTooLarge:
      return grpc::StatusCode::INVALID_ARGUMENT;
    case ReplyCode::kNotLeader:
    case ReplyCode::kUnavailable:
      return grpc::StatusCode::UNAVAILABLE;
    case ReplyCode::kWrongGroup:
    case ReplyCode::kSessionUnknown:
    case ReplyCode::kSequenceRefused:
      return grpc::StatusCode::FAILED_PRECONDITION;
    case ReplyCode::kOverloaded:
      return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case ReplyCode::kUnknown:
      return grpc::StatusCode::UNKNOWN;
    case ReplyCode::kInternal:
    case ReplyCode::kRefused:
      return grpc::StatusCode::INTERNAL;
  }
  return grpc::StatusCode::INTERNAL;
}

grpc::Status ToStatus(const Reply& reply) {
  return grpc::Status(ToStatusCode(reply.code), reply.message);
}

Reply RefusedReply(const Operation& operation, ReplyCode code,
                   std::string message) {
  Reply reply;
  reply.tag = operation.tag;
  reply.kind = operation.kind;
  reply.code = code;
  reply.message = std::move(message);
  return reply;
}

}  // namespace kv739::server
