#include "server/message_codec.h"

#include <string>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/command.h"

namespace kv739::server {
namespace {

namespace wire = ::raft::v1;
using raft::EntryKind;
using raft::Index;
using raft::LogPosition;
using raft::Term;

// Fields and framing of a message or an entry without its bytes.
constexpr uint64_t kMessageOverhead = 64;
constexpr uint64_t kEntryOverhead = 32;
constexpr uint64_t kConfigurationOverhead = 32;

struct Encoder {
  wire::GroupMessage* out;

  void operator()(const raft::RequestVote& m) const {
    wire::RequestVote* w = out->mutable_request_vote();
    w->set_last_term(m.last.term.value());
    w->set_last_index(m.last.index.value());
    w->set_pre_vote(m.pre_vote);
    w->set_transfer(m.transfer);
  }
  void operator()(const raft::RequestVoteResponse& m) const {
    wire::RequestVoteResponse* w = out->mutable_request_vote_response();
    w->set_pre_vote(m.pre_vote);
    w->set_granted(m.granted);
  }
  void operator()(const raft::AppendEntries& m) const {
    wire::AppendEntries* w = out->mutable_append_entries();
    w->set_previous_term(m.previous.term.value());
    w->set_previous_index(m.previous.index.value());
    w->set_commit(m.commit.value());
    w->mutable_entries()->Reserve(static_cast<int>(m.entries.size()));
    for (const raft::Entry& entry : m.entries) {
      wire::Entry* e = w->add_entries();
      e->set_term(entry.term.value());
      e->set_index(entry.index.value());
      e->set_kind(static_cast<uint32_t>(entry.kind));
      e->set_data(*entry.data);
    }
  }
  void operator()(const raft::AppendEntriesResponse& m) const {
    wire::AppendEntriesResponse* w = out->mutable_append_entries_response();
    w->set_success(m.success);
    w->set_index(m.index.value());
    w->set_hint_term(m.hint.term.value());
    w->set_hint_index(m.hint.index.value());
  }
  void operator()(const raft::Heartbeat& m) const {
    wire::Heartbeat* w = out->mutable_heartbeat();
    w->set_commit(m.commit.value());
    w->set_round(m.round);
    w->set_quiesce(m.quiesce);
  }
  void operator()(const raft::HeartbeatResponse& m) const {
    wire::HeartbeatResponse* w = out->mutable_heartbeat_response();
    w->set_round(m.round);
    w->set_promise(m.promise);
  }
  void operator()(const raft::TimeoutNow&) const { out->mutable_timeout_now(); }
  void operator()(const raft::InstallSnapshot& m) const {
    wire::InstallSnapshot* w = out->mutable_install_snapshot();
    w->set_last_term(m.meta.position.term.value());
    w->set_last_index(m.meta.position.index.value());
    w->set_configuration(raft::EncodeConfiguration(m.meta.configuration));
  }
};

bool IsEntryKind(uint32_t kind) {
  return kind >= static_cast<uint32_t>(EntryKind::kCommand) &&
         kind <= static_cast<uint32_t>(EntryKind::kConfiguration);
}

absl::StatusOr<raft::Message> DecodeAppend(Term term, wire::AppendEntries* w) {
  raft::AppendEntries m;
  m.term = term;
  m.previous = {Term(w->previous_term()), Index(w->previous_index())};
  m.commit = Index(w->commit());
  if (m.previous.term > term) {
    return absl::InvalidArgumentError("previous entry of a later term");
  }
  m.entries.reserve(w->entries_size());
  LogPosition last = m.previous;
  for (wire::Entry& e : *w->mutable_entries()) {
    // Compared by subtraction: indexes near the top must not wrap around.
    if (e.index() == 0 || e.index() - 1 != last.index.value()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "entry ", e.index(), " follows entry ", last.index.value()));
    }
    if (e.term() < last.term.value() || e.term() > term.value()) {
      return absl::InvalidArgumentError(
          absl::StrCat("entry ", e.index(), " has term ", e.term(), " between ",
                       last.term.value(), " and ", term.value()));
    }
    if (!IsEntryKind(e.kind())) {
      return absl::InvalidArgumentError(
          absl::StrCat("entry ", e.index(), " has unknown kind ", e.kind()));
    }
    // A command that does not decode could not be applied by anybody; once it
    // is in the log there is no way around it.
    if (e.kind() == static_cast<uint32_t>(EntryKind::kCommand)) {
      if (auto command = kv::DecodeCommand(e.data()); !command.ok()) {
        return absl::InvalidArgumentError(absl::StrCat(
            "entry ", e.index(), ": ", command.status().message()));
      }
    }
    last = {Term(e.term()), Index(e.index())};
    m.entries.push_back({last.term, last.index,
                         static_cast<EntryKind>(e.kind()),
                         raft::MakePayload(std::move(*e.mutable_data()))});
  }
  return m;
}

