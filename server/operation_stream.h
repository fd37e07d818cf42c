// A client's stream: many operations in flight, results in any order.
//
// One message is written at a time; results that come meanwhile go into the
// next one. What a stream may hold is bounded on all sides:
//   operations without a written result   max_operations, then OVERLOADED
//   bytes of one result message           max_message_bytes
//   bytes of results that wait            pause_bytes: no more is read from
//       the client until they have left; max_waiting_bytes: values of reads
//       are dropped with OVERLOADED; four times that: old values of writes,
//       with UNKNOWN (they can be asked for again under their sequence)
//
// std::mutex, since absl::Mutex of Debian looks for deadlocks at every lock.
//
// Threads: results come from any thread; everything else in the loop thread.
// Ownership: the service holds a stream until gRPC is done with it, and each
// operation under way holds it too. A stream whose client is gone drops its
// results.
#ifndef KV739_SERVER_OPERATION_STREAM_H_
#define KV739_SERVER_OPERATION_STREAM_H_

#include <grpcpp/server_context.h>
#include <grpcpp/support/async_stream.h>

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "absl/functional/any_invocable.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "server/operation.h"
#include "server/rpc_loop.h"

namespace kv739::server {

struct StreamLimits {
  // A message with more ends the stream: each takes memory, however small.
  uint32_t max_message_operations = 65536;
  uint32_t max_operations = 16384;
  // With one value more on top, or one page of a scan, it must stay below
  // gRPC's default of 4 MiB.
  uint64_t max_message_bytes = 2 << 20;
  uint64_t pause_bytes = 8 << 20;
  uint64_t max_waiting_bytes = 64 << 20;
};

class OperationStream final
    : public ReplySink,
      public std::enable_shared_from_this<OperationStream> {
 public:
  struct Hooks {
    absl::AnyInvocable<void()> accepted;  // a client has come
    // gRPC is done with the stream; the stream may go.
    absl::AnyInvocable<void()> ended;
  };

  OperationStream(RpcLoop* loop, const StreamLimits& limits, Hooks hooks);

  // Waits for a client.
  void Arm(v1::KeyValue::AsyncService* service);
  // Ends when all operations under way are answered.
  void BeginStop();
  // After the loop has ended: lets go of what belongs to gRPC.
  void Release();

  // Any thread.
  void Deliver(Reply reply) override;
  void Flush() override;

 private:
  struct Batch {
    v1::ResultBatch message;
    uint64_t bytes = 0;
  };
  class Tag : public Event {
   public:
    using Method = void (OperationStream::*)(bool ok);
    Tag(OperationStream* stream, Method method)
        : stream_(stream), method_(method) {}
    void Complete(bool ok) override { (stream_->*method_)(ok); }

   private:
    OperationStream* const stream_;
    const Method method_;
  };

  void OnAccepted(bool ok);
  void OnRead(bool ok);
  void OnWritten(bool ok);
  void OnFinished(bool ok);

  void Read();
  // Takes the operations of request_ that there is room for.
  void TakeOperations();
  // mutex_ is held, for these three.
  void AddResult(Reply* reply);
  void DropResults();
  void RecycleWritten();
  // Ends the call when nothing is left to do.
  void FinishIfDone();
  void EndIfOver();

  RpcLoop* const loop_;  // outlives all events, not the object
  const std::shared_ptr<RpcShared> shared_;
  const StreamLimits limits_;
  Hooks hooks_;
  Tag accepted_tag_, read_tag_, written_tag_, finished_tag_;

  std::optional<grpc::ServerContext> context_;
  std::optional<
      grpc::ServerAsyncReaderWriter<v1::ResultBatch, v1::OperationBatch>>
      call_;
  v1::OperationBatch request_;

  // Loop thread.
  bool open_ = false;  // accepted and not finished
  bool reading_ = false;
  bool read_paused_ = false;
  bool input_over_ = false;
  bool stopping_ = false;
  bool finishing_ = false;
  bool finished_ = false;
  std::string refusal_;  // why input is over, when it is our doing

  std::mutex mutex_;     // guards what follows
  bool broken_ = false;  // results are dropped
  uint32_t unanswered_ = 0;
  uint32_t waiting_results_ = 0;
  uint64_t waiting_bytes_ = 0;
  std::deque<std::unique_ptr<Batch>> waiting_;
  std::unique_ptr<Batch> spare_;
  // Being written; whoever made it so is the only one to touch it until the
  // event comes.
  std::unique_ptr<Batch> writing_;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_OPERATION_STREAM_H_
