// One TCP connection for each pair of nodes, opened by the one with the smaller
// id, for the messages of all groups in both directions. See
// server/peer_connection.h for what a connection does and server/peer_frame.h
// for its bytes.
//
// A connection whose hello does not name this cluster, this node and a known
// peer with the incarnation it is known by is refused: counted per
// reason, logged at most every kRefusalLogInterval per reason. A newer
// connection from a peer takes the place of the older one. What ended is opened
// again after kFirstRetry to kLastRetry, for as long as the peer is known. A
// node that is not known yet is refused like any stranger, and tries again.
//
// Threads: what Transport declares, SetPeers(), States(), refusals() and
// CheckCaller() any; the rest in the poller's thread, or before it runs (Start)
// or after it has ended (Release).
#ifndef KV739_SERVER_TCP_TRANSPORT_H_
#define KV739_SERVER_TCP_TRANSPORT_H_

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/random/random.h"
#include "absl/time/time.h"
#include "server/address_resolver.h"
#include "server/peer_connection.h"
#include "server/poller.h"
#include "server/transport.h"

namespace kv739::server {

// kOpening: bytes that make no sense, or another version of the protocol.
enum class RefusalReason {
  kCluster,
  kReceiver,
  kSender,
  kIncarnation,
  kOpening
};
inline constexpr int kRefusalReasons = 5;

class TcpTransport final : public Transport, public PeerConnection::Owner {
 public:
  static constexpr absl::Duration kFirstRetry = absl::Milliseconds(20);
  static constexpr absl::Duration kLastRetry = absl::Milliseconds(250);
  // One attempt, at one address.
  static constexpr absl::Duration kConnectTimeout = absl::Seconds(1);
  static constexpr absl::Duration kRefusalLogInterval = absl::Seconds(10);
  // Between two looks at who is silent.
  static constexpr absl::Duration kLookInterval = absl::Seconds(1);

  struct Options {
    uint64_t cluster_id = 0;
    raft::NodeId self;
    uint64_t incarnation = 0;
    // See DataDirectory::CheckPeer. Called at each hello.
    std::function<absl::Status(raft::NodeId, uint64_t)> check_peer;
    uint64_t max_queue_bytes = 64 << 20;  // per peer
  };
  struct Peer {
    raft::NodeId id;
    std::string address;  // host:port
    // A connection is opened (by the smaller id); otherwise only accepted, for
    // those who come to hear that they are no longer wanted.
    bool connect = true;
  };

  // `map_epoch` is the newest known here, for all to read.
  TcpTransport(Poller* poller, std::atomic<uint64_t>* map_epoch,
               Options options);
  ~TcpTransport() override;

  // Any thread. Before it, peers are turned away.
  void Start(PeerHandler* handler, const std::vector<Peer>& peers);
  // Takes the place of all that was said before: who is new is connected to,
  // the connections of those who are gone end, and so do those of who has
  // another address or lost `connect`. Takes effect soon, in the poller's
  // thread; the last one counts. Nothing before Start().
  void SetPeers(std::vector<Peer> peers);
  // Ends all connections and opens none any more. After the poller's end.
  void Stop();

  // A connection whose hello was read; of nobody's before Start().
  void Accept(Socket socket, const PeerIdentity& identity);
  // One that makes no sense: tells why, and counts.
  void RefuseOpening(int fd, const absl::Status& why);
  // Hands over what came in this turn.
  void EndTurn();

  void Send(raft::NodeId to, std::vector<GroupMessage> messages) override;
  void SendToNode(raft::NodeId to, NodeMessage message) override;
  bool Connected(raft::NodeId peer) const override;
  void SetMapEpoch(uint64_t epoch) override;
  // Of those that are connected to, by id.
  std::vector<PeerState> States() const;
  std::array<uint64_t, kRefusalReasons> refusals() const;
  // Whether a gRPC call comes from a node that may have one:
  // FAILED_PRECONDITION as for a connection, UNAVAILABLE for a node that is not
  // known (yet).
  absl::Status CheckCaller(const PeerIdentity& identity);
  // For nodes that are not known here.
  uint64_t dropped_unknown() const { return dropped_unknown_.load(); }

 private:
  // Opens the connection to one peer again and again.
  class Connector;

  Poller* poller() override { return poller_; }
  const std::atomic<uint64_t>* map_epoch() const override { return map_epoch_; }
  PeerIdentity OwnIdentity() const override;
  uint64_t max_queue_bytes() const override { return options_.max_queue_bytes; }
  absl::StatusOr<std::shared_ptr<PeerLink>> Admit(
      const PeerIdentity& identity, raft::NodeId expected) override;
  void AddMessages(raft::NodeId from,
                   std::vector<GroupMessage> messages) override;
  void OnNodeMessage(raft::NodeId from, NodeMessage message) override;
  void OnEpoch(raft::NodeId from, uint64_t map_epoch) override;
  void OnGone(raft::NodeId from) override;
  void OnEnded(PeerConnection* connection, const absl::Status& status) override;

  struct Known {
    std::shared_ptr<PeerLink> link;
    bool connect = true;
  };

  std::shared_ptr<PeerLink> Find(raft::NodeId id) const;
  // What SetPeers() left.
  void ApplyPeers();
  void Know(const Peer& peer);  // mutex_ is held
  void Call(const Peer& peer);  // if it is ours to open the connection
  void RemovePeer(raft::NodeId id);
  void LookForSilent();

  // Cluster and receiver; then, when all else fits, the incarnation.
  absl::Status CheckAim(const PeerIdentity& identity, PeerLink* link);
  absl::Status CheckIncarnation(const PeerIdentity& identity, PeerLink* link);
  absl::Status Refused(RefusalReason reason, PeerLink* link,
                       std::string message);

  Poller* const poller_;
  std::atomic<uint64_t>* const map_epoch_;
  const Options options_;

  mutable std::mutex mutex_;  // guards these two
  // Changed by Start(), then in the poller's thread only.
  absl::flat_hash_map<raft::NodeId, Known> peers_;
  std::optional<std::vector<Peer>> next_peers_;
  std::atomic<bool> started_{false};
  std::atomic<uint64_t> dropped_unknown_{0};
  std::array<std::atomic<uint64_t>, kRefusalReasons> refusals_{};
  std::mutex log_mutex_;  // guards it
  std::array<absl::Time, kRefusalReasons> last_logged_;

  AddressResolver resolver_;
  std::atomic<PeerHandler*> handler_{nullptr};
  // Poller's thread.
  absl::flat_hash_map<raft::NodeId, std::shared_ptr<Connector>> connectors_;
  absl::flat_hash_set<std::shared_ptr<PeerConnection>> connections_;
  std::vector<std::pair<raft::NodeId, std::vector<GroupMessage>>> arrived_;
  std::vector<raft::NodeId> gone_;  // told of after what they have said
  absl::BitGen random_;
  bool stopping_ = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_TCP_TRANSPORT_H_
