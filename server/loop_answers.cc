// What a turn ends with, without the loop: reads, scans and answers to clients;
// and what is counted of them.
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "server/client_sockets.h"
#include "server/loop.h"

namespace kv739::server {
namespace {

template <typename To>
void MergeAnswers(const LoopStats& from, To* to) {
  for (int kind = 0; kind < kOpKinds; ++kind) {
    to->latency_us[kind].Merge(from.latency_us[kind]);
    for (int code = 0; code < kReplyCodes; ++code) {
      to->replies[kind][code] += from.replies[kind][code];
    }
  }
}

}  // namespace

void Loop::CarryOut(Turn& turn) {
  if (!turn.reads.empty() || scans_.waiting()) ServeReads(turn);
  // Answers of one stream come one after the other mostly, and leave together
  // anyway; a second Flush of it does nothing.
  size_t messages = 0;
  const ReplySink* last = nullptr;
  for (const auto& [sink, reply] : turn.replies) {
    if (sink.get() != last) ++messages;
    last = sink.get();
  }
  const ClientSockets::Burst burst(parts_.client_sockets, messages,
                                   turn.now_nanos);
  for (auto& [sink, reply] : turn.replies) sink->Deliver(std::move(reply));
  last = nullptr;
  for (auto& [sink, reply] : turn.replies) {
    if (sink.get() != last) sink->Flush();
    last = sink.get();
  }
}

void Loop::ServeReads(Turn& turn) {
  LoopStats stats;
  turn.stats = &stats;
  for (ReadyReads& ready : turn.reads) {
    for (Operation& operation : ready.reads) {
      if (IsScan(operation.kind)) {
        scans_.Add(ready.machine, std::move(operation), turn);
        continue;
      }
      auto value = ready.machine->Get(operation.key);
      Reply reply;
      if (value.ok()) {
        reply.found = value->found;
        reply.version = value->version;
        reply.value = std::move(value->value);
      } else {
        reply.code = ReplyCode::kInternal;
        reply.message = std::string(value.status().message());
      }
      reply.group = operation.group;
      turn.Answer(operation, std::move(reply));
    }
  }
  const bool left = scans_.Serve(turn);
  {
    const std::lock_guard lock(read_stats_mutex_);
    MergeAnswers(stats, &read_stats_);
  }
  if (left) TakeTurnLater();
}

// Not by this thread, which has requests to take in first; the first event that
// comes will do too.
void Loop::TakeTurnLater() {
  if (wake_coming_.exchange(true)) return;
  parts_.background->Run([this, gate = snapshots_.gate] {
    if (!gate->Enter()) return;
    wake_coming_.store(false);
    PostFrom(WakeEvent{}, true);
    gate->Leave();
  });
}

void Loop::AddStats(HostStats* stats) const {
  for (const auto& replica : replicas_) {
    stats->replicas.push_back(replica->Stats());
    stats->replicas.back().log_bytes = parts_.log->log_bytes(replica->group());
  }
  MergeAnswers(stats_, stats);
  {
    const std::lock_guard lock(read_stats_mutex_);
    MergeAnswers(read_stats_, stats);
  }
  {
    const std::lock_guard lock(inbox_mutex_);
    stats->inbox_events += inbox_weight_;
    stats->inbox_refused += inbox_refused_;
  }
  stats->proposals_per_turn.Merge(stats_.proposals_per_turn);
  stats->entries_per_apply.Merge(stats_.entries_per_apply);
  stats->reads_per_round.Merge(stats_.reads_per_round);
  stats->peer_messages_received += stats_.peer_messages_received;
  stats->peer_messages_sent += stats_.peer_messages_sent;
  stats->peer_messages_dropped += stats_.peer_messages_dropped;
  stats->apply_stalls += stats_.apply_stalls;
  stats->leader_moves += stats_.leader_moves;
  stats->stopping = stats->stopping || stopping_;
}

}  // namespace kv739::server
