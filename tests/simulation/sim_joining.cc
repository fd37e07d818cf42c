#include "tests/simulation/sim_joining.h"

#include <algorithm>
#include <utility>

#include "tests/simulation/world.h"

namespace kv739::world {
namespace {

uint64_t Nanos(absl::Duration duration) {
  return static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration));
}

std::shared_ptr<const kv::ClusterMap> Newest(
    const std::vector<server::InquiryReply>& answers) {
  const server::InquiryReply* newest = &answers.front();
  for (const server::InquiryReply& answer : answers) {
    if (answer.map.epoch > newest->map.epoch) newest = &answer;
  }
  return std::make_shared<const kv::ClusterMap>(newest->map);
}

}  // namespace

Joining::Joining(SimServer* server)
    : world_(server->world_),
      server_(server),
      file_map_(std::make_shared<const kv::ClusterMap>(
          kv::InitialClusterMap(world_->file()))),
      deadline_(world_->now() + Nanos(server::kJoinDeadline)) {}

void Joining::Begin(SimServer* server) {
  std::shared_ptr<Joining>(new Joining(server))->Run();
}

void Joining::Run() {
  auto self = shared_from_this();
  if (server_->directory().has_identity()) return Resume();
  if (server_->joins()) {
    return InquireUntilAnswered(
        [self](Answers answers) { self->BeginNew(std::move(answers)); });
  }
  Inquire([self](Answers answers) { self->BeginNew(std::move(answers)); });
}

void Joining::StayAway() {
  server_->Note("stays away");
  server_->gone_ = true;
  server_->EndProcess();
  server_->state_ = SimServer::State::kDown;
}

void Joining::Again() {
  server_->EndProcess();
  server_->state_ = SimServer::State::kDown;
  server_->StartAfter(kSecond);
}

// ---- a directory that has an identity ----

void Joining::Resume() {
  map_ = server_->directory().saved_map();
  if (map_ == nullptr) map_ = file_map_;
  const kv::NodeInfo* node = map_->FindNode(server_->id());
  if (node == nullptr) {
    return InquireUntilAnswered([self = shared_from_this()](Answers answers) {
      self->ResumeUnknown(std::move(answers));
    });
  }
  if (node->state == kv::NodeState::kLeft) return StayAway();
  Serve();
}

void Joining::ResumeUnknown(Answers answers) {
  map_ = Newest(answers);
  const kv::NodeInfo* node = map_->FindNode(server_->id());
  if (node == nullptr && !server_->directory().initialized()) return Join();
  if (node == nullptr || node->state == kv::NodeState::kLeft) {
    return StayAway();
  }
  server_->directory().SaveMap(map_);
  Serve();
}

// ---- an empty directory ----

void Joining::BeginNew(Answers answers) {
  if (answers.empty()) return BeginAsFirst(file_map_);
  const bool met = std::any_of(answers.begin(), answers.end(),
                               [](const auto& answer) { return answer.met; });
  const Map map = Newest(answers);
  if (server_->joins()) return BeginJoining(map);
  const kv::NodeInfo* known = map->FindNode(server_->address());
  if (known == nullptr || known->state == kv::NodeState::kLeft) {
    // The operator reads that it is no server of the cluster, and adds it.
    server_->join_ = true;
    return Again();
  }
  const kv::NodeInfo* in_file = file_map_->FindNode(server_->address());
  if (!met && in_file != nullptr && known->id == in_file->id) {
    return BeginAsFirst(map);
  }
  BeginJoining(map);
}

void Joining::BeginAsFirst(const Map& map) {
  const kv::NodeInfo* in_file = file_map_->FindNode(server_->address());
  map_ = map;
  server_->directory()
      .MakeIdentity(map->cluster_id, in_file->id, server_->address().ToString())
      .IgnoreError();
  server_->Note("begins as first");
  Serve();
}

void Joining::BeginJoining(const Map& map) {
  map_ = map;
  raft::NodeId id;
  while (!id || map->FindNode(id) != nullptr) {
    id = raft::NodeId(world_->random().Next());
  }
  server_->directory()
      .MakeIdentity(map->cluster_id, id, server_->address().ToString())
      .IgnoreError();
  Join();
}

// ---- joining ----

void Joining::Join() {
  server_->Note("joins");
  auto add = [&](const kv::Address& address) {
    if (address == server_->address() ||
        std::find(candidates_.begin(), candidates_.end(), address) !=
            candidates_.end()) {
      return;
    }
    candidates_.push_back(address);
  };
  for (const kv::NodeInfo& node : map_->nodes) {
    if (node.state != kv::NodeState::kLeft) add(node.address);
  }
  for (const kv::ServerLine& line : world_->file().servers) add(line.address);
  AskNext();
}

