#include "tests/support/sim_cluster.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "raft/describe.h"

namespace kv739::sim {

using raft::Entry;
using raft::Envelope;
using raft::Index;
using raft::NodeId;
using raft::Term;

namespace {

// As real groups do, the log begins behind a first position, and the initial
// configuration is part of the snapshot there: who joins knows less, and gets
// both by a snapshot.
raft::SnapshotMeta FirstSnapshot(uint64_t voters) {
  raft::SnapshotMeta first{{raft::Term(1), Index(1)}, {}};
  for (uint64_t i = 1; i <= voters; ++i) {
    first.configuration.voters.push_back(NodeId(i));
  }
  return first;
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
  p.compact = draw(40, 300);
  p.lazy_apply = random->Chance(1, 2);
  p.check_quorum = random->Chance(3, 4);
  p.pre_vote = random->Chance(3, 4);
  p.members = draw(20, 120);
  if (p.members > 0) {
    p.spares = random->Between(1, 3);
    // Without it a removed server disturbs those that cannot tell it so.
    p.pre_vote = true;
  }
  p.tail = random->Below(8);
  p.unfit = draw(20, 150);
  p.quiesce = draw(8, 40);
  // In groups that are to rest there must be less to do.
  if (p.quiesce > 0 && random->Chance(2, 3)) {
    p.propose /= 30;
    p.read /= 30;
    p.network.max_delay = std::min<uint64_t>(p.network.max_delay, 10);
  }
  return p;
}

SimCluster::SimCluster(uint64_t seed, bool trace)
    : seed_(seed),
      tracing_(trace),
      random_(seed * 0x9e3779b97f4a7c15ULL + 739),
      profile_(DrawProfile(&random_)),
      network_(&random_) {
  network_.set_faults(profile_.network);
  const raft::SnapshotMeta first = FirstSnapshot(profile_.nodes);
  checker_.OnBegin(first.position, 0);
  for (uint64_t i = 1; i <= profile_.nodes + profile_.spares; ++i) {
    nodes_.push_back(std::make_unique<SimNode>(
        CoreOptions(NodeId(i)),
        i <= profile_.nodes ? first : raft::SnapshotMeta(), &random_,
        &checker_));
  }
  start_at_.assign(nodes_.size(), 0);
  began_at_.assign(nodes_.size(), 0);
  sync_at_.assign(nodes_.size(), 0);
}

raft::Options SimCluster::CoreOptions(NodeId id) {
  raft::Options options;
  options.self = id;
  options.election_timeout_ticks = kElectionTicks;
  options.heartbeat_ticks = 2;
  options.quiesce_after_ticks = static_cast<uint32_t>(profile_.quiesce);
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
  options.read_rounds_to_majority = random_.Chance(1, 2);
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

template <typename F>
void SimCluster::Input(SimNode* n, F&& input) {
  const bool led = n->core().IsLeader();
  const Index commit = n->core().commit();
  raft::Configuration configuration;
  if (led) configuration = n->core().Status().configuration;
  input();
  // A leader may also be deposed by the input and learn of commits by it.
  if (led && n->core().IsLeader() && n->core().commit() > commit) {
    CheckQuorum(n, configuration);
  }
}

void SimCluster::CheckQuorum(SimNode* n,
                             const raft::Configuration& configuration) {
  const Index at = n->core().commit();
  const auto term = n->disk().written().TermAt(at);
  if (!term) return checker_.Fail("a leader commits what it never wrote");
  checker_.OnQuorum(n->id(), {*term, at}, configuration, [&](NodeId id) {
    // Durable in the log, or in the state machine.
    return node(id).disk().durable().TermAt(at) == term ||
           node(id).durable_state().applied >= at;
  });
}

// What the owner of a core owes it for being quiet: it watches the nodes. Here
// it sees them directly, as late as an election timeout.
void SimCluster::TickNode(size_t i) {
  SimNode& n = *nodes_[i];
  constexpr uint64_t kTimeout = kElectionTicks * kUnitsPerTick;
  bool all_heard = true;
  for (size_t j = 0; j < nodes_.size(); ++j) {
    const NodeId peer = nodes_[j]->id();
    uint64_t& at = heard_at_[{i, j}];
    // It was another process the last time.
    const bool another = nodes_[j]->up() && at < began_at_[j];
    if (nodes_[j]->up() && !network_.IsCut(peer, n.id())) at = now_;
    const bool silent = now_ - at > kTimeout;
    if ((another || silent) && n.core().quiet()) n.core().PeerGone(peer);
    if (silent) {
      all_heard =
          all_heard && n.core().AllPeers([&](NodeId id) { return id != peer; });
    }
  }
  if (all_heard && n.core().CanBeQuiet()) {
    n.core().BecomeQuiet();
    ++result_.rests;
    Note("rests", n.id().value());
  }
  n.core().Tick();
}

void SimCluster::Unit(bool faults) {
  ++now_;
  if (faults) InjectFaults();
  for (size_t i = 0; i < nodes_.size(); ++i) {
    SimNode& n = *nodes_[i];
    if (!n.up() && now_ >= start_at_[i]) {
      n.Start();
      began_at_[i] = now_;
      if (checker_.failed()) return;
      Note("start", n.id().value(), n.disk().durable().last().value());
    }
    if (!n.up()) continue;
    // Ticks of different nodes fall on different units.
    if ((now_ + 3 * i) % kUnitsPerTick == 0) TickNode(i);
    if (n.disk().pending() > 0 && now_ >= sync_at_[i]) {
      std::vector<Envelope> sent;
      Input(&n, [&] { sent = n.CompleteWrite(); });
      for (const Envelope& e : sent) network_.Send(e, now_);
      sync_at_[i] = now_ + random_.Between(1, profile_.max_sync);
    }
  }
  while (auto envelope = network_.Next(now_)) {
    SimNode& to = node(envelope->to);
    if (!to.up()) continue;
    NoteMessage("deliver", *envelope);
    Input(&to, [&] { to.core().Step(*envelope); });
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
  Snapshots();
  Clients();
  for (auto& n : nodes_) {
    if (n->up() && n->core().HasReady() && random_.Chance(3, 4)) {
      RunNode(n.get());
    }
  }
  CheckFitness();
}

// ---- snapshots ----

void SimCluster::OfferSnapshot(SimNode* from, NodeId to) {
  ++result_.snapshots;
  // Of the last flush, which is at or behind the start of the log.
  const SimState& state = from->durable_state();
  Note("offer", from->id().value(), to.value(), state.applied.value());
  offers_.push_back(
      {from->id(), to, state, now_ + (calm_ ? 100 : random_.Between(30, 300))});
  network_.Send({from->id(), to,
                 raft::InstallSnapshot{from->core().term(), state.meta()}},
                now_);
}

void SimCluster::WantSnapshot(SimNode* to, const raft::SnapshotMeta& meta) {
  for (const Offer& offer : offers_) {
    if (offer.to != to->id() || offer.state.meta() != meta) continue;
    auto [known, added] = incoming_.try_emplace(to->id());
    if (!added && known->second.state.applied >= meta.position.index) return;
    known->second = {offer.state, now_ + random_.Between(1, calm_ ? 30 : 200),
                     to->disk().asked()};
    return;
  }
  // Its sender has given up.
}

void SimCluster::Install(SimNode* to) {
  const SimState state = incoming_.at(to->id()).state;
  incoming_.erase(to->id());
  if (!calm_ && random_.Chance(1, 10)) return CrashNode(to);  // before
  const bool switched = to->Switch(state);
  Note("install", to->id().value(), state.applied.value(), switched);
  if (switched) {
    ++result_.installs;
    if (calm_) ++calm_installs_[to->id()];
    if (!calm_ && random_.Chance(1, 5)) return CrashNode(to);  // half way
    to->core().SnapshotInstalled(state.meta());
    RunNode(to);
  }
  for (Offer& offer : offers_) {
    if (offer.to == to->id() && offer.state.applied == state.applied) {
      offer.installed = true;
    }
  }
}

void SimCluster::Snapshots() {
  for (auto& n : nodes_) {
    auto it = incoming_.find(n->id());
    if (it == incoming_.end() || it->second.ready_at > now_) continue;
    if (n->disk().done() >= it->second.writes) Install(n.get());
    if (checker_.failed()) return;
  }
  for (size_t i = 0; i < offers_.size();) {
    const Offer& offer = offers_[i];
    const bool told = offer.installed && random_.Chance(1, 5);
    if (!told && now_ < offer.deadline) {
      ++i;
      continue;
    }
    SimNode& from = node(offer.from);
    const Index index = told ? offer.state.applied : Index(0);
    const NodeId to = offer.to;
    offers_.erase(offers_.begin() + static_cast<ptrdiff_t>(i));
    Note("sent", from.id().value(), to.value(), index.value());
    if (from.up()) from.core().SnapshotSent(to, index);
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
  for (NodeId peer : out.needs_snapshot) OfferSnapshot(n, peer);
  if (out.wants_snapshot) WantSnapshot(n, *out.wants_snapshot);
  if (out.wrote) {
    checker_.OnConfiguration(n->id(), n->disk().written(),
                             n->core().Status().configuration);
  }
}

void SimCluster::CheckCommit(SimNode* n, bool led) {
  // Everything that the core holds committed, applied here or not.
  const Index commit = n->core().commit();
  const DiskImage& log = n->disk().written();
  for (Index i = n->checked_commit + 1; i <= commit; ++i) {
    const Entry* entry = log.At(i);
    if (entry == nullptr) {
      if (i <= log.snapshot.position.index) continue;  // installed
      return checker_.Fail("a commit index without an entry");
    }
    checker_.OnCommit(n->id(), *entry);
  }
  const bool installed = commit == log.snapshot.position.index;
  if (led && commit > n->checked_commit && !installed &&
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
  unfit_.erase(n->id());
  std::erase_if(fetches_, [&](const auto& f) { return f.first == n->id(); });
  std::erase_if(offers_, [&](const Offer& o) { return o.from == n->id(); });
  incoming_.erase(n->id());
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
  n.Flush();
  const uint64_t tail = profile_.tail;
  const Index limit = std::min(n.flushed(), n.core().applied());
  const Index at = limit.value() > tail ? limit - tail : Index();
  const DiskImage& log = n.disk().durable();
  // The core's own idea of durable is what counts, once an installed snapshot
  // is in the log too. (A node may know an entry committed and still have an
  // older one on disk that is being overwritten.)
  if (at > n.core().Status().durable || at <= log.snapshot.position.index ||
      n.disk().InstallPending() ||
      log.TermAt(at) != n.disk().written().TermAt(at)) {
    return;
  }
  Note("compact", n.id().value(), at.value());
  n.core().Compact(at);
  n.disk().Compact(at);
}

raft::Configuration SimCluster::AnyTarget(const raft::Configuration& now) {
  raft::Configuration target = now;
  target.outgoing.clear();
  auto remove = [](std::vector<NodeId>* from, NodeId id) {
    std::erase(*from, id);
  };
  auto add = [](std::vector<NodeId>* to, NodeId id) {
    to->insert(std::lower_bound(to->begin(), to->end(), id), id);
  };
  const NodeId any = AnyNode().id();
  const bool voter = now.IsVoter(any);
  const bool learner = now.IsLearner(any);
  switch (random_.Below(4)) {
    case 0:  // any other set of voters
      target = raft::Configuration();
      for (auto& n : nodes_) {
        if (random_.Chance(1, 2)) target.voters.push_back(n->id());
      }
      break;
    case 1:  // replace one
      if (voter || now.voters.empty()) break;
      remove(&target.learners, any);
      remove(&target.voters, now.voters[random_.Below(now.voters.size())]);
      add(&target.voters, any);
      break;
    default:  // join, be promoted, leave
      if (learner) {
        remove(&target.learners, any);
        if (random_.Chance(3, 4)) add(&target.voters, any);
      } else if (voter) {
        remove(&target.voters, any);
      } else {
        add(&target.learners, any);
      }
  }
  return target;
}

void SimCluster::ChangeMembers() {
  std::vector<SimNode*> leaders;  // old ones too
  for (auto& n : nodes_) {
    if (n->up() && n->core().IsLeader()) leaders.push_back(n.get());
  }
  if (leaders.empty()) return;
  raft::Core& core = leaders[random_.Below(leaders.size())]->core();
  auto at = core.ProposeConfiguration(AnyTarget(core.Status().configuration));
  Note("members", at.ok(), at.ok() ? at->index.value() : 0);
  result_.changes += at.ok() ? 1 : 0;
}

void SimCluster::ChangeFitness() {
  SimNode& n = AnyNode();
  if (!n.up()) return;
  const bool fit = unfit_.erase(n.id()) > 0;
  Note("fit", n.id().value(), fit);
  if (!fit) {
    ++result_.unfit;
    unfit_[n.id()] = {now_, n.core().IsLeader() ? n.core().term() : Term()};
  }
  n.core().SetFit(fit);
}

// An unfit replica never becomes leader, and does not stay it for long.
void SimCluster::CheckFitness() {
  const uint64_t longest = (2 * kElectionTicks + 1) * kUnitsPerTick;
  for (auto& [id, unfit] : unfit_) {
    const raft::Core& core = node(id).core();
    if (!core.IsLeader()) continue;
    const raft::Configuration& c = core.Status().configuration;
    if (c.Validate().ok() && c.voters == std::vector<NodeId>{id} &&
        !c.joint()) {
      unfit = {now_, core.term()};  // nobody else could
      continue;
    }
    if (core.term() != unfit.led || now_ - unfit.since > longest) {
      checker_.Fail(absl::StrCat("fitness: ", id.value(), " leads term ",
                                 core.term().value(), " and must not"));
    }
  }
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
  if (random_.Chance(profile_.members, 10000)) ChangeMembers();
  if (random_.Chance(profile_.unfit, 10000)) ChangeFitness();
  if (random_.Chance(20, 10000)) {
    SimNode& n = AnyNode();
    if (n.up()) n.Flush();
  }
}

// ---- the end ----

void SimCluster::Calm() {
  calm_ = true;
  for (const auto& [id, unfit] : unfit_) node(id).core().SetFit(true);
  unfit_.clear();
  heal_at_ = 0;
  network_.Heal();
  network_.set_faults({});
  profile_.max_sync = 2;
  profile_.propose = 0;
  profile_.read = 0;
  profile_.lazy_apply = false;
  std::fill(start_at_.begin(), start_at_.end(), now_);
}

Index SimCluster::LowestApplied() {
  SimNode* leader = Leader();
  if (leader == nullptr) return Index();
  Index lowest = leader->applied();
  for (NodeId id : leader->core().Status().configuration.Members()) {
    lowest = std::min(lowest, node(id).applied());
  }
  return lowest;
}

void SimCluster::CheckConverged() {
  const uint64_t timeout = kElectionTicks * kUnitsPerTick;
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
  // A replica that joined last may need the whole log, through a window of a
  // few entries and links of several units: as long as it moves, it lives.
  uint64_t still = 0;
  Index lowest;
  while (still < 5 * timeout && !checker_.failed()) {
    Unit(/*faults=*/false);
    const Index now_lowest = LowestApplied();
    still = now_lowest > lowest ? 0 : still + 1;
    lowest = std::max(lowest, now_lowest);
  }
  SimNode* leader = Leader();
  if (leader == nullptr) return checker_.Fail("liveness: the leader is gone");
  const raft::CoreStatus status = leader->core().Status();
  if (status.changing) {
    checker_.Fail(absl::StrCat("liveness: still changing to ",
                               raft::Describe(status.configuration)));
  }
  for (auto [id, installs] : calm_installs_) {
    if (installs > 2) {
      checker_.Fail(
          absl::StrCat("liveness: ", installs, " snapshots for ", id.value()));
    }
  }
  for (NodeId id : status.configuration.Members()) {
    SimNode* n = &node(id);
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
