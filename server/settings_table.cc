#include "server/settings_table.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kv/types.h"

namespace kv739::server {
namespace {

constexpr uint64_t kKiB = uint64_t{1} << 10;
constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kTiB = uint64_t{1} << 40;

constexpr std::array<absl::string_view, 5> kLogLevels = {
    "trace", "debug", "info", "warn", "error"};
constexpr std::array<absl::string_view, 2> kLogFormats = {"text", "json"};

template <typename T>
NumberSetting Number(T Settings::*field, Unit unit, uint64_t min,
                     uint64_t max) {
  return {field, unit, min, max};
}

// clang-format off
std::vector<Setting> MakeTable() {
  using S = Settings;
  return {
    {"raft", "tick_ms", Number(&S::tick_ms, Unit::kMilliseconds, 1, 1000),
     "Length of a tick, the unit of the timeouts below."},
    {"raft", "heartbeat_ticks", Number(&S::heartbeat_ticks, Unit::kTicks, 1, 1000),
     "A leader that has nothing to send says so after this time."},
    {"raft", "election_timeout_ticks", Number(&S::election_timeout_ticks, Unit::kTicks, 2, 10'000),
     "A follower that hears of no leader campaigns after one to two times\n"
     "this. More than heartbeat_ticks; several times it is wise."},
    {"raft", "gone_timeout_ticks", Number(&S::gone_timeout_ticks, Unit::kTicks, 0, 10'000),
     "When its connection to the leader ends, after up to this. Followers that\n"
     "still hear from the leader do not let it be deposed. 0: that is no reason."},
    {"raft", "quiesce_after_ticks", Number(&S::quiesce_after_ticks, Unit::kTicks, 0, 1'000'000),
     "A group in which nothing happened for so long rests: it sends no\n"
     "heartbeats, and costs no work, until something does. 0: never."},
    {"raft", "max_append_bytes", Number(&S::max_append_bytes, Unit::kBytes, 4 * kKiB, 64 * kMiB),
     "Entries that one message to a follower carries. A larger single entry\n"
     "still travels, alone."},
    {"raft", "max_inflight_bytes", Number(&S::max_inflight_bytes, Unit::kBytes, 4 * kKiB, kGiB),
     "Sent to one follower and not answered yet, per group. At least\n"
     "max_append_bytes."},
    {"raft", "max_inflight_messages", Number(&S::max_inflight_messages, Unit::kNone, 1, 65'536),
     "The same, counted in messages."},
    {"raft", "max_uncommitted_bytes", Number(&S::max_uncommitted_bytes, Unit::kBytes, 2 * kMiB, 16 * kGiB),
     "Writes that a leader takes in before they are committed, per group;\n"
     "beyond it clients are told to try later."},
    {"raft", "entry_cache_bytes", Number(&S::entry_cache_bytes, Unit::kBytes, 64 * kKiB, 16 * kGiB),
     "Recent entries kept in memory per group, to feed followers."},
    {"raft", "read_leases", BoolSetting{&S::read_leases},
     "Leaders answer reads by lease, without asking the others: sound while no\n"
     "server's clock runs a quarter faster than another's. To be set alike on\n"
     "all servers; those with it do not heed gone_timeout_ticks."},
    {"raft", "gather_from", Number(&S::gather_from, Unit::kNone, 0, 65'536),
     "Writes of a group in flight from which on its leader gathers them: a batch\n"
     "waits, at most 4 ms, until it has a third of them. 0: never."},
    {"raft", "hold_back_ms", Number(&S::hold_back_ms, Unit::kMilliseconds, 0, 1000),
     "How long entries may wait for followers that a majority does not need, to\n"
     "share a message. Leaders do so where commits are the faster for it, which\n"
     "they try from time to time. 0: never."},

    {"snapshot", "entries", Number(&S::snapshot_entries, Unit::kEntries, 1, 1'000'000'000),
     "The state is made durable and the log before it dropped after this many\n"
     "applied entries of a group, ..."},
    {"snapshot", "log_bytes", Number(&S::snapshot_log_bytes, Unit::kBytes, kMiB, kTiB),
     "... or when its log has grown by this much, ..."},
    {"snapshot", "interval_s", Number(&S::snapshot_interval_s, Unit::kSeconds, 0, 2'592'000),
     "... or after this time, whichever comes first. 0: never by time."},
    {"snapshot", "trailing_entries", Number(&S::snapshot_trailing_entries, Unit::kEntries, 0, 1'000'000'000),
     "Entries kept behind that point, so that a slow follower catches up\n"
     "from the log."},

    {"snapshot", "send_bytes_per_s", Number(&S::snapshot_send_bytes_per_s, Unit::kBytes, 0, kTiB),
     "What this server sends of snapshots to others in a second, of all\n"
     "groups together. 0: as fast as it goes."},

    {"membership", "replace_after_s", Number(&S::replace_after_s, Unit::kSeconds, 0, 2'592'000),
     "A server that is away for longer is replaced by a spare in each of its\n"
     "groups. 0: never."},
    {"membership", "candidate_timeout_s", Number(&S::candidate_timeout_s, Unit::kSeconds, 1, 86'400),
     "A spare that is silent for so long while it is to replace another\n"
     "server is given up for the next one."},
    {"membership", "balance_leaders", BoolSetting{&S::balance_leaders},
     "Servers that lead more of the groups that they share than others hand\n"
     "some over, one after the other."},
    {"membership", "audit_interval_s", Number(&S::audit_interval_s, Unit::kSeconds, 0, 2'592'000),
     "The replicas of each group compare their states so often. 0: only when\n"
     "they are asked to."},

    {"limits", "max_key_bytes", Number(&S::max_key_bytes, Unit::kBytes, 1, kv::kMaxKeyBytes),
     "Longest key that is taken."},
    {"limits", "max_value_bytes", Number(&S::max_value_bytes, Unit::kBytes, 1, kv::kMaxValueBytes),
     "Longest value that is taken."},
    {"limits", "key_charset", WordSetting{&S::portable_keys, "any", "portable"},
     "portable: only letters, digits and - _ . / in keys."},
    {"limits", "max_inbox_events", Number(&S::max_inbox_events, Unit::kNone, 64, 16 * kMiB),
     "Requests and messages that wait for one loop; beyond it clients are\n"
     "told to try later."},
    {"limits", "max_pending_proposals", Number(&S::max_pending_proposals, Unit::kNone, 16, 16 * kMiB),
     "Writes of one group whose answers are due."},
    {"limits", "max_peer_queue_bytes", Number(&S::max_peer_queue_bytes, Unit::kBytes, 4 * kMiB, 16 * kGiB),
     "Messages that wait for one peer; beyond it they are dropped, and sent\n"
     "again by Raft itself."},

    {"storage", "wal_segment_bytes", Number(&S::wal_segment_bytes, Unit::kBytes, 4 * kMiB, kGiB),
     "Size of a file of the write-ahead log, a multiple of 4096. Files are\n"
     "filled in advance and used again."},
    {"storage", "wal_spare_segments", Number(&S::wal_spare_segments, Unit::kNone, 0, 64),
     "Files of the log kept ready beyond those in use."},
    {"storage", "wal_cache_bytes", Number(&S::wal_cache_bytes, Unit::kBytes, 0, 64 * kGiB),
     "Recent entries of all groups kept in memory by the log."},
    {"storage", "wal_direct_io", BoolSetting{&S::wal_direct_io},
     "Write the log past the page cache where the file system takes it. When\n"
     "off, writes are buffered and then synced: as durable, and slower."},
    {"storage", "write_buffer_bytes", Number(&S::write_buffer_bytes, Unit::kBytes, kMiB, 16 * kGiB),
     "Memory for user data that is not in files yet: so much for each of four\n"
     "buffers of the store, and three times for what is in front of them,\n"
     "values that were written lately among it."},
    {"storage", "block_cache_bytes", Number(&S::block_cache_bytes, Unit::kBytes, 0, kTiB),
     "Memory for user data read from files, and for the indexes and filters of\n"
     "all files: some three bytes for each key, kept even where that is more."},
    {"storage", "storage_threads", Number(&S::storage_threads, Unit::kNone, 1, 64),
     "Background threads for flushes and compactions of user data."},
    {"storage", "disk_reserve_bytes", Number(&S::disk_reserve_bytes, Unit::kBytes, 0, kTiB),
     "With less than this free, writes that take room are refused and others\n"
     "lead; deletes go on. 0: never."},

    {"server", "loops", Number(&S::loops, Unit::kNone, 1, 256),
     "Loops that the groups are spread over. One per four cores is enough."},
    {"server", "stop_timeout_ms", Number(&S::stop_timeout_ms, Unit::kMilliseconds, 0, 600'000),
     "On a stop: longest wait for leaderships to be handed over and requests\n"
     "to be answered."},
    {"server", "allow_remote_admin", BoolSetting{&S::allow_remote_admin},
     "Take administrative calls from other hosts too, not only from this one."},
    {"server", "allow_die", BoolSetting{&S::allow_die},
     "Take the call that ends this server (kv739_die)."},

    {"metrics", "host", HostSetting{&S::metrics_host},
     "Address that the metrics are served on."},
    {"metrics", "port", Number(&S::metrics_port, Unit::kNone, 0, 65'535),
     "0: the port of the cluster file, or 9090 for the first server of a host\n"
     "in it, 9091 for the next, and so on."},

    {"log", "level", ChoiceSetting{&S::log_level, kLogLevels},
     "Least important lines that are written."},
    {"log", "format", ChoiceSetting{&S::log_format, kLogFormats},
     "text: for people. json: one object a line."},
  };
}
// clang-format on

std::string FormatBytes(uint64_t bytes) {
  for (auto [unit, suffix] :
       {std::pair<uint64_t, absl::string_view>{kGiB, "GiB"},
        {kMiB, "MiB"},
        {kKiB, "KiB"}}) {
    if (bytes >= unit && bytes % unit == 0) {
      return absl::StrCat(bytes / unit, suffix);
    }
  }
  return absl::StrCat(bytes);
}

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

}  // namespace

absl::string_view UnitName(Unit unit) {
  switch (unit) {
    case Unit::kNone:
      return "";
    case Unit::kTicks:
      return "ticks";
    case Unit::kMilliseconds:
      return "milliseconds";
    case Unit::kSeconds:
      return "seconds";
    case Unit::kBytes:
      return "bytes";
    case Unit::kEntries:
      return "entries";
  }
  return "";
}

std::string Setting::FullName() const {
  return absl::StrCat(section, ".", name);
}

absl::Span<const Setting> AllSettings() {
  static const auto* const table = new std::vector<Setting>(MakeTable());
  return *table;
}

absl::string_view SectionDescription(absl::string_view section) {
  if (section == "raft")
    return "Consensus: timeouts and what may be under way.";
  if (section == "snapshot") return "When the log is shortened.";
  if (section == "membership") {
    return "Servers that are away, and replicas that differ.";
  }
  if (section == "limits") return "What is taken from clients and peers.";
  if (section == "storage") return "The write-ahead log and the user data.";
  if (section == "server") return "The process.";
  if (section == "metrics") return "Prometheus metrics, at /metrics.";
  if (section == "log") return "What the server says on standard error.";
  return "";
}

uint64_t GetNumber(const Settings& settings, const NumberSetting& setting) {
  return std::visit(
      [&](auto field) { return static_cast<uint64_t>(settings.*field); },
      setting.field);
}

std::string FormatValue(const Settings& settings, const Setting& setting) {
  return std::visit(
      Overloaded{
          [&](const NumberSetting& s) {
            const uint64_t value = GetNumber(settings, s);
            return s.unit == Unit::kBytes ? FormatBytes(value)
                                          : absl::StrCat(value);
          },
          [&](const BoolSetting& s) {
            return std::string(settings.*s.field ? "true" : "false");
          },
          [&](const WordSetting& s) {
            return std::string(settings.*s.field ? s.when_true : s.when_false);
          },
          [&](const ChoiceSetting& s) { return settings.*s.field; },
          [&](const HostSetting& s) {
            return absl::StrCat("\"", settings.*s.field, "\"");
          },
      },
      setting.kind);
}

std::string FormatRange(const Setting& setting) {
  return std::visit(
      Overloaded{
          [](const NumberSetting& s) {
            if (s.unit == Unit::kBytes) {
              return absl::StrCat(FormatBytes(s.min), " to ",
                                  FormatBytes(s.max));
            }
            return absl::StrCat(s.min, " to ", s.max,
                                s.unit == Unit::kNone ? "" : " ",
                                UnitName(s.unit));
          },
          [](const BoolSetting&) { return std::string("true or false"); },
          [](const WordSetting& s) {
            return absl::StrCat(s.when_false, " or ", s.when_true);
          },
          [](const ChoiceSetting& s) { return absl::StrJoin(s.choices, ", "); },
          [](const HostSetting&) { return std::string("a host or address"); },
      },
      setting.kind);
}

}  // namespace kv739::server
