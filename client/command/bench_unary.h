// Unary gRPC calls as a target: the same for every service that puts, gets and
// scans.
// One thread waits for answers and starts what follows them.
#ifndef KV739_CLIENT_COMMAND_BENCH_UNARY_H_
#define KV739_CLIENT_COMMAND_BENCH_UNARY_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/command/bench_target.h"

namespace kv739::bench {

inline std::shared_ptr<grpc::Channel> ConnectTo(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  // No proxy of the environment, a connection of its own, and quick to see a
  // server that is back.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(),
                                   arguments);
}

// `Api` has the types PutRequest, PutResponse, GetRequest, GetResponse,
// ScanRequest, ScanResponse and:
//   std::optional<int> Route(const Operation&)   who is asked
//   StartPut(route, context, request, queue), StartGet(...), StartScan(...)
//   bool Found(const GetResponse&)
//   void Fill(const Operation&, ScanRequest*)    asks for a page
//   Result PageOf(ScanResponse*)
//   bool MaybeApplied(const grpc::Status&, const grpc::ClientContext&)
//   void Failed(const Operation&, route, const grpc::Status&, context)
// Route and Failed are called from several threads.
template <typename Api>
class UnaryTarget : public AsyncTarget {
 public:
  UnaryTarget(std::unique_ptr<Api> api, absl::Duration timeout, int in_flight)
      : api_(std::move(api)), timeout_(timeout), states_(in_flight) {
    thread_ = std::thread([this] { Collect(); });
  }
  ~UnaryTarget() override {
    queue_.Shutdown();
    thread_.join();
  }

  bool Start(Call* call, Result* result) override {
    const Operation& o = call->operation;
    State& state = states_[call->place];
    const std::optional<int> route = api_->Route(o);
    if (!route.has_value()) {
      *result = {Outcome::kFailed, "no server is known for the key's group"};
      return false;
    }
    state.call = call;
    state.route = *route;
    state.context.emplace();
    state.context->set_deadline(absl::ToChronoTime(absl::Now() + timeout_));
    if (o.kind == Kind::kScan) {
      api_->Fill(o, &state.scan_request);
      state.scan =
          api_->StartScan(*route, &*state.context, state.scan_request, &queue_);
      state.scan->Finish(&state.scan_response, &state.status, &state);
    } else if (o.write) {
      state.put_request.set_key(o.key);
      state.put_request.set_value(o.value.data(), o.value.size());
      state.put =
          api_->StartPut(*route, &*state.context, state.put_request, &queue_);
      state.put->Finish(&state.put_response, &state.status, &state);
    } else {
      state.get_request.set_key(o.key);
      state.get =
          api_->StartGet(*route, &*state.context, state.get_request, &queue_);
      state.get->Finish(&state.get_response, &state.status, &state);
    }
    return true;
  }

 private:
  struct State {
    Call* call = nullptr;
    int route = 0;
    std::optional<grpc::ClientContext> context;
    typename Api::PutRequest put_request;
    typename Api::PutResponse put_response;
    typename Api::GetRequest get_request;
    typename Api::GetResponse get_response;
    std::unique_ptr<grpc::ClientAsyncResponseReader<typename Api::PutResponse>>
        put;
    std::unique_ptr<grpc::ClientAsyncResponseReader<typename Api::GetResponse>>
        get;
    typename Api::ScanRequest scan_request;
    typename Api::ScanResponse scan_response;
    std::unique_ptr<grpc::ClientAsyncResponseReader<typename Api::ScanResponse>>
        scan;
    grpc::Status status;
  };

  void Collect() {
    void* tag = nullptr;
    bool ok = false;  // true for every unary call; the status says more
    while (queue_.Next(&tag, &ok)) {
      auto* state = static_cast<State*>(tag);
      state->call->Done(Judge(state));
    }
  }

  Result Judge(State* state) {
    const Operation& o = state->call->operation;
    if (state->status.ok() && o.kind == Kind::kScan) {
      return api_->PageOf(&state->scan_response);
    }
    if (state->status.ok()) {
      return {o.write || api_->Found(state->get_response) ? Outcome::kOk
                                                          : Outcome::kNotFound,
              ""};
    }
    api_->Failed(o, state->route, state->status, *state->context);
    const bool unknown =
        o.write && api_->MaybeApplied(state->status, *state->context);
    return {unknown ? Outcome::kUnknown : Outcome::kFailed,
            state->status.error_message()};
  }

  const std::unique_ptr<Api> api_;
  const absl::Duration timeout_;
  grpc::CompletionQueue queue_;
  std::vector<State> states_;  // one for each place in flight
  std::thread thread_;
};

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_UNARY_H_
