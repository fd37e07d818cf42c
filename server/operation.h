// A client's request and its answer as the replica host sees them: free of
// gRPC, so that the simulator can make them too.
#ifndef KV739_SERVER_OPERATION_H_
#define KV739_SERVER_OPERATION_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kv/command.h"
#include "kv/scan.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::server {

enum class OpKind : uint8_t {
  kGet,       // linearizable
  kGetStale,  // this replica's state, whatever its age
  kPut,
  kDelete,
  kAppend,
  kCompareAndSwap,
  kOpenSession,
  kScan,       // one page, linearizable
  kScanStale,  // one page of this replica's state
  // Of the server itself, never of a client.
  kDirectory,  // `value` is a change of the directory
  kAudit,
};
inline constexpr int kOpKinds = 11;
const char* OpName(OpKind kind);  // "get", "get_stale", "put", ...
inline bool IsScan(OpKind kind) {
  return kind == OpKind::kScan || kind == OpKind::kScanStale;
}
inline bool IsStale(OpKind kind) {
  return kind == OpKind::kGetStale || kind == OpKind::kScanStale;
}
inline bool IsRead(OpKind kind) {
  return kind == OpKind::kGet || kind == OpKind::kGetStale || IsScan(kind);
}

// How it ended; see kv739.v1.ErrorCode, which has the same meanings.
enum class ReplyCode : uint8_t {
  kOk,
  kInvalidArgument,
  kNotLeader,
  kWrongGroup,
  kOverloaded,
  kUnavailable,
  kUnknown,
  kSessionUnknown,
  kSequenceRefused,
  kValueTooLarge,
  kInternal,
  kRefused,  // kDirectory: `message` says why
};
inline constexpr int kReplyCodes = 12;
const char* ReplyCodeName(ReplyCode code);  // "ok", "not_leader", ...

struct Reply {
  uint64_t tag = 0;
  OpKind kind = OpKind::kGet;
  ReplyCode code = ReplyCode::kOk;
  // Reads: the key is there. Writes: there was a value before.
  bool found = false;
  bool swapped = false;     // kCompareAndSwap
  kv::Version version = 0;  // read, written, or there when not swapped
  std::string value;        // read, old, or there when not swapped
  kv::SessionId session = 0;
  std::shared_ptr<kv::ScanPage> page;  // of a scan that is kOk
  // Errors.
  std::string message;
  std::string leader;  // host:port, when code is kNotLeader and it is known
  raft::GroupId group = raft::kNoGroup;
  uint64_t map_epoch = 0;

  // What it holds of clients' keys and values.
  uint64_t data_bytes() const {
    return value.size() + (page != nullptr ? page->bytes : 0);
  }
};

// Where answers go. Called on whichever thread finished the operation, never
// while a loop is owned.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  virtual void Deliver(Reply reply) = 0;
  // All answers of this turn have been delivered: send them.
  virtual void Flush() = 0;
};

struct Operation {
  OpKind kind = OpKind::kGet;
  uint64_t tag = 0;
  std::shared_ptr<ReplySink> sink;
  std::string key;
  std::string value;
  kv::Version expected = 0;  // kCompareAndSwap
  kv::SessionId session = 0;
  kv::Sequence sequence = 0;
  kv::Sequence floor = 0;
  raft::GroupId group = raft::kNoGroup;   // kOpenSession
  std::shared_ptr<kv::ScanRequest> scan;  // of scans, which have no key
  uint64_t start_nanos = 0;  // Clock::MonotonicNanos() when it arrived
};

}  // namespace kv739::server

#endif  // KV739_SERVER_OPERATION_H_
