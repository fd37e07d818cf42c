#include "tests/support/history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "tests/support/linearizability.h"
#include "tests/support/real_time.h"

namespace kv739::test {
namespace {

using ::testing::HasSubstr;

constexpr char kKey[] = "k";
// Times of the histories written out here are in milliseconds.
constexpr Nanos kMs = 1'000'000;
// Old value of a put that found none.
const Stored kNothing = std::nullopt;

Operation Put(const std::string& value, Nanos start, Nanos end, Stored old) {
  return {.kind = Kind::kPut,
          .key = kKey,
          .value = value,
          .seen = std::move(old),
          .start = start * kMs,
          .end = end * kMs};
}
Operation Get(Nanos start, Nanos end, Stored value) {
  return {.kind = Kind::kGet,
          .key = kKey,
          .seen = std::move(value),
          .start = start * kMs,
          .end = end * kMs};
}
Operation Append(const std::string& token, Nanos start, Nanos end, Stored old) {
  Operation op = Put(token, start, end, std::move(old));
  op.kind = Kind::kAppend;
  return op;
}
Operation Delete(Nanos start, Nanos end, Stored old) {
  Operation op = Get(start, end, std::move(old));
  op.kind = Kind::kDelete;
  return op;
}
Operation Cas(Stored expected, const std::string& value, Nanos start, Nanos end,
              Stored old) {
  Operation op = Put(value, start, end, std::move(old));
  op.kind = Kind::kCas;
  op.expected = std::move(expected);
  op.swapped = *op.seen == op.expected;
  return op;
}
Operation Version(uint64_t version, Operation op) {
  op.version = version;
  return op;
}
Operation Unknown(Operation op) {
  op.outcome = Outcome::kUnknown;
  op.seen.reset();
  op.version = 0;
  op.swapped = false;
  return op;
}
Operation Refused(Operation op) {
  op.outcome = Outcome::kRefused;
  op.seen.reset();
  return op;
}
Operation Blind(Operation op) {
  op.seen.reset();
  return op;
}

void ExpectFault(std::optional<Violation> violation, Fault fault,
                 const std::string& text) {
  ASSERT_TRUE(violation.has_value());
  EXPECT_EQ(violation->fault, fault) << violation->text;
  EXPECT_THAT(violation->text, HasSubstr(text));
  EXPECT_THAT(violation->text, HasSubstr("key \"k\""));
}
void ExpectGood(std::optional<Violation> violation) {
  EXPECT_FALSE(violation.has_value()) << violation->text;
}

TEST(CheckPuts, TakesAnEmptyHistory) { ExpectGood(CheckPuts({})); }

TEST(CheckPuts, TakesOneChain) {
  ExpectGood(CheckPuts({Get(0, 1, kNothing), Put("a", 2, 3, kNothing),
                        Get(4, 5, "a"), Put("b", 6, 7, "a"), Get(8, 9, "b")}));
}

TEST(CheckPuts, TakesOverlappingOperationsInAnyOrder) {
  ExpectGood(CheckPuts({Put("a", 0, 10, "b"), Put("b", 1, 9, kNothing),
                        Get(2, 8, "b"), Get(2, 8, "a"), Get(2, 8, kNothing)}));
}

TEST(CheckPuts, KeepsKeysApart) {
  Operation other = Put("a", 4, 5, kNothing);
  other.key = "l";
  ExpectGood(CheckPuts({Put("a", 0, 1, kNothing), other}));
}

TEST(CheckPuts, AnEmptyValueIsNotNothing) {
  ExpectGood(CheckPuts({Put("", 0, 1, kNothing), Put("b", 2, 3, "")}));
  ExpectFault(CheckPuts({Put("", 0, 1, kNothing), Put("b", 2, 3, kNothing)}),
              Fault::kFork, "same old value");
}

TEST(CheckPuts, FindsALostWrite) {
  // "b" was acknowledged, and the next put still saw "a".
  ExpectFault(CheckPuts({Put("a", 0, 1, kNothing), Put("b", 2, 3, "a"),
                         Put("c", 4, 5, "a")}),
              Fault::kFork, "put \"c\"");
}

TEST(CheckPuts, FindsALostWriteByAGet) {
  ExpectFault(CheckPuts({Put("a", 0, 1, kNothing), Put("b", 2, 3, "a"),
                         Get(4, 5, "a")}),
              Fault::kStaleRead, "get");
}

TEST(CheckPuts, FindsTheLossOfEverything) {
  ExpectFault(CheckPuts({Put("a", 0, 1, kNothing), Get(4, 5, kNothing)}),
              Fault::kStaleRead, "saw nothing");
}

TEST(CheckPuts, FindsAWriteThatWasDoneTwice) {
  // a, then b, then a again by a retry: c sees a, as b did.
  ExpectFault(CheckPuts({Put("a", 0, 3, kNothing), Put("b", 1, 2, "a"),
                         Put("c", 4, 5, "a")}),
              Fault::kFork, "put \"b\"");
  // The answer of the second time reached the client.
  ExpectFault(CheckPuts({Put("a", 0, 1, "a")}), Fault::kLoop, "own value");
}

TEST(CheckPuts, FindsACircle) {
  ExpectFault(CheckPuts({Put("z", 0, 1, kNothing), Put("a", 0, 9, "b"),
                         Put("b", 0, 9, "a")}),
              Fault::kLoop, "circle");
}

TEST(CheckPuts, FindsAStaleRead) {
  ExpectFault(CheckPuts({Put("a", 0, 1, kNothing), Put("b", 2, 3, "a"),
                         Get(3, 4, "b"), Get(5, 6, "a")}),
              Fault::kStaleRead, "5.000 to 6.000 ms");
}

TEST(CheckPuts, FindsReadsThatGoBack) {
  // The put of "b" has not ended, but its value was read before.
  ExpectFault(CheckPuts({Put("a", 0, 1, kNothing), Put("b", 2, 20, "a"),
                         Get(3, 4, "b"), Get(5, 6, "a")}),
              Fault::kStaleRead, "saw \"a\"");
}

TEST(CheckPuts, FindsAReadOfTheFuture) {
  ExpectFault(CheckPuts({Put("a", 5, 6, kNothing), Get(1, 2, "a")}),
              Fault::kEarlyRead, "get");
}

TEST(CheckPuts, FindsTheValueOfARefusedWrite) {
  ExpectFault(CheckPuts({Refused(Put("a", 0, 1, kNothing)), Get(2, 3, "a")}),
              Fault::kRefusedValue, "refused");
  ExpectFault(
      CheckPuts({Refused(Put("a", 0, 1, kNothing)), Put("b", 2, 3, "a")}),
      Fault::kRefusedValue, "put \"b\"");
  ExpectGood(
      CheckPuts({Refused(Put("a", 0, 1, kNothing)), Put("b", 2, 3, kNothing)}));
}

TEST(CheckPuts, FindsAValueThatNobodyWrote) {
  ExpectFault(CheckPuts({Get(2, 3, "a")}), Fault::kInventedValue, "get");
  ExpectFault(CheckPuts({Put("b", 2, 3, "a")}), Fault::kInventedValue, "put");
}

TEST(CheckPuts, FindsAnOrderAgainstRealTime) {
  // "b" began after "a" had ended, but "a" says that it came later.
  ExpectFault(CheckPuts({Put("a", 0, 1, "b"), Put("b", 2, 3, kNothing)}),
              Fault::kRealTime, "put \"b\"");
  // Not between neighbours: a and b, b and c overlap, a and c do not.
  ExpectFault(CheckPuts({Put("a", 0, 1, "b"), Put("b", 0, 9, "c"),
                         Put("c", 2, 3, kNothing)}),
              Fault::kRealTime, "put \"c\"");
}

TEST(CheckPuts, RefusesARepeatedValue) {
  ExpectFault(CheckPuts({Put("a", 0, 1, kNothing), Put("a", 2, 3, "a")}),
              Fault::kRepeatedValue, "two puts of one value");
}

TEST(CheckPuts, AnUnknownWriteMayHappenOrNot) {
  ExpectGood(
      CheckPuts({Put("a", 0, 1, kNothing), Unknown(Put("u", 2, 3, kNothing)),
                 Put("b", 4, 5, "a")}));
  ExpectGood(
      CheckPuts({Put("a", 0, 1, kNothing), Unknown(Put("u", 2, 3, kNothing)),
                 Put("b", 4, 5, "u"), Get(6, 7, "b")}));
  // Long after the client gave up.
  ExpectGood(
      CheckPuts({Unknown(Put("u", 0, 1, kNothing)), Put("a", 2, 3, kNothing),
                 Get(50, 51, "a"), Get(60, 61, "u")}));
}

TEST(CheckPuts, AnUnknownWriteHappensOnce) {
  ExpectFault(CheckPuts({Unknown(Put("u", 0, 1, kNothing)), Put("a", 2, 3, "u"),
                         Put("b", 4, 5, "u")}),
              Fault::kFork, "same old value");
  ExpectFault(
      CheckPuts({Put("a", 0, 1, kNothing), Unknown(Put("u", 2, 3, kNothing)),
                 Get(4, 5, "u"), Get(6, 7, "a")}),
      Fault::kStaleRead, "belongs before");
  // Not before its client began it.
  ExpectFault(CheckPuts({Get(0, 1, "u"), Unknown(Put("u", 5, 6, kNothing))}),
              Fault::kEarlyRead, "unknown");
}

TEST(CheckPuts, NothingComesBeforeTheFirstState) {
  // "u" was read, and then a put found nothing.
  ExpectFault(CheckPuts({Unknown(Put("u", 0, 1, kNothing)), Get(2, 3, "u"),
                         Put("a", 4, 5, kNothing)}),
              Fault::kStaleRead, "belongs before");
}

TEST(CheckPuts, PiecesWithoutAnOrderAreFound) {
  // Each of u and v was read before and after the other.
  ExpectFault(CheckPuts({Unknown(Put("u", 0, 1, kNothing)),
                         Unknown(Put("v", 0, 1, kNothing)), Get(2, 3, "u"),
                         Get(4, 5, "v"), Get(6, 7, "u")}),
              Fault::kNoOrder, "get");
}

TEST(CheckAppends, TakesOneChain) {
  ExpectGood(CheckAppends(
      {Append("a;", 0, 1, kNothing), Get(2, 3, "a;"),
       Unknown(Append("u;", 2, 3, kNothing)), Append("b;", 4, 5, "a;u;"),
       Unknown(Append("w;", 6, 7, kNothing)),
       Refused(Append("r;", 6, 7, kNothing))},
      kKey, "a;u;b;"));
  ExpectGood(CheckAppends({}, kKey, kNothing));
}

TEST(CheckAppends, FindsEachFault) {
  ExpectFault(CheckAppends({Append("a;", 0, 1, kNothing)}, kKey, kNothing),
              Fault::kLost, "append \"a;\"");
  ExpectFault(CheckAppends({Append("a;", 0, 1, kNothing)}, kKey, "a;a;"),
              Fault::kDoubled, "append \"a;\"");
  ExpectFault(
      CheckAppends({Unknown(Append("a;", 0, 1, kNothing))}, kKey, "a;a;"),
      Fault::kDoubled, "append \"a;\"");
  ExpectFault(CheckAppends({Refused(Append("a;", 0, 1, kNothing))}, kKey, "a;"),
              Fault::kRefusedValue, "append \"a;\"");
  ExpectFault(CheckAppends({}, kKey, "a;"), Fault::kInventedValue, "a;");
  ExpectFault(CheckAppends({Append("a;", 0, 1, kNothing)}, kKey, "a;b"),
              Fault::kInventedValue, "within a token");
  ExpectFault(
      CheckAppends({Append("a;", 0, 1, kNothing), Append("b;", 2, 3, kNothing)},
                   kKey, "a;b;"),
      Fault::kWrongOld, "append \"b;\"");
  ExpectFault(
      CheckAppends({Append("a;", 2, 3, kNothing), Append("b;", 0, 1, "a;")},
                   kKey, "a;b;"),
      Fault::kRealTime, "append \"b;\"");
  ExpectFault(CheckAppends({Append("a;", 0, 1, kNothing), Get(2, 3, kNothing)},
                           kKey, "a;"),
              Fault::kStaleRead, "get");
  ExpectFault(
      CheckAppends({Append("a;", 0, 1, kNothing), Get(2, 3, "b;")}, kKey, "a;"),
      Fault::kInventedValue, "get");
}

// Slow and obvious: every choice of unknown operations, in every order.
bool IsLinearizableByForce(const std::vector<Operation>& operations) {
  std::vector<const Operation*> done;
  std::vector<const Operation*> unknown;
  for (const Operation& op : operations) {
    if (op.outcome == Outcome::kDone) done.push_back(&op);
    if (op.outcome == Outcome::kUnknown) unknown.push_back(&op);
  }
  for (size_t choice = 0; choice < size_t{1} << unknown.size(); ++choice) {
    std::vector<const Operation*> order = done;
    for (size_t i = 0; i < unknown.size(); ++i) {
      if (choice >> i & 1) order.push_back(unknown[i]);
    }
    std::sort(order.begin(), order.end());
    do {
      Stored state;
      Nanos latest = std::numeric_limits<Nanos>::min();
      bool good = true;
      for (const Operation* op : order) {
        latest = std::max(latest, op->start);
        if (latest > EndOf(*op) || !Agrees(*op, state)) {
          good = false;
          break;
        }
        state = Apply(*op, state);
      }
      if (good) return true;
    } while (std::next_permutation(order.begin(), order.end()));
  }
  return false;
}

// Histories of one key that are often, but not always, linearizable: what a
// real register would have answered, then a little damage.
class Generator {
 public:
  explicit Generator(uint32_t seed) : random_(seed) {}

