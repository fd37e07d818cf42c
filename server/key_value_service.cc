#include "server/key_value_service.h"

#include <string>
#include <utility>

#include "server/operation_codec.h"

namespace kv739::server {
namespace {

// A unary call that is its own sink: no allocation between request and
// answer.
template <typename Request, typename Response>
class KeyValueCall final : public UnaryCall<Request, Response>,
                           public ReplySink {
 public:
  using Base = UnaryCall<Request, Response>;
  using Base::Base;

  void Start() {
    Operation operation;
    DecodeRequest(&this->request(), &operation);
    if (this->shared()->stopping.load()) {
      Deliver(RefusedReply(operation, ReplyCode::kUnavailable,
                           "server is stopping"));
      return;
    }
    if (this->overloaded()) {
      Deliver(RefusedReply(operation, ReplyCode::kOverloaded,
                           "too many calls are under way"));
      return;
    }
    operation.sink =
        std::static_pointer_cast<KeyValueCall>(this->shared_from_this());
    operation.start_nanos = this->loop()->now_nanos();
    this->loop()->AddOperation(std::move(operation));
  }

  void Deliver(Reply reply) override {
    if (reply.code == ReplyCode::kOk) {
      EncodeResponse(&reply, &this->response());
      this->Finish(grpc::Status::OK);
      return;
    }
    v1::Error error;
    EncodeError(reply, &error);
    this->AddTrailer(kErrorTrailer, error.SerializeAsString());
    this->Finish(ToStatus(reply));
  }
  void Flush() override {}
};

template <typename Request, typename Response, typename Method>
UnaryPool<Request, Response> MakePool(RpcLoop* loop, int armed, int max_calls,
                                      v1::KeyValue::AsyncService* service,
                                      Method method) {
  using Call = KeyValueCall<Request, Response>;
  return UnaryPool<Request, Response>(
      loop, armed, max_calls,
      [service, method](grpc::ServerContext* context, Request* request,
                        grpc::ServerAsyncResponseWriter<Response>* writer,
                        grpc::ServerCompletionQueue* queue, void* tag) {
        (service->*method)(context, request, writer, queue, queue, tag);
      },
      [](UnaryCall<Request, Response>* call) {
        static_cast<Call*>(call)->Start();
      },
      [](UnaryPool<Request, Response>* pool) {
        return std::make_shared<Call>(pool);
      });
}

}  // namespace

using Service = v1::KeyValue::AsyncService;

KeyValueService::KeyValueService(RpcLoop* loop, const KeyValueLimits& limits)
    : loop_(loop),
      limits_(limits),
      get_(MakePool<v1::GetRequest, v1::GetResponse>(
          loop, limits.armed_calls, limits.max_calls, &service_,
          &Service::RequestGet)),
      put_(MakePool<v1::PutRequest, v1::WriteResponse>(
          loop, limits.armed_calls, limits.max_calls, &service_,
          &Service::RequestPut)),
      delete_(MakePool<v1::DeleteRequest, v1::WriteResponse>(
          loop, kOtherArmedCalls, limits.max_calls, &service_,
          &Service::RequestDelete)),
      append_(MakePool<v1::AppendRequest, v1::WriteResponse>(
          loop, kOtherArmedCalls, limits.max_calls, &service_,
          &Service::RequestAppend)),
      compare_and_swap_(MakePool<v1::CompareAndSwapRequest, v1::WriteResponse>(
          loop, kOtherArmedCalls, limits.max_calls, &service_,
          &Service::RequestCompareAndSwap)),
      open_session_(MakePool<v1::OpenSessionRequest, v1::OpenSessionResponse>(
          loop, kOtherArmedCalls, limits.max_calls, &service_,
          &Service::RequestOpenSession)),
      scan_(MakePool<v1::ScanRequest, v1::ScanResponse>(
          loop, kOtherArmedCalls, limits.max_calls, &service_,
          &Service::RequestScan)) {}

KeyValueService::~KeyValueService() = default;

void KeyValueService::Start() {
  get_.Start();
  put_.Start();
  delete_.Start();
  append_.Start();
  compare_and_swap_.Start();
  open_session_.Start();
  scan_.Start();
  for (int i = 0; i < kArmedStreams; ++i) ArmStream();
}

void KeyValueService::ArmStream() {
  auto self = std::make_shared<std::weak_ptr<OperationStream>>();
  auto stream = std::make_shared<OperationStream>(
      loop_, limits_.stream,
      OperationStream::Hooks{
          [this] { ArmStream(); },
          [this, self] { streams_.erase(self->lock()); },
      });
  *self = stream;
  streams_.insert(stream);
  stream->Arm(&service_);
}

void KeyValueService::BeginStop() {
  for (const std::shared_ptr<OperationStream>& stream : streams_) {
    stream->BeginStop();
  }
}

void KeyValueService::Release() {
  get_.Release();
  put_.Release();
  delete_.Release();
  append_.Release();
  compare_and_swap_.Release();
  open_session_.Release();
  scan_.Release();
  for (const std::shared_ptr<OperationStream>& stream : streams_) {
    stream->Release();
  }
}

}  // namespace kv739::server
