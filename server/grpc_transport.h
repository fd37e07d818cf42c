// raft.v1.Raft/Exchange: one stream for each pair of nodes, opened by the one
// with the smaller id, for the messages of all groups in both directions.
//
// A stream whose words do not name this cluster, this node and a known peer
// with the incarnation it is known by is refused: counted per
// reason, logged at most every kRefusalLogInterval per reason. A newer stream
// from a peer takes the place of the older one. What ended is opened again
// after kFirstRetry to kLastRetry, for as long as the peer is known. A node
// that is not known yet is refused like any stranger, and tries again.
//
// Threads: what Transport declares, SetPeers(), States() and refusals() any;
// the rest in the loop thread, or before it runs (Start) or after it has ended
// (Release).
#ifndef KV739_SERVER_GRPC_TRANSPORT_H_
#define KV739_SERVER_GRPC_TRANSPORT_H_

#include <grpcpp/channel.h>

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/random/random.h"
#include "absl/time/time.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/peer_stream.h"
#include "server/transport.h"

namespace kv739::server {

enum class RefusalReason { kCluster, kReceiver, kSender, kIncarnation };
inline constexpr int kRefusalReasons = 4;

class GrpcTransport final : public Transport, public PeerStream::Owner {
 public:
  static constexpr absl::Duration kFirstRetry = absl::Milliseconds(20);
  static constexpr absl::Duration kLastRetry = absl::Milliseconds(250);
  static constexpr absl::Duration kRefusalLogInterval = absl::Seconds(10);

  struct Options {
    uint64_t cluster_id = 0;
    raft::NodeId self;
    uint64_t incarnation = 0;
    // See DataDirectory::CheckPeer. Called at the first words of a stream.
    std::function<absl::Status(raft::NodeId, uint64_t)> check_peer;
    uint64_t max_queue_bytes = 64 << 20;  // per peer
  };
  struct Peer {
    raft::NodeId id;
    std::string address;  // host:port
    // A stream is opened (by the smaller id); otherwise only accepted, for
    // those who come to hear that they are no longer wanted.
    bool connect = true;
  };

  GrpcTransport(RpcLoop* loop, Options options);
  ~GrpcTransport() override;

  // All of raft.v1.Raft; the methods but Exchange are others' to serve.
  ::raft::v1::Raft::AsyncService* service() { return &service_; }
  void Start(const std::vector<Peer>& peers);
  // Takes the place of all that was said before: who is new is connected to,
  // the streams of those who are gone end, and so do those of who has another
  // address or lost `connect`. Takes effect soon, in the loop thread; the last
  // one counts. Nothing before Start().
  void SetPeers(std::vector<Peer> peers);
  // Ends all streams and opens none any more.
  void BeginStop();
  void Release();

  void Send(raft::NodeId to, std::vector<GroupMessage> messages) override;
  void SendToNode(raft::NodeId to, NodeMessage message) override;
  bool Connected(raft::NodeId peer) const override;
  void SetMapEpoch(uint64_t epoch) override;
  // By id; those that are only accepted when they are connected.
  std::vector<PeerState> States() const;
  std::array<uint64_t, kRefusalReasons> refusals() const;
  // Whether a call other than a stream comes from a node that may have one:
  // FAILED_PRECONDITION as for a stream, UNAVAILABLE for a node that is not
  // known (yet). Loop thread.
  absl::Status CheckCaller(const PeerIdentity& identity);
  // For nodes that are not known here.
  uint64_t dropped_unknown() const { return dropped_unknown_.load(); }

 private:
  static constexpr int kArmedStreams = 4;
  // Opens the stream to one peer again and again.
  class Connector;

  RpcLoop* loop() override { return loop_; }
  PeerIdentity OwnIdentity() const override;
  uint64_t max_queue_bytes() const override { return options_.max_queue_bytes; }
  void OnAccepted(PeerStream* stream) override;
  absl::StatusOr<std::shared_ptr<PeerLink>> Admit(
      const PeerIdentity& identity, raft::NodeId expected) override;
  void OnEnded(PeerStream* stream, const grpc::Status& status) override;

  struct Known {
    std::shared_ptr<PeerLink> link;
    bool connect = true;
  };

  void ArmStream();
  std::shared_ptr<PeerLink> Find(raft::NodeId id) const;
  // What SetPeers() left.
  void ApplyPeers();
  void AddPeer(const Peer& peer);
  void RemovePeer(raft::NodeId id);

  // Cluster and receiver; then, when all else fits, the incarnation.
  absl::Status CheckAim(const PeerIdentity& identity, PeerLink* link);
  absl::Status CheckIncarnation(const PeerIdentity& identity, PeerLink* link);
  absl::Status Refused(RefusalReason reason, PeerLink* link,
                       std::string message);

  RpcLoop* const loop_;
  const Options options_;
  ::raft::v1::Raft::AsyncService service_;

  mutable std::mutex mutex_;  // guards these two
  // Changed in the loop thread only.
  absl::flat_hash_map<raft::NodeId, Known> peers_;
  std::optional<std::vector<Peer>> next_peers_;
  std::atomic<bool> started_{false};
  std::atomic<uint64_t> dropped_unknown_{0};
  std::array<std::atomic<uint64_t>, kRefusalReasons> refusals_{};

  // Loop thread.
  absl::flat_hash_map<raft::NodeId, std::shared_ptr<Connector>> connectors_;
  absl::flat_hash_set<std::shared_ptr<PeerStream>> streams_;
  std::array<absl::Time, kRefusalReasons> last_logged_;
  absl::BitGen random_;
  bool stopping_ = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_GRPC_TRANSPORT_H_
