#include "tests/simulation/world_profile.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "tests/support/sim_random.h"

namespace kv739::world {
namespace {

struct Kind {
  const char* name;
  uint32_t percent;   // of the worlds that have it
  uint32_t every_ms;  // mean; 0: not something that happens at times
};

constexpr std::array<Kind, kFaults> kKinds = {{
    {"loss", 35, 0},
    {"duplicate", 30, 0},
    {"reorder", 30, 0},
    {"delay", 30, 0},
    {"slow-link", 20, 6'000},
    {"capacity", 12, 0},
    {"partition", 35, 6'000},
    {"one-way", 25, 6'000},
    {"shape", 20, 8'000},
    {"break", 35, 2'000},
    {"cut-stream", 35, 0},
    {"repeat-chunk", 30, 0},
    {"damage-chunk", 25, 0},
    {"kill", 45, 4'000},
    {"power-loss", 40, 5'000},
    {"step", 35, 4'000},
    {"kill-all", 15, 15'000},
    {"pause", 30, 5'000},
    {"restart", 20, 8'000},
    {"wipe", 20, 12'000},
    {"flip", 20, 8'000},
    {"misdirect", 20, 6'000},
    {"old-format", 30, 0},
    {"read-error", 15, 6'000},
    {"sync-failure", 20, 8'000},
    {"full-disk", 15, 9'000},
    {"stall", 25, 6'000},
    {"store-stall", 20, 4'000},
    {"clock-rate", 30, 0},
    {"wall-step", 25, 4'000},
    {"members", 35, 4'000},
    {"transfer", 35, 3'000},
    {"replace", 25, 0},
    {"snapshots", 60, 0},
    {"audit", 25, 3'000},
    {"client-crash", 25, 4'000},
    {"client-loss", 25, 0},
    {"delete", 60, 0},
    {"cas", 60, 0},
}};

constexpr uint64_t kStream = 0x9f0f11e5;

}  // namespace

absl::string_view FaultName(Fault fault) {
  return kKinds[static_cast<size_t>(fault)].name;
}

std::string Profile::Describe() const {
  std::string text =
      absl::StrCat(servers, "+", later, " servers, ", clients, "x", workers,
                   " clients, ", direct ? "direct" : "buffered", " log,");
  if (leases) absl::StrAppend(&text, " leases,");
  if (scans) absl::StrAppend(&text, " scans,");
  if (gather_from > 0) {
    absl::StrAppend(&text, " writes gather from ", gather_from, ",");
  }
  if (hold_back_ms > 0) {
    absl::StrAppend(&text, " entries held back ", hold_back_ms, " ms,");
  }
  if (groups_per_five > 1) {
    absl::StrAppend(&text, " ", groups_per_five, " groups per five,");
  }
  if (quiesce_after_ticks > 0) {
    absl::StrAppend(&text, " quiet after ", quiesce_after_ticks, ",");
  }
  for (size_t i = 0; i < kFaults; ++i) {
    if (faults[i]) absl::StrAppend(&text, " ", kKinds[i].name);
  }
  return text;
}

Profile DrawProfile(const Options& options) {
  sim::SimRandom random(options.seed * 0x9e3779b97f4a7c15ULL + kStream);
  Profile p;
  // One world in twelve is calm; in others faults are rarer or more frequent.
  const bool calm = random.Chance(1, 12);
  const uint64_t share = random.Between(30, 130);
  const uint64_t pace = random.Between(40, 250);  // percent
  for (size_t i = 0; i < kFaults; ++i) {
    const bool drawn = random.Below(10'000) < kKinds[i].percent * share;
    p.faults[i] = (drawn && !calm && !options.without[i]) || options.with[i];
    p.every_ms[i] =
        static_cast<uint32_t>(uint64_t{kKinds[i].every_ms} * pace / 100);
  }
  static constexpr int kServers[] = {3, 3, 4, 5, 5, 5, 5, 6, 7, 10};
  p.servers = kServers[random.Below(10)];
  p.later = static_cast<int>(random.Below(3));
  if (!p.has(Fault::kMembers)) p.later = 0;
  p.clients = static_cast<int>(random.Between(1, 4));
  p.workers = static_cast<int>(random.Between(1, 4));
  p.keys = static_cast<int>(random.Between(2, 24));
  p.append_keys = static_cast<int>(random.Between(0, 3));
  p.think_ms = static_cast<uint32_t>(random.Between(20, 200));
  p.value_bytes = random.Chance(1, 6)
                      ? 4096
                      : static_cast<uint32_t>(random.Between(8, 200));
  if (options.clients > 0) p.clients = std::min(p.clients, options.clients);

  auto per_mille = [&](Fault fault, uint64_t most) -> uint32_t {
    const auto drawn = static_cast<uint32_t>(random.Between(1, most));
    return p.has(fault) ? drawn : 0;
  };
  p.loss = per_mille(Fault::kLoss, 100);
  p.duplicate = per_mille(Fault::kDuplicate, 200);
  p.client_loss = per_mille(Fault::kClientLoss, 60);
  p.chunk_cut = per_mille(Fault::kCutStream, 300);
  p.chunk_repeat = per_mille(Fault::kRepeatChunk, 300);
  p.chunk_damage = per_mille(Fault::kDamageChunk, 200);
  const auto delay = static_cast<uint32_t>(random.Between(200, 30'000));
  if (p.has(Fault::kDelay)) p.delay_us = delay;
  p.jitter_us = static_cast<uint32_t>(random.Between(0, p.delay_us * 3));
  const uint64_t rate = random.Between(30'000, 1'000'000);
  if (p.has(Fault::kCapacity)) p.bytes_per_s = rate;

  const uint64_t entries = random.Between(10, 200);
  const uint64_t trailing = random.Between(0, entries);
  if (p.has(Fault::kSnapshots)) {
    p.snapshot_entries = entries;
    p.trailing_entries = trailing;
  }
  const uint64_t replace = random.Between(50, 400);
  if (p.has(Fault::kReplace)) p.replace_after_ticks = replace;
  p.segment_bytes = random.Chance(1, 2) ? 64 << 10 : 256 << 10;
  p.direct = random.Chance(1, 2);
  const auto deletes = static_cast<uint32_t>(random.Between(1, 30));
  const auto swaps = static_cast<uint32_t>(random.Between(5, 60));
  if (p.has(Fault::kDelete)) p.delete_percent = deletes;
  if (p.has(Fault::kCas)) p.cas_percent = swaps;
  static constexpr uint32_t kQuiesce[] = {0, 3, 10, 25, 50, 150};
  p.quiesce_after_ticks = kQuiesce[random.Below(6)];
  const auto lull = static_cast<uint32_t>(random.Between(1'000, 6'000));
  if (random.Chance(2, 3)) p.lull_ms = lull;
  p.leases = random.Chance(1, 3);
  // Drawn last, so that worlds with one stay what they were before there were
  // several.
  if (random.Chance(1, 3)) {
    p.groups_per_five = static_cast<int>(random.Between(2, 3));
  }
  // Of those without, the same goes.
  p.scans = random.Chance(1, 3);
  p.gather_from = static_cast<uint32_t>(random.Below(3)) * 2;
  constexpr uint32_t kHoldBackMillis[] = {0, 2, 30};
  p.hold_back_ms = kHoldBackMillis[random.Below(3)];
  return p;
}

}  // namespace kv739::world
