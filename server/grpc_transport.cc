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

class GrpcTransport::Connector : public Event {
 public:
  Connector(GrpcTransport* transport, const Peer& peer)
      : transport_(transport),
        peer_(peer.id),
        stub_(::raft::v1::Raft::NewStub(MakePeerChannel(peer.address))) {}

  void Open() {
    if (transport_->stopping_) return;
    auto stream = std::make_shared<OpenedStream>(transport_, peer_);
    transport_->streams_.insert(stream);
    stream->Open(stub_.get());
  }
  // `came_up`: the stream that ended had worked.
  void OpenLater(bool came_up) {
    if (came_up) delay_ = kFirstRetry;
    const absl::Duration delay =
        delay_ * absl::Uniform(transport_->random_, 0.8, 1.2);
    delay_ = std::min(2 * delay_, kLastRetry);
    OpPass pass(transport_->loop_->gate());
    if (!pass) return;
    alarm_.Set(
        transport_->loop_->queue(),
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_micros(absl::ToInt64Microseconds(delay),
                                          GPR_TIMESPAN)),
        this);
  }
  void Stop() { alarm_.Cancel(); }
  void Complete(bool ok) override {
    if (ok) Open();
  }

 private:
  GrpcTransport* const transport_;
  const raft::NodeId peer_;
  const std::unique_ptr<::raft::v1::Raft::Stub> stub_;
  absl::Duration delay_ = kFirstRetry;
  grpc::Alarm alarm_;
};

GrpcTransport::GrpcTransport(RpcLoop* loop, Options options)
    : loop_(loop), options_(std::move(options)) {
  last_logged_.fill(absl::InfinitePast());
}

GrpcTransport::~GrpcTransport() = default;

void GrpcTransport::Start(const std::vector<Peer>& peers) {
  for (const Peer& peer : peers) {
    if (peer.id == options_.self) continue;
    links_[peer.id] = std::make_shared<PeerLink>(peer.id, peer.address);
  }
  started_.store(true);
  for (int i = 0; i < kArmedStreams; ++i) ArmStream();
  for (const Peer& peer : peers) {
    if (!peer.connect || peer.id <= options_.self) continue;
    auto connector = std::make_unique<Connector>(this, peer);
    connector->Open();
    connectors_[peer.id] = std::move(connector);
  }
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

void GrpcTransport::Send(raft::NodeId to, std::vector<GroupMessage> messages) {
  if (started_.load()) {
    if (auto it = links_.find(to); it != links_.end()) {
      it->second->Send(std::move(messages));
      return;
    }
  }
  dropped_unknown_ += messages.size();
}

void GrpcTransport::SendToNode(raft::NodeId, NodeMessage) {}

bool GrpcTransport::Connected(raft::NodeId peer) const {
  if (!started_.load()) return false;
  auto it = links_.find(peer);
  return it != links_.end() && it->second->State().connected;
}

void GrpcTransport::SetMapEpoch(uint64_t) {}

std::vector<PeerState> GrpcTransport::States() const {
  std::vector<PeerState> states;
  if (!started_.load()) return states;
  for (const auto& [id, link] : links_) states.push_back(link->State());
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
  auto it = links_.find(identity.from);
  const PeerLink* link = it != links_.end() ? it->second.get() : nullptr;
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
  if (expected && identity.from != expected) {
    return Refused(RefusalReason::kSender, link,
                   absl::StrCat("node ", expected.value(), " was called, node ",
                                identity.from.value(), " answers"));
  }
  if (link == nullptr || (!expected && identity.from > options_.self)) {
    return Refused(
        RefusalReason::kSender, link,
        absl::StrCat("node ", identity.from.value(), " may not open a stream",
                     link == nullptr ? ": not in the map of node "
                                     : ", its id is above that of node ",
                     options_.self.value()));
  }
  const absl::Status known =
      options_.check_peer(identity.from, identity.incarnation);
  if (!known.ok()) {
    return Refused(RefusalReason::kIncarnation, link,
                   std::string(known.message()));
  }
  return it->second;
}

absl::Status GrpcTransport::Refused(RefusalReason reason, const PeerLink* link,
                                    std::string message) {
  const size_t i = static_cast<size_t>(reason);
  const uint64_t count = ++refusals_[i];
  if (link != nullptr) ++links_[link->id()]->refused;
  const absl::Time now = absl::Now();
  if (now - last_logged_[i] >= kRefusalLogInterval || now < last_logged_[i]) {
    last_logged_[i] = now;
    spdlog::warn("peer refused: {} (the {}. for this reason)", message, count);
  }
  return absl::FailedPreconditionError(message);
}

void GrpcTransport::OnEnded(PeerStream* stream, const grpc::Status& status) {
  const raft::NodeId peer = stream->expected();
  const bool came_up = stream->came_up();
  streams_.erase(stream->shared_from_this());
  if (!peer || stopping_) return;
  if (!came_up || !status.ok()) {
    spdlog::debug("stream to node {} ended: {} {}", peer.value(),
                  static_cast<int>(status.error_code()),
                  status.error_message());
  }
  connectors_[peer]->OpenLater(came_up);
}

}  // namespace kv739::server
