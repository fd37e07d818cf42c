#include "server/peer_link.h"

#include <utility>

#include "server/peer_connection.h"

namespace kv739::server {

PeerLink::PeerLink(raft::NodeId id, std::string address)
    : id_(id), address_(std::move(address)) {}

PeerLink::~PeerLink() = default;

std::shared_ptr<PeerConnection> PeerLink::Connection() const {
  const std::lock_guard lock(mutex_);
  return connection_;
}

void PeerLink::Send(std::vector<GroupMessage> messages) {
  const std::shared_ptr<PeerConnection> connection = Connection();
  if (connection == nullptr) {
    dropped_messages += messages.size();
    return;
  }
  connection->Send(std::move(messages));
}

void PeerLink::SendToNode(NodeMessage message) {
  const std::shared_ptr<PeerConnection> connection = Connection();
  if (connection == nullptr) {
    ++dropped_messages;
    return;
  }
  connection->SendToNode(std::move(message));
}

void PeerLink::Announce() {
  const std::shared_ptr<PeerConnection> connection = Connection();
  if (connection != nullptr) connection->Announce(/*anyway=*/false);
}

bool PeerLink::Connected() const {
  const std::lock_guard lock(mutex_);
  return connection_ != nullptr && connection_->confirmed();
}

PeerState PeerLink::State() const {
  PeerState state;
  state.id = id_;
  state.address = address_;
  state.connected = Connected();
  state.queue_bytes = queue_bytes.load();
  state.sent_messages = sent_messages.load();
  state.sent_bytes = sent_bytes.load();
  state.sent_batches = sent_batches.load();
  state.received_messages = received_messages.load();
  state.received_bytes = received_bytes.load();
  state.dropped_messages = dropped_messages.load();
  state.malformed_messages = malformed_messages.load();
  state.connects = connects.load();
  state.refused = refused.load();
  return state;
}

std::shared_ptr<PeerConnection> PeerLink::Attach(
    std::shared_ptr<PeerConnection> connection) {
  const std::lock_guard lock(mutex_);
  connection_.swap(connection);
  return connection;
}

bool PeerLink::Detach(const PeerConnection* connection) {
  std::shared_ptr<PeerConnection> old;  // freed without the lock
  const std::lock_guard lock(mutex_);
  if (connection_.get() != connection) return false;
  old = std::move(connection_);
  return true;
}

}  // namespace kv739::server
