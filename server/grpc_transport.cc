#include "server/grpc_transport.h"

#include <grpc/support/time.h>
#include <grpcpp/alarm.h>
#include <grpcpp/create_channel.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/credentials.h"

namespace kv739::server {
namespace {

std::shared_ptr<grpc::Channel> MakePeerChannel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 250);
  // Also how long one attempt to connect may take.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 3'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetMaxSendMessageSize(-1);
  return grpc::CreateCustomChannel(address, MakePeerCredentials(), arguments);
}

}  // namespace

class GrpcTransport::Connector
    : public Event,
      public std::enable_shared_from_this<Connector> {
 public:
  Connector(GrpcTransport* transport, const Peer& peer)
      : transport_(transport),
        peer_(peer.id),
        stub_(::raft::v1::Raft::NewStub(MakePeerChannel(peer.address))) {}

  void Open() {
    if (stopped_ || transport_->stopping_) return;
    auto stream = std::make_shared<OpenedStream>(transport_, peer_);
    stream_ = stream.get();
    transport_->streams_.insert(stream);
    stream->Open(stub_.get());
  }
  // Opens another one some time after its stream has ended.
  void OnEnded(const PeerStream* stream) {
    if (stream != stream_) return;
    stream_ = nullptr;
    if (stopped_) return;
    if (stream->came_up()) delay_ = kFirstRetry;
    const absl::Duration delay =
        delay_ * absl::Uniform(transport_->random_, 0.8, 1.2);
    delay_ = std::min(2 * delay_, kLastRetry);
    OpPass pass(transport_->loop_->gate());
    if (!pass) return;
    waiting_ = shared_from_this();
    alarm_.Set(
        transport_->loop_->queue(),
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_micros(absl::ToInt64Microseconds(delay),
                                          GPR_TIMESPAN)),
        this);
  }
  // For good. Its stream is cancelled; it may be freed.
  void Stop() {
    stopped_ = true;
    alarm_.Cancel();
    if (stream_ != nullptr) stream_->Cancel();
  }
  void Complete(bool ok) override {
    const std::shared_ptr<Connector> self = std::move(waiting_);
    if (ok) Open();
  }

 private:
  GrpcTransport* const transport_;
  const raft::NodeId peer_;
  const std::unique_ptr<::raft::v1::Raft::Stub> stub_;
  PeerStream* stream_ = nullptr;  // under way
  bool stopped_ = false;
  absl::Duration delay_ = kFirstRetry;
  grpc::Alarm alarm_;
  std::shared_ptr<Connector> waiting_;  // itself, for the alarm
};

GrpcTransport::GrpcTransport(RpcLoop* loop, Options options)
    : loop_(loop), options_(std::move(options)) {
  last_logged_.fill(absl::InfinitePast());
}

GrpcTransport::~GrpcTransport() = default;

void GrpcTransport::Start(const std::vector<Peer>& peers) {
  started_.store(true);
  for (int i = 0; i < kArmedStreams; ++i) ArmStream();
  for (const Peer& peer : peers) AddPeer(peer);
}

void GrpcTransport::SetPeers(std::vector<Peer> peers) {
  if (!started_.load()) return;
  {
    const std::lock_guard lock(mutex_);
    next_peers_ = std::move(peers);
  }
  loop_->Post([this] { ApplyPeers(); });
}

void GrpcTransport::ApplyPeers() {
  std::vector<Peer> peers;
  std::vector<raft::NodeId> gone;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || !next_peers_.has_value()) return;
    peers = *std::exchange(next_peers_, std::nullopt);
    absl::flat_hash_map<raft::NodeId, const Peer*> wanted;
    for (const Peer& peer : peers) wanted[peer.id] = &peer;
    for (const auto& [id, known] : peers_) {
      auto it = wanted.find(id);
      if (it == wanted.end() || it->second->connect != known.connect ||
          it->second->address != known.link->address()) {
        gone.push_back(id);
      }
    }
  }
  for (raft::NodeId id : gone) RemovePeer(id);
  for (const Peer& peer : peers) {
    if (Find(peer.id) == nullptr) AddPeer(peer);
  }
}

