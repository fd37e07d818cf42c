#include "client/client.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <grpcpp/alarm.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "client/fork.h"
#include "client/wire.h"

namespace kv739::client {
namespace {

// How long the thread keeps looking after its last timer, so that a caller
// with one operation at a time does not wake it for each.
constexpr Instant kIdleBeforeSleep = 1000 * kMillisecond;
// Completions that are handled between two looks at the clock.
constexpr int kDrain = 64;

std::atomic<int> networks{0};
// Nobody else in the process used gRPC when the first of them was made.
std::atomic<bool> grpc_is_ours{false};
// gRPC's own threads let go of what they hold when they come to it, and it has
// no way to wait for them. Somebody else may use it by now, hence the bound.
constexpr int kMaxShutdownWaits = 250;
constexpr std::chrono::milliseconds kShutdownWait(1);

thread_local bool in_callback = false;
thread_local const void* client_of_thread = nullptr;

Instant Now() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

gpr_timespec In(Instant wait) {
  return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                      gpr_time_from_micros(wait, GPR_TIMESPAN));
}

// gRPC writes to stderr on its own. That log is the process's: a program that
// has used gRPC before, or has set GRPC_VERBOSITY, keeps it as it is; in any
// other it is switched off, and the program may switch it on again with
// gpr_set_log_verbosity().
void Silence() {
  if (grpc_is_initialized() != 0) return;
  if (getenv("GRPC_VERBOSITY") != nullptr) return;
  gpr_set_log_verbosity(
      static_cast<gpr_log_severity>(GPR_LOG_SEVERITY_ERROR + 1));
}

uint64_t Seed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace

SyncOperation::SyncOperation(Request r) : Operation(std::move(r)) {
  sem_init(&done_, 0, 0);  // fails for values beyond SEM_VALUE_MAX alone
}

SyncOperation::~SyncOperation() { sem_destroy(&done_); }

void SyncOperation::Finished() { sem_post(&done_); }

void SyncOperation::Wait() {
  while (sem_wait(&done_) != 0) {
    // A signal handler of the program has run.
  }
}

struct Client::MapFetch : Completion {
  Client* client = nullptr;
  grpc::ClientContext context;
  v1::GetMapResponse response;
  grpc::Status status;
  std::unique_ptr<grpc::ClientAsyncResponseReader<v1::GetMapResponse>> rpc;

  void Done(bool) override { client->OnMapFetched(); }
};

struct Client::WakeUp : Completion {
  explicit WakeUp(Client* c) : client(c) {}

  Client* const client;
  grpc::Alarm alarm;

  void Done(bool) override {
    const std::lock_guard lock(client->mutex_);
    client->waking_ = false;
  }
};

Client::Network::Network() {
  if (networks.fetch_add(1) == 0) grpc_is_ours = grpc_is_initialized() == 0;
  grpc_init();
}

// A process without an open client may fork, and its child open one: gRPC has
// to be at its end then.
Client::Network::~Network() {
  grpc_shutdown_blocking();
  if (networks.fetch_sub(1) != 1 || !grpc_is_ours) return;
  for (int n = 0; n < kMaxShutdownWaits && grpc_is_initialized() != 0; ++n) {
    std::this_thread::sleep_for(kShutdownWait);
  }
}

Client::Client(kv::ClusterMap map, const Options& options)
    : file_map_(std::move(map)),
      options_(options),
      fork_count_(ForkCount()),
      engine_(file_map_, Engine::Options{.max_pending = options.max_pending,
                                         .seed = Seed()}) {
  wake_up_ = std::make_unique<WakeUp>(this);
  // Signals are for the program's own threads.
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  thread_ = std::thread([this] { Run(); });
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

Client::~Client() = default;

std::unique_ptr<Client> Client::Make(kv::ClusterMap map,
                                     const Options& options) {
  Silence();
  return std::unique_ptr<Client>(new Client(std::move(map), options));
}

bool Client::InCallback() { return in_callback; }

bool Client::Forked() const { return fork_count_ != ForkCount(); }

Instant Client::DeadlineIn(int timeout_ms) const {
  return Now() +
         (timeout_ms == 0 ? options_.timeout_ms : timeout_ms) * kMillisecond;
}

int Client::Submit(const std::shared_ptr<Operation>& operation) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    const int code = engine_.Submit(operation, Now());
    if (code != KV739_OK) return code;
    if (delivering_) return KV739_OK;  // sent at the end of that
    effects = engine_.TakeEffects();
    WakeIfAsleep();
  }
  Perform(std::move(effects));
  return KV739_OK;
}

