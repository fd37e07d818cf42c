#include "client/node_stream.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/wire.h"
#include "kv/cluster_file.h"

namespace kv739::client {

grpc::ChannelArguments ChannelSettings() {
  grpc::ChannelArguments args;
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  args.SetMaxSendMessageSize(kMaxMessageBytes);
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMs);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kMaxReconnectMs);
  args.SetInt(GRPC_ARG_DNS_MIN_TIME_BETWEEN_RESOLUTIONS_MS, kMaxReconnectMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  args.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  // Repeating is the engine's business.
  args.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  // Shares no connection with other channels of the process.
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return args;
}

std::string ChannelTarget(const std::string& address) {
  if (address.starts_with("[")) return absl::StrCat("ipv6:", address);
  if (address.find_first_not_of("0123456789.:") == std::string::npos) {
    return absl::StrCat("ipv4:", address);
  }
  return absl::StrCat("dns:///", address);
}

struct NodeStream::Event : Completion {
  using Handler = void (NodeStream::*)(Call*, bool);

  Event(Call* c, Handler h) : call(c), handler(h) {}
  void Done(bool ok) override;

  Call* const call;
  const Handler handler;
};

struct NodeStream::Call {
  explicit Call(NodeStream* s) : stream(s) {}

  NodeStream* const stream;
  grpc::ClientContext context;
  std::unique_ptr<
      grpc::ClientAsyncReaderWriter<v1::OperationBatch, v1::ResultBatch>>
      rpc;
  v1::OperationBatch out;  // of whoever set `writing`
  v1::ResultBatch in;      // of the queue's thread
  grpc::Status status;
  Event started{this, &NodeStream::OnStarted};
  Event read{this, &NodeStream::OnRead};
  Event written{this, &NodeStream::OnWritten};
  Event finished{this, nullptr};

  // Guarded by the stream's mutex.
  int holders = 0;  // tags that are out, and threads that are inside
  bool open = false;
  bool writing = false;
  bool more = false;  // something came while writing
  bool held = false;  // something came and waits for an answer
  int unanswered = 0;
  size_t out_operations = 0;  // without an answer so far
  bool broken = false;

  // Better to wait for an answer, and for company, than to go now with those
  // that are waiting.
  bool Full(size_t waiting) const {
    return unanswered >= kMaxUnanswered ||
           (unanswered > 0 && out_operations >= kCrowd &&
            waiting < kLargeMessage);
  }
};

void NodeStream::Event::Done(bool ok) {
  NodeStream* const stream = call->stream;
  if (handler != nullptr) (stream->*handler)(call, ok);
  stream->Release(call);
}

NodeStream::NodeStream(NodeIndex node, const std::string& address,
                       StreamOwner* owner, grpc::CompletionQueue* queue)
    : node_(node),
      owner_(owner),
      queue_(queue),
      channel_(grpc::CreateCustomChannel(ChannelTarget(address),
                                         grpc::InsecureChannelCredentials(),
                                         ChannelSettings())),
      stub_(v1::KeyValue::NewStub(channel_)),
      cluster_(v1::Cluster::NewStub(channel_)) {}

NodeStream::~NodeStream() = default;

void NodeStream::Pump() { Pump(true); }

void NodeStream::PumpHeld() {
  {
    const std::lock_guard lock(mutex_);
    if (call_ == nullptr || !call_->held) return;
  }
  Pump(false);
}

void NodeStream::Pump(bool hold) {
  while (true) {
    const size_t waiting = hold ? owner_->Waiting(node_) : 0;
    Call* call = nullptr;
    bool start = false;
    {
      const std::lock_guard lock(mutex_);
      if (stopped_) return;
      if (call_ == nullptr) {
        call_ = std::make_unique<Call>(this);
        call_->holders = 2;  // this thread, and the tag of the start
        start = true;
      } else if (call_->writing) {
        call_->more = true;
        return;
      } else if (!call_->open || call_->broken) {
        return;  // served when it opens, or told that it broke
      } else if (hold && call_->Full(waiting)) {
        call_->held = true;
        return;  // served by the next answer or tick
      } else {
        call_->held = false;
        call_->writing = true;
        call_->holders += 2;  // this thread, and the tag of the write
      }
      call = call_.get();
    }
    if (start) {
      Start(call);
      Release(call);
      return;
    }
    const std::vector<Outgoing> batch = owner_->TakeBatch(node_);
    if (!batch.empty()) {
      {
        const std::lock_guard lock(mutex_);
        ++call->unanswered;
        call->out_operations += batch.size();
      }
      FillBatch(batch, &call->out);
      call->written.Give();
      call->rpc->Write(call->out, &call->written);
      Release(call);
      return;
    }
    bool again = false;
    {
      const std::lock_guard lock(mutex_);
      call->writing = false;
      again = std::exchange(call->more, false);
    }
    Release(call);
    Release(call);
    if (!again) return;
  }
}

void NodeStream::Start(Call* call) {
  call->rpc = stub_->PrepareAsyncStream(&call->context, queue_);
  call->started.Give();
  call->rpc->StartCall(&call->started);
}

void NodeStream::OnStarted(Call* call, bool ok) {
  if (!ok) {
    Break(call);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    call->open = true;
    ++call->holders;
  }
  call->read.Give();
  call->rpc->Read(&call->in, &call->read);
  Pump();
}

void NodeStream::OnRead(Call* call, bool ok) {
  if (!ok) {
    Break(call);
    return;
  }
  std::vector<Answer> answers = TakeAnswers(&call->in);
  const uint64_t epoch = call->in.map_epoch();
  bool held = false;
  {
    const std::lock_guard lock(mutex_);
    ++call->holders;
    call->unanswered = 0;
    call->out_operations -= std::min(call->out_operations, answers.size());
    held = std::exchange(call->held, false);
  }
  call->read.Give();
  call->rpc->Read(&call->in, &call->read);
  owner_->OnAnswers(node_, std::move(answers), epoch);
  if (held) Pump();
}

void NodeStream::OnWritten(Call* call, bool ok) {
  {
    const std::lock_guard lock(mutex_);
    call->writing = false;
    call->more = false;
  }
  if (!ok) {
    Break(call);
    return;
  }
  Pump();
}

void NodeStream::Break(Call* call) {
  {
    const std::lock_guard lock(mutex_);
    if (call->broken) return;
    call->broken = true;
    ++call->holders;
  }
  // After an end that the server made, a read would still be pending.
  call->context.TryCancel();
  call->finished.Give();
  call->rpc->Finish(&call->status, &call->finished);
}

void NodeStream::Release(Call* call) {
  std::unique_ptr<Call> ended;
  {
    const std::lock_guard lock(mutex_);
    if (--call->holders > 0) return;
    ended = std::move(call_);
  }
  std::string why = ended->status.error_message();
  if (why.empty()) why = "the connection ended";
  owner_->OnBroken(node_, why);
}

void NodeStream::Stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (call_ != nullptr) call_->context.TryCancel();
}

bool NodeStream::HasCall() {
  const std::lock_guard lock(mutex_);
  return call_ != nullptr;
}

}  // namespace kv739::client
