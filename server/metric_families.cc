#include "server/metric_families.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kv739/version.h"

namespace kv739::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr double kMicrosecond = 1e-6;

Labels GroupLabel(raft::GroupId group) {
  return {{"group", absl::StrCat(group.value())}};
}

// Adds samples to one family.
class Family {
 public:
  Family(std::vector<MetricFamily>* out, MetricType type, std::string name,
         std::string help)
      : out_(out) {
    family_.type = type;
    family_.name = std::move(name);
    family_.help = std::move(help);
  }
  ~Family() {
    if (!family_.metric.empty()) out_->push_back(std::move(family_));
  }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  void Add(Labels labels, double value) {
    ClientMetric metric;
    metric.label = std::move(labels);
    if (family_.type == MetricType::Counter) {
      metric.counter.value = value;
    } else {
      metric.gauge.value = value;
    }
    family_.metric.push_back(std::move(metric));
  }

  // `counts` are not cumulative; bounds and sum are in `unit`.
  void AddHistogram(
      Labels labels,
      const std::array<uint64_t, DoublingHistogram::kBuckets + 1>& counts,
      uint64_t sum, double unit) {
    ClientMetric metric;
    metric.label = std::move(labels);
    uint64_t cumulative = 0;
    for (int i = 0; i < DoublingHistogram::kBuckets; ++i) {
      cumulative += counts[i];
      metric.histogram.bucket.push_back(
          {cumulative,
           unit * static_cast<double>(DoublingHistogram::UpperBound(i))});
    }
    // The serializer adds the +Inf bucket from the count.
    metric.histogram.sample_count =
        cumulative + counts[DoublingHistogram::kBuckets];
    metric.histogram.sample_sum = unit * static_cast<double>(sum);
    family_.metric.push_back(std::move(metric));
  }

 private:
  std::vector<MetricFamily>* const out_;
  MetricFamily family_;
};

class Builder {
 public:
  explicit Builder(const std::function<std::string(raft::NodeId)>& address_of)
      : address_of_(address_of) {}

  std::vector<MetricFamily> Build(const MetricsSource& source) {
    Gauge("raft_node_health",
          "1 when the server answers and its disk makes progress, else 0.",
          source.healthy ? 1 : 0);
    Family(&out_, MetricType::Gauge, "kv739_build_info",
           "Always 1; the labels say what was built.")
        .Add({{"version", kVersion}, {"revision", kGitRevision}}, 1);
    Counter("kv739_host_stats_timeouts_total",
            "Scrapes in which the replica host did not answer in time.",
            source.host_timeouts);
    if (source.host) {
      Replicas(source.host->replicas);
      Requests(*source.host);
      Host(*source.host);
    }
    if (source.wal) Wal(*source.wal);
    if (source.syncs) Syncs(*source.syncs);
    Peers(source.peers);
    if (source.process) Process(*source.process);
    return std::move(out_);
  }

 private:
  template <typename T>
  void Gauge(const char* name, const char* help, T value) {
    Family(&out_, MetricType::Gauge, name, help)
        .Add({}, static_cast<double>(value));
  }
  template <typename T>
  void Counter(const char* name, const char* help, T value) {
    Family(&out_, MetricType::Counter, name, help)
        .Add({}, static_cast<double>(value));
  }
  void Histogram(const char* name, const char* help,
                 const DoublingHistogram& h) {
    Family(&out_, MetricType::Histogram, name, help)
        .AddHistogram({}, h.counts(), h.sum(), 1);
  }

  // One sample per replica, labelled by its group.
  template <typename F>
  void PerGroup(const std::vector<ReplicaStats>& replicas, MetricType type,
                const char* name, const char* help, F value) {
    Family family(&out_, type, name, help);
    for (const ReplicaStats& replica : replicas) {
      family.Add(GroupLabel(replica.group),
                 static_cast<double>(value(replica)));
    }
  }

  void Replicas(const std::vector<ReplicaStats>& replicas);
  void Snapshots(const std::vector<ReplicaStats>& replicas);
  void Requests(const HostStats& host);
  void Host(const HostStats& host);
  void Wal(const wal::WalStats& wal);
  void Syncs(const SyncMonitor::Snapshot& syncs);
  void Peers(const std::vector<PeerConnectionStats>& peers);
  void Process(const ProcessStats& process);

  const std::function<std::string(raft::NodeId)>& address_of_;
  std::vector<MetricFamily> out_;
};

