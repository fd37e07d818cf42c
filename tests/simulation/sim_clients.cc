#include "tests/simulation/sim_clients.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/simulation/sim_net.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/world.h"

namespace kv739::world {
namespace {

constexpr uint64_t kTimeout = 5 * kSecond;  // of an operation
constexpr uint64_t kClientTick = 10 * kMillisecond;
constexpr uint64_t kBrokenAfter = 2 * kSecond;
// Versions of a key that a client remembers.
constexpr size_t kKnown = 4;

server::OpKind KindOf(client::OpKind kind) {
  switch (kind) {
    case client::OpKind::kGet:
      return server::OpKind::kGet;
    case client::OpKind::kPut:
      return server::OpKind::kPut;
    case client::OpKind::kDelete:
      return server::OpKind::kDelete;
    case client::OpKind::kAppend:
      return server::OpKind::kAppend;
    case client::OpKind::kCas:
      return server::OpKind::kCompareAndSwap;
    case client::OpKind::kOpenSession:
      return server::OpKind::kOpenSession;
    case client::OpKind::kScan:
      return server::OpKind::kScan;
  }
  return server::OpKind::kGet;
}

client::OpKind RequestKindOf(test::Kind kind) {
  switch (kind) {
    case test::Kind::kGet:
      return client::OpKind::kGet;
    case test::Kind::kPut:
      return client::OpKind::kPut;
    case test::Kind::kDelete:
      return client::OpKind::kDelete;
    case test::Kind::kAppend:
      return client::OpKind::kAppend;
    case test::Kind::kCas:
      return client::OpKind::kCas;
  }
  return client::OpKind::kGet;
}

// As server/operation_codec.cc and client/wire.cc together.
client::Answer AnswerOf(server::Reply reply) {
  client::Answer answer;
  answer.tag = reply.tag;
  answer.code = reply.code == server::ReplyCode::kRefused
                    ? client::AnswerCode::kInternal
                    : static_cast<client::AnswerCode>(reply.code);
  answer.message = std::move(reply.message);
  answer.leader = std::move(reply.leader);
  answer.map_epoch = reply.map_epoch;
  answer.found = reply.found;
  answer.swapped = reply.swapped;
  answer.version = reply.version;
  answer.value = std::move(reply.value);
  answer.session = reply.session;
  if (reply.page == nullptr) return answer;
  answer.page = std::make_shared<client::ScanPage>();
  for (kv::ScanPage::Entry& entry : reply.page->entries) {
    answer.page->entries.push_back(
        {std::move(entry.key), std::move(entry.value), entry.version});
  }
  answer.page->more = reply.page->more;
  answer.page->next_slot = reply.page->next_slot;
  answer.page->next_from = std::move(reply.page->next_from);
  return answer;
}

}  // namespace

std::string PutKey(int number) { return absl::StrCat("put", number); }
std::string AppendKey(int number) { return absl::StrCat("append", number); }

class SimClient::Call : public client::Operation {
 public:
  Call(client::Request asked, SimClient* owner, int worker)
      : Operation(std::move(asked)), owner_(owner), worker_(worker) {}
  void Finished() override { owner_->Finished(worker_, this); }

 private:
  SimClient* const owner_;
  const int worker_;
};

class SimClient::Sink : public server::ReplySink {
 public:
  Sink(SimServer* server, const AnswerTo& to) : server_(server), to_(to) {}
  void Deliver(server::Reply reply) override {
    server_->Answer(to_, AnswerOf(std::move(reply)));
  }
  void Flush() override {}

