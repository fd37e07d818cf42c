#include "raft/log.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/sim_random.h"

namespace kv739::raft {
namespace {

constexpr uint64_t kNoBound = ~uint64_t{0};

Entry Make(uint64_t term, uint64_t index, std::string data = "x") {
  return {Term(term), Index(index), EntryKind::kCommand,
          MakePayload(std::move(data))};
}

LogPosition At(uint64_t term, uint64_t index) {
  return {Term(term), Index(index)};
}

// A log whose entry i has the i-th term.
Log WithTerms(const std::vector<uint64_t>& terms, uint64_t cache = 1 << 20) {
  Log log({}, cache);
  for (size_t i = 0; i < terms.size(); ++i) log.Append(Make(terms[i], i + 1));
  return log;
}

void PersistAll(Log* log) {
  log->TakeUnpersisted();
  log->PersistedTo(log->end());
}

TEST(Log, EmptyLog) {
  Log log({}, 100);
  EXPECT_EQ(log.first(), Index(1));
  EXPECT_EQ(log.last(), Index(0));
  EXPECT_TRUE(log.Matches(At(0, 0)));
  EXPECT_EQ(log.TermAt(Index(1)), std::nullopt);
  EXPECT_TRUE(log.TakeUnpersisted().empty());
  EXPECT_TRUE(log.TakeUnapplied(kNoBound).empty());
}

TEST(Log, TermsOfAllIndexes) {
  const std::vector<uint64_t> terms = {1, 1, 2, 5, 5, 5, 9};
  Log log = WithTerms(terms);
  for (size_t i = 0; i < terms.size(); ++i) {
    EXPECT_EQ(log.TermAt(Index(i + 1)), Term(terms[i]));
  }
  EXPECT_EQ(log.TermAt(Index(8)), std::nullopt);
  EXPECT_EQ(log.last_term(), Term(9));
}

TEST(Log, UpToDateByTermThenByLength) {
  Log log = WithTerms({1, 2, 2});
  EXPECT_TRUE(log.IsUpToDate(At(2, 3)));
  EXPECT_TRUE(log.IsUpToDate(At(3, 1)));
  EXPECT_TRUE(log.IsUpToDate(At(2, 4)));
  EXPECT_FALSE(log.IsUpToDate(At(2, 2)));
  EXPECT_FALSE(log.IsUpToDate(At(1, 9)));
}

TEST(Log, LastNotAboveAgreesWithASearch) {
  const std::vector<uint64_t> terms = {1, 1, 2, 5, 5, 7, 9, 9};
  Log log = WithTerms(terms);
  for (uint64_t index = 0; index <= 10; ++index) {
    for (uint64_t term = 0; term <= 10; ++term) {
      uint64_t i = std::min<uint64_t>(index, terms.size());
      while (i > 0 && terms[i - 1] > term) --i;
      EXPECT_EQ(log.LastNotAbove(Index(index), Term(term)),
                At(i == 0 ? 0 : terms[i - 1], i))
          << index << " " << term;
    }
  }
}

TEST(Log, DurableOnlyWhenTheEntryIsStillThere) {
  Log log = WithTerms({1, 1});
  EXPECT_EQ(log.TakeUnpersisted().size(), 2u);
  log.TruncateFrom(Index(2));
  log.Append(Make(2, 2));
  log.PersistedTo(At(1, 2));  // of the entry that was overwritten
  EXPECT_EQ(log.durable(), Index(0));
  EXPECT_EQ(log.TakeUnpersisted().size(), 1u);
  log.PersistedTo(At(2, 2));
  EXPECT_EQ(log.durable(), Index(2));
}

TEST(Log, TruncationTakesTheDurableMarkBack) {
  Log log = WithTerms({1, 1, 1});
  PersistAll(&log);
  log.TruncateFrom(Index(2));
  EXPECT_EQ(log.durable(), Index(1));
  EXPECT_EQ(log.end(), At(1, 1));
  log.Append(Make(2, 2));
  ASSERT_EQ(log.TakeUnpersisted().size(), 1u);
}

TEST(Log, AppliesOnlyWhatIsCommittedAndDurable) {
  Log log = WithTerms({1, 1, 1});
  log.TakeUnpersisted();
  log.CommitTo(Index(3));
  EXPECT_FALSE(log.HasUnapplied());
  log.PersistedTo(At(1, 2));
  EXPECT_EQ(log.TakeUnapplied(kNoBound).size(), 2u);
  EXPECT_FALSE(log.HasUnapplied());
  log.PersistedTo(At(1, 3));
  EXPECT_EQ(log.TakeUnapplied(kNoBound).size(), 1u);
}

TEST(Log, HandsOutWithinBytesButAlwaysOne) {
  Log log({}, 0);
  for (uint64_t i = 1; i <= 3; ++i) {
    log.Append(Make(1, i, std::string(1000, 'x')));
  }
  PersistAll(&log);
  log.CommitTo(Index(3));
  EXPECT_EQ(log.TakeUnapplied(10).size(), 1u);
  EXPECT_EQ(log.TakeUnapplied(2 * (1000 + kEntryOverhead)).size(), 2u);
}

TEST(Log, MemoryKeepsWhatIsNeededAndABoundedRest) {
  Log log({}, 10 * (1 + kEntryOverhead));
  for (uint64_t i = 1; i <= 5000; ++i) log.Append(Make(1, i));
  EXPECT_EQ(log.first_in_memory(), Index(1));
  PersistAll(&log);
  log.CommitTo(Index(5000));
  EXPECT_EQ(log.first_in_memory(), Index(1)) << "not applied yet";
  log.TakeUnapplied(kNoBound);
  log.AppliedTo(Index(4000));
  EXPECT_EQ(log.first_in_memory(), Index(4001));
  log.AppliedTo(Index(5000));
  EXPECT_EQ(log.first_in_memory(), Index(4991)) << "ten fit the cache";
  EXPECT_EQ(log.At(Index(4995)).index, Index(4995));
  EXPECT_EQ(log.TermAt(Index(3)), Term(1)) << "terms are kept";
}

TEST(Log, CompactDropsTheBeginning) {
  Log log = WithTerms({1, 1, 2, 2, 3});
  PersistAll(&log);
  log.CommitTo(Index(5));
  log.TakeUnapplied(kNoBound);
  log.AppliedTo(Index(5));
  log.Compact(Index(3));
  EXPECT_EQ(log.first(), Index(4));
  EXPECT_EQ(log.snapshot(), At(2, 3));
  EXPECT_EQ(log.TermAt(Index(2)), std::nullopt);
  EXPECT_EQ(log.TermAt(Index(3)), Term(2));
  EXPECT_EQ(log.TermAt(Index(4)), Term(2));
  log.Compact(Index(2));  // older: nothing to do
  EXPECT_EQ(log.first(), Index(4));
  log.Compact(Index(5));
  EXPECT_EQ(log.end(), At(3, 5));
  log.Append(Make(3, 6));
  EXPECT_EQ(log.TermAt(Index(6)), Term(3));
}

TEST(Log, RandomWalkAgreesWithAPlainVector) {
  sim::SimRandom random(7);
  for (int run = 0; run < 50; ++run) {
    Log log({}, 200);
    std::vector<uint64_t> terms;  // of index 1 on
    uint64_t term = 1;
    for (int step = 0; step < 300; ++step) {
      switch (random.Below(7)) {
        case 0:
          term += random.Below(3);
          [[fallthrough]];
        case 1:
          log.Append(Make(term, terms.size() + 1));
          terms.push_back(term);
          break;
        case 2:
          if (log.last() > log.committed()) {
            const uint64_t from =
                random.Between(log.committed().value() + 1, log.last().value());
            log.TruncateFrom(Index(from));
            terms.resize(from - 1);
          }
          break;
        case 3:
          log.TakeUnpersisted();
          if (!terms.empty()) {
            const uint64_t to = random.Between(1, terms.size());
            log.PersistedTo(At(terms[to - 1], to));
          }
          break;
        case 4:
          log.CommitTo(Index(random.Below(terms.size() + 1)));
          break;
        case 5:
          for (const Entry& e : log.TakeUnapplied(random.Below(200))) {
            ASSERT_EQ(e.term, Term(terms[e.index.value() - 1]));
            log.AppliedTo(e.index);
          }
          break;
        default:
          if (random.Chance(1, 4)) {
            const Index most = std::min(log.applied(), log.durable());
            log.Compact(Index(random.Below(most.value() + 1)));
          }
      }
      ASSERT_EQ(log.last(), Index(terms.size()));
      for (uint64_t i = log.first().value(); i <= terms.size(); ++i) {
        ASSERT_EQ(log.TermAt(Index(i)), Term(terms[i - 1]));
      }
      for (Index i = log.first_in_memory(); i <= log.last(); ++i) {
        ASSERT_EQ(log.At(i).index, i);
      }
    }
  }
}

Log::Start ValidStart() {
  return {At(2, 10), Index(12),
          Index(13), {{Index(11), Term(2)}, {Index(13), Term(4)}},
          Index(14), {Make(4, 13), Make(4, 14)}};
}

TEST(Log, StartsFromWhatWasRecovered) {
  const Log::Start start = ValidStart();
  ASSERT_TRUE(Log::Validate(start).ok()) << Log::Validate(start);
  Log log(start, 1 << 20);
  EXPECT_EQ(log.durable(), Index(14));
  EXPECT_EQ(log.committed(), Index(13));
  EXPECT_EQ(log.TermAt(Index(12)), Term(2));
  EXPECT_EQ(log.TermAt(Index(13)), Term(4));
}

TEST(Log, RefusesContradictoryStarts) {
  auto broken = [](auto change) {
    Log::Start start = ValidStart();
    change(&start);
    return !Log::Validate(start).ok();
  };
  EXPECT_TRUE(broken([](auto* s) { s->snapshot.term = Term(0); }));
  EXPECT_TRUE(broken([](auto* s) { s->snapshot.term = Term(3); }));
  EXPECT_TRUE(broken([](auto* s) { s->last = Index(9); }));
  EXPECT_TRUE(broken([](auto* s) { s->applied = Index(9); }));
  EXPECT_TRUE(broken([](auto* s) { s->applied = Index(15); }));
  EXPECT_TRUE(broken([](auto* s) { s->commit = Index(15); }));
  EXPECT_TRUE(broken([](auto* s) { s->terms.clear(); }));
  EXPECT_TRUE(broken([](auto* s) { s->terms[0].first = Index(12); }));
  EXPECT_TRUE(broken([](auto* s) { s->terms[1].term = Term(2); }));
  EXPECT_TRUE(broken([](auto* s) { s->terms[1].first = Index(15); }));
  EXPECT_TRUE(broken([](auto* s) { s->entries.pop_back(); }));
  EXPECT_TRUE(broken([](auto* s) { s->entries[1].index = Index(13); }));
  EXPECT_TRUE(broken([](auto* s) { s->entries[1].term = Term(5); }));
  EXPECT_TRUE(broken([](auto* s) { s->entries[0].data = nullptr; }));
}

using LogDeathTest = ::testing::Test;
TEST(LogDeathTest, BrokenRulesEndTheProcess) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Log log = WithTerms({1, 1, 2});
  PersistAll(&log);
  log.CommitTo(Index(2));
  EXPECT_DEATH(log.TruncateFrom(Index(2)), "committed entries stay");
  EXPECT_DEATH(log.Append(Make(2, 9)), "follow the last");
  EXPECT_DEATH(log.Append(Make(1, 4)), "do not fall");
  EXPECT_DEATH(log.CommitTo(Index(4)), "is committed");
  EXPECT_DEATH(log.AppliedTo(Index(1)), "can be applied");
  EXPECT_DEATH(log.Compact(Index(1)), "applied and durable");
}

}  // namespace
}  // namespace kv739::raft