void Joining::AskNext() {
  const uint64_t question = ++question_;
  const kv::Address address =
      hint_ ? *std::exchange(hint_, std::nullopt)
            : candidates_[next_candidate_++ % candidates_.size()];
  auto self = shared_from_this();
  auto answered = [self, question](
                      std::optional<absl::StatusOr<server::JoinReply>> answer) {
    if (self->question_ == question) self->Joined(std::move(answer));
  };
  server_->After(Nanos(server::kJoinAttemptTimeout),
                 [answered] { answered(std::nullopt); });
  SimServer* other = world_->FindServer(address);
  if (other == nullptr) return;
  server::JoinQuestion ask;
  ask.cluster_id = map_->cluster_id;
  ask.node.id = server_->id();
  ask.node.address = server_->address();
  ask.node.metrics_port = static_cast<uint16_t>(9090 + server_->index());
  ask.node.http_port = static_cast<uint16_t>(8080 + server_->index());
  const int from = server_->index();
  const int to = other->index();
  const uint64_t life = server_->life();
  World* const world = world_;
  auto back = [world, from, to, life,
               answered](absl::StatusOr<server::JoinReply> reply) {
    world->net().Carry(to, from, 500, [world, from, life, answered, reply] {
      SimServer& asker = *world->servers()[from];
      if (asker.life() == life) asker.After(0, [=] { answered(reply); });
    });
  };
  world_->net().Carry(from, to, 200, [other, ask, back] {
    if (!other->running()) {
      return back(absl::UnavailableError("not there"));
    }
    other->Deliver([other, ask, back] {
      server::HandleJoin(
          ask, other->maps(),
          [other](const kv::DirectoryChange& change,
                  server::DirectoryDone done) {
            other->host()->ProposeDirectoryChange(change, std::move(done));
          },
          back);
    });
  });
}

void Joining::Joined(std::optional<absl::StatusOr<server::JoinReply>> answer) {
  ++question_;  // what comes later to this one is not heard
  if (answer && answer->ok()) {
    server::JoinReply& reply = **answer;
    if (reply.map && reply.map->FindNode(server_->id()) != nullptr) {
      map_ = std::make_shared<const kv::ClusterMap>(*std::move(reply.map));
      server_->directory().SaveMap(map_);
      server_->Note("joined", map_->epoch);
      ++world_->result().joins;
      return Serve();
    }
    const auto leader = kv::Address::Parse(reply.leader);
    if (leader.ok()) hint_ = *leader;
  } else if (answer && (absl::IsFailedPrecondition(answer->status()) ||
                        absl::IsInvalidArgument(answer->status()))) {
    // Refused: the operator begins anew with an empty directory.
    return StayAway();
  }
  if (world_->now() >= deadline_) return Again();
  server_->After(Nanos(server::kJoinPause),
                 [self = shared_from_this()] { self->AskNext(); });
}

// What a group began with is known from the file; see joining.cc, FillIn().
void Joining::Serve() {
  kv::ClusterMap first = *file_map_;
  std::erase_if(first.groups, [&](const kv::GroupInfo& group) {
    const kv::GroupInfo* now = map_->FindGroup(group.id);
    return now == nullptr || !now->Concerns(server_->id());
  });
  server_->Serve(map_, first);
}

// ---- questions ----

void Joining::Inquire(std::function<void(Answers)> done) {
  struct Round {
    Answers answers;
    size_t missing = 0;
    bool over = false;
  };
  auto round = std::make_shared<Round>();
  auto finish = [round, done = std::move(done)] {
    if (std::exchange(round->over, true)) return;
    done(std::move(round->answers));
  };
  const int from = server_->index();
  const uint64_t life = server_->life();
  World* const world = world_;
  for (const auto& other : world_->servers()) {
    if (other->index() == from ||
        file_map_->FindNode(other->address()) == nullptr) {
      continue;
    }
    ++round->missing;
    auto got = [world, from, life, round,
                finish](std::optional<server::InquiryReply> answer) {
      SimServer& asker = *world->servers()[from];
      if (asker.life() != life) return;
      asker.After(0, [round, finish, answer = std::move(answer)] {
        if (answer) round->answers.push_back(*answer);
        if (--round->missing == 0) finish();
      });
    };
    const int to = other->index();
    SimServer* const asked = other.get();
    const std::string own = server_->address().ToString();
    world->net().Carry(from, to, 100, [world, from, to, asked, own, got] {
      auto back = [=](std::optional<server::InquiryReply> answer) {
        world->net().Carry(to, from, 1000, [got, answer] { got(answer); });
      };
      if (!asked->running()) return back(std::nullopt);
      asked->Deliver([asked, own, back] {
        back(server::HandleInquiry(*asked->maps(), asked->directory(), own));
      });
    });
  }
  server_->After(Nanos(server::kInquireTimeout), finish);
}

void Joining::InquireUntilAnswered(std::function<void(Answers)> done) {
  auto self = shared_from_this();
  Inquire([self, done = std::move(done)](Answers answers) {
    if (!answers.empty()) return done(std::move(answers));
    if (self->world_->now() >= self->deadline_) return self->Again();
    self->server_->After(Nanos(server::kJoinPause),
                         [self, done] { self->InquireUntilAnswered(done); });
  });
}

}  // namespace kv739::world
