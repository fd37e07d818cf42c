#include "tests/support/cluster.h"

#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "tests/support/tcp.h"

namespace kv739::test {
namespace {

constexpr int kStartAttempts = 5;
// Pause between two questions to a cluster that is not ready.
constexpr absl::Duration kPollInterval = absl::Milliseconds(20);
// A server that is paused or starting does not answer; then ask the next.
constexpr absl::Duration kStatusTimeout = absl::Milliseconds(1000);
constexpr absl::Duration kCheckTimeout = absl::Seconds(5);
constexpr size_t kLogTailBytes = 6000;

std::string Program(const char* variable, const char* built) {
  const char* value = std::getenv(variable);
  return value == nullptr ? built : value;
}

// Waits for the connection: a call that fails at once polls no socket, and
// without anyone who polls, gRPC looks at a connection under way every 5 s.
void Prepare(grpc::ClientContext& context) {
  context.set_wait_for_ready(true);
  context.set_deadline(absl::ToChronoTime(absl::Now() + kStatusTimeout));
}

std::string Tail(const std::string& path) {
  std::string text = ReadFile(path);
  if (text.size() <= kLogTailBytes) return text;
  return "..." + text.substr(text.size() - kLogTailBytes);
}

}  // namespace

const char kTestSettings[] = R"(storage:
  wal_segment_bytes: 8MiB
  write_buffer_bytes: 8MiB
  block_cache_bytes: 16MiB
)";

std::string ServerProgram() { return Program("KV739D", KV739D_PATH); }
std::string CommandProgram() { return Program("KV739", KV739_PATH); }

bool Eventually(const std::function<bool()>& holds, absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!holds()) {
    if (absl::Now() >= deadline) return false;
    absl::SleepFor(kPollInterval);
  }
  return true;
}

Cluster::Cluster(ClusterOptions options)
    : options_(std::move(options)),
      config_(dir_.path() + "/cluster.conf"),
      processes_(options_.servers + options_.extra) {
  WriteFile(settings_path(), options_.settings);
}

Cluster::~Cluster() {
  for (auto& process : processes_) {
    if (process != nullptr) process->Signal(SIGKILL);
  }
  processes_.clear();
  if (supervisor_ != nullptr) {
    // The second signal makes it kill what has not ended.
    supervisor_->Signal(SIGTERM);
    supervisor_->Signal(SIGINT);
    supervisor_->Wait(absl::Seconds(5));
  }
  if (options_.failed && options_.failed()) {
    dir_.Keep();
    std::fprintf(stderr, "%s\nfiles of the servers are kept in %s\n",
                 LogTails().c_str(), dir().c_str());
  }
}

const Place& Cluster::place(int i) const {
  static const Place* const kPlain = new Place;
  const auto found = options_.places.find(i);
  return found == options_.places.end() ? *kPlain : found->second;
}
std::string Cluster::address(int i) const {
  return absl::StrCat(place(i).host, ":", port(i));
}
std::string Cluster::data_dir(int i) const {
  const std::string& given = place(i).data_dir;
  if (options_.supervised) {
    return absl::StrCat(dir(), "/data/", place(i).host, "-", port(i));
  }
  return given.empty() ? absl::StrCat(dir(), "/data", i) : given;
}
std::string Cluster::log_path(int i) const {
  return absl::StrCat(dir(), "/server", i, ".log");
}
std::string Cluster::settings_path() const { return dir() + "/settings.yaml"; }

std::vector<std::string> Cluster::ServerArguments(int i) const {
  std::vector<std::string> arguments = {ServerProgram(), "--cluster", config_,
                                        "--listen",      address(i),  "--data",
                                        data_dir(i)};
  if (!options_.settings.empty()) {
    arguments.insert(arguments.end(), {"--settings", settings_path()});
  }
  return arguments;
}

