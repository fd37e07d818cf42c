// How nodes' messages travel. Messages may be lost, and are then sent again
// by Raft itself; they are never changed, and keep their order on one stream.
#ifndef KV739_SERVER_TRANSPORT_H_
#define KV739_SERVER_TRANSPORT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "raft/message.h"
#include "raft/types.h"

namespace kv739::server {

// A message of one group; sender and receiver are those of the stream.
struct GroupMessage {
  raft::GroupId group;
  raft::Message message;
};

// A message of no group. The transport does not look into the payload.
struct NodeMessage {
  enum class Kind : uint8_t {  // the numbers are on the wire
    kMap = 1,                  // kv::EncodeClusterMap: a newer map
    kDirectoryChange = 2,      // kv::EncodeDirectoryChange: please propose it
    kAudit = 3,                // server/audit.h
    kDiskLow = 4,              // no payload: the sender is short of space
    kPulse = 5,                // server/node_pulse.h: the sender lives
  };
  Kind kind = Kind::kMap;
  std::string payload;
};
// Larger ones are dropped by the sender and end the stream at the receiver.
inline constexpr uint64_t kMaxNodeMessageBytes = 1 << 20;

class Transport {
 public:
  virtual ~Transport() = default;
  // Never blocks; drops when there is no connection or when more than a
  // bounded number of bytes wait for the peer. Any thread. All messages of
  // one call travel together.
  virtual void Send(raft::NodeId to, std::vector<GroupMessage> messages) = 0;
  // The same for messages of no group.
  virtual void SendToNode(raft::NodeId to, NodeMessage message) = 0;
  // A stream to the peer is up, and both sides have checked each other. Any
  // thread.
  virtual bool Connected(raft::NodeId peer) const = 0;
  // What batches say of our map from now on.
  virtual void SetMapEpoch(uint64_t epoch) = 0;
};

class PeerHandler {
 public:
  virtual ~PeerHandler() = default;
  // Messages from a peer whose identity was checked. Any thread.
  virtual void OnPeerMessages(raft::NodeId from,
                              std::vector<GroupMessage> messages) = 0;
  virtual void OnNodeMessage(raft::NodeId from, NodeMessage message) = 0;
  // A stream came up, or the peer's map has another epoch than it last said.
  virtual void OnPeerEpoch(raft::NodeId peer, uint64_t map_epoch) = 0;
  // The stream ended and no newer one has taken its place.
  virtual void OnPeerGone(raft::NodeId peer) = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_TRANSPORT_H_
