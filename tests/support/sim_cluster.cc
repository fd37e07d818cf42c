#include "tests/support/sim_cluster.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "raft/describe.h"

namespace kv739::sim {

using raft::Entry;
using raft::Envelope;
using raft::Index;
using raft::NodeId;

namespace {

raft::Configuration Voters(uint64_t count) {
  raft::Configuration configuration;
  for (uint64_t i = 1; i <= count; ++i) {
    configuration.voters.push_back(NodeId(i));
  }
  return configuration;
}

}  // namespace

SimProfile SimCluster::DrawProfile(SimRandom* random) {
  // Each kind of fault is absent, rare or frequent, independently.
  auto draw = [&](uint64_t rare, uint64_t frequent) {
    const uint64_t kind = random->Below(3);
    return kind == 0 ? 0 : kind == 1 ? rare : frequent;
  };
  SimProfile p;
  p.nodes = random->Chance(1, 2) ? 3 : 5;
  p.network.drop_permille = draw(20, 200);
  p.network.duplicate_permille = draw(20, 300);
  p.network.max_delay = 1 + draw(4, 60);
  p.max_sync = 2 + draw(20, 150);
  p.crash = draw(8, 40);
  p.crash_all = draw(2, 8);
  p.partition = draw(8, 40);
  p.transfer = draw(10, 100);
  p.propose = 300 + draw(500, 3000);
  p.read = draw(200, 2000);
  p.compact = draw(20, 200);
  p.lazy_apply = random->Chance(1, 2);
  p.check_quorum = random->Chance(3, 4);
  p.pre_vote = random->Chance(3, 4);
  return p;
}

SimCluster::SimCluster(uint64_t seed, bool trace)
    : seed_(seed),
      tracing_(trace),
      random_(seed * 0x9e3779b97f4a7c15ULL + 739),
      profile_(DrawProfile(&random_)),
      network_(&random_) {
  network_.set_faults(profile_.network);
  for (uint64_t i = 1; i <= profile_.nodes; ++i) {
    nodes_.push_back(std::make_unique<SimNode>(
        CoreOptions(NodeId(i)), Voters(profile_.nodes), &random_, &checker_));
  }
  start_at_.assign(nodes_.size(), 0);
  sync_at_.assign(nodes_.size(), 0);
}

raft::Options SimCluster::CoreOptions(NodeId id) {
  raft::Options options;
  options.self = id;
  options.election_timeout_ticks = 10;
  options.heartbeat_ticks = 2;
  options.check_quorum = profile_.check_quorum;
  options.pre_vote = profile_.pre_vote;
  // Small limits, so that runs meet them.
  options.max_append_entries = 8;
  options.max_append_bytes = 600;
  options.max_inflight_messages = 4;
  options.max_inflight_bytes = 1500;
  options.max_uncommitted_bytes = 4000;
  options.max_cached_bytes = random_.Chance(1, 2) ? 100 : 4000;
  options.max_apply_bytes = 500;
  options.max_read_rounds = 1 + static_cast<uint32_t>(random_.Below(2));
  return options;
}

void SimCluster::Note(const char* what, uint64_t a, uint64_t b, uint64_t c) {
  uint64_t& d = result_.digest;
  d = Mix(d, now_);
  for (const char* p = what; *p != 0; ++p) d = Mix(d, static_cast<uint8_t>(*p));
  d = Mix(Mix(Mix(d, a), b), c);
  if (tracing_) {
    absl::StrAppend(&result_.trace, now_, " ", what, " ", a, " ", b, " ", c,
                    "\n");
  }
}

void SimCluster::NoteMessage(const char* what, const Envelope& e) {
  uint64_t& d = result_.digest;
  d = Mix(Mix(Mix(d, now_), e.from.value()), e.to.value());
  d = Mix(d, e.message.index());
  d = Mix(d,
          std::visit([](const auto& m) { return m.term.value(); }, e.message));
  if (tracing_) {
    absl::StrAppend(&result_.trace, now_, " ", what, " ", raft::Describe(e),
                    "\n");
  }
}

SimNode* SimCluster::Leader() {
  SimNode* leader = nullptr;
  for (auto& n : nodes_) {
    if (!n->up() || !n->core().IsLeader()) continue;
    if (leader == nullptr || n->core().term() > leader->core().term()) {
      leader = n.get();
    }
  }
  return leader;
}

// ---- one unit of time ----

void SimCluster::Unit(bool faults) {
  ++now_;
  if (faults) InjectFaults();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    SimNode& n = *nodes_[i];
    if (!n.up() && now_ >= start_at_[i]) {
      n.Start();
      if (checker_.failed()) return;
      Note("start", n.id().value(), n.disk().durable().last().value());
    }
    if (!n.up()) continue;
    // Ticks of different nodes fall on different units.
    if ((now_ + 3 * i) % kUnitsPerTick == 0) n.core().Tick();
    if (n.disk().pending() > 0 && now_ >= sync_at_[i]) {
      for (const Envelope& e : n.CompleteWrite()) network_.Send(e, now_);
      sync_at_[i] = now_ + random_.Between(1, profile_.max_sync);
    }
  }
  while (auto envelope = network_.Next(now_)) {
    SimNode& to = node(envelope->to);
    if (!to.up()) continue;
    NoteMessage("deliver", *envelope);
    to.core().Step(*envelope);
    if (random_.Chance(1, 2)) RunNode(&to);
  }
  // Disk reads for followers are answered sooner or later, or fail.
  for (size_t i = 0; i < fetches_.size();) {
    if (random_.Chance(1, 3)) {
      auto [id, fetch] = fetches_[i];
      fetches_.erase(fetches_.begin() + static_cast<ptrdiff_t>(i));
      std::vector<Entry> entries;
      if (!random_.Chance(1, 5)) entries = node(id).disk().Read(fetch);
      ++result_.fetches;
      if (node(id).up()) node(id).core().Fetched(fetch.peer, entries);
    } else {
      ++i;
    }
  }
  AnswerSnapshots();
  Clients();
  for (auto& n : nodes_) {
    if (n->up() && n->core().HasReady() && random_.Chance(3, 4)) {
      RunNode(n.get());
    }
  }
}

