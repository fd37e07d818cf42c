#include "server/operation.h"

namespace kv739::server {

const char* OpName(OpKind kind) {
  switch (kind) {
    case OpKind::kGet:
      return "get";
    case OpKind::kGetStale:
      return "get_stale";
    case OpKind::kPut:
      return "put";
    case OpKind::kDelete:
      return "delete";
    case OpKind::kAppend:
      return "append";
    case OpKind::kCompareAndSwap:
      return "compare_and_swap";
    case OpKind::kOpenSession:
      return "open_session";
    case OpKind::kScan:
      return "scan";
    case OpKind::kScanStale:
      return "scan_stale";
    case OpKind::kDirectory:
      return "directory";
    case OpKind::kAudit:
      return "audit";
  }
  return "unknown";
}

const char* ReplyCodeName(ReplyCode code) {
  switch (code) {
    case ReplyCode::kOk:
      return "ok";
    case ReplyCode::kInvalidArgument:
      return "invalid_argument";
    case ReplyCode::kNotLeader:
      return "not_leader";
    case ReplyCode::kWrongGroup:
      return "wrong_group";
    case ReplyCode::kOverloaded:
      return "overloaded";
    case ReplyCode::kUnavailable:
      return "unavailable";
    case ReplyCode::kUnknown:
      return "unknown";
    case ReplyCode::kSessionUnknown:
      return "session_unknown";
    case ReplyCode::kSequenceRefused:
      return "sequence_refused";
    case ReplyCode::kValueTooLarge:
      return "value_too_large";
    case ReplyCode::kInternal:
      return "internal";
    case ReplyCode::kRefused:
      return "refused";
  }
  return "unknown";
}

}  // namespace kv739::server