void Client::WakeIfAsleep() {
  if (!asleep_ || waking_) return;
  asleep_ = false;
  waking_ = true;
  wake_up_->Give();
  wake_up_->alarm.Set(&queue_, gpr_now(GPR_CLOCK_MONOTONIC), wake_up_.get());
}

void Client::Perform(Effects effects) {
  while (true) {
    for (NodeIndex node : effects.send) StreamOf(node)->Pump();
    if (effects.fetch_map) StartMapFetch(*effects.fetch_map);
    if (effects.done.empty()) return;
    {
      const std::lock_guard lock(mutex_);
      if (client_of_thread != this && !ended_) {
        // Callbacks are for the library's thread, while there is one.
        for (auto& operation : effects.done) {
          late_.push_back(std::move(operation));
        }
        WakeIfAsleep();
        return;
      }
      delivering_ = true;
    }
    const bool outer = std::exchange(in_callback, true);
    for (size_t n = 0; n < effects.done.size(); ++n) {
      effects.done[n]->Finished();
      if ((n + 1) % kLargeMessage == 0) SendGathered();
    }
    in_callback = outer;
    // What those that were woken have submitted meanwhile travels together.
    const std::lock_guard lock(mutex_);
    delivering_ = false;
    effects = TakeEffects();
  }
}

// Of what was submitted while many answers are given out, the first is on its
// way before the last is told.
void Client::SendGathered() {
  std::vector<NodeIndex> send;
  {
    const std::lock_guard lock(mutex_);
    send = engine_.TakeSends();
  }
  for (NodeIndex node : send) StreamOf(node)->Pump();
}

NodeStream* Client::StreamOf(NodeIndex node) {
  const std::lock_guard lock(mutex_);
  if (node >= streams_.size()) streams_.resize(node + 1);
  std::unique_ptr<NodeStream>& stream = streams_[node];
  if (stream == nullptr) {
    stream =
        std::make_unique<NodeStream>(node, engine_.router().AddressOf(node),
                                     static_cast<StreamOwner*>(this), &queue_);
    if (closing_) stream->Stop();
  }
  return stream.get();
}

// ---- the thread ----

void Client::Run() {
  client_of_thread = this;
  Instant busy = Now();
  while (true) {
    bool sleep = false;
    {
      const Instant now = Now();
      const std::lock_guard lock(mutex_);
      if (closing_) break;
      if (engine_.HasTimers() || !late_.empty()) busy = now;
      sleep = now - busy > kIdleBeforeSleep;
      asleep_ = sleep;
    }
    void* tag = nullptr;
    bool ok = false;
    gpr_timespec until = sleep ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                               : In(TimerWheel<Operation>::kTick);
    for (int i = 0; i < kDrain; ++i) {
      if (queue_.AsyncNext(&tag, &ok, until) !=
          grpc::CompletionQueue::GOT_EVENT) {
        break;
      }
      static_cast<Completion*>(tag)->Complete(ok);
      until = gpr_inf_past(GPR_CLOCK_MONOTONIC);
    }
    Tick();
  }
  Finish();
}

void Client::Tick() {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    asleep_ = false;
    engine_.Tick(Now());
    effects = TakeEffects();
  }
  Perform(std::move(effects));
  for (NodeStream* stream : Streams()) stream->PumpHeld();
}

std::vector<NodeStream*> Client::Streams() {
  std::vector<NodeStream*> streams;
  const std::lock_guard lock(mutex_);
  for (const auto& stream : streams_) {
    if (stream != nullptr) streams.push_back(stream.get());
  }
  return streams;
}

