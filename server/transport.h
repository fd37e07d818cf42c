// How nodes' messages travel. Messages may be lost, and are then sent again
// by Raft itself; they are never changed, and keep their order on one stream.
#ifndef KV739_SERVER_TRANSPORT_H_
#define KV739_SERVER_TRANSPORT_H_

#include <vector>

#include "raft/message.h"
#include "raft/types.h"

namespace kv739::server {

// A message of one group; sender and receiver are those of the stream.
struct GroupMessage {
  raft::GroupId group;
  raft::Message message;
};

class Transport {
 public:
  virtual ~Transport() = default;
  // Never blocks; drops when there is no connection or when more than a
  // bounded number of bytes wait for the peer. Any thread. All messages of
  // one call travel together.
  virtual void Send(raft::NodeId to, std::vector<GroupMessage> messages) = 0;
};

class PeerHandler {
 public:
  virtual ~PeerHandler() = default;
  // Messages from a peer whose identity was checked. Any thread.
  virtual void OnPeerMessages(raft::NodeId from,
                              std::vector<GroupMessage> messages) = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_TRANSPORT_H_
