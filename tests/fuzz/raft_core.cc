// Steps one raft core with everything that a peer may say, true or not, and
// does what it asks for as its owner does: writes that end late, in order, or
// never; crashes. Promises, whatever peers say: the core never stops the
// process, terms do not fall, there is one vote a term, and what is committed
// stays and comes once, in order.
#include <deque>
#include <map>
#include <memory>
#include <utility>

#include "raft/core.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

using namespace raft;  // NOLINT: a target of that namespace

constexpr uint64_t kNodes =
    5;  // 1 is the core, 4 and 5 are no members at first
constexpr uint64_t kFirstIndex = 1;
constexpr size_t kMaxSteps = 400;

class Counter : public Random {
 public:
  uint64_t Next() override { return next_ += 7; }

 private:
  uint64_t next_ = 0;
};

Configuration FirstConfiguration() {
  Configuration configuration;
  configuration.voters = {NodeId(1), NodeId(2), NodeId(3)};
  return configuration;
}

std::vector<NodeId> Nodes(Input* in) {
  std::vector<NodeId> nodes;
  const uint8_t bits = in->Byte();
  for (uint64_t i = 0; i <= kNodes; ++i) {
    if (bits >> i & 1) nodes.push_back(NodeId(i));
  }
  return nodes;
}

Configuration AnyConfiguration(Input* in) {
  Configuration configuration;
  configuration.voters = Nodes(in);
  if (in->Bool()) configuration.outgoing = Nodes(in);
  if (in->Bool()) configuration.learners = Nodes(in);
  return configuration;
}

// The core and what is on its disk.
class Replica {
 public:
  explicit Replica(Input* in) : in_(in) {
    options_.self = NodeId(1);
    options_.election_timeout_ticks = 4;
    options_.heartbeat_ticks = 1;
    options_.quiesce_after_ticks = 3;
    options_.max_inflight_messages = 3;
    options_.max_append_entries = 3;
    options_.max_cached_bytes = in->Below(2) * 200;
    options_.max_uncommitted_bytes = 1000;
    options_.max_apply_bytes = 100;
    start_ = {Term(1), Index(kFirstIndex)};
    start_configuration_ = applied_configuration_ = FirstConfiguration();
    applied_ = start_.index;
    disk_.term = Term(1);
    Start();
  }

  void Run() {
    for (size_t i = 0; i < kMaxSteps && !in_->done(); ++i) {
      OneStep();
      if (in_->Below(4) != 0) Turn();
      Check();
    }
    while (!writes_.empty()) FinishWrite();
    Turn();
    Check();
  }

 private:
  struct Write {
    Persist persist;
    std::vector<Envelope> answers;
  };

  void Start() {
    InitialState state;
    state.hard_state = disk_;
    state.snapshot = {start_, start_configuration_};
    state.applied = applied_;
    state.applied_configuration = applied_configuration_;
    state.last_index = Last();
    Term last;
    for (const auto& [index, entry] : log_) {
      if (entry.term != last) state.terms.push_back({index, entry.term});
      last = entry.term;
      if (index > applied_) state.entries.push_back(entry);
    }
    state.hard_state.commit = std::min(disk_.commit, Last());
    auto core = Core::Create(options_, std::move(state), &random_);
    KV739_FUZZ_CHECK(core.ok(), core.status().ToString());
    core_ = *std::move(core);
    seen_term_ = core_->term();
    seen_commit_ = Index();
    committed_to_ = applied_;
  }

  Index Last() const {
    return log_.empty() ? start_.index : log_.rbegin()->first;
  }

  // Near what the core has, so that it is at times believed.
  LogPosition Near() {
    const uint64_t base = core_->last_index().value();
    const uint64_t back = in_->Below(6);
    const Index index(back < 5 && base > back ? base - back : in_->Number());
    auto entry = log_.find(index);
    Term term(in_->Below(3) == 0 ? in_->Number() : core_->term().value());
    if (in_->Below(4) != 0) {
      if (entry != log_.end()) term = entry->second.term;
      if (index == start_.index) term = start_.term;
    }
    return {term, index};
  }
  Term NearTerm() {
    const uint64_t term = core_->term().value();
    switch (in_->Below(6)) {
      case 0:
        return Term(term + 1);
      case 1:
        return Term(in_->Number());
      case 2:
        return Term(term - 1);
      default:
        return Term(term);
    }
  }

