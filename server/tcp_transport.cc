#include "server/tcp_transport.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace kv739::server {
namespace {

// What was sent and is not acknowledged by then ends a connection.
constexpr int kUserTimeoutMillis = 3'000;

// Connected, or on the way there; or 0 and errno.
Socket StartConnecting(const SocketAddress& address) {
  Socket fd(socket(address.storage.ss_family,
                   SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fd;
  const int on = 1;
  setsockopt(fd.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd.fd(), IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMillis,
             sizeof kUserTimeoutMillis);
  if (connect(fd.fd(), reinterpret_cast<const sockaddr*>(&address.storage),
              address.size) != 0 &&
      errno != EINPROGRESS) {
    return Socket();
  }
  return fd;
}

}  // namespace

class TcpTransport::Connector : public Poller::Watcher,
                                public std::enable_shared_from_this<Connector> {
 public:
  Connector(TcpTransport* transport, const Peer& peer)
      : transport_(transport), peer_(peer) {}

  void Open() {
    if (stopped_) return;
    transport_->resolver_.Resolve(
        peer_.address,
        [self = weak_from_this(), poller = transport_->poller_](
            absl::StatusOr<AddressResolver::Addresses> addresses) {
          poller->Post([self, addresses = std::move(addresses)]() mutable {
            if (auto there = self.lock()) there->OnAddresses(addresses);
          });
        });
  }
  // Opens another one some time after its connection has ended.
  void OnEnded(const PeerConnection* connection) {
    if (connection != connection_) return;
    connection_ = nullptr;
    if (connection->came_up()) delay_ = kFirstRetry;
    Retry();
  }
  // For good. Its connection ends; it may be freed.
  void Stop() {
    stopped_ = true;
    transport_->poller_->Cancel(&timer_);
    CloseSocket();
    if (connection_ != nullptr) {
      connection_->End(absl::CancelledError("no longer wanted"));
    }
  }
  // The attempt under way has come to something.
  void OnReady(uint32_t) override {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(socket_.fd(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      TryNext();
      return;
    }
    transport_->poller_->Cancel(&timer_);
    transport_->poller_->Unwatch(watch_, socket_.fd());
    watch_ = 0;
    auto connection = std::make_shared<PeerConnection>(
        transport_, std::move(socket_), peer_.id);
    connection_ = connection.get();
    transport_->connections_.insert(connection);
    connection->Open();
  }

 private:
  void OnAddresses(const absl::StatusOr<AddressResolver::Addresses>& found) {
    if (stopped_) return;
    addresses_.clear();
    if (found.ok()) addresses_ = *found;
    next_ = 0;
    TryNext();
  }
  void TryNext() {
    CloseSocket();
    while (next_ < addresses_.size()) {
      socket_ = StartConnecting(addresses_[next_++]);
      if (!socket_) continue;
      transport_->poller_->Cancel(&timer_);
      timer_ = transport_->poller_->After(kConnectTimeout, [this] {
        timer_ = {};
        TryNext();
      });
      watch_ = transport_->poller_->Watch(socket_.fd(), EPOLLOUT,
                                          shared_from_this());
      return;
    }
    Retry();
  }
  void CloseSocket() {
    if (!socket_) return;
    transport_->poller_->Unwatch(watch_, socket_.fd());
    socket_.Close();
  }
  void Retry() {
    transport_->poller_->Cancel(&timer_);
    if (stopped_) return;
    const absl::Duration delay =
        delay_ * absl::Uniform(transport_->random_, 0.8, 1.2);
    delay_ = std::min(2 * delay_, kLastRetry);
    timer_ = transport_->poller_->After(delay, [this] {
      timer_ = {};
      Open();
    });
  }

  TcpTransport* const transport_;
  const Peer peer_;
  AddressResolver::Addresses addresses_;
  size_t next_ = 0;  // of the addresses
  Socket socket_;    // on the way
  Poller::WatchId watch_ = 0;
  Poller::TimerId timer_;
  PeerConnection* connection_ = nullptr;
  bool stopped_ = false;
  absl::Duration delay_ = kFirstRetry;
};

TcpTransport::TcpTransport(Poller* poller, std::atomic<uint64_t>* map_epoch,
                           Options options)
    : poller_(poller), map_epoch_(map_epoch), options_(std::move(options)) {
  last_logged_.fill(absl::InfinitePast());
}

TcpTransport::~TcpTransport() = default;

void TcpTransport::Start(PeerHandler* handler, const std::vector<Peer>& peers) {
  {
    const std::lock_guard lock(mutex_);
    for (const Peer& peer : peers) Know(peer);
  }
  handler_.store(handler);
  poller_->Post([this, peers] {
    for (const Peer& peer : peers) Call(peer);
    LookForSilent();
  });
  started_.store(true);
}

void TcpTransport::SetPeers(std::vector<Peer> peers) {
  if (!started_.load()) return;
  {
    const std::lock_guard lock(mutex_);
    next_peers_ = std::move(peers);
  }
  poller_->Post([this] { ApplyPeers(); });
}

void TcpTransport::ApplyPeers() {
  std::vector<Peer> peers;
  std::vector<raft::NodeId> gone;
  {
    const std::lock_guard lock(mutex_);
    if (!next_peers_.has_value()) return;
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
    if (Find(peer.id) != nullptr) continue;
    {
      const std::lock_guard lock(mutex_);
      Know(peer);
    }
    Call(peer);
  }
}

void TcpTransport::Know(const Peer& peer) {
  if (peer.id == options_.self) return;
  peers_[peer.id] = {std::make_shared<PeerLink>(peer.id, peer.address),
                     peer.connect};
}

void TcpTransport::Call(const Peer& peer) {
  if (!peer.connect || peer.id <= options_.self) return;
  auto connector = std::make_shared<Connector>(this, peer);
  connectors_[peer.id] = connector;
  connector->Open();
}

void TcpTransport::RemovePeer(raft::NodeId id) {
  std::shared_ptr<PeerLink> link;
  {
    const std::lock_guard lock(mutex_);
    auto it = peers_.find(id);
    link = std::move(it->second.link);
    peers_.erase(it);
  }
  if (auto it = connectors_.find(id); it != connectors_.end()) {
    const std::shared_ptr<Connector> connector = std::move(it->second);
    connectors_.erase(it);
    connector->Stop();
  }
  const std::shared_ptr<PeerConnection> connection = link->Connection();
  if (connection != nullptr) {
    connection->End(absl::CancelledError("no longer wanted"));
  }
}

void TcpTransport::Stop() {
  resolver_.Stop();
  stopping_ = true;
  for (auto& [id, connector] : connectors_) connector->Stop();
  const auto connections = std::exchange(connections_, {});
  for (const std::shared_ptr<PeerConnection>& connection : connections) {
    connection->End(absl::CancelledError("the server stops"));
  }
  connectors_.clear();
  arrived_.clear();
}

void TcpTransport::Accept(Socket socket, const PeerIdentity& identity) {
  if (handler_.load() == nullptr) return;
  auto connection =
      std::make_shared<PeerConnection>(this, std::move(socket), raft::NodeId());
  connections_.insert(connection);
  connection->Accept(identity);
}

void TcpTransport::RefuseOpening(int fd, const absl::Status& why) {
  const absl::Status refused = Refused(
      RefusalReason::kOpening, nullptr,
      absl::StrCat("a connection that begins like a node's: ", why.message()));
  const std::string frame =
      EncodeFrame({FrameType::kRefusal, map_epoch_->load(), refused.message()});
  (void)!send(fd, frame.data(), frame.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void TcpTransport::LookForSilent() {
  const uint64_t now = Poller::NowNanos();
  const std::vector<std::shared_ptr<PeerConnection>> connections(
      connections_.begin(), connections_.end());
  for (const auto& connection : connections) connection->CheckTime(now);
  poller_->After(kLookInterval, [this] { LookForSilent(); });
}

void TcpTransport::EndTurn() {
  for (auto& [from, messages] : arrived_) {
    handler_.load()->OnPeerMessages(from, std::move(messages));
  }
  arrived_.clear();
  for (raft::NodeId peer : gone_) handler_.load()->OnPeerGone(peer);
  gone_.clear();
}

void TcpTransport::AddMessages(raft::NodeId from,
                               std::vector<GroupMessage> messages) {
  arrived_.emplace_back(from, std::move(messages));
}

void TcpTransport::OnNodeMessage(raft::NodeId from, NodeMessage message) {
  handler_.load()->OnNodeMessage(from, std::move(message));
}

void TcpTransport::OnEpoch(raft::NodeId from, uint64_t map_epoch) {
  handler_.load()->OnPeerEpoch(from, map_epoch);
}

void TcpTransport::OnGone(raft::NodeId from) {
  if (!stopping_) gone_.push_back(from);
}

void TcpTransport::OnEnded(PeerConnection* connection,
                           const absl::Status& status) {
  const raft::NodeId peer = connection->expected();
  const std::shared_ptr<PeerConnection> self = connection->shared_from_this();
  connections_.erase(self);
  if (!peer || stopping_) return;
  spdlog::debug("connection to node {} ended: {}", peer.value(),
                std::string(status.message()));
  if (auto it = connectors_.find(peer); it != connectors_.end()) {
    const std::shared_ptr<Connector> connector = it->second;
    connector->OnEnded(connection);
  }
}

std::shared_ptr<PeerLink> TcpTransport::Find(raft::NodeId id) const {
  const std::lock_guard lock(mutex_);
  auto it = peers_.find(id);
  return it != peers_.end() ? it->second.link : nullptr;
}

void TcpTransport::Send(raft::NodeId to, std::vector<GroupMessage> messages) {
  const std::shared_ptr<PeerLink> link = Find(to);
  if (link == nullptr) {
    dropped_unknown_ += messages.size();
    return;
  }
  link->Send(std::move(messages));
}

void TcpTransport::SendToNode(raft::NodeId to, NodeMessage message) {
  const std::shared_ptr<PeerLink> link = Find(to);
  if (link == nullptr) {
    ++dropped_unknown_;
    return;
  }
  link->SendToNode(std::move(message));
}

bool TcpTransport::Connected(raft::NodeId peer) const {
  const std::shared_ptr<PeerLink> link = Find(peer);
  return link != nullptr && link->Connected();
}

void TcpTransport::SetMapEpoch(uint64_t epoch) {
  std::atomic<uint64_t>& newest = *map_epoch_;
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

std::vector<PeerState> TcpTransport::States() const {
  std::vector<PeerState> states;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, known] : peers_) {
      if (known.connect) states.push_back(known.link->State());
    }
  }
  std::sort(states.begin(), states.end(),
            [](const PeerState& a, const PeerState& b) { return a.id < b.id; });
  return states;
}

std::array<uint64_t, kRefusalReasons> TcpTransport::refusals() const {
  std::array<uint64_t, kRefusalReasons> counts;
  for (int i = 0; i < kRefusalReasons; ++i) counts[i] = refusals_[i].load();
  return counts;
}

PeerIdentity TcpTransport::OwnIdentity() const {
  return {options_.cluster_id, options_.self, raft::NodeId(),
          options_.incarnation};
}

absl::StatusOr<std::shared_ptr<PeerLink>> TcpTransport::Admit(
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
        absl::StrCat("node ", identity.from.value(),
                     " may not open a connection",
                     link == nullptr ? ": not in the map of node "
                                     : ", its id is above that of node ",
                     options_.self.value()));
  }
  status = CheckIncarnation(identity, link.get());
  if (!status.ok()) return status;
  return link;
}

absl::Status TcpTransport::CheckCaller(const PeerIdentity& identity) {
  std::shared_ptr<PeerLink> link;
  bool wanted = false;
  {
    const std::lock_guard lock(mutex_);
    auto it = peers_.find(identity.from);
    if (it != peers_.end()) {
      link = it->second.link;
      wanted = it->second.connect;
    }
  }
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
  if (!wanted) {
    return Refused(
        RefusalReason::kSender, link.get(),
        absl::StrCat("node ", identity.from.value(), " has left the cluster"));
  }
  return CheckIncarnation(identity, link.get());
}

absl::Status TcpTransport::CheckAim(const PeerIdentity& identity,
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

absl::Status TcpTransport::CheckIncarnation(const PeerIdentity& identity,
                                            PeerLink* link) {
  const absl::Status known =
      options_.check_peer(identity.from, identity.incarnation);
  if (known.ok()) return known;
  return Refused(RefusalReason::kIncarnation, link,
                 std::string(known.message()));
}

absl::Status TcpTransport::Refused(RefusalReason reason, PeerLink* link,
                                   std::string message) {
  const size_t i = static_cast<size_t>(reason);
  const uint64_t count = ++refusals_[i];
  if (link != nullptr) ++link->refused;
  const absl::Time now = absl::Now();
  const std::lock_guard lock(log_mutex_);
  if (now - last_logged_[i] >= kRefusalLogInterval || now < last_logged_[i]) {
    last_logged_[i] = now;
    // A node that has just joined is a stranger until the map comes.
    const bool expected = reason == RefusalReason::kSender;
    spdlog::log(expected ? spdlog::level::info : spdlog::level::warn,
                "peer refused: {} (the {}. for this reason)", message, count);
  }
  return absl::FailedPreconditionError(message);
}

}  // namespace kv739::server