absl::Status Cluster::LaunchWith(int i, std::vector<std::string> more) {
  std::vector<std::string> arguments = ServerArguments(i);
  arguments.insert(arguments.end(), more.begin(), more.end());
  auto process = Process::Start({.arguments = std::move(arguments),
                                 .output = log_path(i),
                                 .error = log_path(i),
                                 .environment = place(i).environment,
                                 .network = place(i).network});
  if (!process.ok()) return process.status();
  processes_.at(i) = *std::move(process);
  return absl::OkStatus();
}

absl::Status Cluster::StartOnce() {
  ports_ = std::make_unique<Ports>(3 * total());
  channels_.clear();
  std::string lines;
  if (options_.groups_per_five > 1) {
    absl::StrAppend(&lines, "groups_per_five=", options_.groups_per_five, "\n");
  }
  for (int i = 0; i < total(); ++i) {
    if (i < size()) {
      absl::StrAppend(&lines, address(i), " metrics=", metrics_port(i),
                      " http=", http_port(i), "\n");
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    // Despite its name, how long an attempt to connect may take.
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    channels_.push_back(grpc::CreateCustomChannel(
        address(i), grpc::InsecureChannelCredentials(), arguments));
  }
  WriteFile(config_, lines);
  absl::Status launched = Launch();
  if (!launched.ok()) return launched;
  absl::Status map = LoadMap();
  return map.ok() && options_.wait_for_leaders ? WaitForLeaders() : map;
}

absl::Status Cluster::Launch() {
  if (options_.supervised) {
    auto process = Process::Start(
        {.arguments = {ServerProgram(), "-c", config_, "--data-root",
                       dir() + "/data", "--settings", settings_path()},
         .output = log_path(0),
         .error = log_path(0)});
    if (!process.ok()) return process.status();
    supervisor_ = *std::move(process);
    return Eventually([&] {
      for (int i = 0; i < size(); ++i) {
        if (!running(i)) return !supervisor_->running();
      }
      return true;
    })
               ? absl::OkStatus()
               : absl::DeadlineExceededError("the supervisor starts nothing");
  }
  for (int i = 0; i < size(); ++i) {
    absl::Status started = LaunchWith(i, {});
    if (!started.ok()) return started;
  }
  return absl::OkStatus();
}

absl::Status Cluster::Start() {
  absl::Status status;
  for (int attempt = 0; attempt < kStartAttempts; ++attempt) {
    status = StartOnce();
    if (status.ok()) return status;
    bool in_use = false;
    for (int i = 0; i < size(); ++i) in_use = in_use || PortInUse(i);
    if (!in_use) break;
    std::fprintf(stderr, "a port was in use; trying others\n");
    for (int i = 0; i < size(); ++i) {
      processes_[i].reset();
      supervisor_.reset();
      std::filesystem::remove_all(data_dir(i));
      std::filesystem::remove(log_path(i));
    }
  }
  return absl::Status(status.code(),
                      absl::StrCat(status.message(), "\n", LogTails()));
}

bool Cluster::PortInUse(int i) {
  return !running(i) && absl::StrContains(ReadFile(log_path(i)), "in use");
}

absl::Status Cluster::LoadMap() {
  v1::GetMapResponse map;
  std::string last = "not asked";
  bool ended = false;
  const bool loaded = Eventually([&] {
    for (int i = 0; i < size(); ++i) {
      if (!running(i)) {
        last = absl::StrCat("server ", i, " ended");
        ended = true;
        return true;
      }
    }
    grpc::ClientContext context;
    Prepare(context);
    grpc::Status status = ClusterStub(0)->GetMap(&context, {}, &map);
    last = status.error_message();
    return status.ok() && map.groups_size() > 0;
  });
  if (!loaded || ended) {
    return absl::UnavailableError(absl::StrCat("no cluster map: ", last));
  }
  TakeGroups(map);
  return absl::OkStatus();
}

void Cluster::TakeGroups(const v1::GetMapResponse& map) {
  groups_.clear();
  std::map<uint64_t, int> positions;
  for (const v1::Node& node : map.nodes()) {
    if (node.state() == v1::LEFT) continue;
    for (int i = 0; i < total(); ++i) {
      if (node.address() == address(i)) positions[node.id()] = i;
    }
  }
  for (const v1::Group& group : map.groups()) {
    for (uint64_t member : group.members()) {
      const auto known = positions.find(member);
      if (known != positions.end()) {
        groups_[group.id()].push_back(known->second);
      }
    }
  }
}

absl::StatusOr<v1::GetMapResponse> Cluster::NewestMap() {
  absl::StatusOr<v1::GetMapResponse> newest =
      absl::UnavailableError("no server has answered");
  for (int i = 0; i < total(); ++i) {
    if (!running(i)) continue;
    grpc::ClientContext context;
    Prepare(context);
    v1::GetMapResponse map;
    if (!ClusterStub(i)->GetMap(&context, {}, &map).ok()) continue;
    if (!newest.ok() || map.epoch() > newest->epoch()) newest = std::move(map);
  }
  return newest;
}

absl::Status Cluster::RefreshGroups() {
  auto map = NewestMap();
  if (map.ok()) TakeGroups(*map);
  return map.status();
}

uint64_t Cluster::NodeId(int i) {
  auto map = NewestMap();
  if (!map.ok()) return 0;
  for (const v1::Node& node : map->nodes()) {
    if (node.address() == address(i) && node.state() != v1::LEFT) {
      return node.id();
    }
  }
  return 0;
}

absl::Status Cluster::WaitForMembers(uint64_t group, std::vector<int> members,
                                     absl::Duration timeout) {
  std::sort(members.begin(), members.end());
  std::string last;
  const bool settled = Eventually(
      [&] {
        auto map = NewestMap();
        if (!map.ok()) {
          last = std::string(map.status().message());
          return false;
        }
        TakeGroups(*map);
        std::vector<int> found = groups_[group];
        std::sort(found.begin(), found.end());
        last = absl::StrCat("the map of epoch ", map->epoch(), " has ",
                            absl::StrJoin(found, ","));
        if (found != members) return false;
        for (const v1::Group& entry : map->groups()) {
          if (entry.id() != group) continue;
          if (entry.target_size() != entry.members_size()) return false;
        }
        for (int i : members) {
          auto replica = Replica(i, group);
          if (!replica) {
            // One that is down may be a member.
            if (!running(i)) continue;
            absl::StrAppend(&last, "; server ", i, " has no replica");
            return false;
          }
          if (replica->voters_size() != static_cast<int>(members.size()) ||
              replica->changing() || replica->learners_size() > 0) {
            absl::StrAppend(&last, "; server ", i, " has ",
                            replica->voters_size(), " voters, ",
                            replica->learners_size(), " learners");
            return false;
          }
        }
        return true;
      },
      timeout);
  if (settled) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("group ", group, " was to have ",
                   absl::StrJoin(members, ","), ": ", last));
}