  std::vector<Entry> AnyEntries(LogPosition previous, Term term) {
    std::vector<Entry> entries;
    for (uint64_t count = in_->Below(5); count > 0; --count) {
      ++previous.index;
      if (in_->Below(8) == 0) previous.index = Index(in_->Number());
      if (in_->Below(4) == 0) previous.term = term;
      if (in_->Below(16) == 0) previous.term = Term(in_->Number());
      Entry entry{previous.term, previous.index,
                  static_cast<EntryKind>(1 + in_->Below(2)),
                  MakePayload(std::string(in_->Bytes(40)))};
      if (in_->Below(4) == 0) {
        entry.kind = EntryKind::kConfiguration;
        entry.data = MakePayload(
            in_->Below(8) == 0 ? std::string(in_->Bytes(40))
                               : EncodeConfiguration(AnyConfiguration(in_)));
      }
      if (in_->Below(32) == 0) entry.kind = static_cast<EntryKind>(in_->Byte());
      if (in_->Below(64) == 0) entry.data = nullptr;
      entries.push_back(std::move(entry));
    }
    return entries;
  }

  Message AnyMessage() {
    const Term term = NearTerm();
    switch (in_->Below(8)) {
      case 0:
        return RequestVote{term, Near(), in_->Bool(), in_->Bool()};
      case 1:
        return RequestVoteResponse{term, in_->Bool(), in_->Bool()};
      case 2: {
        const LogPosition previous = Near();
        return AppendEntries{term, previous, Near().index,
                             AnyEntries(previous, term)};
      }
      case 3:
        return AppendEntriesResponse{term, in_->Bool(), Near().index, Near()};
      case 4:
        return Heartbeat{term, Near().index, in_->Number(), in_->Bool()};
      case 5:
        return HeartbeatResponse{term, in_->Below(2) ? in_->Number() : round_,
                                 in_->Below(2) == 1};
      case 6:
        return TimeoutNow{term};
      default:
        return InstallSnapshot{term, {Near(), AnyConfiguration(in_)}};
    }
  }

  void OneStep() {
    switch (in_->Below(16)) {
      case 0:
        core_->BecomeQuiet();
        return core_->Tick();
      case 1:
        for (uint64_t ticks = in_->Below(12); ticks > 0; --ticks) core_->Tick();
        return;
      case 2:
        return FinishWrite();
      case 3: {
        std::vector<Payload> commands;
        for (uint64_t count = in_->Below(4); count > 0; --count) {
          commands.push_back(MakePayload(std::string(in_->Bytes(300))));
        }
        core_->Propose(std::move(commands)).IgnoreError();
        return;
      }
      case 4:
        core_->ProposeConfiguration(AnyConfiguration(in_)).IgnoreError();
        return;
      case 5:
        return core_->ReadIndex(next_read_++);
      case 6:
        core_->TransferLeadership(NodeId(in_->Below(kNodes + 1))).IgnoreError();
        return;
      case 7:
        switch (in_->Below(6)) {
          case 0:
            return core_->SetFit(in_->Bool());
          case 1:
            return Compact();
          case 2:
            return Crash();
          case 3:
            return Install();
          case 4:
            return core_->SnapshotSent(NodeId(in_->Below(kNodes + 1)),
                                       Near().index);
          default:
            return ApplySome();
        }
      case 8:
        return Answer();
      default:
        return core_->Step({NodeId(in_->Below(kNodes + 1)),
                            NodeId(in_->Below(16) == 0 ? in_->Byte() : 1),
                            AnyMessage()});
    }
  }

  // What an honest follower would say, to get on.
  void Answer() {
    for (NodeId from : {NodeId(2), NodeId(3)}) {
      if (in_->Below(4) == 0) continue;
      const Term term = core_->term();
      core_->Step({from, NodeId(1), RequestVoteResponse{term + 1, true, true}});
      core_->Step({from, NodeId(1), RequestVoteResponse{term, false, true}});
      core_->Step({from, NodeId(1),
                   AppendEntriesResponse{term, true, core_->last_index(), {}}});
      core_->Step({from, NodeId(1), HeartbeatResponse{term, round_}});
    }
  }

  void Turn() {
    for (int i = 0; i < 100 && core_->HasReady(); ++i) TakeReady();
  }

  void TakeReady() {
    Ready ready = core_->TakeReady();
    for (const Envelope& envelope : ready.send_now) {
      if (auto* beat = std::get_if<Heartbeat>(&envelope.message)) {
        round_ = beat->round;
      }
    }
    for (Entry& entry : ready.committed) {
      KV739_FUZZ_CHECK(entry.index == committed_to_ + 1,
                       "committed entries come in order");
      ++committed_to_;
      const auto value = std::pair(entry.term, *entry.data);
      auto [it, added] = committed_.emplace(entry.index, value);
      KV739_FUZZ_CHECK(it->second == value, "a committed entry was replaced");
      unapplied_.push_back(std::move(entry));
    }
    if (ready.wants_snapshot) offered_ = *ready.wants_snapshot;
    for (LogFetch& fetch : ready.fetch) Fetch(fetch);
    if (!ready.persist.empty() || !ready.send_after_persist.empty()) {
      writes_.push_back(
          {std::move(ready.persist), std::move(ready.send_after_persist)});
    }
    if (in_->Below(4) != 0) FinishWrite();
    if (in_->Below(4) != 0) ApplySome();
  }