  std::vector<Operation> Next(int count, bool only_unique_puts) {
    std::vector<Operation> operations;
    std::vector<Stored> values = {std::nullopt};
    for (int i = 0; i < count; ++i) {
      Operation op;
      op.key = kKey;
      op.client = i;
      const int kind = Below(only_unique_puts ? 5 : 10);
      op.kind = kind < 3   ? Kind::kPut
                : kind < 5 ? Kind::kGet
                : kind < 7 ? Kind::kAppend
                : kind < 8 ? Kind::kDelete
                           : Kind::kCas;
      if (Below(3) > 0) op.expected = std::string(1, 'a' + Below(2));
      op.value =
          only_unique_puts ? std::to_string(i) : std::string(1, 'a' + Below(2));
      const Nanos at = 10 * i;
      op.start = at - Below(25);
      op.end = at + Below(25);
      operations.push_back(op);
    }
    Stored state;
    for (Operation& op : operations) {
      op.seen = state;
      bool happens = true;
      if (op.kind != Kind::kGet && Below(4) == 0) {
        op.outcome = Outcome::kUnknown;
        op.seen.reset();
        op.end = op.start + 1;
        happens = Below(2) == 0;
      } else if (op.kind != Kind::kGet && Below(10) == 0) {
        op.outcome = Outcome::kRefused;
        op.seen.reset();
        happens = false;
      }
      op.swapped = op.kind == Kind::kCas && op.outcome == Outcome::kDone &&
                   state == op.expected;
      if (happens) state = Apply(op, state);
      values.push_back(state);
    }
    for (Operation& op : operations) {
      if (!op.seen) continue;
      if (op.kind == Kind::kCas && Below(count) == 0) op.swapped ^= true;
      if (Below(count) == 0) op.seen = values[Below(values.size())];
      if (op.kind != Kind::kGet && Below(6) == 0) op.seen.reset();
      if (Below(2 * count) == 0) {
        const Nanos shift = Below(60) - 30;
        op.start += shift;
        op.end += shift;
      }
    }
    std::shuffle(operations.begin(), operations.end(), random_);
    return operations;
  }

