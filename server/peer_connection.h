// One TCP connection between two nodes, on either end of it; its bytes are
// those of server/peer_frame.h.
//
// The opening side begins with a hello, which says who it is and whom it means;
// the accepting side, once it has checked that, answers with its own. A side
// may send once it has checked the other's. The opening side then sends a
// batch, however empty: by that the accepting side knows that it was checked
// too. The connection is confirmed for a side when it knows of both.
//
// A message leaves in the thread that sends it when the socket takes it,
// without waking any other; what the socket does not take waits, encoded, in a
// queue bounded in bytes, and the poller's thread goes on with it. Every frame
// says the map's epoch; when it has changed and there is nothing else to say,
// an empty batch says it.
//
// Each side says something at least every kSayWithin. Who is silent for
// kMaxSilence is gone, and so is who does not acknowledge (the kernel's
// TCP_USER_TIMEOUT) or does not greet for kMaxGreeting.
//
// Threads: Send(), SendToNode(), Announce() and confirmed() any; everything
// else in the poller's thread. A connection that ends drops what is queued:
// Raft sends again what matters.
#ifndef KV739_SERVER_PEER_CONNECTION_H_
#define KV739_SERVER_PEER_CONNECTION_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "raft/v1/raft.pb.h"
#include "server/listen_address.h"
#include "server/peer_frame.h"
#include "server/peer_link.h"
#include "server/poller.h"
#include "server/transport.h"

namespace kv739::server {

class PeerConnection : public Poller::Watcher,
                       public std::enable_shared_from_this<PeerConnection> {
 public:
  // The transport, as a connection sees it. Poller's thread.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual Poller* poller() = 0;
    virtual const std::atomic<uint64_t>* map_epoch() const = 0;  // any thread
    // What this node says of itself; `to` is filled in.
    virtual PeerIdentity OwnIdentity() const = 0;
    virtual uint64_t max_queue_bytes() const = 0;
    // The other side's hello: its link, or FAILED_PRECONDITION with what does
    // not fit. `expected` is none on the accepting side.
    virtual absl::StatusOr<std::shared_ptr<PeerLink>> Admit(
        const PeerIdentity& identity, raft::NodeId expected) = 0;
    // Messages of groups, for the end of the turn.
    virtual void AddMessages(raft::NodeId from,
                             std::vector<GroupMessage> messages) = 0;
    virtual void OnNodeMessage(raft::NodeId from, NodeMessage message) = 0;
    virtual void OnEpoch(raft::NodeId from, uint64_t map_epoch) = 0;
    // The link has no connection any more.
    virtual void OnGone(raft::NodeId from) = 0;
    // The connection is freed after this.
    virtual void OnEnded(PeerConnection* connection,
                         const absl::Status& status) = 0;
  };

  static constexpr absl::Duration kSayWithin = absl::Seconds(4);
  static constexpr absl::Duration kMaxSilence = absl::Seconds(13);
  static constexpr absl::Duration kMaxGreeting = absl::Seconds(5);
  // A frame takes messages up to the first of these, and whole ones: together
  // they stay below kMaxFramePayload.
  static constexpr uint64_t kMaxBatchBytes = 4 << 20;
  static constexpr uint64_t kMaxMessageBytes = 12 << 20;

  // `expected` is the peer that was called; none on the accepting side. The
  // socket is connected and does not block.
  PeerConnection(Owner* owner, Socket socket, raft::NodeId expected);
  ~PeerConnection() override;
  PeerConnection(const PeerConnection&) = delete;
  PeerConnection& operator=(const PeerConnection&) = delete;

  // Says hello, as the opening side.
  void Open();
  // Answers a hello, as the accepting side. May end at once.
  void Accept(const PeerIdentity& identity);

  void Send(std::vector<GroupMessage> messages);
  // A map takes the place of the one that waits.
  void SendToNode(NodeMessage message);
  // Says the map's epoch if that was not said, or `anyway`.
  void Announce(bool anyway);
  bool confirmed() const { return confirmed_.load(); }

  // Closes it; calls OnEnded() unless that was done.
  void End(const absl::Status& status);
  // Says something if it is time to, or finds the other side gone.
  void CheckTime(uint64_t now_nanos);
  void OnReady(uint32_t events) override;
  raft::NodeId expected() const { return expected_; }
  bool came_up() const { return link_ != nullptr; }

 private:
  struct Waiting {  // a frame, encoded
    std::string bytes;
    uint64_t messages = 0;
    bool counts = false;  // in the link's counts
    bool is_map = false;
  };

  void Watch();
  void Read();
  absl::Status TakeFrames();
  absl::Status OnFrame(const Frame& frame);
  absl::Status Greet(const PeerIdentity& identity);
  void HearEpoch(uint64_t map_epoch);
  absl::Status Receive(absl::string_view payload);
  absl::Status ReceiveNodeMessages();
  void ReceiveMessages();

  // What is said about a frame in metrics.
  void CountSent(uint64_t messages, uint64_t bytes);
  // Sends or queues one batch; drops it and counts when there is no room.
  void SendBatch(const ::raft::v1::PeerBatch& batch, uint64_t messages,
                 bool is_map);

  // mutex_ is held, for these.
  bool HasRoom(uint64_t bytes) const;
  // Sends what the socket takes of a frame and queues the rest.
  void Put(FrameType type, absl::string_view payload, uint64_t payload_hash,
           uint64_t messages, bool is_map);
  void Queue(Waiting waiting, size_t sent);
  void Flush();
  void WantWrites(bool want);
  // The socket does not work any more; the poller's thread will find out.
  void Break();
  void DropQueue();
  void SetQueueBytes(uint64_t bytes);
  void DropWaitingMap();

  Owner* const owner_;  // outlives the connection's end
  const std::atomic<uint64_t>* const map_epoch_;
  const raft::NodeId expected_;
  const PeerIdentity own_;
  const uint64_t max_queue_bytes_;

  // Poller's thread.
  Poller::WatchId watch_ = 0;
  bool ended_ = false;
  FrameParser parser_;
  PeerIdentity theirs_;
  uint64_t their_epoch_ = 0;
  uint64_t heard_at_ = 0;
  ::raft::v1::PeerBatch read_batch_;

  // Set before others can see the connection.
  std::shared_ptr<PeerLink> link_;

  std::atomic<bool> confirmed_{false};
  std::atomic<uint64_t> said_at_{0};
  std::mutex mutex_;  // guards what follows
  Socket socket_;
  bool closed_ = false;
  bool broken_ = false;
  bool want_writes_ = false;
  uint64_t said_epoch_ = 0;
  std::deque<Waiting> queue_;
  size_t front_sent_ = 0;  // bytes of the first one
  uint64_t queue_bytes_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_PEER_CONNECTION_H_