void Builder::Replicas(const std::vector<ReplicaStats>& replicas) {
  using R = ReplicaStats;
  constexpr auto kGauge = MetricType::Gauge;
  constexpr auto kCounter = MetricType::Counter;
  {
    Family lag(&out_, kGauge, "raft_replication_lag",
               "Entries of the leader's log that a peer is not known to have; "
               "leaders only.");
    for (const R& replica : replicas) {
      if (replica.core.soft.role != raft::Role::kLeader) continue;
      for (const raft::PeerProgress& peer : replica.core.peers) {
        const uint64_t last = replica.core.last_index.value();
        const uint64_t match = peer.match.value();
        Labels labels = GroupLabel(replica.group);
        labels.push_back({"peer", address_of_(peer.id)});
        lag.Add(std::move(labels),
                static_cast<double>(last > match ? last - match : 0));
      }
    }
  }
  PerGroup(replicas, kGauge, "raft_term", "Current term.",
           [](const R& r) { return r.core.hard.term.value(); });
  PerGroup(replicas, kGauge, "raft_state", "0 follower, 1 candidate, 2 leader.",
           [](const R& r) { return static_cast<int>(r.core.soft.role); });
  PerGroup(replicas, kGauge, "raft_log_size",
           "Entries held in the log, behind the snapshot.",
           [](const R& r) { return r.log_entries; });
  PerGroup(replicas, kGauge, "raft_committed_index",
           "Index of the last committed entry that is known here.",
           [](const R& r) { return r.core.commit.value(); });
  PerGroup(replicas, kGauge, "kv739_applied_index",
           "Index of the last entry in the state machine.",
           [](const R& r) { return r.core.applied.value(); });
  PerGroup(replicas, kGauge, "kv739_durable_index",
           "Index of the last entry that is on this server's disk.",
           [](const R& r) { return r.core.durable.value(); });
  PerGroup(replicas, kGauge, "kv739_last_log_index",
           "Index of the last entry in the log.",
           [](const R& r) { return r.core.last_index.value(); });
  Snapshots(replicas);
  PerGroup(replicas, kGauge, "kv739_leader_known",
           "1 when this replica knows a leader of its term.",
           [](const R& r) { return r.core.soft.leader ? 1 : 0; });
  PerGroup(replicas, kGauge, "kv739_sessions", "Client sessions remembered.",
           [](const R& r) { return r.sessions; });
  PerGroup(replicas, kGauge, "kv739_pending_proposals",
           "Writes whose answers are due.",
           [](const R& r) { return r.pending_proposals; });
  PerGroup(replicas, kGauge, "kv739_pending_reads",
           "Reads whose answers are due.",
           [](const R& r) { return r.pending_reads; });
  PerGroup(replicas, kCounter, "kv739_elections_started_total",
           "Elections that this replica has started.",
           [](const R& r) { return r.elections_started; });
  PerGroup(replicas, kCounter, "kv739_elections_won_total",
           "Elections that this replica has won.",
           [](const R& r) { return r.elections_won; });
  PerGroup(replicas, kCounter, "kv739_audits_total",
           "Audits that this replica has led to an end.",
           [](const R& r) { return r.audits; });
  PerGroup(replicas, kCounter, "kv739_audit_mismatches_total",
           "Replicas that audits led by this one have found to differ from the "
           "others or to be unreadable.",
           [](const R& r) { return r.audit_mismatches; });
}