Effects Client::TakeEffects() {
  Effects effects = engine_.TakeEffects();
  for (auto& operation : late_) effects.done.push_back(std::move(operation));
  late_.clear();
  return effects;
}

void Client::Finish() {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    engine_.Close();
    effects = TakeEffects();
    if (map_fetch_ != nullptr) map_fetch_->context.TryCancel();
  }
  Perform(std::move(effects));
  for (NodeStream* stream : Streams()) stream->Stop();
  // Every call ends now. What gRPC still owes comes back before the queue may
  // be shut down, since a thread may be about to write.
  while (!Quiet()) {
    void* tag = nullptr;
    bool ok = false;
    if (queue_.AsyncNext(&tag, &ok, In(TimerWheel<Operation>::kTick)) ==
        grpc::CompletionQueue::GOT_EVENT) {
      static_cast<Completion*>(tag)->Complete(ok);
    }
  }
  queue_.Shutdown();
  void* tag = nullptr;
  bool ok = false;
  while (queue_.Next(&tag, &ok)) static_cast<Completion*>(tag)->Complete(ok);
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    effects = TakeEffects();
  }
  Perform(std::move(effects));
}

bool Client::Quiet() {
  {
    const std::lock_guard lock(mutex_);
    if (map_fetch_ != nullptr) return false;
  }
  for (NodeStream* stream : Streams()) {
    if (stream->HasCall()) return false;
  }
  return true;
}

void Client::Close() {
  const std::lock_guard close_lock(close_mutex_);
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    WakeIfAsleep();
  }
  closes_.notify_all();
  thread_.join();
}

// ---- what streams tell ----

size_t Client::Waiting(NodeIndex node) {
  const std::lock_guard lock(mutex_);
  return engine_.Waiting(node);
}

std::vector<Outgoing> Client::TakeBatch(NodeIndex node) {
  const std::lock_guard lock(mutex_);
  return engine_.TakeBatch(node);
}

void Client::OnAnswers(NodeIndex node, std::vector<Answer> answers,
                       uint64_t map_epoch) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    engine_.OnAnswers(node, std::move(answers), map_epoch, Now());
    effects = TakeEffects();
  }
  Perform(std::move(effects));
}

void Client::OnBroken(NodeIndex node, const std::string& why) {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    engine_.OnBroken(node, why, Now());
    effects = TakeEffects();
  }
  Perform(std::move(effects));
}

// ---- the map ----

kv::ClusterMap Client::KnownMap() {
  const std::lock_guard lock(mutex_);
  return engine_.router().map();
}

void Client::LearnMap(kv::ClusterMap map) {
  const std::lock_guard lock(mutex_);
  engine_.LearnMap(std::move(map));
}

bool Client::PauseFor(std::chrono::milliseconds time) {
  std::unique_lock lock(mutex_);
  return !closes_.wait_for(
      lock, time, [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return closing_; });
}

void Client::StartMapFetch(NodeIndex node) {
  NodeStream* const stream = StreamOf(node);
  MapFetch* fetch = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (closing_) return;
    map_fetch_ = std::make_unique<MapFetch>();
    fetch = map_fetch_.get();
  }
  fetch->client = this;
  fetch->context.set_deadline(std::chrono::system_clock::now() +
                              std::chrono::microseconds(kMapTimeout));
  fetch->rpc = stream->cluster().AsyncGetMap(&fetch->context, {}, &queue_);
  fetch->Give();
  fetch->rpc->Finish(&fetch->response, &fetch->status, fetch);
}

void Client::OnMapFetched() {
  Effects effects;
  {
    const std::lock_guard lock(mutex_);
    const std::unique_ptr<MapFetch> fetch = std::move(map_fetch_);
    engine_.OnMap(fetch->status.ok() ? ReadMap(fetch->response) : nullptr,
                  Now());
    effects = TakeEffects();
  }
  Perform(std::move(effects));
}

}  // namespace kv739::client
