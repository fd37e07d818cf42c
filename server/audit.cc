#include "server/audit.h"

#include <xxhash.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/coding.h"

namespace kv739::server {
namespace {

// version | kind | group | term | index | then
//   report   hash keys code error
//   verdict  finding
constexpr uint8_t kVersion = 1;
constexpr uint8_t kReport = 1;
constexpr uint8_t kVerdict = 2;

constexpr auto kLastCode =
    static_cast<uint8_t>(absl::StatusCode::kUnauthenticated);

absl::string_view Cut(absl::string_view text) {
  return text.substr(0, kMaxAuditText);
}

void AppendHead(std::string* out, uint8_t kind, raft::GroupId group,
                raft::LogPosition at) {
  out->push_back(static_cast<char>(kVersion));
  out->push_back(static_cast<char>(kind));
  kv::AppendFixed64(out, group.value());
  kv::AppendFixed64(out, at.term.value());
  kv::AppendFixed64(out, at.index.value());
}

bool ReadText(kv::Reader* in, std::string* text) {
  absl::string_view bytes;
  if (!in->Bytes(&bytes) || bytes.size() > kMaxAuditText) return false;
  text->assign(bytes.data(), bytes.size());
  return true;
}

bool ReadReport(kv::Reader* in, AuditReport* report) {
  uint8_t code = 0;
  if (!in->Fixed64(&report->hash) || !in->Varint(&report->keys) ||
      !in->Byte(&code) || code > kLastCode || !ReadText(in, &report->error)) {
    return false;
  }
  report->code = static_cast<absl::StatusCode>(code);
  const bool ok = report->code == absl::StatusCode::kOk;
  return ok ? report->error.empty() : report->hash == 0 && report->keys == 0;
}

}  // namespace

AuditReport MakeAuditReport(
    raft::GroupId group, raft::LogPosition at,
    const absl::StatusOr<kv::StateMachine::StateHash>& hash) {
  AuditReport report;
  report.group = group;
  report.at = at;
  if (!hash.ok()) {
    report.code = hash.status().code();
    report.error = std::string(Cut(hash.status().message()));
  } else if (hash->index != at.index) {
    // The view was taken too late or too early: our own mistake.
    report.code = absl::StatusCode::kInternal;
    report.error = absl::StrCat("hashed at ", hash->index.value());
  } else {
    report.hash = hash->hash;
    report.keys = hash->keys;
  }
  return report;
}

std::string EncodeAuditMessage(const AuditMessage& message) {
  std::string out;
  if (const auto* report = std::get_if<AuditReport>(&message)) {
    AppendHead(&out, kReport, report->group, report->at);
    kv::AppendFixed64(&out, report->hash);
    kv::AppendVarint(&out, report->keys);
    out.push_back(static_cast<char>(report->code));
    kv::AppendBytes(&out, Cut(report->error));
  } else {
    const auto& verdict = std::get<AuditVerdict>(message);
    AppendHead(&out, kVerdict, verdict.group, verdict.at);
    kv::AppendBytes(&out, Cut(verdict.finding));
  }
  return out;
}

absl::StatusOr<AuditMessage> DecodeAuditMessage(absl::string_view bytes) {
  const absl::Status malformed =
      absl::InvalidArgumentError("malformed audit message");
  kv::Reader in(bytes);
  uint8_t version = 0, kind = 0;
  uint64_t group = 0, term = 0, index = 0;
  if (!in.Byte(&version) || version != kVersion || !in.Byte(&kind) ||
      !in.Fixed64(&group) || !in.Fixed64(&term) || !in.Fixed64(&index)) {
    return malformed;
  }
  const raft::LogPosition at{raft::Term(term), raft::Index(index)};
  AuditMessage message;
  bool ok = false;
  if (kind == kReport) {
    auto& report = message.emplace<AuditReport>();
    report.group = raft::GroupId(group);
    report.at = at;
    ok = ReadReport(&in, &report);
  } else if (kind == kVerdict) {
    auto& verdict = message.emplace<AuditVerdict>();
    verdict.group = raft::GroupId(group);
    verdict.at = at;
    ok = ReadText(&in, &verdict.finding);
  }
  if (!ok || !in.done()) return malformed;
  return message;
}

// ---- replica ----

bool IsAuditEntry(const raft::Entry& entry) {
  return entry.kind == raft::EntryKind::kCommand && kv::IsAudit(*entry.data);
}

std::optional<AuditDuty::Work> AuditDuty::Add(Work work) {
  if (running_) {
    waiting_ = std::move(work);
    return std::nullopt;
  }
  running_ = true;
  return work;
}

std::optional<AuditDuty::Work> AuditDuty::Finished() {
  running_ = waiting_.has_value();
  return std::exchange(waiting_, std::nullopt);
}

// ---- result ----

std::vector<raft::NodeId> AuditResult::Convicted() const {
  std::vector<raft::NodeId> nodes;
  if (!majority) return nodes;
  for (const AuditedReplica& replica : replicas) {
    if (replica.finding == AuditedReplica::Finding::kDiffers ||
        replica.finding == AuditedReplica::Finding::kUnreadable) {
      nodes.push_back(replica.node);
    }
  }
  return nodes;
}

bool AuditResult::Clean() const {
  return !differ &&
         std::none_of(
             replicas.begin(), replicas.end(), [](const AuditedReplica& r) {
               return r.finding == AuditedReplica::Finding::kUnreadable;
             });
}

std::string AuditResult::Finding(const AuditedReplica& replica) const {
  switch (replica.finding) {
    case AuditedReplica::Finding::kEqual:
      return "";
    case AuditedReplica::Finding::kDiffers:
      return absl::StrCat("differs from the majority: ",
                          absl::Hex(replica.hash, absl::kZeroPad16),
                          " instead of ", absl::Hex(hash, absl::kZeroPad16));
    case AuditedReplica::Finding::kUnreadable:
      return absl::StrCat("cannot be read: ", replica.error);
    case AuditedReplica::Finding::kUnclear:
      return differ ? "the replicas differ, and no majority of them is equal"
                    : "nobody to compare it with";
    case AuditedReplica::Finding::kNotTold:
      return replica.error.empty()
                 ? "has not reported"
                 : absl::StrCat("could not tell: ", replica.error);
  }
  return "";
}

std::string AuditResult::Describe() const {
  std::string text = absl::StrCat("audit of group ", group.value(),
                                  " at index ", at.index.value(), ": ");
  size_t equal = 0;
  std::string wrong;
  for (const AuditedReplica& replica : replicas) {
    if (replica.finding == AuditedReplica::Finding::kEqual) {
      ++equal;
    } else {
      absl::StrAppend(&wrong, "; ", replica.node.value(), " ",
                      Finding(replica));
      // Without a majority people need all of them.
      if (replica.finding == AuditedReplica::Finding::kUnclear) {
        absl::StrAppend(&wrong, ": ",
                        absl::Hex(replica.hash, absl::kZeroPad16));
      }
    }
  }
  absl::StrAppend(&text, equal, " of ", replicas.size(), " are equal", wrong);
  return text;
}

// ---- leader ----

AuditLeader::AuditLeader(const AuditOptions& options, raft::GroupId group,
                         uint64_t now)
    : options_(options), group_(group), next_(now) {
  if (options_.interval_ticks == 0) return;
  const uint64_t id = group.value();
  next_ += 1 + XXH3_64bits(&id, sizeof id) % options_.interval_ticks;
}

void AuditLeader::Applied(uint64_t now) {
  next_ = now + options_.interval_ticks;
}

void AuditLeader::StepDown() {
  open_.reset();
  asked_ = false;
}

bool AuditLeader::Due(uint64_t now) const {
  if (open_) return false;
  return asked_ || (options_.interval_ticks > 0 && now >= next_);
}

void AuditLeader::Begin(raft::LogPosition at,
                        const raft::Configuration& members, uint64_t now) {
  asked_ = false;
  next_ = now + options_.interval_ticks;
  Open open;
  open.result.group = group_;
  open.result.at = at;
  open.begun = now;
  open.deadline = now + options_.collect_ticks;
  for (raft::NodeId node : members.Members()) {
    AuditedReplica replica;
    replica.node = node;
    replica.voter = members.IsVoter(node);
    open.result.replicas.push_back(replica);
  }
  open.missing = open.result.replicas.size();
  open_ = std::move(open);
}

bool AuditLeader::Report(raft::NodeId from, const AuditReport& report) {
  if (!open_ || report.group != group_ || report.at != open_->result.at) {
    return false;
  }
  for (AuditedReplica& replica : open_->result.replicas) {
    if (replica.node != from) continue;
    if (replica.finding != AuditedReplica::Finding::kNotTold ||
        !replica.error.empty()) {
      return false;  // a repetition
    }
    switch (report.code) {
      case absl::StatusCode::kOk:
        replica.finding = AuditedReplica::Finding::kUnclear;  // until the end
        replica.hash = report.hash;
        replica.keys = report.keys;
        break;
      case absl::StatusCode::kDataLoss:
        replica.finding = AuditedReplica::Finding::kUnreadable;
        replica.error = report.error;
        break;
      default:
        replica.error = absl::StrCat(absl::StatusCodeToString(report.code),
                                     ": ", report.error);
    }
    --open_->missing;
    return true;
  }
  return false;
}

std::optional<AuditResult> AuditLeader::Poll(uint64_t now) {
  if (!open_) return std::nullopt;
  if (!open_->hurried && open_->missing * 2 < open_->result.replicas.size()) {
    open_->hurried = true;
    open_->deadline = std::min(open_->deadline, now + 3 * (now - open_->begun) +
                                                    options_.linger_ticks);
  }
  if (open_->missing > 0 && now < open_->deadline) return std::nullopt;
  Judge(&open_->result);
  last_ = std::move(open_->result);
  open_.reset();
  return last_;
}

void AuditLeader::Judge(AuditResult* result) {
  using Finding = AuditedReplica::Finding;
  // Voters decide; one that cannot read its state has an answer of its own.
  size_t voters = 0;
  size_t answered = 0;
  std::vector<uint64_t> hashes;
  const uint64_t* first = nullptr;
  for (const AuditedReplica& replica : result->replicas) {
    const bool hashed = replica.finding == Finding::kUnclear;
    if (hashed && first == nullptr) first = &replica.hash;
    if (hashed && replica.hash != *first) result->differ = true;
    if (!replica.voter) continue;
    ++voters;
    if (replica.finding != Finding::kNotTold) ++answered;
    if (hashed) hashes.push_back(replica.hash);
  }
  for (uint64_t hash : hashes) {
    const size_t count =
        static_cast<size_t>(std::count(hashes.begin(), hashes.end(), hash));
    if (count * 2 > answered && (count > 1 || voters == 1)) {
      result->majority = true;
      result->hash = hash;
      break;
    }
  }
  if (!result->majority) return;
  for (AuditedReplica& replica : result->replicas) {
    if (replica.finding != Finding::kUnclear) continue;
    replica.finding =
        replica.hash == result->hash ? Finding::kEqual : Finding::kDiffers;
  }
}

}  // namespace kv739::server
