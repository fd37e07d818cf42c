#include "tests/simulation/sim_streams.h"

#include <utility>
#include <vector>

#include "tests/simulation/sim_net.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/world.h"

namespace kv739::world {
namespace {

constexpr uint64_t kBrokenAfter = 2 * kSecond;

}  // namespace

SnapshotStreams::SnapshotStreams(World* world)
    : world_(world), random_(world->random().Next()) {}

SnapshotStreams::Stream* SnapshotStreams::Find(uint64_t number) {
  const auto it = streams_.find(number);
  return it == streams_.end() || it->second.ending ? nullptr : &it->second;
}

void SnapshotStreams::Open(int to, raft::NodeId from,
                           server::SnapshotRequest request,
                           std::shared_ptr<server::SnapshotSink> sink) {
  const SimServer* sender = world_->FindServer(from);
  Stream& stream = streams_[++opened_];
  stream.from = sender == nullptr ? -1 : sender->index();
  stream.to = to;
  stream.sender = from;
  stream.request = std::move(request);
  stream.sink = std::move(sink);
  world_->journal().Note("stream", to, stream.from, stream.request.next_chunk,
                         stream.request.position.index.value());
  StartWaiting(to);
}

void SnapshotStreams::StartWaiting(int to) {
  int open = 0;
  for (const auto& [number, stream] : streams_) {
    open += stream.to == to && stream.open;
  }
  for (auto& [number, stream] : streams_) {
    if (open >= server::kMaxFetches) return;
    if (stream.to != to || stream.open) continue;
    stream.open = true;
    ++open;
    if (stream.from < 0) {
      End(number, absl::UnavailableError("no address"), kMillisecond);
    } else {
      Hop(number, true, 0, [this, number = number] { Begin(number); });
    }
  }
}

void SnapshotStreams::Hop(uint64_t number, bool to_sender, uint64_t bytes,
                          Task task) {
  Stream* stream = Find(number);
  if (stream == nullptr) return;
  const int from = to_sender ? stream->to : stream->from;
  const int to = to_sender ? stream->from : stream->to;
  SimServer* server = world_->servers()[to].get();
  const bool carried = world_->net().Carry(
      from, to, bytes,
      [this, number, server, to_sender, task = std::move(task)]() mutable {
        if (Find(number) == nullptr) return;
        if (!server->running() ||
            (to_sender && server->id() != Find(number)->sender)) {
          End(number, absl::UnavailableError("not there"), kMillisecond);
          return;
        }
        server->Deliver(std::move(task));
      });
  if (!carried) {
    End(number, absl::UnavailableError("connection lost"), kBrokenAfter);
  }
}

void SnapshotStreams::Begin(uint64_t number) {
  Stream* stream = Find(number);
  if (stream == nullptr) return;
  SimServer& from = *world_->servers()[stream->from];
  auto cursor = from.host()->snapshots()->OpenSnapshot(
      world_->servers()[stream->to]->id(), stream->request);
  if (!cursor.ok()) {
    return Hop(number, false, 0, [this, number, status = cursor.status()] {
      End(number, status, 0);
    });
  }
  stream->cursor = *std::move(cursor);
  Hop(number, false, 0, [this, number, info = stream->cursor->info()] {
    Stream* opened = Find(number);
    if (opened == nullptr) return;
    const absl::Status status = opened->sink->OnInfo(info);
    if (!status.ok()) return End(number, status, 0);
    Hop(number, true, 0, [this, number] { SendNext(number); });
  });
}

void SnapshotStreams::SendNext(uint64_t number) {
  Stream* stream = Find(number);
  if (stream == nullptr || stream->cursor == nullptr) return;
  std::string chunk;
  const auto more = stream->cursor->Next(&chunk);
  if (!more.ok() || !*more) {
    const absl::Status status = more.ok() ? absl::OkStatus() : more.status();
    return Hop(number, false, 0,
               [this, number, status] { End(number, status, 0); });
  }
  stream->cursor->Sent(chunk.size());
  const Profile& p = world_->profile();
  const bool calm = world_->calm();
  if (!calm && random_.Chance(p.chunk_cut, 1000)) {
    return End(number, absl::UnavailableError("cut"), kMillisecond);
  }
  const bool repeat = !calm && random_.Chance(p.chunk_repeat, 1000);
  if (!calm && random_.Chance(p.chunk_damage, 1000) && !chunk.empty()) {
    chunk[random_.Below(chunk.size())] ^=
        static_cast<char>(1 << random_.Below(8));
  }
  const uint64_t bytes = chunk.size();
  Hop(number, false, bytes,
      [this, number, repeat, chunk = std::move(chunk)]() mutable {
        if (repeat) Receive(number, chunk);
        Receive(number, std::move(chunk));
        if (Find(number) == nullptr) return;
        Hop(number, true, 0, [this, number] { SendNext(number); });
      });
}

void SnapshotStreams::Receive(uint64_t number, std::string chunk) {
  Stream* stream = Find(number);
  if (stream == nullptr) return;
  const absl::Status status = stream->sink->OnChunk(chunk);
  if (!status.ok()) End(number, status, 0);
}

void SnapshotStreams::End(uint64_t number, absl::Status status,
                          uint64_t delay) {
  Stream* stream = Find(number);
  if (stream == nullptr) return;
  stream->ending = true;
  SimServer& to = *world_->servers()[stream->to];
  to.After(delay, [this, number, status = std::move(status)] {
    const auto it = streams_.find(number);
    if (it == streams_.end()) return;
    const Stream ended = std::move(it->second);
    streams_.erase(it);
    world_->journal().Note("stream ends", ended.to, ended.from,
                           static_cast<uint64_t>(status.code()));
    StartWaiting(ended.to);
    ended.sink->OnEnd(status);
  });
}

void SnapshotStreams::Cancel(const server::SnapshotSink* sink) {
  for (auto& [number, stream] : streams_) {
    if (stream.sink.get() != sink) continue;
    return End(number, absl::CancelledError("cancelled"), 0);
  }
}

void SnapshotStreams::ServerDown(int server) {
  std::erase_if(streams_,
                [&](const auto& item) { return item.second.to == server; });
  for (auto& [number, stream] : streams_) {
    if (stream.from != server) continue;
    stream.cursor.reset();
    End(number, absl::UnavailableError("connection lost"),
        random_.Between(1, 1000) * kMillisecond);
  }
}

}  // namespace kv739::world