 private:
  SimServer* const server_;
  const AnswerTo to_;
};

SimClient::SimClient(World* world, int number)
    : world_(world), number_(number), random_(world->random().Next()) {
  if (world->profile().has(Fault::kClockRate)) {
    rate_ = random_.Between(900, 1100);
  }
}

client::Instant SimClient::Now() const {
  return static_cast<client::Instant>(1'000'000 + world_->now() / kMicrosecond *
                                                      rate_ / 1000);
}

void SimClient::After(uint64_t delay, Task task) {
  world_->queue().Add(world_->now() + delay,
                      [this, life = life_, task = std::move(task)]() mutable {
                        if (life == life_) task();
                      });
}

// ---- its course ----

void SimClient::Start() {
  After(random_.Between(0, 2'000) * kMillisecond, [this] { Begin(); });
}

void SimClient::Begin() {
  client::Engine::Options options;
  options.seed = random_.Next();
  engine_ = std::make_unique<client::Engine>(
      kv::InitialClusterMap(world_->file()), options);
  workers_.clear();
  workers_.resize(world_->profile().workers);
  for (size_t i = 0; i < workers_.size(); ++i) Next(static_cast<int>(i));
}

void SimClient::Crash() {
  if (engine_ == nullptr || stopping_) return;
  world_->journal().Note("client crash", number_);
  ++life_;
  for (Worker& worker : workers_) {
    if (worker.call == nullptr) continue;
    worker.operation.outcome = test::Outcome::kUnknown;
    worker.operation.end = test::kNever;
    if (worker.operation.kind != test::Kind::kGet) {
      history_.push_back(worker.operation);
    }
  }
  workers_.clear();
  open_.clear();
  engine_.reset();
  under_way_ = 0;
  ticking_ = false;
  After(random_.Between(10, 2'000) * kMillisecond, [this] { Begin(); });
}

void SimClient::Next(int worker) {
  const uint64_t think = 2 * world_->profile().think_ms * kMillisecond;
  uint64_t after = random_.Below(think + 1);
  const uint64_t period = Profile::kLullPeriodMs * kMillisecond;
  const uint64_t busy = period - world_->profile().lull_ms * kMillisecond;
  const uint64_t in_period = (world_->now() + after) % period;
  if (in_period > busy) after += period - in_period;
  After(after, [this, worker] {
    if (stopping_) return;
    client::Request request;
    test::Operation operation = Draw(&request);
    Submit(worker, std::move(request), std::move(operation));
  });
}

test::Operation SimClient::Draw(client::Request* request) {
  const Profile& p = world_->profile();
  test::Operation operation;
  const auto all = static_cast<uint64_t>(p.keys + p.append_keys);
  const auto key = static_cast<int>(random_.Below(all));
  const bool append = key >= p.keys;
  operation.key = append ? AppendKey(key - p.keys) : PutKey(key);
  operation.kind = append ? test::Kind::kAppend : test::Kind::kPut;
  if (random_.Chance(3, 10)) {
    operation.kind = test::Kind::kGet;
  } else if (!append) {
    const uint64_t lot = random_.Below(100);
    if (lot < p.delete_percent) {
      operation.kind = test::Kind::kDelete;
    } else if (lot < p.delete_percent + p.cas_percent) {
      operation.kind = test::Kind::kCas;
    }
  }
  request->key = operation.key;
  request->kind = RequestKindOf(operation.kind);
  if (request->IsWrite()) DrawWrite(&operation, request);
  if (p.scans && operation.kind == test::Kind::kGet && random_.Chance(1, 3)) {
    DrawScan(operation, request);
  }
  return operation;
}

void SimClient::DrawScan(const test::Operation& operation,
                         client::Request* request) {
  auto scan = std::make_shared<client::ScanRequest>();
  scan->slot = random_.Chance(1, 4) ? 0 : kv::SlotOf(operation.key);
  scan->from = operation.key;
  if (random_.Chance(1, 4)) scan->prefix = "put1";
  scan->max_keys = static_cast<uint32_t>(random_.Between(1, 10));
  request->kind = client::OpKind::kScan;
  request->key.clear();
  request->scan = std::move(scan);
}

void SimClient::TakePage(const client::ScanRequest& asked,
                         const client::ScanPage& page,
                         const test::Operation& scan) {
  ++world_->result().pages;
  const Profile& p = world_->profile();
  using Place = std::pair<uint32_t, std::string>;
  const Place begin(asked.slot, asked.from);
  const Place end(page.next_slot, page.next_from);
  std::map<std::string, const client::ScanPage::Entry*> left;
  for (const client::ScanPage::Entry& entry : page.entries) {
    left[entry.key] = &entry;
  }
  const bool twice = left.size() != page.entries.size();
  for (int i = 0; i < p.keys + p.append_keys; ++i) {
    test::Operation get = scan;
    get.key = i < p.keys ? PutKey(i) : AppendKey(i - p.keys);
    const Place place(kv::SlotOf(get.key), get.key);
    if (place < begin || place >= end ||
        !absl::StartsWith(get.key, asked.prefix)) {
      continue;
    }
    get.seen = std::nullopt;
    const auto found = left.find(get.key);
    if (found != left.end()) {
      get.seen = found->second->value;
      get.version = found->second->version;
      left.erase(found);
    }
    history_.push_back(std::move(get));
  }
  if (!twice && left.empty()) return;
  // Nobody has written that.
  test::Operation wrong = scan;
  wrong.seen = "a page has keys twice, or that have no place there";
  history_.push_back(std::move(wrong));
}

void SimClient::DrawWrite(test::Operation* operation,
                          client::Request* request) {
  const Profile& p = world_->profile();
  if (operation->kind == test::Kind::kCas) {
    // Mostly the newest version that it knows, else one that has most likely
    // been replaced, or that there is none.
    const std::deque<Known>& known = known_[operation->key];
    const uint64_t lot = random_.Below(10);
    if (!known.empty() && lot < 9) {
      const size_t at =
          lot < 7 ? known.size() - 1 : random_.Below(known.size());
      request->expected = known[at].version;
      operation->expected = known[at].value;
    }
  }
  if (operation->kind == test::Kind::kDelete) return;
  std::string& value = operation->value;
  value = absl::StrCat(number_, ".", next_value_++);
  if (operation->kind == test::Kind::kAppend) {
    value += ";";
  } else if (p.value_bytes > value.size()) {
    value += '/';
    value.resize(p.value_bytes, 'x');
  }
  request->value = value;
}

// What is stored under the key as far as this answer tells.
void SimClient::Remember(const test::Operation& operation) {
  if (world_->profile().cas_percent == 0) return;
  Known now{operation.version, *operation.seen};
  if (operation.kind == test::Kind::kDelete) {
    now = Known();
  } else if (operation.kind == test::Kind::kPut || operation.swapped) {
    now.value = operation.value;
  }
  std::deque<Known>& known = known_[operation.key];
  known.push_back(std::move(now));
  if (known.size() > kKnown) known.pop_front();
}

void SimClient::Submit(int worker, client::Request request,
                       test::Operation operation) {
  operation.client = number_ * 100 + worker;
  operation.start = static_cast<test::Nanos>(world_->now());
  auto call = std::make_shared<Call>(std::move(request), this, worker);
  call->deadline = Now() + static_cast<client::Instant>(kTimeout / 1000);
  workers_[worker] = {call, std::move(operation)};
  ++under_way_;
  if (engine_->Submit(call, Now()) != KV739_OK) call->Finished();
  Pump();
}

void SimClient::Finished(int worker, Call* call) {
  Worker& at = workers_[worker];
  if (at.call.get() != call) return;
  test::Operation operation = std::move(at.operation);
  const client::Outcome& outcome = call->outcome;
  operation.end = static_cast<test::Nanos>(world_->now());
  const bool scan = call->request.kind == client::OpKind::kScan;
  if (outcome.code == KV739_OK || outcome.code == 1) {
    operation.outcome = test::Outcome::kDone;
    operation.seen = outcome.found ? test::Stored(outcome.value)
                                   : test::Stored(std::nullopt);
    operation.version = outcome.version;
    operation.swapped =
        operation.kind == test::Kind::kCas && outcome.code == KV739_OK;
    if (operation.kind != test::Kind::kAppend && !scan) Remember(operation);
    ++world_->result().done;
    world_->result().swapped += operation.swapped ? 1 : 0;
    world_->result().deleted +=
        operation.kind == test::Kind::kDelete && outcome.found ? 1 : 0;
  } else if (outcome.code == KV739_E_UNKNOWN) {
    operation.outcome = test::Outcome::kUnknown;
    ++world_->result().unknown;
  } else {
    operation.outcome = test::Outcome::kRefused;
    ++world_->result().refused;
  }
  world_->journal().Note("done", number_, worker,
                         static_cast<uint64_t>(outcome.code + 100),
                         outcome.version);
  --under_way_;
  if (scan) {
    if (operation.outcome == test::Outcome::kDone) {
      TakePage(*call->request.scan, *outcome.page, operation);
    }
  } else if (operation.kind != test::Kind::kGet ||
             operation.outcome == test::Outcome::kDone) {
    history_.push_back(std::move(operation));
  } else if (reading_) {
    to_read_.push_back(operation.key);  // asks until it is told
  }
  at.call.reset();
  if (!stopping_) return Next(worker);
  if (reading_) After(0, [this] { ReadNext(); });
}

void SimClient::ReadAll() {
  const Profile& p = world_->profile();
  reading_ = true;
  for (int i = 0; i < p.keys; ++i) to_read_.push_back(PutKey(i));
  for (int i = 0; i < p.append_keys; ++i) to_read_.push_back(AppendKey(i));
  ReadNext();
}

void SimClient::ReadNext() {
  if (!idle() || to_read_.empty()) return;
  client::Request request;
  request.kind = client::OpKind::kGet;
  request.key = to_read_.back();
  test::Operation operation;
  operation.key = request.key;
  to_read_.pop_back();
  Submit(0, std::move(request), std::move(operation));
}

// ---- the engine's effects ----

void SimClient::Pump() {
  if (pumping_) return;
  pumping_ = true;
  while (engine_ != nullptr) {
    client::Effects effects = engine_->TakeEffects();
    if (effects.done.empty() && effects.send.empty() && !effects.fetch_map) {
      break;
    }
    for (client::NodeIndex node : effects.send) SendTo(node);
    if (effects.fetch_map) FetchMap(*effects.fetch_map);
    for (const auto& operation : effects.done) operation->Finished();
  }
  pumping_ = false;
  if (engine_ != nullptr && !ticking_ && engine_->HasTimers()) {
    ticking_ = true;
    After(kClientTick, [this] { Tick(); });
  }
}

void SimClient::Tick() {
  ticking_ = false;
  engine_->Tick(Now());
  Pump();
}

SimServer* SimClient::ServerOf(client::NodeIndex node) {
  const auto address = kv::Address::Parse(engine_->router().AddressOf(node));
  return address.ok() ? world_->FindServer(*address) : nullptr;
}

void SimClient::Broken(client::NodeIndex node) {
  open_.erase(node);
  engine_->OnBroken(node, "connection lost", Now());
  Pump();
}

void SimClient::SendTo(client::NodeIndex node) {
  SimServer* const server = ServerOf(node);
  SimNet& net = world_->net();
  while (true) {
    const std::vector<client::Outgoing> batch = engine_->TakeBatch(node);
    if (batch.empty()) return;
    open_.insert(node);
    std::vector<server::Operation> operations;
    uint64_t bytes = 0;
    for (const client::Outgoing& out : batch) {
      const client::Request& request = out.operation->request;
      server::Operation operation;
      operation.kind = KindOf(request.kind);
      operation.tag = out.tag;
      operation.key = request.key;
      operation.value = request.value;
      operation.expected = request.expected;
      operation.session = out.identity.session;
      operation.sequence = out.identity.sequence;
      operation.floor = out.floor;
      operation.group = request.group;
      if (request.scan != nullptr) {
        operation.scan = std::make_shared<kv::ScanRequest>();
        operation.scan->slot = request.scan->slot;
        operation.scan->from = request.scan->from;
        operation.scan->prefix = request.scan->prefix;
        operation.scan->max_keys = request.scan->max_keys;
      }
      bytes += 40 + request.key.size() + request.value.size();
      operations.push_back(std::move(operation));
    }
    auto broken = [this, node] { Broken(node); };
    if (server == nullptr) {
      After(kMillisecond, broken);
      continue;
    }
    const bool lost =
        !world_->calm() && random_.Chance(world_->profile().client_loss, 1000);
    if (lost) continue;
    const bool carried = net.Carry(
        net.client(number_), server->index(), bytes,
        [this, server, node, life = life_, broken,
         operations = std::move(operations)]() mutable {
          if (!server->running()) {
            if (life == life_) After(kMillisecond, broken);
            return;
          }
          server->Deliver(
              [server, to = AnswerTo{number_, life, node},
               operations = std::move(operations)]() mutable {
                const auto sink = std::make_shared<Sink>(server, to);
                for (server::Operation& operation : operations) {
                  operation.sink = sink;
                  operation.start_nanos = server->clock().MonotonicNanos();
                }
                server->host()->Submit(std::move(operations));
              },
              /*of_client=*/true);
        });
    if (!carried) After(kBrokenAfter, broken);
  }
}

void SimClient::Answered(int server, const AnswerTo& to,
                         std::vector<client::Answer> answers, uint64_t epoch) {
  if (to.life != life_) return;
  if (!world_->calm() && random_.Chance(world_->profile().client_loss, 1000)) {
    return;
  }
  uint64_t bytes = 0;
  for (const client::Answer& answer : answers) {
    bytes += answer.value.size();
    if (answer.page == nullptr) continue;
    for (const auto& entry : answer.page->entries) bytes += entry.value.size();
  }
  SimNet& net = world_->net();
  net.Carry(server, net.client(number_), bytes,
            [this, to, epoch, answers = std::move(answers)]() mutable {
              if (to.life != life_ || engine_ == nullptr) return;
              engine_->OnAnswers(to.node, std::move(answers), epoch, Now());
              Pump();
            });
}

void SimClient::ServerDown(int server, bool silent) {
  if (engine_ == nullptr) return;
  const uint64_t after = silent ? random_.Between(kSecond / 2, kBrokenAfter)
                                : random_.Between(1, 20) * kMillisecond;
  for (client::NodeIndex node : open_) {
    const SimServer* const at = ServerOf(node);
    if (at == nullptr || at->index() != server) continue;
    After(after, [this, node] {
      if (open_.contains(node)) Broken(node);
    });
    return;
  }
}

void SimClient::FetchMap(client::NodeIndex node) {
  const uint64_t fetch = ++fetch_;
  auto fetched = [this, fetch](std::shared_ptr<const kv::ClusterMap> map) {
    if (fetch != fetch_ || engine_ == nullptr) return;
    ++fetch_;
    engine_->OnMap(
        map == nullptr ? nullptr : std::make_unique<kv::ClusterMap>(*map),
        Now());
    Pump();
  };
  After(static_cast<uint64_t>(client::kMapTimeout) * kMicrosecond,
        [fetched] { fetched(nullptr); });
  SimServer* const server = ServerOf(node);
  if (server == nullptr) return;
  SimNet& net = world_->net();
  net.Carry(net.client(number_), server->index(), 50,
            [this, server, life = life_, fetched] {
              std::shared_ptr<const kv::ClusterMap> map;
              if (server->running() && !server->paused()) {
                map = server->maps()->Get();
              }
              SimNet& back = world_->net();
              back.Carry(server->index(), back.client(number_), 2000,
                         [this, life, fetched, map] {
                           if (life == life_) fetched(map);
                         });
            });
}

}  // namespace kv739::world