void GrpcTransport::AddPeer(const Peer& peer) {
  if (peer.id == options_.self) return;
  {
    const std::lock_guard lock(mutex_);
    peers_[peer.id] = {std::make_shared<PeerLink>(peer.id, peer.address),
                       peer.connect};
  }
  if (!peer.connect || peer.id < options_.self) return;
  auto connector = std::make_shared<Connector>(this, peer);
  connectors_[peer.id] = connector;
  connector->Open();
}

void GrpcTransport::RemovePeer(raft::NodeId id) {
  std::shared_ptr<PeerLink> link;
  {
    const std::lock_guard lock(mutex_);
    auto it = peers_.find(id);
    link = std::move(it->second.link);
    peers_.erase(it);
  }
  if (auto it = connectors_.find(id); it != connectors_.end()) {
    it->second->Stop();
    connectors_.erase(it);
  }
  const std::shared_ptr<PeerStream> stream = link->Stream();
  if (stream != nullptr) stream->Cancel();
}

void GrpcTransport::BeginStop() {
  stopping_ = true;
  for (auto& [id, connector] : connectors_) connector->Stop();
  for (const std::shared_ptr<PeerStream>& stream : streams_) stream->Cancel();
}

void GrpcTransport::Release() {
  for (const std::shared_ptr<PeerStream>& stream : streams_) {
    stream->Release();
  }
  connectors_.clear();
}

std::shared_ptr<PeerLink> GrpcTransport::Find(raft::NodeId id) const {
  const std::lock_guard lock(mutex_);
  auto it = peers_.find(id);
  return it != peers_.end() ? it->second.link : nullptr;
}

void GrpcTransport::Send(raft::NodeId to, std::vector<GroupMessage> messages) {
  const std::shared_ptr<PeerLink> link = Find(to);
  if (link == nullptr) {
    dropped_unknown_ += messages.size();
    return;
  }
  link->Send(std::move(messages));
}

void GrpcTransport::SendToNode(raft::NodeId to, NodeMessage message) {
  const std::shared_ptr<PeerLink> link = Find(to);
  if (link == nullptr) {
    ++dropped_unknown_;
    return;
  }
  link->SendToNode(std::move(message));
}

bool GrpcTransport::Connected(raft::NodeId peer) const {
  const std::shared_ptr<PeerLink> link = Find(peer);
  return link != nullptr && link->Connected();
}

void GrpcTransport::SetMapEpoch(uint64_t epoch) {
  std::atomic<uint64_t>& newest = loop_->shared()->map_epoch;
  uint64_t known = newest.load();
  do {
    if (known >= epoch) return;
  } while (!newest.compare_exchange_weak(known, epoch));
  std::vector<std::shared_ptr<PeerLink>> links;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, known_peer] : peers_) {
      links.push_back(known_peer.link);
    }
  }
  for (const std::shared_ptr<PeerLink>& link : links) link->Announce();
}

std::vector<PeerState> GrpcTransport::States() const {
  std::vector<PeerState> states;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, known] : peers_) {
      PeerState state = known.link->State();
      if (known.connect || state.connected) states.push_back(std::move(state));
    }
  }
  std::sort(states.begin(), states.end(),
            [](const PeerState& a, const PeerState& b) { return a.id < b.id; });
  return states;
}

std::array<uint64_t, kRefusalReasons> GrpcTransport::refusals() const {
  std::array<uint64_t, kRefusalReasons> counts;
  for (int i = 0; i < kRefusalReasons; ++i) counts[i] = refusals_[i].load();
  return counts;
}

PeerIdentity GrpcTransport::OwnIdentity() const {
  return {options_.cluster_id, options_.self, raft::NodeId(),
          options_.incarnation};
}

void GrpcTransport::ArmStream() {
  auto stream = std::make_shared<AcceptedStream>(this);
  streams_.insert(stream);
  stream->Arm(&service_);
}