bool Cluster::running(int i) {
  if (options_.supervised) return Accepts(port(i));
  return processes_.at(i) != nullptr && processes_[i]->running();
}
void Cluster::KillHard(int i) {
  processes_.at(i)->Signal(SIGKILL);
  WaitExit(i);
}
void Cluster::KillHardAll() {
  for (auto& process : processes_) {
    if (process != nullptr) process->Signal(SIGKILL);
  }
  for (int i = 0; i < total(); ++i) WaitExit(i);
}
void Cluster::Signal(int i, int signal) { processes_.at(i)->Signal(signal); }
void Cluster::Terminate(int i) { Signal(i, SIGTERM); }
void Cluster::Pause(int i) { processes_.at(i)->Pause(); }
void Cluster::Resume(int i) { Signal(i, SIGCONT); }

absl::Status Cluster::Restart(int i) {
  if (running(i)) {
    return absl::FailedPreconditionError(
        absl::StrCat("server ", i, " still runs"));
  }
  return LaunchWith(i, {});
}

absl::Status Cluster::StartNew(int i) {
  return LaunchWith(i,
                    {"--join", "--metrics-port", absl::StrCat(metrics_port(i)),
                     "--http-port", absl::StrCat(http_port(i))});
}

std::optional<int> Cluster::WaitExit(int i, absl::Duration timeout) {
  if (options_.supervised) {
    if (Eventually([&] { return !running(i); }, timeout)) return 0;
    return std::nullopt;
  }
  if (processes_.at(i) == nullptr) return 0;
  return processes_[i]->Wait(timeout);
}