void Builder::Snapshots(const std::vector<ReplicaStats>& replicas) {
  using R = ReplicaStats;
  constexpr auto kGauge = MetricType::Gauge;
  constexpr auto kCounter = MetricType::Counter;
  PerGroup(replicas, kGauge, "kv739_snapshot_index",
           "Index up to which the state is durable without the log.",
           [](const R& r) { return r.snapshot_index.value(); });
  PerGroup(replicas, kGauge, "kv739_log_start_index",
           "Index up to which the log has been dropped.", [](const R& r) {
             const uint64_t first = r.core.first_index.value();
             return first == 0 ? 0 : first - 1;
           });
  PerGroup(replicas, kCounter, "kv739_log_compactions_total",
           "Times that the log was cut.",
           [](const R& r) { return r.compactions; });
  PerGroup(replicas, kGauge, "kv739_replica_fault",
           "1 while this replica does not serve, because its state is in doubt "
           "and is rebuilt.",
           [](const R& r) { return r.fault.empty() ? 0 : 1; });
  PerGroup(replicas, kCounter, "kv739_snapshots_sent_total",
           "Snapshots that were sent to the end.",
           [](const R& r) { return r.sent.done; });
  PerGroup(replicas, kCounter, "kv739_snapshots_received_total",
           "Snapshots that were received and put in place.",
           [](const R& r) { return r.received.done; });
  // Both directions of one count, in one family.
  const auto both = [&](MetricType type, const char* name, const char* help,
                        auto sent, auto received) {
    Family family(&out_, type, name, help);
    for (const R& replica : replicas) {
      Labels labels = GroupLabel(replica.group);
      labels.push_back({"direction", "sent"});
      family.Add(labels, static_cast<double>(sent(replica)));
      labels.back().value = "received";
      family.Add(std::move(labels), static_cast<double>(received(replica)));
    }
  };
  both(
      kCounter, "kv739_snapshot_bytes_total",
      "Bytes of snapshots, as they travelled.",
      [](const R& r) { return r.sent.bytes; },
      [](const R& r) { return r.received.bytes; });
  both(
      kCounter, "kv739_snapshot_failures_total",
      "Streams of snapshots that broke, and snapshots that could not be put in "
      "place.",
      [](const R& r) { return r.sent.failures; },
      [](const R& r) { return r.received.failures; });
  both(
      kCounter, "kv739_snapshot_seconds_total",
      "Seconds spent sending snapshots, and from a snapshot's first byte until "
      "it was in place.",
      [](const R& r) { return static_cast<double>(r.sent.nanos) * 1e-9; },
      [](const R& r) { return static_cast<double>(r.received.nanos) * 1e-9; });
  both(
      kGauge, "kv739_snapshot_transfers", "Snapshots under way.",
      [](const R& r) { return r.sending.size(); },
      [](const R& r) { return r.receiving ? 1 : 0; });
}

void Builder::Requests(const HostStats& host) {
  {
    Family latency(&out_, MetricType::Histogram, "raft_request_latency_seconds",
                   "Time from a request's arrival to its answer.");
    for (int op = 0; op < kOpKinds; ++op) {
      latency.AddHistogram({{"op", OpName(static_cast<OpKind>(op))}},
                           host.latency_us[op].counts(),
                           host.latency_us[op].sum(), kMicrosecond);
    }
  }
  Family requests(&out_, MetricType::Counter, "kv739_requests_total",
                  "Requests answered, by operation and outcome.");
  for (int op = 0; op < kOpKinds; ++op) {
    for (int code = 0; code < kReplyCodes; ++code) {
      requests.Add({{"op", OpName(static_cast<OpKind>(op))},
                    {"code", ReplyCodeName(static_cast<ReplyCode>(code))}},
                   static_cast<double>(host.replies[op][code]));
    }
  }
}

void Builder::Host(const HostStats& host) {
  Counter("kv739_store_flushes_total",
          "Times the store was flushed so that logs can be cut.",
          host.store_flushes);
  Gauge("kv739_map_epoch", "Epoch of the cluster map in use.", host.map_epoch);
  Gauge("kv739_stopping", "1 while the server stops in order.",
        host.stopping ? 1 : 0);
  Gauge("kv739_groups", "Groups with a replica on this server.",
        host.replicas.size());
  Gauge("kv739_quiet_groups",
        "Groups whose replica here rests, because nothing happens in them.",
        std::count_if(host.replicas.begin(), host.replicas.end(),
                      [](const ReplicaStats& r) { return r.resting; }));
  Gauge("kv739_inbox_events", "Requests and messages that wait for a loop.",
        host.inbox_events);
  Counter("kv739_inbox_refused_total",
          "Requests and messages refused because an inbox was full.",
          host.inbox_refused);
  Counter("kv739_raft_messages_received_total",
          "Raft messages received from peers.", host.peer_messages_received);
  Counter("kv739_raft_messages_sent_total",
          "Raft messages handed to the transport.", host.peer_messages_sent);
  Counter("kv739_raft_messages_dropped_total",
          "Raft messages received for groups that are not here.",
          host.peer_messages_dropped);
  Counter("kv739_apply_stalls_total",
          "Times that applying had to wait for the storage engine.",
          host.apply_stalls);
  Counter("kv739_leader_moves_total",
          "Leaderships handed over to spread leaders over the servers.",
          host.leader_moves);
  Histogram("kv739_proposals_per_turn",
            "Writes of one group proposed together.", host.proposals_per_turn);
  Histogram("kv739_entries_per_apply", "Entries applied in one batch.",
            host.entries_per_apply);
  Histogram("kv739_reads_per_round",
            "Linearizable reads that shared one round of heartbeats.",
            host.reads_per_round);
}

