#include "tests/support/raft_script.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "raft/describe.h"

namespace kv739::sim {

using raft::Describe;
using raft::Entry;
using raft::Envelope;
using raft::Index;
using raft::NodeId;
using raft::Term;

namespace {

uint64_t Number(absl::string_view word) {
  uint64_t value = 0;
  if (!absl::SimpleAtoi(word, &value)) std::abort();  // an error in a story
  return value;
}

uint64_t NumberAfter(const std::vector<std::string>& words,
                     absl::string_view name) {
  for (absl::string_view word : words) {
    if (absl::ConsumePrefix(&word, name)) return Number(word);
  }
  return 0;
}

bool Has(const std::vector<std::string>& words, absl::string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool In(const std::vector<uint64_t>& ids, uint64_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

template <typename... Parts>
void RaftScript::Print(const Parts&... parts) {
  absl::StrAppend(&out_, parts..., "\n");
}

std::vector<uint64_t> RaftScript::Ids(const Words& words, size_t from) {
  std::vector<uint64_t> ids;
  for (size_t i = from; i < words.size(); ++i) ids.push_back(Number(words[i]));
  if (ids.empty()) {
    for (const auto& [id, node] : nodes_) ids.push_back(id);
  }
  return ids;
}

void RaftScript::Start(Node* node) {
  node->applied = node->disk.durable().snapshot.position.index;
  node->random = SimRandom(node->options.self.value());
  auto core = raft::Core::Create(
      node->options, node->disk.Recover(node->applied), &node->random);
  if (!core.ok()) {
    Print("does not start: ", core.status().ToString());
    return;
  }
  node->core = *std::move(core);
}

void RaftScript::Cluster(const Words& words) {
  raft::Configuration configuration;
  const uint64_t count = Number(words.at(1));
  for (uint64_t id = 1; id <= count; ++id) {
    configuration.voters.push_back(NodeId(id));
  }
  const uint64_t all = count + NumberAfter(words, "spares=");
  for (uint64_t id = 1; id <= all; ++id) {
    Node& node = nodes_[id];
    node.options.self = NodeId(id);
    node.options.election_timeout_ticks = 10;
    node.options.heartbeat_ticks = 2;
    node.options.pre_vote = !Has(words, "no-pre-vote");
    node.options.check_quorum = !Has(words, "no-check-quorum");
    node.disk =
        SimDisk({{}, id <= count ? configuration : raft::Configuration()});
    Start(&node);
  }
}

void RaftScript::Disk(const Words& words) {
  Node& node = At(Number(words.at(1)));
  raft::Persist persist;
  persist.hard_state =
      raft::HardState{Term(NumberAfter(words, "term=")),
                      NodeId(NumberAfter(words, "vote=")), Index(0)};
  for (size_t i = 2; i < words.size(); ++i) {
    if (absl::StrContains(words[i], "=")) continue;
    const Index index(persist.entries.size() + 1);
    persist.entries.push_back(
        {Term(Number(words[i])), index, raft::EntryKind::kCommand,
         raft::MakePayload(absl::StrCat("old", index.value()))});
  }
  node.disk.Write(std::move(persist), {});
  node.disk.CompleteOldest();
  Start(&node);
}

void RaftScript::Members(const Words& words) {
  raft::Configuration target;
  std::vector<NodeId>* list = &target.voters;
  for (size_t i = 2; i < words.size(); ++i) {
    if (words[i] == "learners") {
      list = &target.learners;
    } else {
      list->push_back(NodeId(Number(words[i])));
    }
  }
  auto position = At(Number(words.at(1))).core->ProposeConfiguration(target);
  Print(position.ok() ? Describe(*position)
                      : std::string(position.status().message()));
}

raft::SnapshotMeta RaftScript::SnapshotOf(uint64_t id) {
  const Node& node = At(id);
  const DiskImage& log = node.disk.written();
  return {{log.TermAt(node.applied).value_or(Term()), node.applied},
          log.ConfigurationAt(node.applied)};
}

void RaftScript::Post(std::vector<Envelope> messages) {
  for (Envelope& e : messages) {
    if (!cut_.contains({e.from.value(), e.to.value()})) {
      flying_.push_back(std::move(e));
    }
  }
}

void RaftScript::Turn(uint64_t id, bool quiet) {
  Node& node = At(id);
  if (node.core == nullptr || !node.core->HasReady()) return;
  raft::Ready ready = node.core->TakeReady();
  if (quiet) {
    // Messages are seen when they arrive.
    raft::Ready shown;
    shown.soft_state = ready.soft_state;
    shown.committed = ready.committed;
    shown.reads = ready.reads;
    shown.failed_reads = ready.failed_reads;
    shown.needs_snapshot = ready.needs_snapshot;
    shown.wants_snapshot = ready.wants_snapshot;
    for (absl::string_view line :
         absl::StrSplit(Describe(shown), '\n', absl::SkipEmpty())) {
      Print(id, " ", line);
    }
  } else {
    for (absl::string_view line :
         absl::StrSplit(Describe(ready), '\n', absl::SkipEmpty())) {
      Print(id, " ", line);
    }
  }
  Post(std::move(ready.send_now));
  if (!ready.persist.empty() || !ready.send_after_persist.empty()) {
    node.disk.Write(std::move(ready.persist),
                    std::move(ready.send_after_persist), node.at_snapshot);
  }
  for (const Entry& entry : ready.committed) node.applied = entry.index;
  node.core->Applied(node.applied);
  for (const raft::LogFetch& fetch : ready.fetch) {
    node.core->Fetched(fetch.peer, node.disk.Read(fetch));
  }
}

void RaftScript::Sync(uint64_t id, size_t count, bool quiet) {
  Node& node = At(id);
  for (; count > 0 && node.core && node.disk.pending() > 0; --count) {
    SimDisk::Completion done = node.disk.CompleteOldest();
    node.core->Persisted(done.position);
    if (!quiet) {
      Print(id, " wrote up to ", Describe(done.position.last), " in term ",
            done.position.hard_state_term.value(), ", durable ",
            node.core->Status().durable.value());
    }
    Post(std::move(done.send));
  }
}

bool RaftScript::Deliver(const std::vector<uint64_t>& to) {
  std::vector<Envelope> now;
  std::vector<Envelope> later;
  for (Envelope& e : flying_) {
    (In(to, e.to.value()) ? now : later).push_back(std::move(e));
  }
  flying_ = std::move(later);
  for (const Envelope& e : now) {
    Node& node = At(e.to.value());
    if (node.core == nullptr) {
      Print(Describe(e), " (is down)");
      continue;
    }
    Print(Describe(e));
    node.last_received = e;
    node.core->Step(e);
  }
  return !now.empty();
}

void RaftScript::Append(const Words& words) {
  Node& node = At(Number(words.at(2)));
  raft::AppendEntries append;
  append.term = Term(Number(words.at(3)));
  append.previous.index = Index(Number(words.at(4)));
  append.previous.term =
      node.disk.written().TermAt(append.previous.index).value_or(Term());
  Index index = append.previous.index;
  for (size_t i = 5; i < words.size(); ++i) {
    ++index;
    append.entries.push_back(
        {Term(Number(words[i])), index, raft::EntryKind::kCommand,
         raft::MakePayload(absl::StrCat("old", index.value()))});
  }
  const Envelope envelope{NodeId(Number(words.at(1))), node.options.self,
                          append};
  Print(Describe(envelope));
  node.last_received = envelope;
  node.core->Step(envelope);
}

void RaftScript::Drop(const std::vector<uint64_t>& to) {
  std::erase_if(flying_, [&](const Envelope& e) {
    if (!In(to, e.to.value())) return false;
    Print("lost: ", Describe(e));
    return true;
  });
}

void RaftScript::Stabilize(const std::vector<uint64_t>& ids) {
  for (bool busy = true; busy;) {
    busy = false;
    for (uint64_t id : ids) {
      Node& node = At(id);
      if (node.core == nullptr) continue;
      while (node.core->HasReady() || node.disk.pending() > 0) {
        busy = true;
        Turn(id, /*quiet=*/true);
        Sync(id, ~size_t{0}, /*quiet=*/true);
      }
    }
    busy |= Deliver(ids);
  }
}

void RaftScript::PrintStatus(uint64_t id) {
  const Node& node = At(id);
  if (node.core == nullptr) return Print(id, " is down");
  for (absl::string_view line :
       absl::StrSplit(Describe(node.core->Status()), '\n', absl::SkipEmpty())) {
    Print(absl::StartsWith(line, " ") ? "" : absl::StrCat(id, " "), line);
  }
}

void RaftScript::PrintLog(uint64_t id) {
  const Node& node = At(id);
  std::string line = absl::StrCat(id, ":");
  for (const Entry& entry : node.disk.written().entries) {
    absl::StrAppend(&line, " ", Describe(entry));
  }
  Print(line);
}

std::string RaftScript::Run(absl::string_view command) {
  out_.clear();
  const Words words = absl::StrSplit(command, ' ', absl::SkipEmpty());
  const std::string& verb = words.at(0);
  auto number = [&](size_t i, uint64_t otherwise) {
    return words.size() > i ? Number(words[i]) : otherwise;
  };
  if (verb == "cluster") {
    Cluster(words);
  } else if (verb == "disk") {
    Disk(words);
  } else if (verb == "tick") {
    for (uint64_t n = number(2, 1); n > 0; --n) At(number(1, 0)).core->Tick();
  } else if (verb == "campaign") {
    Node& node = At(number(1, 0));
    const raft::Role before = node.core->Status().soft.role;
    for (int i = 0; i < 20 && node.core->Status().soft.role == before; ++i) {
      node.core->Tick();
    }
  } else if (verb == "propose") {
    std::vector<raft::Payload> commands;
    for (size_t i = 2; i < words.size(); ++i) {
      commands.push_back(raft::MakePayload(words[i]));
    }
    auto position = At(number(1, 0)).core->Propose(std::move(commands));
    Print(position.ok() ? Describe(*position)
                        : std::string(position.status().message()));
  } else if (verb == "read") {
    At(number(1, 0)).core->ReadIndex(number(2, 0));
  } else if (verb == "transfer") {
    const absl::Status status =
        At(number(1, 0)).core->TransferLeadership(NodeId(number(2, 0)));
    Print(status.ok() ? "OK" : std::string(status.message()));
  } else if (verb == "members") {
    Members(words);
  } else if (verb == "offer") {
    Post({{NodeId(number(1, 0)), NodeId(number(2, 0)),
           raft::InstallSnapshot{At(number(1, 0)).core->term(),
                                 SnapshotOf(number(1, 0))}}});
  } else if (verb == "install") {
    Node& node = At(number(1, 0));
    const raft::SnapshotMeta meta = SnapshotOf(number(2, 0));
    Print("installs ", Describe(meta));
    node.applied = meta.position.index;
    node.at_snapshot = meta.configuration;
    node.core->SnapshotInstalled(meta);
  } else if (verb == "sent") {
    At(number(1, 0))
        .core->SnapshotSent(NodeId(number(2, 0)), Index(number(3, 0)));
  } else if (verb == "ready") {
    for (uint64_t id : Ids(words, 1)) Turn(id, /*quiet=*/false);
  } else if (verb == "sync") {
    Sync(number(1, 0), number(2, ~uint64_t{0}), /*quiet=*/false);
  } else if (verb == "deliver") {
    Deliver(Ids(words, 1));
  } else if (verb == "append") {
    Append(words);
  } else if (verb == "late") {
    Node& node = At(number(1, 0));
    Print("again: ", Describe(node.last_received));
    node.core->Step(node.last_received);
  } else if (verb == "drop") {
    Drop(Ids(words, 1));
  } else if (verb == "cut") {
    const Words link = absl::StrSplit(words.at(1), "->");
    if (link.size() == 2) {
      cut_.insert({Number(link[0]), Number(link[1])});
    } else {
      for (const auto& [id, node] : nodes_) {
        cut_.insert({id, Number(link[0])});
        cut_.insert({Number(link[0]), id});
      }
    }
  } else if (verb == "heal") {
    cut_.clear();
  } else if (verb == "stabilize") {
    Stabilize(Ids(words, 1));
  } else if (verb == "crash") {
    Node& node = At(number(1, 0));
    node.core.reset();
    node.disk.Crash(number(2, 0));
  } else if (verb == "restart") {
    Start(&At(number(1, 0)));
  } else if (verb == "compact") {
    At(number(1, 0)).core->Compact(Index(number(2, 0)));
    At(number(1, 0)).disk.Compact(Index(number(2, 0)));
  } else if (verb == "status") {
    for (uint64_t id : Ids(words, 1)) PrintStatus(id);
  } else if (verb == "log") {
    for (uint64_t id : Ids(words, 1)) PrintLog(id);
  } else {
    Print("unknown command ", verb);
  }
  return std::move(out_);
}

std::string RunStory(absl::string_view text) {
  RaftScript script;
  std::string seen;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    if (absl::StartsWith(line, "  ")) continue;  // an outcome of before
    absl::StrAppend(&seen, line, "\n");
    if (!absl::ConsumePrefix(&line, "> ")) continue;
    const std::string outcome = script.Run(line);
    for (absl::string_view out :
         absl::StrSplit(outcome, '\n', absl::SkipEmpty())) {
      absl::StrAppend(&seen, "  ", out, "\n");
    }
  }
  // One line end at the end, as the file has.
  while (absl::EndsWith(seen, "\n\n")) seen.pop_back();
  return seen;
}

}  // namespace kv739::sim
