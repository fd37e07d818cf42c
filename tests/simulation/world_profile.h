// What goes wrong in one world, and how often: drawn from its seed, so that
// worlds differ in kind. Most kinds of faults are missing in most worlds.
#ifndef KV739_TESTS_SIMULATION_WORLD_PROFILE_H_
#define KV739_TESTS_SIMULATION_WORLD_PROFILE_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace kv739::world {

enum class Fault : uint8_t {
  // network
  kLoss,         // of single messages
  kDuplicate,    // messages
  kReorder,      // messages
  kDelay,        // of all messages, at random
  kSlowLink,     // one link, for a while
  kCapacity,     // few bytes a second on every link
  kPartition,    // two sides, for a while
  kOneWay,       // one direction of some links, for a while
  kShape,        // chain, quorum loss, constrained election, bridge
  kBreak,        // a connection, with what is on it
  kCutStream,    // of a snapshot
  kRepeatChunk,  // of a snapshot
  kDamageChunk,  // of a snapshot
  // processes
  kKill,       // kill -9
  kPowerLoss,  // and what is not synced is lost, or some of it
  kStep,       // dies in the middle of a write to its disk
  kKillAll,    // at once
  kPause,
  kRestart,  // in order
  kWipe,     // the disk is lost: comes back under a new identity
  // disks
  kFlip,         // a bit at rest
  kMisdirect,    // sectors lie at the place of others
  kOldFormat,    // servers begin with the format before, and are upgraded
  kReadError,    // the log cannot be read for a moment
  kSyncFailure,  // one write or sync
  kFullDisk,
  kStall,
  kStoreStall,  // the store takes no more for a moment
  // clocks
  kClockRate,
  kWallStep,
  // operations
  kMembers,
  kTransfer,
  kReplace,    // automatically, soon
  kSnapshots,  // small thresholds
  kAudit,
  kClientCrash,
  kClientLoss,  // messages between clients and servers
  kDelete,      // of keys that are put
  kCas,         // of keys that are put
  kCount,
};
inline constexpr size_t kFaults = static_cast<size_t>(Fault::kCount);
absl::string_view FaultName(Fault fault);

struct Profile {
  std::bitset<kFaults> faults;
  // Mean time between two of a kind, in milliseconds; 0: not of this sort.
  std::array<uint32_t, kFaults> every_ms{};

  int servers = 5;  // of the cluster file
  int groups_per_five = 1;
  int later = 0;           // that may join while it runs
  int clients = 3;         // handles
  int workers = 2;         // operations at a time, of each
  int keys = 8;            // of puts, gets, deletes, compare-and-swaps
  int append_keys = 2;     // of appends and gets
  uint32_t think_ms = 20;  // between two operations of a worker, mean
  // In every kLullPeriodMs clients ask for nothing for so long, all of them.
  static constexpr uint32_t kLullPeriodMs = 8'000;
  uint32_t lull_ms = 0;
  uint32_t quiesce_after_ticks = 0;
  uint32_t value_bytes = 64;
  uint32_t delete_percent = 0;  // of the writes to keys that are put
  uint32_t cas_percent = 0;

  // Per mille of messages.
  uint32_t loss = 0;
  uint32_t duplicate = 0;
  uint32_t client_loss = 0;
  uint32_t delay_us = 300;   // one way, mean
  uint32_t jitter_us = 200;  // on top, at most
  uint64_t bytes_per_s = 0;  // of a link; 0: no limit
  uint32_t chunk_cut = 0;    // per mille of chunks of snapshots
  uint32_t chunk_repeat = 0;
  uint32_t chunk_damage = 0;

  uint64_t snapshot_entries = 10'000;
  uint64_t trailing_entries = 5'000;
  uint64_t replace_after_ticks = 0;
  bool leases = false;  // reads by lease
  bool scans = false;   // some reads are of a page of keys
  uint64_t segment_bytes = 256 << 10;
  bool direct = true;  // writes are durable when they return
  uint32_t gather_from = 0;
  uint32_t hold_back_ms = 0;

  bool has(Fault fault) const { return faults[static_cast<size_t>(fault)]; }
  std::string Describe() const;
};

struct Options {
  uint64_t seed = 1;
  uint32_t seconds = 60;  // of faults and calm, before the end is checked
  bool trace = false;
  std::bitset<kFaults> with;     // kinds that it has in any case
  std::bitset<kFaults> without;  // kinds that are left out
  int clients = 0;               // at most; 0: as drawn
};

Profile DrawProfile(const Options& options);

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_WORLD_PROFILE_H_
