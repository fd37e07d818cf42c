#include "server/joining.h"

#include <algorithm>
#include <atomic>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "kv/directory.h"
#include "server/exit_code.h"
#include "server/identity_file.h"
#include "server/logging.h"
#include "server/map_file.h"

namespace kv739::server {
namespace {

constexpr size_t kMaxInquiries = 32;  // at once
constexpr uint16_t kFirstMetricsPort = 9090;
constexpr uint16_t kFirstHttpPort = 8080;

using Map = std::shared_ptr<const kv::ClusterMap>;

absl::Status Usage(std::string text) {
  return WithExit(absl::InvalidArgumentError(text), kExitUsage);
}
absl::Status WrongDirectory(std::string text) {
  return WithExit(absl::InvalidArgumentError(text), kExitDirectory);
}

absl::Status Cancelled() {
  return WithExit(absl::CancelledError("stopped before it was started"),
                  kExitStopped);
}

// False when it was cancelled instead.
bool Pause(const MembershipConfig& config) {
  static const absl::Notification never;
  const absl::Notification* cancel =
      config.cancel != nullptr ? config.cancel : &never;
  return !cancel->WaitForNotificationWithTimeout(kJoinPause);
}
bool IsCancelled(const MembershipConfig& config) {
  return config.cancel != nullptr && config.cancel->HasBeenNotified();
}

// All of `servers` but this one, at once.
std::vector<InquiryReply> InquireOnce(const MembershipConfig& config,
                                      const ServerQuestions& questions) {
  std::vector<kv::Address> servers;
  for (const kv::ServerLine& line : config.cluster.servers) {
    if (!(line.address == config.listen)) servers.push_back(line.address);
  }
  std::vector<absl::StatusOr<InquiryReply>> results(
      servers.size(), absl::UnavailableError("not asked"));
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(servers.size(), kMaxInquiries); ++i) {
    threads.emplace_back([&] {
      for (size_t n = next++; n < servers.size(); n = next++) {
        results[n] =
            questions.inquire(servers[n], config.listen, kInquireTimeout);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<InquiryReply> answers;
  for (auto& result : results) {
    if (result.ok()) answers.push_back(*std::move(result));
  }
  return answers;
}

// Asks again until somebody answers.
absl::StatusOr<std::vector<InquiryReply>> InquireUntilAnswered(
    const MembershipConfig& config, const ServerQuestions& questions) {
  const absl::Time end = absl::Now() + config.deadline;
  absl::Time told = absl::InfinitePast();
  for (;;) {
    std::vector<InquiryReply> answers = InquireOnce(config, questions);
    if (!answers.empty()) return answers;
    const absl::Time now = absl::Now();
    if (now >= end) {
      return WithExit(absl::UnavailableError(absl::StrCat(
                          "no server of the cluster file has answered within ",
                          absl::FormatDuration(config.deadline))),
                      kExitFailure);
    }
    if (now - told >= kJoinProgress) {
      LogInfo("no server of the cluster file answers yet; asking again");
      told = now;
    }
    if (!Pause(config)) return Cancelled();
  }
}

// What the answers come to: one cluster, its newest map.
struct Others {
  Map map;
  bool met = false;
};
absl::StatusOr<Others> Combine(std::vector<InquiryReply> answers) {
  Others others;
  for (InquiryReply& answer : answers) {
    if (others.map != nullptr &&
        others.map->cluster_id != answer.map.cluster_id) {
      return Usage(absl::StrCat(
          "the servers of the cluster file belong to different clusters, ",
          FormatId(others.map->cluster_id), " and ",
          FormatId(answer.map.cluster_id)));
    }
    others.met = others.met || answer.met;
    if (others.map == nullptr || answer.map.epoch > others.map->epoch) {
      others.map = std::make_shared<kv::ClusterMap>(std::move(answer.map));
    }
  }
  return others;
}

// The first of `base`, ... that no server of the host uses, counting from the
// number of those that there are.
uint16_t FurtherPort(const kv::ClusterMap& map, const kv::Address& own,
                     uint16_t base, uint16_t kv::NodeInfo::*port) {
  std::vector<uint16_t> used;
  for (const kv::NodeInfo& node : map.nodes) {
    if (node.state != kv::NodeState::kLeft && node.address.host == own.host &&
        !(node.address == own)) {
      used.push_back(node.*port);
    }
  }
  auto next = static_cast<uint16_t>(base + used.size());
  while (std::find(used.begin(), used.end(), next) != used.end()) ++next;
  return next;
}

class Beginner {
 public:
  Beginner(const MembershipConfig& config, const ServerQuestions& questions)
      : config_(config),
        questions_(questions),
        listen_(config.listen.ToString()),
        file_map_(std::make_shared<kv::ClusterMap>(
            kv::InitialClusterMap(config.cluster))),
        in_file_(file_map_->FindNode(config.listen)) {}

  absl::StatusOr<Membership> Run() {
    auto directory = DataDirectory::Open(config_.data_dir);
    if (!directory.ok()) return WithExit(directory.status(), kExitDirectory);
    result_.directory = *std::move(directory);
    absl::Status status =
        result_.directory->has_identity() ? Resume() : BeginNew();
    if (!status.ok()) return status;
    FillIn();
    return std::move(result_);
  }

 private:
  const Identity& identity() const { return result_.directory->identity(); }
  std::string Directory() const {
    return absl::StrCat("the data directory ", config_.data_dir);
  }

  // ---- a directory that has an identity ----

  absl::Status Resume() {
    if (identity().address != listen_) {
      return WrongDirectory(absl::StrCat(
          Directory(), " belongs to server ", identity().address, " (node ",
          FormatId(identity().node.value()), "), not to ", listen_));
    }
    const Map saved = ReadSaved();
    const bool same = file_map_->cluster_id == identity().cluster_id;
    Map newest = saved;
    if (newest == nullptr && same) newest = file_map_;
    const kv::NodeInfo* node =
        newest == nullptr ? nullptr : newest->FindNode(identity().node);
    if (!same && (saved != nullptr ? !FileNamesAnother(*saved)
                                   : result_.directory->initialized())) {
      return WrongDirectory(absl::StrCat(
          Directory(), " belongs to server ", identity().address,
          " of cluster ", FormatId(identity().cluster_id), ", not to cluster ",
          FormatId(file_map_->cluster_id), " of the cluster file"));
    }
    if (node == nullptr) return ResumeUnknown();
    if (node->state == kv::NodeState::kLeft) return HasLeft();
    if (config_.join && in_file_ != nullptr && in_file_->id == node->id) {
      return WrongDirectory(
          absl::StrCat(Directory(), " is not empty: it is that of ", listen_,
                       ", one of the first servers of the cluster; start it "
                       "without --join"));
    }
    result_.map = newest;
    return absl::OkStatus();
  }

  // Null when there is none that can be used.
  Map ReadSaved() const {
    auto saved = ReadMapFile(result_.directory->map_path());
    if (!saved.ok()) {
      LogWarn(saved.status().message(), "; going on without it");
      return nullptr;
    }
    if (*saved != nullptr && (*saved)->cluster_id != identity().cluster_id) {
      LogWarn(result_.directory->map_path(),
              " is of another cluster; going on without it");
      return nullptr;
    }
    return *saved;
  }

  bool FileNamesAnother(const kv::ClusterMap& map) const {
    return std::any_of(config_.cluster.servers.begin(),
                       config_.cluster.servers.end(),
                       [&](const kv::ServerLine& line) {
                         return !(line.address == config_.listen) &&
                                map.FindNode(line.address) != nullptr;
                       });
  }

  // No map here has the node: its joining was cut off, or the saved map is
  // gone. The others know.
  absl::Status ResumeUnknown() {
    auto answers = InquireUntilAnswered(config_, questions_);
    if (!answers.ok()) return answers.status();
    const auto others = Combine(*std::move(answers));
    if (!others.ok()) return others.status();
    if (others->map->cluster_id != identity().cluster_id) {
      return WrongDirectory(
          absl::StrCat(Directory(), " belongs to server ", identity().address,
                       " of cluster ", FormatId(identity().cluster_id),
                       "; the servers of the cluster file are of cluster ",
                       FormatId(others->map->cluster_id)));
    }
    result_.map = others->map;
    const kv::NodeInfo* node = others->map->FindNode(identity().node);
    if (node == nullptr && !result_.directory->initialized()) {
      LogInfo("going on with joining the cluster");
      result_.joining = true;
      return absl::OkStatus();
    }
    if (node == nullptr || node->state == kv::NodeState::kLeft) {
      return HasLeft();
    }
    return WriteMapFile(result_.directory->map_path(), *result_.map);
  }

  absl::Status HasLeft() const {
    return Usage(absl::StrCat(
        listen_, " (node ", FormatId(identity().node.value()),
        ") has left the cluster; to have it in the cluster again, start it "
        "anew with an empty data directory and --join"));
  }

  // ---- an empty directory ----

  absl::Status BeginNew() {
    std::vector<InquiryReply> answers;
    if (config_.join) {
      auto waited = InquireUntilAnswered(config_, questions_);
      if (!waited.ok()) return waited.status();
      answers = *std::move(waited);
    } else {
      answers = InquireOnce(config_, questions_);
      if (IsCancelled(config_)) return Cancelled();
    }
    if (answers.empty()) return BeginAsFirst(file_map_);
    const auto others = Combine(std::move(answers));
    if (!others.ok()) return others.status();
    if (config_.join) return BeginJoining(others->map);
    const kv::NodeInfo* known = others->map->FindNode(config_.listen);
    if (known == nullptr || known->state == kv::NodeState::kLeft) {
      return Usage(absl::StrCat(listen_, " is not a server of the cluster (of ",
                                others->map->nodes.size(),
                                " servers, map epoch ", others->map->epoch,
                                "); to add it, start it with --join"));
    }
    if (!others->met && in_file_ != nullptr && known->id == in_file_->id) {
      return BeginAsFirst(others->map);
    }
    LogWarn(listen_,
            " was in use and its data directory is empty: joining as a new "
            "server, which takes the places of the old one");
    return BeginJoining(others->map);
  }

  // One of the servers that the cluster begins with.
  absl::Status BeginAsFirst(const Map& map) {
    if (in_file_ == nullptr) {
      return Usage(absl::StrCat(listen_, " is not in the cluster file"));
    }
    result_.map = map;
    return MakeIdentity(map->cluster_id, in_file_->id);
  }

  absl::Status BeginJoining(const Map& map) {
    result_.map = map;
    result_.joining = true;
    std::random_device device;
    raft::NodeId id;
    while (!id || map->FindNode(id) != nullptr) {
      id = raft::NodeId(uint64_t{device()} << 32 | uint64_t{device()});
    }
    return MakeIdentity(map->cluster_id, id);
  }

  absl::Status MakeIdentity(uint64_t cluster_id, raft::NodeId id) {
    absl::Status status =
        result_.directory->MakeIdentity(cluster_id, id, listen_);
    return status.ok() ? status : WithExit(status, kExitDirectory);
  }

  // ---- the rest of the result ----

  void FillIn() {
    const kv::NodeInfo* known = result_.map->FindNode(identity().node);
    kv::NodeInfo& self = result_.self;
    if (known != nullptr) self = *known;
    self.id = identity().node;
    self.address = config_.listen;
    if (in_file_ != nullptr) {
      self.metrics_port = in_file_->metrics_port;
      self.http_port = in_file_->http_port;
    } else if (known == nullptr) {
      self.metrics_port =
          config_.metrics_port != 0
              ? config_.metrics_port
              : FurtherPort(*result_.map, config_.listen, kFirstMetricsPort,
                            &kv::NodeInfo::metrics_port);
      self.http_port =
          config_.http_port != 0
              ? config_.http_port
              : FurtherPort(*result_.map, config_.listen, kFirstHttpPort,
                            &kv::NodeInfo::http_port);
    }
    // What a group began with is known from the file, or from a map that
    // nothing has changed yet. Who finds neither starts without the replica and
    // gets a snapshot.
    if (file_map_->cluster_id == identity().cluster_id) {
      result_.first = *file_map_;
    } else if (result_.map->epoch == 1) {
      result_.first = *result_.map;
    }
    auto& groups = result_.first.groups;
    groups.erase(std::remove_if(groups.begin(), groups.end(),
                                [&](const kv::GroupInfo& group) {
                                  const kv::GroupInfo* now =
                                      result_.map->FindGroup(group.id);
                                  return now == nullptr ||
                                         !now->Concerns(self.id);
                                }),
                 groups.end());
  }

  const MembershipConfig& config_;
  const ServerQuestions& questions_;
  const std::string listen_;
  const Map file_map_;
  const kv::NodeInfo* const in_file_;  // in file_map_; may be null
  Membership result_;
};

// Whom to ask: where the last answer points, else one after the other.
class Candidates {
 public:
  Candidates(const MembershipConfig& config, const kv::ClusterMap& map) {
    for (const kv::NodeInfo& node : map.nodes) {
      if (node.state != kv::NodeState::kLeft) Add(config, node.address);
    }
    for (const kv::ServerLine& line : config.cluster.servers) {
      Add(config, line.address);
    }
  }
  void Hint(const std::string& leader) {
    const auto address = kv::Address::Parse(leader);
    if (address.ok()) hint_ = *address;
  }
  kv::Address Next() {
    if (hint_) return *std::exchange(hint_, std::nullopt);
    return addresses_[next_++ % addresses_.size()];
  }
  bool empty() const { return addresses_.empty(); }

 private:
  void Add(const MembershipConfig& config, const kv::Address& address) {
    if (address == config.listen ||
        std::find(addresses_.begin(), addresses_.end(), address) !=
            addresses_.end()) {
      return;
    }
    addresses_.push_back(address);
  }

  std::vector<kv::Address> addresses_;
  std::optional<kv::Address> hint_;
  size_t next_ = 0;
};

// Asking again cannot help.
bool IsRefusal(const absl::Status& status) {
  return absl::IsFailedPrecondition(status) ||
         absl::IsInvalidArgument(status) || absl::IsPermissionDenied(status);
}

}  // namespace

absl::StatusOr<Membership> BeginMembership(const MembershipConfig& config,
                                           const ServerQuestions& questions) {
  return Beginner(config, questions).Run();
}

absl::Status Join(const MembershipConfig& config,
                  const ServerQuestions& questions,
                  const DataDirectory* directory, Membership* membership) {
  Candidates candidates(config, *membership->map);
  if (candidates.empty()) return Usage("there is no other server to ask");
  const JoinQuestion question{membership->map->cluster_id, membership->self};
  const absl::Time end = absl::Now() + config.deadline;
  absl::Time told = absl::Now();
  std::string last = "nobody has answered";
  LogInfo("joining cluster ", FormatId(question.cluster_id), " as node ",
          FormatId(question.node.id.value()));
  for (;;) {
    const kv::Address to = candidates.Next();
    auto answer = questions.join(to, question, kJoinAttemptTimeout);
    if (answer.ok() && answer->map &&
        answer->map->cluster_id == question.cluster_id &&
        answer->map->FindNode(question.node.id) != nullptr) {
      auto map = std::make_shared<kv::ClusterMap>(*std::move(answer->map));
      absl::Status status = WriteMapFile(directory->map_path(), *map);
      if (!status.ok()) return WithExit(status, kExitDirectory);
      LogInfo("joined the cluster, map epoch ", map->epoch);
      membership->map = std::move(map);
      membership->joining = false;
      return absl::OkStatus();
    }
    if (IsRefusal(answer.status())) {
      return WithExit(absl::FailedPreconditionError(absl::StrCat(
                          to.ToString(),
                          " refuses this server: ", answer.status().message())),
                      kExitFailure);
    }
    if (answer.ok()) {
      candidates.Hint(answer->leader);
      last = absl::StrCat(to.ToString(), " does not lead the directory");
    } else {
      last = absl::StrCat(to.ToString(), ": ", answer.status().message());
    }
    const absl::Time now = absl::Now();
    if (now >= end) {
      return WithExit(absl::UnavailableError(absl::StrCat(
                          "could not join the cluster within ",
                          absl::FormatDuration(config.deadline), " (", last,
                          "); start the server again to go on")),
                      kExitFailure);
    }
    if (now - told >= kJoinProgress) {
      LogInfo("still joining; ", last);
      told = now;
    }
    if (!Pause(config)) return Cancelled();
  }
}

InquiryReply HandleInquiry(const MapHolder& maps, const DataDirectory& own,
                           absl::string_view address) {
  InquiryReply answer{*maps.Get(), false};
  const auto parsed = kv::Address::Parse(address);
  const kv::NodeInfo* node =
      parsed.ok() ? answer.map.FindNode(*parsed) : nullptr;
  answer.met = node != nullptr && node->state != kv::NodeState::kLeft &&
               own.HasMet(node->id);
  return answer;
}

void HandleJoin(const JoinQuestion& question, const MapHolder* maps,
                const std::function<void(const kv::DirectoryChange&,
                                         DirectoryDone)>& propose,
                absl::AnyInvocable<void(absl::StatusOr<JoinReply>)> done) {
  const uint64_t cluster_id = maps->Get()->cluster_id;
  if (question.cluster_id != cluster_id) {
    done(absl::FailedPreconditionError(
        absl::StrCat("this is cluster ", FormatId(cluster_id), ", not ",
                     FormatId(question.cluster_id))));
    return;
  }
  if (absl::Status s = kv::CheckNode(question.node); !s.ok()) {
    done(s);
    return;
  }
  propose(kv::AddNode{question.node},
          [id = question.node.id, maps,
           done = std::move(done)](DirectoryAnswer answer) mutable {
            if (!answer.status.ok() && answer.leader.empty()) {
              done(answer.status);
              return;
            }
            JoinReply joined;
            joined.leader = answer.leader;
            if (answer.status.ok()) {
              joined.map = *maps->Get();
              if (joined.map->FindNode(id) == nullptr) {
                done(absl::UnavailableError("not in the map here yet"));
                return;
              }
            }
            done(std::move(joined));
          });
}

}  // namespace kv739::server
