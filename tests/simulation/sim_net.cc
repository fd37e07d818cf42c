#include "tests/simulation/sim_net.h"

#include <algorithm>

#include "tests/simulation/sim_server.h"
#include "tests/simulation/world.h"

namespace kv739::world {
namespace {

constexpr uint64_t kFrameBytes = 64;
// A connection on which nothing gets through ends after about so long.
constexpr uint64_t kKeepaliveNanos = 2 * kSecond;

uint64_t BytesOf(const raft::Message& message) {
  uint64_t bytes = kFrameBytes;
  if (const auto* append = std::get_if<raft::AppendEntries>(&message)) {
    for (const raft::Entry& entry : append->entries) {
      bytes += 24 + entry.data->size();
    }
  }
  return bytes;
}

}  // namespace

uint64_t PeerBatch::bytes() const {
  uint64_t bytes = kFrameBytes;
  for (const server::GroupMessage& m : messages) bytes += BytesOf(m.message);
  if (of_node) bytes += of_node->payload.size();
  return bytes;
}

SimNet::SimNet(World* world, int servers, int clients)
    : world_(world),
      servers_(servers),
      endpoints_(servers + clients),
      random_(world->random().Next()),
      links_(static_cast<size_t>(endpoints_ * endpoints_)) {}

SimNet::Connection& SimNet::ConnectionOf(int a, int b) {
  return connections_[{std::min(a, b), std::max(a, b)}];
}

std::optional<uint64_t> SimNet::Arrival(int from, int to, uint64_t bytes) {
  const Profile& p = world_->profile();
  Link& link = LinkOf(from, to);
  uint64_t leaves = world_->now();
  if (p.bytes_per_s > 0 && !calm_) {
    leaves = std::max(leaves, link.free);
    const uint64_t waiting = leaves - world_->now();
    if (waiting / kMicrosecond * p.bytes_per_s / 1'000'000 > kMaxQueueBytes) {
      return std::nullopt;
    }
    link.free = leaves + bytes * kSecond / p.bytes_per_s;
    leaves = link.free;
  }
  return leaves + link.slow +
         (p.delay_us + random_.Below(p.jitter_us + 1)) * kMicrosecond;
}

bool SimNet::Carry(int from, int to, uint64_t bytes, Task task) {
  if (blocked(from, to)) return false;
  const auto at = Arrival(from, to, bytes + kFrameBytes);
  if (!at) return false;
  world_->queue().Add(*at, std::move(task));
  return true;
}

// ---- between servers ----

void SimNet::Send(int from, raft::NodeId to, PeerBatch batch) {
  SimServer* receiver = world_->FindServer(to);
  if (receiver == nullptr || receiver->index() == from) return;
  const int other = receiver->index();
  Connection& connection = ConnectionOf(from, other);
  if (!connection.up) return;
  const Profile& p = world_->profile();
  if (blocked(from, other) || (!calm_ && random_.Chance(p.loss, 1000))) return;
  const int copies = !calm_ && random_.Chance(p.duplicate, 1000) ? 2 : 1;
  const raft::NodeId self = world_->servers()[from]->id();
  const uint64_t bytes = batch.bytes();
  for (int i = 0; i < copies; ++i) {
    auto at = Arrival(from, other, bytes);
    if (!at) return;
    Link& link = LinkOf(from, other);
    if (!p.has(Fault::kReorder)) at = std::max(*at, link.last + 1);
    link.last = std::max(link.last, *at);
    PeerBatch copy = i + 1 < copies ? batch : std::move(batch);
    world_->queue().Add(
        *at, [this, from, other, self, to, number = connection.number,
              copy = std::move(copy)]() mutable {
          Arrive(from, other, self, to, number, std::move(copy));
        });
  }
}

void SimNet::Arrive(int from, int to, raft::NodeId sender,
                    raft::NodeId receiver, uint64_t number, PeerBatch batch) {
  Connection& connection = ConnectionOf(from, to);
  const bool late = connection.number != number || !connection.up;
  if (late && !world_->profile().has(Fault::kReorder)) return;
  SimServer& server = *world_->servers()[to];
  if (!server.running() || server.id() != receiver) return;
  // A stream is of one process that was checked; what comes late is of it too.
  if (world_->servers()[from]->id() != sender) return;
  uint64_t& known = connection.known_epoch[from < to ? 0 : 1];
  const bool news = known != batch.epoch;
  known = batch.epoch;
  server.Deliver(
      [host = server.host(), sender, news, batch = std::move(batch)]() mutable {
        if (news) host->OnPeerEpoch(sender, batch.epoch);
        if (batch.of_node) {
          host->OnNodeMessage(sender, *std::move(batch.of_node));
        } else {
          host->OnPeerMessages(sender, std::move(batch.messages));
        }
      });
}

bool SimNet::Connected(int from, raft::NodeId to) {
  const SimServer* peer = world_->FindServer(to);
  return peer != nullptr && peer->index() != from &&
         ConnectionOf(from, peer->index()).up;
}

void SimNet::ServerUp(int server) {
  for (int other = 0; other < servers_; ++other) {
    if (other != server) TryLater(server, other);
  }
}

void SimNet::ServerDown(int server, bool silent) {
  for (int other = 0; other < servers_; ++other) {
    if (other == server) continue;
    Connection& connection = ConnectionOf(server, other);
    if (!connection.up) continue;
    // What the machine of a dead process had in its buffers arrives or not; a
    // machine without power says nothing.
    const uint64_t after = silent
                               ? random_.Between(kSecond / 2, kKeepaliveNanos)
                               : random_.Between(1, 50) * kMillisecond;
    world_->queue().Add(world_->now() + after,
                        [this, server, other, number = connection.number] {
                          if (ConnectionOf(server, other).number == number) {
                            Lose(server, other);
                          }
                        });
  }
}

void SimNet::TryLater(int a, int b) {
  Connection& connection = ConnectionOf(a, b);
  if (connection.up || connection.trying) return;
  connection.trying = true;
  world_->queue().Add(world_->now() + random_.Between(20, 300) * kMillisecond,
                      [this, a, b] {
                        ConnectionOf(a, b).trying = false;
                        Try(a, b);
                      });
}

void SimNet::Try(int a, int b) {
  SimServer& one = *world_->servers()[a];
  SimServer& two = *world_->servers()[b];
  Connection& connection = ConnectionOf(a, b);
  if (connection.up || (!one.running() && !two.running())) return;
  auto dials = [](SimServer& from, SimServer& to) {
    const kv::NodeInfo* node = from.maps()->Get()->FindNode(to.id());
    return node != nullptr && node->state != kv::NodeState::kLeft;
  };
  auto accepts = [](SimServer& server, SimServer& peer) {
    return server.directory()
        .CheckPeer(peer.id(), peer.directory().identity().incarnation)
        .ok();
  };
  if (!one.running() || !two.running() || one.paused() || two.paused() ||
      CutOff(a, b) || !(dials(one, two) || dials(two, one)) ||
      !accepts(one, two) || !accepts(two, one)) {
    TryLater(a, b);
    return;
  }
  connection.up = true;
  ++connection.number;
  world_->journal().Note("connected", a, b, connection.number);
  // Either may die of what it is told.
  const uint64_t epochs[] = {two.maps()->epoch(), one.maps()->epoch()};
  for (const bool first : {true, false}) {
    SimServer* const self = first ? &one : &two;
    const SimServer* const peer = first ? &two : &one;
    const uint64_t epoch = epochs[first ? 0 : 1];
    connection.known_epoch[peer->index() < self->index() ? 0 : 1] = epoch;
    self->Deliver([host = self->host(), id = peer->id(), epoch] {
      host->OnPeerEpoch(id, epoch);
    });
  }
}

void SimNet::Lose(int a, int b) {
  Connection& connection = ConnectionOf(a, b);
  if (!connection.up) return;
  connection.up = false;
  ++connection.number;
  world_->journal().Note("disconnected", a, b);
  for (const auto& [self, peer] : {std::pair(a, b), std::pair(b, a)}) {
    SimServer& server = *world_->servers()[self];
    if (!server.running()) continue;
    server.Deliver([host = server.host(), id = world_->servers()[peer]->id()] {
      host->OnPeerGone(id);
    });
  }
  TryLater(a, b);
}

// ---- faults ----

void SimNet::Block(int from, int to, bool block) {
  Link& link = LinkOf(from, to);
  link.blocks = std::max(0, link.blocks + (block ? 1 : -1));
  if (!block || from >= servers_ || to >= servers_) return;
  const uint64_t number = ConnectionOf(from, to).number;
  world_->queue().Add(
      world_->now() + random_.Between(kKeepaliveNanos / 2, kKeepaliveNanos),
      [this, from, to, number] {
        if (CutOff(from, to) && ConnectionOf(from, to).number == number) {
          Lose(from, to);
        }
      });
}

void SimNet::Break(int a, int b) { Lose(a, b); }

void SimNet::EndFaults() {
  calm_ = true;
  for (Link& link : links_) {
    link.blocks = 0;
    link.slow = 0;
    link.free = 0;
  }
}

}  // namespace kv739::world