  void Fetch(const LogFetch& fetch) {
    std::vector<Entry> entries;
    for (auto it = log_.find(fetch.first);
         it != log_.end() && it->first <= fetch.last; ++it) {
      entries.push_back(it->second);
    }
    core_->Fetched(fetch.peer, std::move(entries));
  }

  void FinishWrite() {
    if (writes_.empty()) return;
    Write write = std::move(writes_.front());
    writes_.pop_front();
    if (write.persist.snapshot) CutLog(*write.persist.snapshot);
    if (write.persist.hard_state) {
      const HardState& now = *write.persist.hard_state;
      KV739_FUZZ_CHECK(now.term >= disk_.term, "a term fell");
      KV739_FUZZ_CHECK(
          now.term > disk_.term || !disk_.vote || now.vote == disk_.vote,
          "two votes in one term");
      disk_ = now;
    }
    for (Entry& entry : write.persist.entries) {
      log_.erase(log_.lower_bound(entry.index), log_.end());
      KV739_FUZZ_CHECK(entry.index == Last() + 1, "a hole in the log");
      log_.emplace(entry.index, std::move(entry));
    }
    core_->Persisted(write.persist.position);
  }

  void CutLog(LogPosition position) {
    if (position.index <= start_.index) return;
    auto it = log_.find(position.index);
    if (it != log_.end() && it->second.term == position.term) {
      log_.erase(log_.begin(), std::next(it));
    } else {
      log_.clear();
    }
    start_ = position;
  }

  void ApplySome() {
    for (uint64_t count = 1 + in_->Below(4); count > 0; --count) {
      if (unapplied_.empty()) return;
      const Entry entry = std::move(unapplied_.front());
      unapplied_.pop_front();
      applied_ = entry.index;
      if (entry.kind == EntryKind::kConfiguration) {
        applied_configuration_ = *DecodeConfiguration(*entry.data);
      }
      core_->Applied(applied_);
    }
  }

  void Compact() {
    const Index to = std::min(applied_, core_->Status().durable);
    // As the owner does it, nothing of the log is under way then.
    while (!writes_.empty()) FinishWrite();
    if (to <= start_.index) return;
    auto it = log_.find(to);
    if (it == log_.end()) return;
    // The configuration in force there is that of the state machine.
    if (to != applied_) return;
    start_configuration_ = applied_configuration_;
    const LogPosition position{it->second.term, to};
    core_->Compact(to);
    CutLog(position);
  }

  void Install() {
    if (!offered_.position.index) return;
    while (!writes_.empty()) FinishWrite();
    const SnapshotMeta meta = std::exchange(offered_, {});
    const LogPosition position = meta.position;
    if (position.index <= applied_ || core_->IsLeader() ||
        position.index <= core_->commit()) {
      return;
    }
    Turn();
    if (core_->IsLeader() || position.index <= core_->commit()) return;
    while (!writes_.empty()) FinishWrite();
    unapplied_.clear();
    applied_ = committed_to_ = position.index;
    applied_configuration_ = start_configuration_ = meta.configuration;
    core_->SnapshotInstalled(meta);
    Turn();
    while (!writes_.empty()) FinishWrite();
  }

  void Crash() {
    writes_.clear();
    unapplied_.clear();
    offered_ = {};
    // A state machine is never behind what the log begins with, and what it has
    // applied was durable in the log of this replica or is in its own state.
    if (applied_ > Last()) {
      log_.clear();
      start_ = {committed_.count(applied_) ? committed_.at(applied_).first
                                           : core_->term(),
                applied_};
      start_configuration_ = applied_configuration_;
      disk_.term = std::max(disk_.term, start_.term);
    }
    Start();
  }

  void Check() {
    KV739_FUZZ_CHECK(core_->term() >= seen_term_, "the term fell");
    seen_term_ = core_->term();
    KV739_FUZZ_CHECK(core_->commit() >= seen_commit_, "the commit index fell");
    seen_commit_ = core_->commit();
    KV739_FUZZ_CHECK(core_->commit() <= core_->last_index(),
                     "committed beyond the log");
    core_->Status();
  }

  Input* const in_;
  Counter random_;
  Options options_;
  std::unique_ptr<Core> core_;
  // The disk.
  HardState disk_;
  LogPosition start_;
  Configuration start_configuration_;
  std::map<Index, Entry> log_;
  // The state machine, durable at once.
  Index applied_;
  Configuration applied_configuration_;
  // The process.
  std::deque<Write> writes_;
  std::deque<Entry> unapplied_;
  SnapshotMeta offered_;
  ReadId next_read_ = 1;
  uint64_t round_ = 0;
  // Seen so far.
  Term seen_term_;
  Index seen_commit_;
  Index committed_to_;
  std::map<Index, std::pair<Term, std::string>> committed_;
};

}  // namespace

KV739_FUZZ_TARGET(raft_core, 1500) {
  Input in(bytes);
  Replica(&in).Run();
}

}  // namespace kv739::fuzz