void Builder::Wal(const wal::WalStats& wal) {
  Counter("kv739_wal_appends_total", "Batches written to the log.",
          wal.appends);
  Counter("kv739_wal_syncs_total", "Times the log was made durable.",
          wal.syncs);
  Counter("kv739_wal_entries_total", "Entries written to the log.",
          wal.entries);
  Counter("kv739_wal_bytes_total", "Bytes of records written to the log.",
          wal.bytes);
  Counter("kv739_wal_disk_bytes_total",
          "Bytes written to the disk for the log, with padding and rewrites.",
          wal.disk_bytes);
  Counter("kv739_wal_rewritten_bytes_total",
          "Bytes of records moved to free old segments.", wal.rewritten_bytes);
  Gauge("kv739_wal_segments", "Segments of the log in use.", wal.segments);
  Gauge("kv739_wal_spare_segments", "Filled segments that wait.", wal.spares);
  Gauge("kv739_wal_live_bytes", "Bytes of records that are still needed.",
        wal.live_bytes);
  Gauge("kv739_wal_cached_bytes", "Bytes of recent entries in memory.",
        wal.cached_bytes);
  Counter("kv739_wal_recycled_segments_total",
          "Segments that nothing needed and that are used again.",
          wal.recycled_segments);
  Counter("kv739_wal_removed_segments_total",
          "Segments that nothing needed and that were removed.",
          wal.removed_segments);
  Counter("kv739_wal_inline_segments_total",
          "Segments filled while a write waited, because no spare was ready.",
          wal.inline_segments);
}

void Builder::Syncs(const SyncMonitor::Snapshot& syncs) {
  Family(&out_, MetricType::Histogram, "kv739_wal_fsync_duration_seconds",
         "Time to make a write of the log durable.")
      .AddHistogram({}, syncs.counts, syncs.sum_us, kMicrosecond);
  Gauge("kv739_wal_fsync_pending_seconds",
        "Age of the oldest write of the log that is not durable yet.",
        static_cast<double>(syncs.oldest_nanos) * 1e-9);
  Counter("kv739_wal_fsync_failures_total",
          "Writes of the log that failed; the server stops after one.",
          syncs.failures);
}

void Builder::Peers(const std::vector<PeerConnectionStats>& peers) {
  const auto per_peer = [&](MetricType type, const char* name, const char* help,
                            auto value) {
    Family family(&out_, type, name, help);
    for (const PeerConnectionStats& peer : peers) {
      family.Add({{"peer", peer.peer}}, static_cast<double>(value(peer)));
    }
  };
  using P = PeerConnectionStats;
  per_peer(MetricType::Gauge, "kv739_peer_connected",
           "1 while there is a stream to the peer.",
           [](const P& p) { return p.connected ? 1 : 0; });
  per_peer(MetricType::Gauge, "kv739_peer_queue_bytes",
           "Bytes of messages that wait for the peer.",
           [](const P& p) { return p.queued_bytes; });
  per_peer(MetricType::Counter, "kv739_peer_connects_total",
           "Streams to the peer that were established.",
           [](const P& p) { return p.connects; });
  per_peer(MetricType::Counter, "kv739_peer_messages_dropped_total",
           "Messages not sent: no stream, or its queue was full.",
           [](const P& p) { return p.dropped_messages; });
}

void Builder::Process(const ProcessStats& process) {
  Counter("process_cpu_seconds_total",
          "User and system CPU time spent, in seconds.", process.cpu_seconds);
  Gauge("process_start_time_seconds",
        "Start time of the process, in seconds since 1970.",
        process.start_time_seconds);
  Gauge("process_resident_memory_bytes", "Resident memory, in bytes.",
        process.resident_bytes);
  Gauge("process_virtual_memory_bytes", "Virtual memory, in bytes.",
        process.virtual_bytes);
  Gauge("process_open_fds", "Open file descriptors.", process.open_fds);
  if (process.max_fds != 0) {
    Gauge("process_max_fds", "Most file descriptors that may be open.",
          process.max_fds);
  }
  Gauge("process_threads", "Threads of the process.", process.threads);
}

}  // namespace

std::vector<MetricFamily> MakeMetricFamilies(
    const MetricsSource& source,
    const std::function<std::string(raft::NodeId)>& address_of) {
  return Builder(address_of).Build(source);
}

}  // namespace kv739::server
