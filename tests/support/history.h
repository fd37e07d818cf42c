// Histories of clients, and a checker that uses the old values that puts
// return.
//
// Every put of a history writes a value that no other put writes. A put that
// returned its old value therefore names the write before it, and the writes
// of one key fall into pieces: chains in which each write is known to follow
// the one before. Where a put's old value is not known (its answer was lost)
// a new piece begins. A history without lost answers is one single chain.
//
// What is checked, key by key, is whether there is an order of all operations
// that agrees with what they saw and with real time (linearizability):
//   - no two puts saw the same old value (one of them would be lost, or the
//     write they saw was done twice), no put follows itself, nothing is seen
//     that was not written, or whose write was refused;
//   - along a piece no operation begins after a later one has ended. Let
//     `release` be the latest start and `deadline` the earliest end within a
//     piece: A can stand before B exactly if A.release <= B.deadline, and an
//     order of all pieces exists exactly if every two of them can stand in one
//     of the two ways (a longer cycle contains a cycle of two: its piece with
//     the earliest deadline and the one before that). The test is exact and
//     needs no search. The idea of pieces ("zones") is from P. Gibbons and
//     E. Korach, Testing Shared Memories, SIAM J. Comput. 26 (1997), 4.
// Writes with unknown outcome that nobody saw need no place: leaving them out
// never makes an order impossible.
#ifndef KV739_TESTS_SUPPORT_HISTORY_H_
#define KV739_TESTS_SUPPORT_HISTORY_H_

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace kv739::test {

// Nanoseconds of the steady clock.
using Nanos = int64_t;
Nanos Now();
inline constexpr Nanos kNever = std::numeric_limits<Nanos>::max();

// What is stored under a key; nullopt: no such key.
using Stored = std::optional<std::string>;

enum class Kind { kPut, kGet, kAppend, kDelete, kCas };
enum class Outcome {
  kDone,
  kUnknown,  // may have taken effect, or may yet
  kRefused,  // has not, and never will
};

struct Operation {
  Kind kind = Kind::kGet;
  Outcome outcome = Outcome::kDone;
  int client = 0;
  std::string key;
  std::string value;  // written or appended
  // What was there: a get's result, a write's old value. nullopt: not known.
  std::optional<Stored> seen;
  Nanos start = 0;
  Nanos end = 0;
  // Of a write that was done its own, else that of what was seen; 0: of
  // nothing, or not known.
  uint64_t version = 0;
  // Of a compare-and-swap: what must be there for it to write, as its client
  // knew it by its version; and whether it has written, when it is done.
  Stored expected;
  bool swapped = false;
};
// One line for people: what, when (in ms after `origin`) and with what result.
std::string Describe(const Operation& operation, Nanos origin);

enum class Fault {
  kRepeatedValue,  // the history itself is not fit: two puts of one value
  kInventedValue,  // seen, but never written
  kRefusedValue,   // seen, but its write was refused
  kFork,           // two puts saw the same old value
  kLoop,           // puts follow each other in a circle
  kRealTime,       // the chain of writes runs against real time
  kStaleRead,      // a get saw a value that had been replaced before it began
  kEarlyRead,      // a get saw a value before its put began
  kNoOrder,        // pieces of the chain that can stand in no order
  kLost,           // a done append is not in the final value
  kDoubled,        // a token is there twice
  kWrongOld,       // a write saw something else than what was before it
  kWrongSwap,      // a compare-and-swap compared with something else
  kWrongVersion,   // two values of one version, or one value of two
};
struct Violation {
  Fault fault;
  std::string text;  // names the key, the operations and their times
};
// What is wrong with `operations` of `key`; times are told from `origin` on.
Violation MakeViolation(Fault fault, const std::string& key,
                        const std::string& what,
                        std::initializer_list<const Operation*> operations,
                        Nanos origin);

// Puts and gets alone; values of puts unique per key. Every key is missing at
// first. Returns the first violation; keys are visited in ascending order.
std::optional<Violation> CheckPuts(const std::vector<Operation>& operations);

// Appends and gets of one key each (tokens end in ';' and contain no other
// one; no token twice per key), `final_value` what is there after the last of
// them: every done append is in it exactly once, unknown ones at most once,
// refused ones never; what an operation saw is the part before its token; the
// order of the tokens agrees with real time.
std::optional<Violation> CheckAppends(const std::vector<Operation>& operations,
                                      const std::string& key,
                                      const Stored& final_value);

// Puts, gets, deletes and compare-and-swaps with their versions; values that
// are written unique per key. Every key is missing at first. The writes of a
// key stand in a chain by their versions: each saw what the one before it left
// (but for a delete of unknown outcome, which nobody can place), each
// compare-and-swap did what it had to by what it saw, and the order agrees with
// real time. Needs no search and finds no more than this: IsLinearizable() has
// the last word, as in CheckMixed().
std::optional<Violation> CheckVersions(
    const std::vector<Operation>& operations);

// CheckVersions(), and then whether an order exists at all, for each key.
// `*undecided`, when given, counts keys for which the search gave up.
std::optional<Violation> CheckMixed(const std::vector<Operation>& operations,
                                    uint64_t* undecided = nullptr);

// Gathers operations of many threads.
class History {
 public:
  void Add(Operation operation) ABSL_LOCKS_EXCLUDED(mutex_);
  std::vector<Operation> Take() ABSL_LOCKS_EXCLUDED(mutex_);
  size_t size() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  mutable absl::Mutex mutex_;
  std::vector<Operation> operations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_HISTORY_H_