absl::StatusOr<v1::GetStatusResponse> Cluster::Status(int i) {
  grpc::ClientContext context;
  Prepare(context);
  v1::GetStatusResponse response;
  grpc::Status status = ClusterStub(i)->GetStatus(&context, {}, &response);
  if (status.ok()) return response;
  return absl::UnavailableError(
      absl::StrCat("server ", i, ": ", status.error_message()));
}

std::optional<v1::ReplicaStatus> Cluster::Replica(int i, uint64_t group) {
  if (!running(i)) return std::nullopt;
  auto status = Status(i);
  if (!status.ok()) return std::nullopt;
  for (const v1::ReplicaStatus& replica : status->replicas()) {
    if (replica.group() == group) return replica;
  }
  return std::nullopt;
}

int Cluster::LeaderOf(uint64_t group) {
  const std::vector<int>& members = groups_.at(group);
  std::map<std::pair<uint64_t, uint64_t>, size_t> believers;  // term, leader
  std::map<uint64_t, int> leading;  // by term: position
  std::map<uint64_t, uint64_t> ids;
  for (int i : members) {
    if (!running(i)) continue;
    auto status = Status(i);
    if (!status.ok()) continue;
    for (const v1::ReplicaStatus& replica : status->replicas()) {
      if (replica.group() != group) continue;
      ++believers[{replica.term(), replica.leader()}];
      if (replica.role() != v1::LEADER) continue;
      leading[replica.term()] = i;
      ids[replica.term()] = status->node();
    }
  }
  for (const auto& [term, i] : leading) {
    if (believers[{term, ids[term]}] > members.size() / 2) return i;
  }
  return -1;
}

int Cluster::WaitForLeader(uint64_t group, absl::Duration timeout) {
  int leader = -1;
  Eventually([&] { return (leader = LeaderOf(group)) >= 0; }, timeout);
  return leader;
}

absl::Status Cluster::WaitForLeaders(absl::Duration timeout) {
  for (const auto& [group, members] : groups_) {
    if (WaitForLeader(group, timeout) < 0) {
      return absl::DeadlineExceededError(
          absl::StrCat("group ", group, " has no leader"));
    }
  }
  return absl::OkStatus();
}

absl::Status Cluster::WaitForEqualReplicas(uint64_t group,
                                           absl::Duration timeout) {
  std::string last;
  const bool equal = Eventually(
      [&] {
        last.clear();
        uint64_t lowest = ~uint64_t{0};
        uint64_t highest = 0;
        for (int i : groups_.at(group)) {
          if (!running(i)) continue;
          auto replica = Replica(i, group);
          const uint64_t applied = replica ? replica->applied() : 0;
          absl::StrAppend(&last, " ", applied);
          lowest = std::min(lowest, applied);
          highest = std::max(highest, applied);
        }
        return lowest == highest;
      },
      timeout);
  if (equal) return absl::OkStatus();
  return absl::DeadlineExceededError(
      absl::StrCat("replicas have applied", last));
}

namespace {
// Asks server after server until one does it; a refusal is final.
template <typename Call>
absl::Status AskLeader(Cluster& cluster, Call call) {
  absl::Status last = absl::UnavailableError("no server runs");
  Eventually([&] {
    for (int i = 0; i < cluster.total(); ++i) {
      if (!cluster.running(i)) continue;
      grpc::ClientContext context;
      Prepare(context);
      bool done = false;
      const grpc::Status status =
          call(cluster.AdminStub(i).get(), &context, &done);
      if (status.ok() && done) {
        last = absl::OkStatus();
        return true;
      }
      last = absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                          status.error_message());
      const bool retry =
          status.ok() || status.error_code() == grpc::StatusCode::UNAVAILABLE ||
          status.error_code() == grpc::StatusCode::ABORTED ||
          status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED;
      if (!retry) return true;
    }
    return false;
  });
  return last;
}
}  // namespace

