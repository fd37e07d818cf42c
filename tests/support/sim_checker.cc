#include "tests/support/sim_checker.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/describe.h"

namespace kv739::sim {

using raft::Describe;
using raft::Entry;
using raft::Index;
using raft::LogPosition;
using raft::NodeId;
using raft::Term;

uint64_t Mix(uint64_t digest, uint64_t value) {
  digest ^= value + 0x9e3779b97f4a7c15ULL + (digest << 6) + (digest >> 2);
  return digest * 0xff51afd7ed558ccdULL;
}

uint64_t DigestOf(const Entry& entry) {
  uint64_t digest = Mix(entry.term.value(), entry.index.value());
  digest = Mix(digest, static_cast<uint64_t>(entry.kind));
  for (char c : *entry.data) digest = Mix(digest, static_cast<uint8_t>(c));
  return digest;
}

void SafetyChecker::Fail(std::string what) {
  if (!failed()) failure_ = std::move(what);
}

void SafetyChecker::OnBegin(LogPosition at, uint64_t digest) {
  while (committed() < at.index) {
    committed_.push_back({at.term, committed() + 1});
  }
  digests_.emplace(at.index, digest);
}

void SafetyChecker::OnLeader(NodeId node, Term term, const DiskImage& log) {
  auto [known, first] = leaders_.emplace(term, node);
  if (known->second != node) {
    Fail(absl::StrCat("election safety: ", known->second.value(), " and ",
                      node.value(), " lead term ", term.value()));
  }
  if (!first) return;
  for (size_t i = committed_.size(); i > 0; --i) {
    const LogPosition at = committed_[i - 1];
    if (at.index <= log.snapshot.position.index) break;
    if (log.TermAt(at.index) != at.term) {
      Fail(absl::StrCat("leader completeness: ", node.value(), " leads term ",
                        term.value(), " without ", Describe(at)));
    }
  }
}

void SafetyChecker::OnVote(NodeId node, Term term, NodeId candidate) {
  auto [known, first] = votes_.emplace(std::make_pair(node, term), candidate);
  if (known->second != candidate) {
    Fail(absl::StrCat("election safety: ", node.value(), " votes for ",
                      known->second.value(), " and ", candidate.value(),
                      " in term ", term.value()));
  }
}

void SafetyChecker::OnWrite(NodeId node, bool leader_before,
                            const DiskImage& before,
                            const std::vector<Entry>& entries) {
  if (entries.empty()) return;
  const Index previous = entries.front().index - 1;
  if (previous > before.last()) {
    return Fail(absl::StrCat(node.value(), " leaves a gap behind ",
                             before.last().value()));
  }
  if (leader_before && previous != before.last()) {
    Fail(absl::StrCat("leader append-only: ", node.value(), " overwrites ",
                      entries.front().index.value()));
  }
  Term previous_term = before.TermAt(previous).value_or(Term());
  for (const Entry& entry : entries) {
    auto [known, first] = entries_.try_emplace(
        std::make_pair(entry.term.value(), entry.index.value()),
        Known{previous_term, DigestOf(entry)});
    if (known->second.previous_term != previous_term ||
        known->second.data != DigestOf(entry)) {
      Fail(absl::StrCat("log matching: ", node.value(), " has another ",
                        Describe(LogPosition{entry.term, entry.index})));
    }
    previous_term = entry.term;
  }
}

void SafetyChecker::OnCommit(NodeId node, const Entry& entry) {
  const LogPosition at{entry.term, entry.index};
  if (entry.index <= committed()) {
    const LogPosition known = committed_[entry.index.value() - 1];
    if (known != at) {
      Fail(absl::StrCat("state machine safety: ", node.value(), " commits ",
                        Describe(at), " where ", Describe(known), " was"));
    }
    return;
  }
  if (entry.index != committed() + 1) {
    return Fail(absl::StrCat("commit out of order at ", Describe(at)));
  }
  committed_.push_back(at);
}

void SafetyChecker::OnQuorum(NodeId node, LogPosition at,
                             const raft::Configuration& configuration,
                             absl::FunctionRef<bool(NodeId)> copies) {
  for (const auto* half : {&configuration.voters, &configuration.outgoing}) {
    size_t have = 0;
    for (NodeId voter : *half) have += copies(voter) ? 1 : 0;
    if (half->empty() ? half == &configuration.outgoing
                      : have * 2 > half->size()) {
      continue;
    }
    Fail(absl::StrCat("durability: ", Describe(at), " is committed by ",
                      node.value(), " and durable on ", have, " of ",
                      half->size(), " in ", Describe(configuration)));
  }
}

void SafetyChecker::OnConfiguration(NodeId node, const DiskImage& log,
                                    const raft::Configuration& active) {
  Index joint;  // 0 when the one before is not joint
  raft::Configuration last = log.snapshot.configuration;
  if (last.joint()) joint = log.snapshot.position.index;
  for (const Entry& entry : log.entries) {
    if (entry.kind != raft::EntryKind::kConfiguration) continue;
    last = raft::DecodeConfiguration(*entry.data).value();
    if (joint > committed()) {
      Fail(absl::StrCat("membership: ", node.value(), " has ", Describe(entry),
                        " although the joint one at ", joint.value(),
                        " is not committed"));
    }
    joint = last.joint() ? entry.index : Index();
  }
  if (last != active) {
    Fail(absl::StrCat("membership: ", node.value(), " acts by ",
                      Describe(active), " and has ", Describe(last)));
  }
}

void SafetyChecker::OnInstall(NodeId node, LogPosition at, uint64_t digest) {
  if (at.index > committed() || committed_[at.index.value() - 1] != at) {
    Fail(absl::StrCat("state machine safety: ", node.value(), " installs ",
                      Describe(at), ", which is not committed"));
    return;
  }
  auto known = digests_.find(at.index);
  if (known != digests_.end() && known->second != digest) {
    Fail(absl::StrCat("state machine safety: ", node.value(),
                      " installs another state at ", at.index.value()));
  }
}

void SafetyChecker::OnApply(NodeId node, const Entry& entry, uint64_t digest) {
  if (entry.index > committed()) {
    Fail(absl::StrCat(node.value(), " applies ", entry.index.value(),
                      " before it is committed"));
  }
  auto [known, first] = digests_.emplace(entry.index, digest);
  if (known->second != digest) {
    Fail(absl::StrCat("state machine safety: ", node.value(), " differs after ",
                      entry.index.value()));
  }
}

void SafetyChecker::OnAcknowledge(NodeId node, Index acknowledged,
                                  Index durable) {
  if (acknowledged > durable) {
    Fail(absl::StrCat("durability: ", node.value(), " acknowledges ",
                      acknowledged.value(), " with ", durable.value(),
                      " on disk"));
  }
}

}  // namespace kv739::sim
