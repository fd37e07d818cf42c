// Do the replicas of a group hold the same? Every now and then the leader
// proposes an entry that changes nothing (kv::Op::kAudit). Each replica hashes
// its state as it is right behind that entry and reports to its leader, which
// compares: who differs from the majority, or cannot read what it holds, gets a
// verdict, stops serving and is rebuilt from a snapshot.
//
//   leader    AuditLeader: when to begin, who has reported, what it means
//   replica   AuditDuty: hashes one state at a time, the newest
//   between   AuditMessage, the payload of NodeMessage::Kind::kAudit
//
// Nobody is judged without a majority: two against two is reported, loudly, and
// left to people. A change of leaders ends an audit without a result; the new
// leader saw the entry too and begins the next one in its time.
//
// Values and small state machines without threads. Time: ticks of the caller.
#ifndef KV739_SERVER_AUDIT_H_
#define KV739_SERVER_AUDIT_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "kv/state_machine.h"
#include "raft/configuration.h"
#include "raft/types.h"

namespace kv739::server {

// ---- what replicas and leaders say ----

inline constexpr size_t kMaxAuditText = 256;  // longer ones are cut

// Of the sender's state behind the audit entry at `at`.
struct AuditReport {
  raft::GroupId group;
  raft::LogPosition at;
  uint64_t hash = 0;
  uint64_t keys = 0;
  // Not OK: there is no hash. DATA_LOSS: the state cannot be read; everything
  // else says nothing about the state.
  absl::StatusCode code = absl::StatusCode::kOk;
  std::string error;
  bool operator==(const AuditReport&) const = default;
};

AuditReport MakeAuditReport(
    raft::GroupId group, raft::LogPosition at,
    const absl::StatusOr<kv::StateMachine::StateHash>& hash);

// To the replica that differs.
struct AuditVerdict {
  raft::GroupId group;
  raft::LogPosition at;
  std::string finding;  // for people
  bool operator==(const AuditVerdict&) const = default;
};

using AuditMessage = std::variant<AuditReport, AuditVerdict>;

// Begins with a version byte. Decode is INVALID_ARGUMENT for anything that
// Encode does not make.
std::string EncodeAuditMessage(const AuditMessage& message);
absl::StatusOr<AuditMessage> DecodeAuditMessage(absl::string_view bytes);

// ---- replica ----

// How many entries may be applied together: as many as allowed, or up to the
// first audit entry and with it, so that the state can be hashed right there.
struct AuditBatch {
  size_t count = 0;
  bool audit = false;  // the last of them is an audit entry
};
bool IsAuditEntry(const raft::Entry& entry);
template <typename Entries>  // a span, a vector, a deque
AuditBatch NextAuditBatch(const Entries& entries, size_t most) {
  const size_t end = std::min(entries.size(), most);
  for (size_t i = 0; i < end; ++i) {
    if (IsAuditEntry(entries[i])) return {i + 1, true};
  }
  return {end, false};
}

// The states that a replica has still to hash: one at a time, and of those that
// wait only the newest, for each holds a view of the store. (A replica that
// catches up meets old audit entries one after the other.)
class AuditDuty {
 public:
  struct Work {
    raft::LogPosition at;
    std::unique_ptr<kv::StateMachine::HashJob> job;
  };
  // Returns what is to be run now, if anything.
  std::optional<Work> Add(Work work);
  // The work that was to be run is done: what is next?
  std::optional<Work> Finished();
  bool running() const { return running_; }

 private:
  bool running_ = false;
  std::optional<Work> waiting_;
};

// ---- leader ----

struct AuditOptions {
  uint64_t interval_ticks = 0;  // 0: only when asked
  // Who has not reported by then is not waited for.
  uint64_t collect_ticks = 3000;
  // Once most have reported, the rest get three times as long again and this:
  // a replica may have gone, or have got a snapshot from behind the audit.
  uint64_t linger_ticks = 250;
};

struct AuditedReplica {
  enum class Finding : uint8_t {
    kEqual,       // to the majority
    kDiffers,     // from the majority
    kUnreadable,  // DATA_LOSS
    kUnclear,     // it has a hash, but no majority has one
    kNotTold,     // no report, or one without a result
  };
  raft::NodeId node;
  bool voter = false;
  Finding finding = Finding::kNotTold;
  uint64_t hash = 0;
  uint64_t keys = 0;
  std::string error;  // of a report without a hash
  bool operator==(const AuditedReplica&) const = default;
};

struct AuditResult {
  raft::GroupId group;
  raft::LogPosition at;
  // More than half of the voters that reported, and not one alone in a group of
  // several, have this hash.
  bool majority = false;
  uint64_t hash = 0;
  bool differ = false;                   // not all hashes are equal
  std::vector<AuditedReplica> replicas;  // by node

  // Replicas that have to be rebuilt.
  std::vector<raft::NodeId> Convicted() const;
  // Nothing is wrong as far as is known.
  bool Clean() const;
  // For people, what is wrong with one replica; "" when it is equal.
  std::string Finding(const AuditedReplica& replica) const;
  // One line for the log.
  std::string Describe() const;
};

// The audits of one group, on each of its replicas: any may come to lead.
class AuditLeader {
 public:
  // The audits of different groups are spread over the interval.
  AuditLeader(const AuditOptions& options, raft::GroupId group, uint64_t now);

  // ---- every replica ----
  // An audit entry was applied: the interval begins anew.
  void Applied(uint64_t now);
  // This replica does not lead, or no longer in the term in which it began.
  // Whoever waits for an audit is to be told.
  void StepDown();

  // ---- the leader ----
  // Somebody wants one now. One that is under way is not what they want, for
  // their writes may be behind it: another one follows it.
  void Ask() { asked_ = true; }
  // Time to propose an audit entry. True until Begin(), so a proposal that was
  // refused comes again.
  bool Due(uint64_t now) const;
  // The entry was proposed. Known from now on are its members as of now.
  void Begin(raft::LogPosition at, const raft::Configuration& members,
             uint64_t now);
  // False, and nothing happens, for a report that is late, repeated, of another
  // position or of a node that is no member.
  bool Report(raft::NodeId from, const AuditReport& report);
  // The result, once, when all have reported or the time is up.
  std::optional<AuditResult> Poll(uint64_t now);
  bool open() const { return open_.has_value(); }
  // The last result of this replica's time as leader.
  const std::optional<AuditResult>& last() const { return last_; }

 private:
  struct Open {
    AuditResult result;
    uint64_t begun = 0;
    uint64_t deadline = 0;
    size_t missing = 0;
    bool hurried = false;  // most have reported
  };
  static void Judge(AuditResult* result);

  const AuditOptions options_;
  const raft::GroupId group_;
  uint64_t next_ = 0;
  bool asked_ = false;
  std::optional<Open> open_;
  std::optional<AuditResult> last_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_AUDIT_H_