void GrpcTransport::OnAccepted(PeerStream* stream) {
  if (stopping_) {
    stream->Cancel();
    return;
  }
  ArmStream();
}

absl::StatusOr<std::shared_ptr<PeerLink>> GrpcTransport::Admit(
    const PeerIdentity& identity, raft::NodeId expected) {
  std::shared_ptr<PeerLink> link = Find(identity.from);
  absl::Status status = CheckAim(identity, link.get());
  if (!status.ok()) return status;
  if (expected && identity.from != expected) {
    return Refused(RefusalReason::kSender, link.get(),
                   absl::StrCat("node ", expected.value(), " was called, node ",
                                identity.from.value(), " answers"));
  }
  if (link == nullptr || (!expected && identity.from > options_.self)) {
    return Refused(
        RefusalReason::kSender, link.get(),
        absl::StrCat("node ", identity.from.value(), " may not open a stream",
                     link == nullptr ? ": not in the map of node "
                                     : ", its id is above that of node ",
                     options_.self.value()));
  }
  status = CheckIncarnation(identity, link.get());
  if (!status.ok()) return status;
  return link;
}

absl::Status GrpcTransport::CheckCaller(const PeerIdentity& identity) {
  const std::shared_ptr<PeerLink> link = Find(identity.from);
  absl::Status status = CheckAim(identity, link.get());
  if (!status.ok()) return status;
  if (link == nullptr) {
    return absl::UnavailableError(
        Refused(
            RefusalReason::kSender, nullptr,
            absl::StrCat("node ", identity.from.value(),
                         " is not in the map of node ", options_.self.value()))
            .message());
  }
  return CheckIncarnation(identity, link.get());
}

absl::Status GrpcTransport::CheckAim(const PeerIdentity& identity,
                                     PeerLink* link) {
  if (identity.cluster_id != options_.cluster_id) {
    return Refused(
        RefusalReason::kCluster, link,
        absl::StrCat("node ", identity.from.value(), " is of cluster ",
                     identity.cluster_id, ", node ", options_.self.value(),
                     " of cluster ", options_.cluster_id));
  }
  if (identity.to != options_.self) {
    return Refused(RefusalReason::kReceiver, link,
                   absl::StrCat("node ", identity.from.value(), " means node ",
                                identity.to.value(), ", this is node ",
                                options_.self.value()));
  }
  return absl::OkStatus();
}

absl::Status GrpcTransport::CheckIncarnation(const PeerIdentity& identity,
                                             PeerLink* link) {
  const absl::Status known =
      options_.check_peer(identity.from, identity.incarnation);
  if (known.ok()) return known;
  return Refused(RefusalReason::kIncarnation, link,
                 std::string(known.message()));
}

absl::Status GrpcTransport::Refused(RefusalReason reason, PeerLink* link,
                                    std::string message) {
  const size_t i = static_cast<size_t>(reason);
  const uint64_t count = ++refusals_[i];
  if (link != nullptr) ++link->refused;
  const absl::Time now = absl::Now();
  if (now - last_logged_[i] >= kRefusalLogInterval || now < last_logged_[i]) {
    last_logged_[i] = now;
    // A node that has just joined is a stranger until the map comes.
    const bool expected = reason == RefusalReason::kSender;
    spdlog::log(expected ? spdlog::level::info : spdlog::level::warn,
                "peer refused: {} (the {}. for this reason)", message, count);
  }
  return absl::FailedPreconditionError(message);
}

void GrpcTransport::OnEnded(PeerStream* stream, const grpc::Status& status) {
  const raft::NodeId peer = stream->expected();
  const std::shared_ptr<PeerStream> self = stream->shared_from_this();
  streams_.erase(self);
  if (!peer || stopping_) return;
  if (!stream->came_up() || !status.ok()) {
    spdlog::debug("stream to node {} ended: {} {}", peer.value(),
                  static_cast<int>(status.error_code()),
                  status.error_message());
  }
  if (auto it = connectors_.find(peer); it != connectors_.end()) {
    it->second->OnEnded(stream);
  }
}

}  // namespace kv739::server
