// The connection to one peer, as it is now or being made again.
//
// A link lives as long as the peer is known by its address and carries the
// counts; a PeerConnection lives as long as one TCP connection. The node with
// the smaller id opens it, the other one accepts it; both send on it.
#ifndef KV739_SERVER_PEER_LINK_H_
#define KV739_SERVER_PEER_LINK_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "raft/types.h"
#include "server/transport.h"

namespace kv739::server {

class PeerConnection;

// A copy of a link's counts, for metrics. All counts rise from when
// the peer became known by this address.
struct PeerState {
  raft::NodeId id;
  std::string address;
  bool connected = false;  // both sides have checked each other
  uint64_t queue_bytes = 0;
  uint64_t sent_messages = 0;
  uint64_t sent_bytes = 0;
  uint64_t sent_batches = 0;
  uint64_t received_messages = 0;
  uint64_t received_bytes = 0;
  uint64_t dropped_messages = 0;    // no connection, or the queue was full
  uint64_t malformed_messages = 0;  // received, made no sense
  uint64_t connects = 0;            // connections that came up
  uint64_t refused = 0;             // those of a wrong identity
};

class PeerLink {
 public:
  PeerLink(raft::NodeId id, std::string address);
  ~PeerLink();

  raft::NodeId id() const { return id_; }
  const std::string& address() const { return address_; }

  // Any thread.
  void Send(std::vector<GroupMessage> messages);
  void SendToNode(NodeMessage message);
  // Tells the peer of the map's epoch, if it does not know it.
  void Announce();
  bool Connected() const;
  PeerState State() const;

  // Poller's thread. The new one takes the place of the older one, which the
  // caller ends.
  std::shared_ptr<PeerConnection> Attach(
      std::shared_ptr<PeerConnection> connection);
  // The one that is attached, or null.
  std::shared_ptr<PeerConnection> Connection() const;
  // False when another one has taken its place.
  bool Detach(const PeerConnection* connection);

  std::atomic<uint64_t> queue_bytes{0};
  std::atomic<uint64_t> sent_messages{0};
  std::atomic<uint64_t> sent_bytes{0};
  std::atomic<uint64_t> sent_batches{0};
  std::atomic<uint64_t> received_messages{0};
  std::atomic<uint64_t> received_bytes{0};
  std::atomic<uint64_t> dropped_messages{0};
  std::atomic<uint64_t> malformed_messages{0};
  std::atomic<uint64_t> connects{0};
  std::atomic<uint64_t> refused{0};

 private:
  const raft::NodeId id_;
  const std::string address_;
  mutable std::mutex mutex_;  // guards connection_
  std::shared_ptr<PeerConnection> connection_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_PEER_LINK_H_
