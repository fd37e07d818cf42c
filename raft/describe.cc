#include "raft/describe.h"

#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace kv739::raft {
namespace {

constexpr size_t kMaxData = 32;  // bytes of an entry that are shown

std::string Nodes(const std::vector<NodeId>& nodes) {
  return absl::StrCat("(",
                      absl::StrJoin(nodes, " ",
                                    [](std::string* out, NodeId node) {
                                      absl::StrAppend(out, node.value());
                                    }),
                      ")");
}

std::string Entries(const std::vector<Entry>& entries) {
  return absl::StrCat("[",
                      absl::StrJoin(entries, ", ",
                                    [](std::string* out, const Entry& e) {
                                      out->append(Describe(e));
                                    }),
                      "]");
}

std::string NodeOrNone(NodeId node) {
  return node ? absl::StrCat(node.value()) : std::string("none");
}

struct MessageText {
  std::string operator()(const RequestVote& m) const {
    return absl::StrCat(m.pre_vote ? "RequestPreVote" : "RequestVote", " term ",
                        m.term.value(), " last ", Describe(m.last),
                        m.transfer ? " transfer" : "");
  }
  std::string operator()(const RequestVoteResponse& m) const {
    return absl::StrCat(m.pre_vote ? "PreVote" : "Vote", " term ",
                        m.term.value(), m.granted ? " granted" : " refused");
  }
  std::string operator()(const AppendEntries& m) const {
    return absl::StrCat("AppendEntries term ", m.term.value(), " previous ",
                        Describe(m.previous), " commit ", m.commit.value(), " ",
                        Entries(m.entries));
  }
  std::string operator()(const AppendEntriesResponse& m) const {
    if (m.success) {
      return absl::StrCat("Appended term ", m.term.value(), " index ",
                          m.index.value());
    }
    return absl::StrCat("AppendRefused term ", m.term.value(), " previous ",
                        m.index.value(), " hint ", Describe(m.hint));
  }
  std::string operator()(const Heartbeat& m) const {
    return absl::StrCat("Heartbeat term ", m.term.value(), " commit ",
                        m.commit.value(), " round ", m.round,
                        m.quiesce ? " quiesce" : "");
  }
  std::string operator()(const HeartbeatResponse& m) const {
    return absl::StrCat("HeartbeatResponse term ", m.term.value(), " round ",
                        m.round, m.promise ? " promise" : "");
  }
  std::string operator()(const TimeoutNow& m) const {
    return absl::StrCat("TimeoutNow term ", m.term.value());
  }
  std::string operator()(const InstallSnapshot& m) const {
    return absl::StrCat("InstallSnapshot term ", m.term.value(), " at ",
                        Describe(m.meta));
  }
};

}  // namespace

absl::string_view Name(Role role) {
  switch (role) {
    case Role::kFollower:
      return "follower";
    case Role::kCandidate:
      return "candidate";
    case Role::kLeader:
      return "leader";
  }
  return "unknown";
}

std::string Describe(LogPosition position) {
  return absl::StrCat(position.term.value(), "/", position.index.value());
}

std::string Describe(const Entry& entry) {
  const std::string at = Describe(LogPosition{entry.term, entry.index});
  switch (entry.kind) {
    case EntryKind::kNoop:
      return absl::StrCat(at, " noop");
    case EntryKind::kConfiguration: {
      auto decoded = DecodeConfiguration(*entry.data);
      return absl::StrCat(at, " configuration ",
                          decoded.ok() ? Describe(*decoded) : "invalid");
    }
    case EntryKind::kCommand:
      break;
  }
  absl::string_view data = *entry.data;
  const bool cut = data.size() > kMaxData;
  return absl::StrCat(at, " \"", absl::CHexEscape(data.substr(0, kMaxData)),
                      cut ? "\"..." : "\"");
}

std::string Describe(const HardState& h) {
  return absl::StrCat("term ", h.term.value(), " vote ", NodeOrNone(h.vote),
                      " commit ", h.commit.value());
}

std::string Describe(const SoftState& s) {
  return absl::StrCat(Name(s.role), " term ", s.term.value(), " leader ",
                      NodeOrNone(s.leader));
}

std::string Describe(const Configuration& c) {
  return absl::StrCat(
      "voters ", Nodes(c.voters),
      c.joint() ? " outgoing " + Nodes(c.outgoing) : "",
      c.learners.empty() ? "" : " learners " + Nodes(c.learners));
}

std::string Describe(const SnapshotMeta& meta) {
  return absl::StrCat(Describe(meta.position), " ",
                      Describe(meta.configuration));
}

std::string Describe(const Message& message) {
  return std::visit(MessageText(), message);
}

std::string Describe(const Envelope& e) {
  return absl::StrCat(e.from.value(), "->", e.to.value(), " ",
                      Describe(e.message));
}

std::string Describe(const Ready& ready) {
  std::string out;
  auto line = [&out](const auto&... parts) {
    absl::StrAppend(&out, parts..., "\n");
  };
  if (ready.soft_state) line("soft state: ", Describe(*ready.soft_state));
  if (ready.persist.snapshot) {
    line("log begins behind: ", Describe(*ready.persist.snapshot));
  }
  if (ready.persist.hard_state) {
    line("hard state: ", Describe(*ready.persist.hard_state));
  }
  if (!ready.persist.entries.empty()) {
    line("persist: ", Entries(ready.persist.entries));
  }
  for (const Envelope& e : ready.send_now) line("send: ", Describe(e));
  for (const Envelope& e : ready.send_after_persist) {
    line("send after persist: ", Describe(e));
  }
  if (!ready.committed.empty()) line("apply: ", Entries(ready.committed));
  for (const ReadReady& r : ready.reads) {
    line("read ", r.id, " at ", r.index.value());
  }
  for (ReadId id : ready.failed_reads) line("read ", id, " failed");
  for (const LogFetch& f : ready.fetch) {
    line("fetch ", f.first.value(), "-", f.last.value(), " for ",
         f.peer.value());
  }
  for (NodeId id : ready.needs_snapshot) line("snapshot for ", id.value());
  if (ready.wants_snapshot) {
    line("wants snapshot ", Describe(*ready.wants_snapshot));
  }
  return out;
}

std::string Describe(const CoreStatus& s) {
  std::string out = absl::StrCat(
      Describe(s.soft), " vote ", NodeOrNone(s.hard.vote), " log ",
      s.first_index.value(), "-", s.last_index.value(), " durable ",
      s.durable.value(), " commit ", s.commit.value(), " applied ",
      s.applied.value(), s.transferring ? " transferring" : "",
      s.changing ? " changing" : "", "\n");
  for (const PeerProgress& p : s.peers) {
    absl::StrAppend(&out, "  ", p.id.value(), ": match ", p.match.value(),
                    " next ", p.next.value(), p.learner ? " learner" : "",
                    p.recently_active ? "" : " silent",
                    p.needs_snapshot ? " needs snapshot" : "", " inflight ",
                    p.inflight_bytes, "\n");
  }
  return out;
}

}  // namespace kv739::raft
