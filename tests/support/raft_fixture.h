// One core under test: build a state, give one input, look at what comes out.
#ifndef KV739_TESTS_SUPPORT_RAFT_FIXTURE_H_
#define KV739_TESTS_SUPPORT_RAFT_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "raft/core.h"
#include "raft/describe.h"

namespace kv739::raft {

// Every timeout is the shortest: election_timeout_ticks exactly.
class NoRandom : public Random {
 public:
  uint64_t Next() override { return value; }
  uint64_t value = 0;
};

inline std::vector<NodeId> Nodes(std::initializer_list<uint64_t> ids) {
  std::vector<NodeId> nodes;
  for (uint64_t id : ids) nodes.push_back(NodeId(id));
  return nodes;
}

inline LogPosition At(uint64_t term, uint64_t index) {
  return {Term(term), Index(index)};
}

inline Entry Command(uint64_t term, uint64_t index, std::string data = "x") {
  return {Term(term), Index(index), EntryKind::kCommand,
          MakePayload(std::move(data))};
}

inline Entry Config(uint64_t term, uint64_t index, const Configuration& c) {
  return {Term(term), Index(index), EntryKind::kConfiguration,
          MakePayload(EncodeConfiguration(c))};
}

// Node 1 of a group; everything that it wants done is collected by Turn().
class CoreUnderTest {
 public:
  struct State {
    std::vector<NodeId> voters = Nodes({1, 2, 3});
    std::vector<NodeId> learners = {};
    // Terms of the entries from index 1 on, all durable.
    std::vector<uint64_t> log = {};
    HardState hard_state = {};  // the term is at least that of the log
    Options options = DefaultOptions();
    std::vector<NodeId> outgoing = {};
  };
  static Options DefaultOptions() {
    Options options;
    options.self = NodeId(1);
    options.election_timeout_ticks = 10;
    options.heartbeat_ticks = 2;
    return options;
  }

  CoreUnderTest() : CoreUnderTest(State()) {}
  explicit CoreUnderTest(State setup) : options(setup.options) {
    InitialState state;
    state.snapshot.configuration.voters = setup.voters;
    state.snapshot.configuration.outgoing = setup.outgoing;
    state.snapshot.configuration.learners = setup.learners;
    state.hard_state = setup.hard_state;
    for (uint64_t term : setup.log) {
      const Index index = state.last_index + 1;
      if (state.terms.empty() || state.terms.back().term != Term(term)) {
        state.terms.push_back({index, Term(term)});
      }
      state.entries.push_back(Command(term, index.value()));
      state.last_index = index;
      state.hard_state.term = std::max(state.hard_state.term, Term(term));
    }
    Create(std::move(state));
  }
  CoreUnderTest(const Options& with, InitialState state) : options(with) {
    Create(std::move(state));
  }

  Core* operator->() { return core.get(); }

  // One turn of an owner whose disk is instant: the messages that may leave.
  std::vector<Envelope> Turn() {
    std::vector<Envelope> sent;
    while (core->HasReady()) {
      Ready ready = core->TakeReady();
      auto add = [&sent](std::vector<Envelope>& from) {
        sent.insert(sent.end(), from.begin(), from.end());
      };
      add(ready.send_now);
      core->Persisted(ready.persist.position);
      add(ready.send_after_persist);
      for (const Entry& entry : ready.committed) {
        applied.push_back(entry);
        core->Applied(entry.index);
      }
      reads.insert(reads.end(), ready.reads.begin(), ready.reads.end());
      failed_reads.insert(failed_reads.end(), ready.failed_reads.begin(),
                          ready.failed_reads.end());
      fetch.insert(fetch.end(), ready.fetch.begin(), ready.fetch.end());
      needs_snapshot.insert(needs_snapshot.end(), ready.needs_snapshot.begin(),
                            ready.needs_snapshot.end());
      if (ready.wants_snapshot) wants_snapshot.push_back(*ready.wants_snapshot);
      if (ready.persist.snapshot) {
        log_begins_behind.push_back(*ready.persist.snapshot);
      }
    }
    return sent;
  }

  template <typename M>
  void Receive(uint64_t from, M message) {
    core->Step({NodeId(from), options.self, std::move(message)});
  }
  // Receive, then a turn.
  template <typename M>
  std::vector<Envelope> Answer(uint64_t from, M message) {
    Receive(from, std::move(message));
    return Turn();
  }

  std::vector<Envelope> Ticks(uint64_t n) {
    std::vector<Envelope> sent;
    for (uint64_t i = 0; i < n; ++i) {
      core->Tick();
      for (Envelope& e : Turn()) sent.push_back(std::move(e));
    }
    return sent;
  }

  // Through pre-vote and vote, with the votes of `friends`.
  std::vector<Envelope> BecomeLeader(std::vector<uint64_t> friends = {2}) {
    std::vector<Envelope> sent;
    Ticks(options.election_timeout_ticks);
    const Term next = core->term() + 1;
    for (uint64_t id : friends) {
      Receive(id, RequestVoteResponse{next, true, true});
    }
    Turn();
    for (uint64_t id : friends) {
      Receive(id, RequestVoteResponse{next, false, true});
    }
    sent = Turn();
    EXPECT_TRUE(core->IsLeader());
    return sent;
  }
  // The given followers have everything.
  std::vector<Envelope> AcknowledgeAll(std::vector<uint64_t> from) {
    for (uint64_t id : from) {
      Receive(id, AppendEntriesResponse{
                      core->term(), true, core->last_index(), {}});
    }
    return Turn();
  }

  LogPosition Propose(std::string data = "x") {
    auto position = core->Propose({MakePayload(std::move(data))});
    EXPECT_TRUE(position.ok()) << position.status();
    return position.ok() ? *position : LogPosition();
  }

  Options options;
  NoRandom random;
  std::unique_ptr<Core> core;
  std::vector<Entry> applied;
  std::vector<ReadReady> reads;
  std::vector<ReadId> failed_reads;
  std::vector<LogFetch> fetch;
  std::vector<NodeId> needs_snapshot;
  std::vector<SnapshotMeta> wants_snapshot;
  std::vector<LogPosition> log_begins_behind;

 private:
  void Create(InitialState state) {
    auto created = Core::Create(options, std::move(state), &random);
    ASSERT_TRUE(created.ok()) << created.status();
    core = *std::move(created);
  }
};

// All messages of one type, with their envelopes dropped.
template <typename M>
std::vector<M> Of(const std::vector<Envelope>& sent) {
  std::vector<M> found;
  for (const Envelope& e : sent) {
    if (const M* m = std::get_if<M>(&e.message)) found.push_back(*m);
  }
  return found;
}
template <typename M>
std::vector<M> To(uint64_t to, const std::vector<Envelope>& sent) {
  std::vector<M> found;
  for (const Envelope& e : sent) {
    const M* m = std::get_if<M>(&e.message);
    if (m != nullptr && e.to == NodeId(to)) found.push_back(*m);
  }
  return found;
}

}  // namespace kv739::raft

#endif  // KV739_TESTS_SUPPORT_RAFT_FIXTURE_H_