void SimCluster::AnswerSnapshots() {
  for (size_t i = 0; i < snapshots_.size();) {
    if (!random_.Chance(1, 20)) {
      ++i;
      continue;
    }
    auto [id, peer] = snapshots_[i];
    snapshots_.erase(snapshots_.begin() + static_cast<ptrdiff_t>(i));
    // CompactSomewhere() leaves everything that somebody lacks, so the peer
    // has it already; only the leader has not heard of it.
    const Index index = node(id).disk().durable().snapshot.position.index;
    const DiskImage& theirs = node(peer).disk().durable();
    const bool there = theirs.last() >= index;
    if (!there) checker_.Fail("a snapshot is asked for although none is due");
    ++result_.snapshots;
    Note("snapshot", id.value(), peer.value(), index.value());
    if (node(id).up()) {
      const bool arrives = random_.Chance(2, 3);
      node(id).core().SnapshotSent(peer, arrives ? index : Index(0));
    }
  }
}

void SimCluster::RunNode(SimNode* n) {
  SimNode::Output out = n->Turn(profile_.lazy_apply && random_.Chance(1, 2));
  if (out.wrote && n->disk().pending() == 1) {
    sync_at_[n->id().value() - 1] =
        now_ + random_.Between(1, profile_.max_sync);
  }
  for (const Envelope& e : out.send) network_.Send(e, now_);
  for (const raft::LogFetch& f : out.fetch) fetches_.emplace_back(n->id(), f);
  CheckCommit(n, out.led);
  for (const Entry& entry : out.applied) {
    auto mine = proposed_.find({n->id(), entry.index});
    if (mine == proposed_.end()) continue;
    if (mine->second == entry.term) {
      acknowledged_ = std::max(acknowledged_, entry.index);
      ++result_.acknowledged;
    }
    proposed_.erase(mine);
  }
  for (const raft::ReadReady& read : out.reads) {
    auto asked = reads_.find(read.id);
    if (asked == reads_.end()) {
      checker_.Fail("a read is answered twice or was never asked");
      return;
    }
    if (read.index < asked->second) {
      checker_.Fail(absl::StrCat("linearizable reads: ", n->id().value(),
                                 " reads at ", read.index.value(), " after ",
                                 asked->second.value(), " was acknowledged"));
    }
    reads_.erase(asked);
    ++result_.reads;
  }
  for (raft::ReadId id : out.failed_reads) reads_.erase(id);
  for (NodeId peer : out.needs_snapshot) snapshots_.emplace_back(n->id(), peer);
}