absl::StatusOr<raft::Message> DecodeInstall(Term term,
                                            const wire::InstallSnapshot& w) {
  raft::InstallSnapshot m;
  m.term = term;
  m.meta.position = {Term(w.last_term()), Index(w.last_index())};
  if (!m.meta.position.term || !m.meta.position.index) {
    return absl::InvalidArgumentError("snapshot of no position");
  }
  if (m.meta.position.term > term) {
    return absl::InvalidArgumentError(absl::StrCat(
        "snapshot of term ", w.last_term(), " above ", term.value()));
  }
  auto configuration = raft::DecodeConfiguration(w.configuration());
  if (!configuration.ok()) return configuration.status();
  m.meta.configuration = *std::move(configuration);
  return m;
}

absl::StatusOr<raft::Message> DecodeKind(Term term, wire::GroupMessage* in) {
  switch (in->kind_case()) {
    case wire::GroupMessage::kRequestVote: {
      const wire::RequestVote& w = in->request_vote();
      return raft::RequestVote{term,
                               {Term(w.last_term()), Index(w.last_index())},
                               w.pre_vote(),
                               w.transfer()};
    }
    case wire::GroupMessage::kRequestVoteResponse: {
      const wire::RequestVoteResponse& w = in->request_vote_response();
      return raft::RequestVoteResponse{term, w.pre_vote(), w.granted()};
    }
    case wire::GroupMessage::kAppendEntries:
      return DecodeAppend(term, in->mutable_append_entries());
    case wire::GroupMessage::kAppendEntriesResponse: {
      const wire::AppendEntriesResponse& w = in->append_entries_response();
      return raft::AppendEntriesResponse{
          term,
          w.success(),
          Index(w.index()),
          {Term(w.hint_term()), Index(w.hint_index())}};
    }
    case wire::GroupMessage::kHeartbeat:
      return raft::Heartbeat{term, Index(in->heartbeat().commit()),
                             in->heartbeat().round(),
                             in->heartbeat().quiesce()};
    case wire::GroupMessage::kHeartbeatResponse:
      return raft::HeartbeatResponse{term, in->heartbeat_response().round(),
                                     in->heartbeat_response().promise()};
    case wire::GroupMessage::kTimeoutNow:
      return raft::TimeoutNow{term};
    case wire::GroupMessage::kInstallSnapshot:
      return DecodeInstall(term, in->install_snapshot());
    case wire::GroupMessage::KIND_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError("message of no known kind");
}

}  // namespace

void EncodeMessage(const GroupMessage& message, wire::GroupMessage* out) {
  out->Clear();
  out->set_group(message.group.value());
  out->set_term(std::visit([](const auto& m) { return m.term.value(); },
                           message.message));
  std::visit(Encoder{out}, message.message);
}

absl::StatusOr<GroupMessage> DecodeMessage(wire::GroupMessage* in) {
  absl::StatusOr<raft::Message> message = DecodeKind(Term(in->term()), in);
  if (!message.ok()) return message.status();
  return GroupMessage{raft::GroupId(in->group()), *std::move(message)};
}

uint64_t ApproximateBytes(const GroupMessage& message) {
  uint64_t bytes = kMessageOverhead;
  if (const auto* append = std::get_if<raft::AppendEntries>(&message.message)) {
    for (const raft::Entry& entry : append->entries) {
      bytes += kEntryOverhead + entry.data->size();
    }
  } else if (const auto* install =
                 std::get_if<raft::InstallSnapshot>(&message.message)) {
    const raft::Configuration& c = install->meta.configuration;
    bytes += kConfigurationOverhead +
             sizeof(raft::NodeId) *
                 (c.voters.size() + c.outgoing.size() + c.learners.size());
  }
  return bytes;
}

}  // namespace kv739::server
