// What a caller asks for and what became of it. Values; an Operation is
// shared between its caller, the engine and the stream that sends it.
#ifndef KV739_CLIENT_OPERATION_H_
#define KV739_CLIENT_OPERATION_H_

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "client/lib739kv.h"
#include "client/timer_wheel.h"
#include "kv/types.h"
#include "raft/types.h"

namespace kv739::client {

enum class OpKind { kGet, kPut, kDelete, kAppend, kCas, kOpenSession, kScan };

// Where a page of a scan begins and what it is to have; as proto ScanRequest.
struct ScanRequest {
  uint32_t slot = 0;
  std::string from;
  std::string prefix;
  uint32_t max_keys = 0;
  bool keys_only = false;
};
struct ScanPage {
  struct Entry {
    std::string key;
    std::string value;
    kv::Version version = 0;
  };
  std::vector<Entry> entries;
  bool more = false;
  uint32_t next_slot = kv::kSlotCount;  // where the next one begins
  std::string next_from;
};

// Never changed after it was submitted, so that it may be read anywhere.
struct Request {
  OpKind kind = OpKind::kGet;
  std::string key;
  std::string value;
  kv::Version expected = 0;                 // kCas
  raft::GroupId group;                      // kOpenSession
  std::shared_ptr<const ScanRequest> scan;  // kScan, which has no key

  bool IsWrite() const {
    return kind != OpKind::kGet && kind != OpKind::kOpenSession &&
           kind != OpKind::kScan;
  }
};

// Identity of a write (proto WriteId); session 0: none yet.
struct WriteIdentity {
  raft::GroupId group;
  kv::SessionId session = 0;
  kv::Sequence sequence = 0;
};

// How an operation ended. `code`: as the C calls return it, 0 or 1 when it
// was done, a KV739_E_ code with `message` otherwise.
struct Outcome {
  int code = KV739_E_INTERNAL;
  std::string message;
  bool found = false;
  kv::Version version = 0;
  std::string value;
  std::shared_ptr<ScanPage> page;  // of a scan that was done
};

using NodeIndex = uint32_t;  // of the router's table of addresses

class Operation {
 public:
  explicit Operation(Request r) : request(std::move(r)) {}
  virtual ~Operation() = default;
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;

  // Called once, without any lock, after `outcome` was set.
  virtual void Finished() {}

  const Request request;
  Instant deadline = kNever;
  Outcome outcome;

 private:
  friend class Engine;

  // The rest is the engine's, under its owner's lock.
  enum class Phase { kNew, kWaiting, kTrying, kBackoff, kDone };

  Phase phase = Phase::kNew;
  kv::Slot slot = 0;
  raft::GroupId group;     // that the current try goes to
  WriteIdentity identity;  // of a write
  // Attempts that are out: sent or queued to be sent.
  absl::InlinedVector<uint64_t, 2> attempts;
  // Attempts that were sent and not refused: while there are any, a write
  // may have taken effect.
  uint32_t doubt = 0;
  bool answered = false;  // some server said something about it
  uint32_t free_tries = 0;
  uint32_t free_hops = 0;
  Instant backoff = 0;      // length of the next one
  Instant try_timeout = 0;  // of the current try
  Instant next_step = kNever;
  std::string last_problem;
  TimerWheel<Operation>::Hook hook;
  // Place among those that wait for the session of their group.
  std::list<std::shared_ptr<Operation>>::iterator waiting;
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_OPERATION_H_
