// cluster_bench: puts and linearizable gets against a running cluster, ours
// or etcd, with the same loop and the same requests in flight.
//
//   --target unary   kv739.v1.KeyValue unary calls to the leader
//   --target etcd    etcdserverpb.KV unary calls to --endpoint
//   --target threads lib739kv, one blocking call per thread
//   --target async   lib739kv, asynchronous calls
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <memory>
#include <mutex>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "client/lib739kv.h"
#include "etcd_kv.grpc.pb.h"
#include "kv739/v1/kv.grpc.pb.h"
#include "tests/benchmark/load.h"

namespace kv739::bench {
namespace {

// The two services behind one face.
struct Kv739Api {
  using Stub = v1::KeyValue::Stub;
  using PutRequest = v1::PutRequest;
  using PutResponse = v1::WriteResponse;
  using GetRequest = v1::GetRequest;
  using GetResponse = v1::GetResponse;
  static std::unique_ptr<Stub> NewStub(
      const std::shared_ptr<grpc::Channel>& channel) {
    return v1::KeyValue::NewStub(channel);
  }
  static auto Get(Stub* stub, grpc::ClientContext* context,
                  const GetRequest& request, grpc::CompletionQueue* queue) {
    return stub->AsyncGet(context, request, queue);
  }
};
struct EtcdApi {
  using Stub = etcdserverpb::KV::Stub;
  using PutRequest = etcdserverpb::PutRequest;
  using PutResponse = etcdserverpb::PutResponse;
  using GetRequest = etcdserverpb::RangeRequest;
  using GetResponse = etcdserverpb::RangeResponse;
  static std::unique_ptr<Stub> NewStub(
      const std::shared_ptr<grpc::Channel>& channel) {
    return etcdserverpb::KV::NewStub(channel);
  }
  static auto Get(Stub* stub, grpc::ClientContext* context,
                  const GetRequest& request, grpc::CompletionQueue* queue) {
    return stub->AsyncRange(context, request, queue);
  }
};

std::shared_ptr<grpc::Channel> Connect(const std::string& endpoint) {
  grpc::ChannelArguments arguments;
  arguments.SetInt("grpc.enable_http_proxy", 0);
  arguments.SetInt("grpc.use_local_subchannel_pool", 1);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(),
                                   arguments);
}

template <typename Api>
struct Call {
  std::unique_ptr<grpc::ClientContext> context;
  typename Api::PutResponse put_response;
  typename Api::GetResponse get_response;
  std::unique_ptr<grpc::ClientAsyncResponseReader<typename Api::PutResponse>>
      put;
  std::unique_ptr<grpc::ClientAsyncResponseReader<typename Api::GetResponse>>
      get;
  grpc::Status status;
  uint64_t start = 0;
};

template <typename Api>
class UnaryLoad {
 public:
  UnaryLoad(const LoadOptions& options, const std::string& endpoint)
      : options_(options),
        workload_(options),
        stub_(Api::NewStub(Connect(endpoint))),
        calls_(options.in_flight) {}

  std::string Run(const std::string& name) {
    Meter meter(options_);
    for (auto& call : calls_) Start(&call);
    int open = options_.in_flight;
    void* tag = nullptr;
    bool ok = false;
    while (open > 0 && queue_.Next(&tag, &ok)) {
      auto* call = static_cast<Call<Api>*>(tag);
      if (!call->status.ok() && !reported_) {
        reported_ = true;
        std::fprintf(stderr, "first failure: %s\n",
                     call->status.error_message().c_str());
      }
      meter.Done(call->start, call->status.ok());
      if (meter.running()) {
        Start(call);
      } else {
        --open;
      }
    }
    return meter.Report(name);
  }

 private:
  void Start(Call<Api>* call) {
    call->context = std::make_unique<grpc::ClientContext>();
    call->start = Meter::Nanos();
    if (options_.operation == "put") {
      put_.set_key(workload_.NextKey());
      put_.set_value(workload_.value());
      call->put = stub_->AsyncPut(call->context.get(), put_, &queue_);
      call->put->Finish(&call->put_response, &call->status, call);
    } else {
      get_.set_key(workload_.NextKey());
      call->get = Api::Get(stub_.get(), call->context.get(), get_, &queue_);
      call->get->Finish(&call->get_response, &call->status, call);
    }
  }

  const LoadOptions options_;
  Workload workload_;
  std::unique_ptr<typename Api::Stub> stub_;
  grpc::CompletionQueue queue_;
  std::vector<Call<Api>> calls_;
  typename Api::PutRequest put_;
  typename Api::GetRequest get_;
  bool reported_ = false;
};

// The endpoint among `endpoints` that leads: the one that takes a put.
std::string FindLeader(const std::vector<std::string>& endpoints) {
  for (const std::string& endpoint : endpoints) {
    auto stub = v1::KeyValue::NewStub(Connect(endpoint));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::seconds(2));
    v1::PutRequest request;
    request.set_key("leader-probe");
    v1::WriteResponse response;
    if (stub->Put(&context, request, &response).ok()) return endpoint;
  }
  return "";
}