void SimCluster::CheckCommit(SimNode* n, bool led) {
  // Everything that the core holds committed, applied here or not.
  const Index commit = n->core().commit();
  const DiskImage& log = n->disk().written();
  for (Index i = n->checked_commit + 1; i <= commit; ++i) {
    const Entry* entry = log.At(i);
    if (entry == nullptr) {
      return checker_.Fail("a commit index without an entry");
    }
    size_t copies = 0;
    for (auto& other : nodes_) {
      if (other->disk().durable().TermAt(i) == entry->term) ++copies;
    }
    checker_.OnCommit(n->id(), *entry, copies, nodes_.size());
  }
  if (led && commit > n->checked_commit &&
      log.TermAt(commit) != n->core().term()) {
    checker_.Fail(absl::StrCat("commit: ", n->id().value(),
                               " counts copies of ", commit.value(),
                               ", which is of an earlier term"));
  }
  n->checked_commit = std::max(n->checked_commit, commit);
  if (n->applied()) {
    if (const Entry* entry = log.At(n->applied())) {
      checker_.OnApply(n->id(), *entry, n->digest());
    }
  }
}

void SimCluster::Clients() {
  if (random_.Chance(profile_.propose, 10000)) {
    SimNode& n = AnyNode();
    if (n.up() && n.core().IsLeader()) {
      std::vector<raft::Payload> commands;
      for (uint64_t i = random_.Between(1, 5); i > 0; --i) {
        commands.push_back(raft::MakePayload(absl::StrCat(
            "c", ++next_command_, std::string(random_.Below(60), '.'))));
      }
      const size_t count = commands.size();
      auto position = n.core().Propose(std::move(commands));
      Note("propose", n.id().value(), count, position.ok());
      for (size_t i = 0; position.ok() && i < count; ++i) {
        proposed_[{n.id(), position->index + i}] = position->term;
      }
    }
  }
  std::vector<SimNode*> leaders;
  for (auto& n : nodes_) {
    if (n->up() && n->core().IsLeader()) leaders.push_back(n.get());
  }
  // Two at a time are what reads have to survive.
  const uint64_t chance =
      leaders.size() > 1 ? 10 * profile_.read : profile_.read;
  if (!leaders.empty() && random_.Chance(chance, 30000)) {
    reads_[++next_read_] = acknowledged_;
    leaders[random_.Below(leaders.size())]->core().ReadIndex(next_read_);
  }
}

// ---- faults ----

void SimCluster::CrashNode(SimNode* n) {
  if (!n->up()) return;
  ++result_.crashes;
  const size_t survivors = random_.Below(n->disk().pending() + 1);
  Note("crash", n->id().value(), survivors);
  // Reads and fetches of a dead process are never answered.
  n->Crash(survivors);
  std::erase_if(fetches_, [&](const auto& f) { return f.first == n->id(); });
  std::erase_if(snapshots_, [&](const auto& s) { return s.first == n->id(); });
  std::erase_if(proposed_,
                [&](const auto& p) { return p.first.first == n->id(); });
  start_at_[n->id().value() - 1] = now_ + random_.Between(1, 300);
}

void SimCluster::Partition() {
  network_.Heal();
  heal_at_ = now_ + random_.Between(20, 500);
  const uint64_t kind = random_.Below(5);
  Note("partition", kind);
  const SimNode* leader = Leader();
  std::vector<bool> left;  // of the two sides
  for (auto& n : nodes_) {
    left.push_back(kind == 4 ? n.get() == leader : random_.Chance(1, 2));
  }
  for (size_t a = 0; a < nodes_.size(); ++a) {
    for (size_t b = 0; b < nodes_.size(); ++b) {
      if (a == b) continue;
      bool cut = false;
      switch (kind) {
        case 0:  // two sides
        case 4:  // the leader and the others
          cut = left[a] != left[b];
          break;
        case 1:  // some hear nothing
          cut = left[b];
          break;
        case 2:  // some are heard by nobody
          cut = left[a];
          break;
        default:  // single links, one way
          cut = random_.Chance(1, 3);
      }
      if (cut) network_.Cut(nodes_[a]->id(), nodes_[b]->id());
    }
  }
}