absl::Status Cluster::RemoveServer(int i) {
  v1::RemoveServerRequest request;
  request.set_server(address(i));
  return AskLeader(*this, [&](v1::Admin::Stub* stub,
                              grpc::ClientContext* context, bool* done) {
    v1::RemoveServerResponse response;
    const grpc::Status status = stub->RemoveServer(context, request, &response);
    *done = response.epoch() > 0;
    return status;
  });
}

absl::Status Cluster::SetMembers(uint64_t group, std::vector<int> members) {
  v1::SetMembersRequest request;
  request.set_group(group);
  for (int i : members) request.add_servers(address(i));
  return AskLeader(*this, [&](v1::Admin::Stub* stub,
                              grpc::ClientContext* context, bool* done) {
    v1::SetMembersResponse response;
    const grpc::Status status = stub->SetMembers(context, request, &response);
    *done = response.epoch() > 0;
    return status;
  });
}

absl::Status Cluster::TransferLeader(uint64_t group, int target) {
  const int leader = WaitForLeader(group);
  if (leader < 0) return absl::DeadlineExceededError("no leader");
  if (leader == target) return absl::OkStatus();
  grpc::ClientContext context;
  Prepare(context);
  v1::TransferLeaderRequest request;
  request.set_group(group);
  request.set_target(address(target));
  v1::TransferLeaderResponse response;
  const grpc::Status status =
      AdminStub(leader)->TransferLeader(&context, request, &response);
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

absl::StatusOr<v1::CheckedGroup> Cluster::Check(uint64_t group) {
  const int leader = WaitForLeader(group);
  if (leader < 0) return absl::UnavailableError("no leader");
  grpc::ClientContext context;
  Prepare(context);
  // It waits for every replica's report, and for an audit that is under way.
  context.set_deadline(absl::ToChronoTime(absl::Now() + kCheckTimeout));
  v1::CheckRequest request;
  request.add_groups(group);
  v1::CheckResponse response;
  const grpc::Status status =
      AdminStub(leader)->Check(&context, request, &response);
  if (!status.ok()) return absl::UnavailableError(status.error_message());
  for (const v1::CheckedGroup& checked : response.groups()) {
    if (checked.group() == group) return checked;
  }
  return absl::UnavailableError("the group was not checked");
}

absl::Status Cluster::WaitForEqualHashes(uint64_t group,
                                         absl::Duration timeout) {
  std::string last;
  const bool equal = Eventually(
      [&] {
        auto checked = Check(group);
        if (!checked.ok()) {
          last = std::string(checked.status().message());
          return false;
        }
        last.clear();
        bool same = checked->replicas_size() ==
                    static_cast<int>(groups_.at(group).size());
        for (const v1::CheckedReplica& replica : checked->replicas()) {
          absl::StrAppend(&last, " ", replica.index(), ":", replica.hash(),
                          replica.finding());
          same = same && replica.finding().empty() && replica.index() > 0 &&
                 replica.index() == checked->replicas(0).index() &&
                 replica.hash() == checked->replicas(0).hash();
        }
        return same;
      },
      timeout);
  if (equal) return absl::OkStatus();
  return absl::DeadlineExceededError(absl::StrCat("replicas differ:", last));
}

std::unique_ptr<v1::KeyValue::Stub> Cluster::KeyValueStub(int i) {
  return v1::KeyValue::NewStub(channels_.at(i));
}
std::unique_ptr<v1::Cluster::Stub> Cluster::ClusterStub(int i) {
  return v1::Cluster::NewStub(channels_.at(i));
}
std::unique_ptr<v1::Admin::Stub> Cluster::AdminStub(int i) {
  return v1::Admin::NewStub(channels_.at(i));
}

std::string Cluster::LogTails() const {
  std::string text;
  for (int i = 0; i < total(); ++i) {
    absl::StrAppend(&text, "---- end of the log of server ", i, " (",
                    ports_ == nullptr ? "not started" : address(i), ")\n",
                    Tail(log_path(i)), "\n");
  }
  return text;
}

}  // namespace kv739::test
