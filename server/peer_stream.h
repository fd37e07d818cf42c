// One gRPC stream between two nodes, on either end of it.
//
// The first message that each side sends says who it is and whom it means. A
// side may send once it has checked the other's. The opening side then sends
// one more, however empty: by that the accepting side knows that it was
// checked too. The stream is confirmed for a side when it knows of both.
//
// Messages wait in a bounded queue while a write is under way, and the next
// write takes all of them up to kMaxBatchBytes. Every batch says the map's
// epoch; when it has changed and there is nothing else to say, an empty batch
// says it.
//
// Threads: Send(), SendToNode(), Announce() and confirmed() any; everything
// else in the loop thread. A stream that ends drops what is queued: Raft sends
// again what matters.
#ifndef KV739_SERVER_PEER_STREAM_H_
#define KV739_SERVER_PEER_STREAM_H_

#include <grpcpp/client_context.h>
#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "raft/v1/raft.grpc.pb.h"
#include "server/peer_link.h"
#include "server/rpc_loop.h"

namespace kv739::server {

// What a batch says about its sender and receiver.
struct PeerIdentity {
  uint64_t cluster_id = 0;
  raft::NodeId from;
  raft::NodeId to;
  uint64_t incarnation = 0;
  bool operator==(const PeerIdentity&) const = default;
};

class PeerStream : public std::enable_shared_from_this<PeerStream> {
 public:
  // The transport, as a stream sees it. Loop thread.
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual RpcLoop* loop() = 0;
    // What this node says of itself; `to` is filled in by the stream.
    virtual PeerIdentity OwnIdentity() const = 0;
    virtual uint64_t max_queue_bytes() const = 0;
    // A client of the accepting side has come, or never will.
    virtual void OnAccepted(PeerStream* stream) = 0;
    // The other side's first words: its link, or FAILED_PRECONDITION with
    // what does not fit. `expected` is none on the accepting side.
    virtual absl::StatusOr<std::shared_ptr<PeerLink>> Admit(
        const PeerIdentity& identity, raft::NodeId expected) = 0;
    // `status` is what the call ended with. The stream is freed by this.
    virtual void OnEnded(PeerStream* stream, const grpc::Status& status) = 0;
  };

  virtual ~PeerStream() = default;
  PeerStream(const PeerStream&) = delete;
  PeerStream& operator=(const PeerStream&) = delete;

  void Send(std::vector<GroupMessage> messages);
  // A map takes the place of the one that waits.
  void SendToNode(NodeMessage message);
  // Says the map's epoch if that was not said, or `anyway`.
  void Announce(bool anyway);
  bool confirmed() const { return confirmed_.load(); }

  // Breaks it off; OnEnded() follows.
  void Cancel();
  // Frees what belongs to gRPC, after the loop has ended.
  virtual void Release() = 0;
  // The peer that an opening side wants; none on the accepting side.
  raft::NodeId expected() const { return expected_; }
  bool came_up() const { return link_ != nullptr; }

  // A write takes what waits up to the first of these, and whole messages:
  // together they stay below what a receiver accepts.
  static constexpr uint64_t kMaxBatchBytes = 4 << 20;
  static constexpr uint64_t kMaxMessageBytes = 12 << 20;

 protected:
  class Tag : public Event {
   public:
    using Method = void (PeerStream::*)(bool ok);
    Tag(PeerStream* stream, Method method) : stream_(stream), method_(method) {}
    void Complete(bool ok) override { (stream_->*method_)(ok); }

   private:
    PeerStream* const stream_;
    const Method method_;
  };

  PeerStream(Owner* owner, raft::NodeId expected);

  virtual void StartRead() = 0;
  virtual void StartWrite() = 0;
  virtual void StartFinish() = 0;
  virtual void TryCancel() = 0;
  // Closes with a reason where the protocol has a place for it.
  virtual void Refuse(const absl::Status& status) = 0;

  void OnOpened(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);

  Owner* const owner_;  // outlives all events, not the object
  const std::shared_ptr<RpcShared> shared_;
  Tag opened_tag_, read_tag_, written_tag_, finished_tag_;
  ::raft::v1::PeerBatch read_batch_;
  ::raft::v1::PeerBatch write_batch_;
  grpc::Status status_;  // to send on the accepting side, else received
  bool ending_ = false;

 private:
  void Read();
  // First batch: finds out who it is.
  absl::Status Check();
  absl::Status Admit(const PeerIdentity& identity);
  void Confirm();
  absl::Status Receive();
  void ReceiveMessages();
  absl::Status ReceiveNodeMessages();
  void SendHello();
  void FinishIfDone();
  void EndIfOver();

  // Starts a write unless one is under way. mutex_ is held by `lock`, which
  // this lets go.
  void WriteIfIdle(std::unique_lock<std::mutex> lock);
  // mutex_ is held, for these four.
  bool HasRoom(uint64_t bytes) const;
  bool SomethingToSay() const;
  // The caller writes it afterwards, without the lock.
  void TakeBatch();
  void DropQueue();
  void WriteBatch();
  void SetQueueBytes(uint64_t bytes);  // mutex_ is held

  const raft::NodeId expected_;
  const PeerIdentity own_;
  const uint64_t max_queue_bytes_;

  // Loop thread.
  bool opened_ = false;
  bool reading_ = false;
  bool finishing_ = false;
  bool finished_ = false;
  PeerIdentity theirs_;
  uint64_t their_epoch_ = 0;

  // Set before others can see the stream.
  std::shared_ptr<PeerLink> link_;
  raft::NodeId to_;

  std::atomic<bool> confirmed_{false};
  std::mutex mutex_;  // guards what follows, but the batch
  bool closed_ = false;
  bool writing_ = false;
  bool must_say_ = false;  // something, be it nothing
  uint64_t said_epoch_ = 0;
  std::deque<GroupMessage> queue_;
  std::deque<NodeMessage> node_queue_;
  uint64_t queue_bytes_ = 0;  // of both
  // Of the write under way; whoever set writing_ has it until the event.
  std::vector<GroupMessage> batch_;
  std::vector<NodeMessage> node_batch_;
  uint64_t batch_epoch_ = 0;
};

class AcceptedStream final : public PeerStream {
 public:
  explicit AcceptedStream(Owner* owner);
  void Arm(::raft::v1::Raft::AsyncService* service);
  void Release() override;

 private:
  void StartRead() override;
  void StartWrite() override;
  void StartFinish() override;
  void TryCancel() override;
  void Refuse(const absl::Status& status) override;

  std::optional<grpc::ServerContext> context_;
  std::optional<grpc::ServerAsyncReaderWriter<::raft::v1::PeerBatch,
                                              ::raft::v1::PeerBatch>>
      call_;
};

class OpenedStream final : public PeerStream {
 public:
  OpenedStream(Owner* owner, raft::NodeId peer);
  void Open(::raft::v1::Raft::Stub* stub);
  void Release() override;

 private:
  void StartRead() override;
  void StartWrite() override;
  void StartFinish() override;
  void TryCancel() override;
  void Refuse(const absl::Status& status) override;

  std::optional<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientAsyncReaderWriter<::raft::v1::PeerBatch,
                                                ::raft::v1::PeerBatch>>
      call_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_PEER_STREAM_H_
