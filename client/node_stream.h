// One node as a client sees it: its channel, and one KeyValue.Stream that is
// opened at the first need and again after it broke.
//
// Threads: Pump() and Stop() from any; completions from the one thread that
// reads the queue. At most one message is being written at a time; who finds
// the stream idle writes, who does not leaves a note and is served by the
// completion. `mutex_` guards flags alone.
//
// A call ends when every tag that it gave to gRPC has come back and no thread
// is about to write; only then the owner hears OnBroken(), so nothing can be
// taken for a stream whose end was already told.
#ifndef KV739_CLIENT_NODE_STREAM_H_
#define KV739_CLIENT_NODE_STREAM_H_

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "client/engine.h"
#include "kv739/v1/cluster.grpc.pb.h"
#include "kv739/v1/kv.grpc.pb.h"

namespace kv739::client {

// Largest message either way; a value of the largest size fits with room.
inline constexpr int kMaxMessageBytes = 16 << 20;
// So many messages may be out without any answer since, or one when it and
// those before it have this many operations in all; more operations wait for
// an answer, or for the next tick, and then travel together. Few callers get
// their messages out at once; of many, one message is under way and the next
// gathers, so that batches are larger and cost the servers less for each. With
// kLargeMessage gathered it is large enough, and goes while servers work on the
// one before.
inline constexpr int kMaxUnanswered = 4;
inline constexpr size_t kCrowd = 8;
inline constexpr size_t kLargeMessage = 256;
inline constexpr int kReconnectMs = 100;  // gRPC takes no less
inline constexpr int kMaxReconnectMs = 250;
inline constexpr int kConnectTimeoutMs = 1000;
inline constexpr int kKeepaliveMs = 10'000;
inline constexpr int kKeepaliveTimeoutMs = 3'000;

// Settings of every channel that the library opens.
grpc::ChannelArguments ChannelSettings();
// "ipv4:...", "ipv6:..." for numbers, which need no resolver.
std::string ChannelTarget(const std::string& address);

class StreamOwner {
 public:
  virtual ~StreamOwner() = default;
  virtual std::vector<Outgoing> TakeBatch(NodeIndex node) = 0;
  // Operations that the next batch would have.
  virtual size_t Waiting(NodeIndex node) = 0;
  virtual void OnAnswers(NodeIndex node, std::vector<Answer> answers,
                         uint64_t map_epoch) = 0;
  virtual void OnBroken(NodeIndex node, const std::string& why) = 0;
};

// What every tag in the completion queue points to.
class Completion {
 public:
  virtual ~Completion() = default;
  // Before the tag is given to gRPC: orders what was written until then before
  // Done(). gRPC does that as well, but unseen by the thread sanitizer.
  void Give() { given_.store(true, std::memory_order_release); }
  // On the thread that got the tag back.
  void Complete(bool ok) {
    if (given_.load(std::memory_order_acquire)) Done(ok);
  }

 private:
  virtual void Done(bool ok) = 0;

  std::atomic<bool> given_{false};
};

class NodeStream {
 public:
  // `owner` and `queue` outlive it.
  NodeStream(NodeIndex node, const std::string& address, StreamOwner* owner,
             grpc::CompletionQueue* queue);
  // No call may be open.
  ~NodeStream();

  // Something may be there to take: sends it, now or when the stream is ready.
  void Pump();
  // Sends what was held back, without waiting for answers any longer.
  void PumpHeld();
  // Ends the call; none is opened any more.
  void Stop();
  bool HasCall();

  v1::Cluster::Stub& cluster() { return *cluster_; }

 private:
  struct Call;
  struct Event;

  void Pump(bool hold);
  void Start(Call* call);
  void OnStarted(Call* call, bool ok);
  void OnRead(Call* call, bool ok);
  void OnWritten(Call* call, bool ok);
  // Asks gRPC for the status, once; a tag of the call must still be out.
  void Break(Call* call);
  // A tag came back, or a write was not made.
  void Release(Call* call);

  const NodeIndex node_;
  StreamOwner* const owner_;
  grpc::CompletionQueue* const queue_;
  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::KeyValue::Stub> stub_;
  const std::unique_ptr<v1::Cluster::Stub> cluster_;

  std::mutex mutex_;
  std::unique_ptr<Call> call_ ABSL_GUARDED_BY(mutex_);
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace kv739::client

#endif  // KV739_CLIENT_NODE_STREAM_H_