void SimCluster::CompactSomewhere() {
  SimNode& n = AnyNode();
  if (!n.up()) return;
  // Nothing installs snapshots here, so no more is dropped than all have: the
  // committed entry, durably. (A node may know an entry committed and still
  // have an older one on disk that is being overwritten.)
  Index all = n.core().applied();
  for (auto& other : nodes_) {
    for (Index i = n.disk().durable().snapshot.position.index + 1; i <= all;
         ++i) {
      const DiskImage& theirs = other->disk().durable();
      if (i > theirs.snapshot.position.index &&
          theirs.TermAt(i) != n.disk().written().TermAt(i)) {
        all = i - 1;
      }
    }
  }
  n.Flush();
  const Index at = std::min({all, n.flushed(), n.core().applied()});
  // The core's own idea of durable is what counts.
  if (at > n.core().Status().durable ||
      at <= n.disk().durable().snapshot.position.index) {
    return;
  }
  Note("compact", n.id().value(), at.value());
  n.core().Compact(at);
  n.disk().Compact(at);
}

void SimCluster::InjectFaults() {
  if (random_.Chance(profile_.crash, 10000)) CrashNode(&AnyNode());
  if (random_.Chance(profile_.crash_all, 10000)) {
    for (auto& n : nodes_) CrashNode(n.get());
  }
  if (random_.Chance(profile_.partition, 10000)) Partition();
  if (heal_at_ != 0 && now_ >= heal_at_) {
    heal_at_ = 0;
    network_.Heal();
    Note("heal", 0);
  }
  if (random_.Chance(profile_.transfer, 10000)) {
    SimNode& from = AnyNode();
    const NodeId target = AnyNode().id();
    if (from.up() && from.core().IsLeader()) {
      const bool ok = from.core().TransferLeadership(target).ok();
      Note("transfer", from.id().value(), target.value(), ok);
    }
  }
  if (random_.Chance(profile_.compact, 10000)) CompactSomewhere();
  if (random_.Chance(20, 10000)) {
    SimNode& n = AnyNode();
    if (n.up() && n.applied() <= n.disk().durable().last()) n.Flush();
  }
}

// ---- the end ----

void SimCluster::Calm() {
  heal_at_ = 0;
  network_.Heal();
  network_.set_faults({});
  profile_.max_sync = 2;
  profile_.propose = 0;
  profile_.read = 0;
  profile_.lazy_apply = false;
  std::fill(start_at_.begin(), start_at_.end(), now_);
}

void SimCluster::CheckConverged() {
  const uint64_t timeout = 10 * kUnitsPerTick;  // an election timeout
  const uint64_t deadline = now_ + 10 * timeout;
  bool proposed = false;
  while (!checker_.failed() && now_ < deadline) {
    Unit(/*faults=*/false);
    // A leader that can commit is one that the others follow.
    SimNode* leader = Leader();
    if (leader != nullptr &&
        leader->core().Propose({raft::MakePayload("last")}).ok()) {
      Index at = leader->core().last_index();
      const raft::Term term = leader->core().term();
      for (uint64_t i = 0; i < timeout && !checker_.failed(); ++i) {
        Unit(/*faults=*/false);
      }
      if (leader->core().term() == term && leader->core().commit() >= at) {
        proposed = true;
        break;
      }
    }
  }
  if (!proposed) {
    return checker_.Fail("liveness: no leader that commits in the calm");
  }
  for (uint64_t i = 0; i < 5 * timeout && !checker_.failed(); ++i) {
    Unit(/*faults=*/false);
  }
  SimNode* leader = Leader();
  if (leader == nullptr) return checker_.Fail("liveness: the leader is gone");
  for (auto& n : nodes_) {
    if (n->applied() != leader->core().last_index() ||
        n->digest() != leader->digest()) {
      checker_.Fail(absl::StrCat("liveness: ", n->id().value(), " has applied ",
                                 n->applied().value(), " of ",
                                 leader->core().last_index().value(), "\n",
                                 raft::Describe(leader->core().Status())));
    }
  }
}

SimResult SimCluster::Run() {
  while (!checker_.failed() && now_ < kFaultUnits) Unit(/*faults=*/true);
  if (!checker_.failed()) {
    Calm();
    CheckConverged();
  }
  if (checker_.failed()) {
    result_.failure =
        absl::StrCat("seed ", seed_, " at ", now_, ": ", checker_.failure());
  }
  result_.committed = checker_.committed().value();
  result_.leaders = checker_.leaders();
  return std::move(result_);
}

SimResult Simulate(uint64_t seed, bool trace) {
  return SimCluster(seed, trace).Run();
}

}  // namespace kv739::sim
