// The log behind the interface in wal.h: append in wal.cc, the checks before
// it in wal_plan.cc, reading in wal_read.cc, background work in
// wal_maintain.cc.
//
// Threads: the fields of the writer belong to the caller of Append; those
// under mu_ to everyone; methods marked [mu_] are called with it held. mu_ is
// never held across I/O. It is a std::mutex because the thread sanitizer does
// not see into the distribution's abseil.
#ifndef KV739_SERVER_WAL_WAL_IMPL_H_
#define KV739_SERVER_WAL_WAL_IMPL_H_

#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/wal/log_index.h"
#include "server/wal/recovery.h"
#include "server/wal/segment.h"
#include "server/wal/wal.h"
#include "server/wal/write_buffer.h"

namespace kv739::wal {

class WalImpl : public Wal {
 public:
  WalImpl(FileSystem* fs, std::string dir, const WalOptions& options,
          RecoveredLog recovered);

  const RecoveredGroups& recovered() const override { return recovered_; }
  absl::Status Append(absl::Span<const GroupWrite> writes) override;
  absl::StatusOr<std::vector<raft::Entry>> Read(raft::GroupId group,
                                                raft::Index first,
                                                raft::Index last,
                                                uint64_t max_bytes) override;
  absl::Status Maintain() override;
  bool wants_maintenance() const override;
  WalStats stats() const override;
  uint64_t log_bytes(raft::GroupId group) const override;

 private:
  // A live record of an old segment that the next Append writes again.
  struct Rewrite {
    Location from;
    Record record;        // without payload
    std::string payload;  // what record.payload will point to
  };
  // A segment and where the log ends in it; 0 while it is written to.
  struct Sealed {
    std::shared_ptr<Segment> segment;
    uint64_t end = 0;
  };
  // A group's log as it will be once the writes before are durable.
  struct Planned {
    raft::Index start;
    raft::Index last;
    bool exists = false;
  };
  enum class CompactionPlan : uint8_t { kNone, kKeepsRest, kDropsAll };
  struct Piece;  // wal_read.cc

  std::string Path(absl::string_view name) const;
  absl::Status Fail(const absl::Status& cause);

  // Append, in steps. Writer thread.
  /*[mu_]*/ absl::Status Plan(absl::Span<const GroupWrite> writes);
  absl::Status PlanEntries(const GroupWrite& write, Planned& planned) const;
  /*[mu_]*/ CompactionPlan PlanCompaction(absl::Span<const GroupWrite> writes,
                                          size_t i,
                                          const Planned& planned) const;
  /*[mu_]*/ raft::Term PlannedTermAt(absl::Span<const GroupWrite> writes,
                                     size_t i, raft::Index index) const;
  /*[mu_]*/ void TakeRewrites();
  absl::Status EncodeAll(absl::Span<const GroupWrite> writes);
  absl::Status Put(const Record& record);
  absl::Status Flush();
  absl::Status BeginSegment(uint64_t record_bytes);
  absl::StatusOr<std::string> SpareFor(uint64_t size);
  /*[mu_]*/ void Apply(absl::Span<const GroupWrite> writes);

  // Maintain, in steps. Background thread.
  absl::Status FreeDeadSegments();
  absl::Status Dispose(std::shared_ptr<Segment> segment);
  absl::Status FillSpares();
  absl::Status NoteLiveRecords();
  static std::vector<Rewrite> DecodeAll(absl::string_view window,
                                        uint64_t offset,
                                        const Segment& segment);
  uint64_t KeepLive(const std::vector<Rewrite>& candidates,
                    std::vector<Rewrite>* found, uint64_t* found_bytes) const;
  /*[mu_]*/ bool FrontIsDead() const;
  /*[mu_]*/ bool FrontIsToBeEmptied() const;
  std::string NewFillingPath();

  FileSystem* const fs_;
  const std::string dir_;
  const WalOptions options_;
  const uint64_t log_id_;
  RecoveredGroups recovered_;

  // ---- of the writer ----
  WriteBuffer buffer_;
  std::shared_ptr<Segment> active_;  // null until the first append
  bool active_listed_ = false;       // is the last of segments_
  uint64_t last_number_;             // of the newest segment
  uint64_t last_end_;                // where the log ends in it
  uint64_t write_start_ = 0;         // offset at which the next write begins
  std::vector<Location> placed_;     // of the records of this Append, in order
  std::vector<CompactionPlan> compactions_;  // one per write
  std::vector<Rewrite> rewrites_;            // of this Append
  absl::flat_hash_map<raft::GroupId, Planned> planned_;
  WalStats counted_;  // of this Append, to be added under mu_

  // ---- of the background thread ----
  uint64_t scan_segment_ = 0;  // whose live records are being collected
  uint64_t scan_offset_ = 0;

  // ---- under mu_ ----
  mutable std::mutex mu_;
  LogIndex index_;
  std::deque<Sealed> segments_;      // ascending, no gaps
  std::vector<std::string> spares_;  // paths
  uint64_t next_file_id_;
  // The disk was full: no more tries until a segment is freed or taken.
  bool filling_blocked_ = false;
  std::vector<Rewrite> noted_;
  absl::Status failure_;
  WalStats stats_;
};

}  // namespace kv739::wal

#endif  // KV739_SERVER_WAL_WAL_IMPL_H_