 private:
  int Below(size_t bound) { return static_cast<int>(random_() % bound); }
  std::mt19937 random_;
};

std::string Print(const std::vector<Operation>& operations) {
  std::string text;
  for (const Operation& op : operations) text += Describe(op, 0) + "\n";
  return text;
}

TEST(IsLinearizable, AgreesWithBruteForce) {
  Generator generator(1);
  int good = 0;
  constexpr int kRounds = 4000;
  for (int round = 0; round < kRounds; ++round) {
    const auto operations = generator.Next(1 + round % 6, round % 2 == 0);
    const bool expected = IsLinearizableByForce(operations);
    ASSERT_EQ(IsLinearizable(operations), expected) << Print(operations);
    good += expected;
  }
  // Both verdicts were tried often.
  EXPECT_GT(good, kRounds / 5);
  EXPECT_LT(good, kRounds * 4 / 5);
}

TEST(IsLinearizable, SeesDeletesAndAppends) {
  EXPECT_TRUE(
      IsLinearizable({Append("a", 0, 1, kNothing), Append("b", 2, 3, "a"),
                      Delete(4, 5, "ab"), Get(6, 7, kNothing)}));
  EXPECT_FALSE(IsLinearizable(
      {Append("a", 0, 1, kNothing), Append("b", 2, 3, "a"), Get(6, 7, "ba")}));
  EXPECT_FALSE(IsLinearizable({Blind(Put("a", 0, 1, kNothing)),
                               Blind(Delete(2, 3, kNothing)), Get(4, 5, "a")}));
}

TEST(IsLinearizable, SeesCompareAndSwaps) {
  EXPECT_TRUE(IsLinearizable({Cas(kNothing, "a", 0, 1, kNothing),
                              Cas("a", "b", 2, 3, "a"),
                              Cas("a", "c", 4, 5, "b"), Get(6, 7, "b")}));
  // It did not compare with what was there.
  Operation stale = Cas("a", "c", 4, 5, "b");
  stale.swapped = true;
  EXPECT_FALSE(
      IsLinearizable({Put("a", 0, 1, kNothing), Put("b", 2, 3, "a"), stale}));
  // One of unknown outcome writes only over what it expects.
  const Operation unknown = Unknown(Cas("a", "c", 4, 5, "a"));
  EXPECT_TRUE(
      IsLinearizable({Put("a", 0, 1, kNothing), unknown, Get(6, 7, "c")}));
  EXPECT_FALSE(
      IsLinearizable({Put("b", 0, 1, kNothing), unknown, Get(6, 7, "c")}));
}

TEST(IsLinearizable, IsNotHeldUpByManyUnknownWrites) {
  std::vector<Operation> operations;
  for (int i = 0; i < 5000; ++i) {
    const std::string value = std::to_string(i);
    const Stored old = i == 0 ? Stored() : Stored(std::to_string(i - 1));
    operations.push_back(i % 20 == 7 ? Unknown(Put(value, i, i + 1, old))
                                     : Blind(Put(value, i, i + 1, old)));
    if (i % 20 != 7) operations.back().seen = old;
    if (i % 50 == 9) operations.push_back(Unknown(Delete(i, i + 1, kNothing)));
    operations.push_back(Get(i + 1, i + 1, value));
  }
  std::vector<const Operation*> pointers;
  for (const Operation& op : operations) pointers.push_back(&op);
  EXPECT_EQ(IsLinearizable(pointers, 100'000), true);
  // An old value comes back in the end.
  operations.push_back(Get(6000, 6001, "4000"));
  pointers.clear();
  for (const Operation& op : operations) pointers.push_back(&op);
  EXPECT_EQ(IsLinearizable(pointers, 1'000'000), false);
}

TEST(CheckVersions, TakesOneChain) {
  const std::vector<Operation> operations = {
      Version(0, Get(0, 1, kNothing)),
      Version(5, Put("a", 2, 3, kNothing)),
      Version(6, Cas("a", "b", 4, 5, "a")),
      Version(6, Cas("a", "c", 6, 7, "b")),
      Version(8, Delete(8, 9, "b")),
      Version(9, Delete(8, 10, kNothing)),
      Version(11, Cas(kNothing, "d", 11, 12, kNothing)),
      Unknown(Put("u", 11, 12, kNothing)),
      Version(12, Get(13, 14, "u")),
      Unknown(Delete(14, 15, kNothing)),
      Version(14, Put("e", 16, 17, kNothing))};
  ExpectGood(CheckVersions(operations));
  ExpectGood(CheckMixed(operations));
}

TEST(CheckVersions, FindsEachFault) {
  const Operation a = Version(5, Put("a", 0, 1, kNothing));
  const Operation b = Version(6, Put("b", 2, 3, "a"));
  // Acknowledged, and not done.
  ExpectFault(CheckVersions({a, Version(6, Delete(2, 3, "a")),
                             Version(7, Put("c", 4, 5, "a"))}),
              Fault::kFork, "delete");
  ExpectFault(CheckMixed({a, Version(6, Delete(2, 3, "a")),
                          Version(5, Get(4, 5, "a"))}),
              Fault::kStaleRead, "delete");
  Operation wrong = Version(7, Cas("a", "c", 4, 5, "b"));
  wrong.swapped = true;
  ExpectFault(CheckVersions({a, b, wrong}), Fault::kWrongSwap, "compare");
  wrong = Version(6, Cas("b", "c", 4, 5, "b"));
  wrong.swapped = false;
  ExpectFault(CheckVersions({a, b, wrong}), Fault::kWrongSwap, "compare");
  ExpectFault(CheckVersions({a, b, Version(7, Put("c", 4, 5, kNothing))}),
              Fault::kWrongOld, "put \"c\"");
  ExpectFault(CheckVersions({a, Version(5, Get(2, 3, "b")), b}),
              Fault::kWrongVersion, "one version");
  ExpectFault(CheckVersions({a, Version(7, Get(2, 3, "a"))}),
              Fault::kWrongVersion, "two versions");
  ExpectFault(CheckVersions({Version(7, Put("a", 0, 1, "b")),
                             Version(6, Put("b", 2, 3, kNothing))}),
              Fault::kRealTime, "by versions");
  ExpectFault(CheckVersions({a, b, Version(5, Get(4, 5, "a"))}),
              Fault::kStaleRead, "get");
  ExpectFault(CheckVersions({a, Version(9, Get(4, 5, "x"))}),
              Fault::kInventedValue, "nobody");
  // Only the search sees it: nothing is read before and after what is there.
  ExpectFault(CheckMixed({a, b, Version(0, Get(4, 5, kNothing))}),
              Fault::kNoOrder, "no order");
}

TEST(CheckPuts, AgreesWithTheSearch) {
  Generator generator(2);
  int good = 0;
  constexpr int kRounds = 20000;
  for (int round = 0; round < kRounds; ++round) {
    const auto operations = generator.Next(1 + round % 9, true);
    const bool expected = IsLinearizable(operations);
    const auto violation = CheckPuts(operations);
    ASSERT_EQ(!violation.has_value(), expected)
        << Print(operations) << (violation ? violation->text : "");
    good += expected;
  }
  EXPECT_GT(good, kRounds / 5);
  EXPECT_LT(good, kRounds * 4 / 5);
}

TEST(History, KeepsWhatIsAdded) {
  History history;
  history.Add(Put("a", 0, 1, kNothing));
  history.Add(Get(2, 3, "a"));
  EXPECT_EQ(history.size(), 2u);
  EXPECT_EQ(history.Take().size(), 2u);
  EXPECT_EQ(history.size(), 0u);
}

}  // namespace
}  // namespace kv739::test