kv739_client* OpenClient(const std::string& config) {
  kv739_client* client = nullptr;
  if (kv739_open(config.c_str(), nullptr, &client) != KV739_OK) {
    std::fprintf(stderr, "%s\n", kv739_last_error());
    std::exit(1);
  }
  return client;
}

std::string RunThreads(const LoadOptions& options, const std::string& config) {
  kv739_client* client = OpenClient(config);
  Meter meter(options);
  absl::Mutex mutex;
  std::vector<std::thread> threads;
  for (int i = 0; i < options.in_flight; ++i) {
    threads.emplace_back([&, i] {
      LoadOptions mine = options;
      mine.seed = options.seed * 1000 + i;
      Workload workload(mine);
      while (meter.running()) {
        const std::string key = workload.NextKey();
        const uint64_t start = Meter::Nanos();
        const int code =
            options.operation == "put"
                ? kv739_client_put(client, key.data(), key.size(),
                                   workload.value().data(),
                                   workload.value().size(), 0, nullptr)
                : kv739_client_get(client, key.data(), key.size(), 0, nullptr);
        absl::MutexLock lock(&mutex);
        meter.Done(start, code >= 0);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  std::string report = meter.Report("threads");
  kv739_close(client);
  return report;
}

class AsyncLoad {
 public:
  AsyncLoad(const LoadOptions& options, const std::string& config)
      : options_(options),
        client_(OpenClient(config)),
        meter_(options),
        workload_(options) {}

  std::string Run() {
    open_ = options_.in_flight;
    slots_.resize(options_.in_flight);
    for (auto& slot : slots_) {
      slot.load = this;
      Start(&slot);
    }
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](int* open) { return *open == 0; }, &open_));
    mutex_.Unlock();
    std::string report = meter_.Report("async");
    kv739_close(client_);
    mutex_.Lock();
    return report;
  }

 private:
  struct Slot {
    AsyncLoad* load = nullptr;
    uint64_t start = 0;
  };

  static void Done(void* context, int code, const kv739_result*) {
    auto* slot = static_cast<Slot*>(context);
    AsyncLoad* load = slot->load;
    bool more;
    {
      absl::MutexLock lock(&load->mutex_);
      load->meter_.Done(slot->start, code >= 0);
      more = load->meter_.running();
      if (!more) --load->open_;
    }
    if (more) load->Start(slot);
  }

  void Start(Slot* slot) {
    std::string key;
    {
      absl::MutexLock lock(&mutex_);
      key = workload_.NextKey();
    }
    slot->start = Meter::Nanos();
    const int code =
        options_.operation == "put"
            ? kv739_client_put_async(client_, key.data(), key.size(),
                                     workload_.value().data(),
                                     workload_.value().size(), 0, Done, slot)
            : kv739_client_get_async(client_, key.data(), key.size(), 0, Done,
                                     slot);
    if (code != KV739_OK) {
      std::fprintf(stderr, "%s\n", kv739_last_error());
      std::exit(1);
    }
  }

  const LoadOptions options_;
  kv739_client* client_;
  absl::Mutex mutex_;
  Meter meter_;
  Workload workload_;
  int open_ = 0;
  std::vector<Slot> slots_;
};

int Main(int argc, char** argv) {
  CLI::App app("puts and gets against a running cluster");
  LoadOptions options;
  std::string target = "unary";
  std::string config;
  std::vector<std::string> endpoints;
  app.add_option("--target", target)
      ->check(CLI::IsMember({"unary", "etcd", "threads", "async"}));
  app.add_option("--operation", options.operation)
      ->check(CLI::IsMember({"put", "get"}));
  app.add_option("--in-flight", options.in_flight)
      ->check(CLI::Range(1, 100000));
  app.add_option("--seconds", options.seconds);
  app.add_option("--warmup", options.warmup_seconds);
  app.add_option("--keys", options.keys);
  app.add_option("--value-bytes", options.value_bytes);
  app.add_option("--seed", options.seed);
  app.add_option("--pid", options.pids, "processes whose CPU time counts");
  app.add_option("--endpoint", endpoints, "host:port, several for unary");
  app.add_option("-c,--config", config, "cluster file, for threads and async");
  CLI11_PARSE(app, argc, argv);

  std::string report;
  if (target == "etcd") {
    report = UnaryLoad<EtcdApi>(options, endpoints.at(0)).Run(target);
  } else if (target == "unary") {
    const std::string leader = FindLeader(endpoints);
    if (leader.empty()) {
      std::fprintf(stderr, "no endpoint leads\n");
      return 1;
    }
    report = UnaryLoad<Kv739Api>(options, leader).Run(target);
  } else if (target == "threads") {
    report = RunThreads(options, config);
  } else {
    report = AsyncLoad(options, config).Run();
  }
  std::printf("%s\n", report.c_str());
  return 0;
}

}  // namespace
}  // namespace kv739::bench

int main(int argc, char** argv) { return kv739::bench::Main(argc, argv); }
