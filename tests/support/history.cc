#include "tests/support/history.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "tests/support/real_time.h"

namespace kv739::test {

Nanos Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

namespace {

// Longest part of a value that a description repeats.
constexpr size_t kShownBytes = 48;

std::string Show(const Stored& stored) {
  if (!stored) return "nothing";
  if (stored->size() <= kShownBytes) {
    return absl::StrCat("\"", absl::CHexEscape(*stored), "\"");
  }
  return absl::StrCat("\"", absl::CHexEscape(stored->substr(0, kShownBytes)),
                      "...\" (", stored->size(), " bytes)");
}

std::string Milliseconds(Nanos at, Nanos origin) {
  if (at == kNever) return "never";
  return absl::StrFormat("%.3f", static_cast<double>(at - origin) / 1e6);
}

}  // namespace

Violation MakeViolation(Fault fault, const std::string& key,
                        const std::string& what,
                        std::initializer_list<const Operation*> operations,
                        Nanos origin) {
  std::string text =
      absl::StrCat("key \"", absl::CHexEscape(key), "\": ", what);
  for (const Operation* op : operations) {
    absl::StrAppend(&text, "\n  ", Describe(*op, origin));
  }
  return {fault, std::move(text)};
}

std::string Describe(const Operation& operation, Nanos origin) {
  static constexpr absl::string_view kKinds[] = {"put", "get", "append",
                                                 "delete", "compare-and-swap"};
  static constexpr absl::string_view kOutcomes[] = {"done", "unknown",
                                                    "refused"};
  const bool writes =
      operation.kind != Kind::kGet && operation.kind != Kind::kDelete;
  std::string text = absl::StrCat(
      kKinds[static_cast<int>(operation.kind)],
      writes ? absl::StrCat(" ", Show(operation.value)) : "", " by client ",
      operation.client, ", ", Milliseconds(operation.start, origin), " to ",
      Milliseconds(operation.end, origin), " ms, ",
      kOutcomes[static_cast<int>(operation.outcome)]);
  if (operation.kind == Kind::kCas) {
    absl::StrAppend(&text, ", expected ", Show(operation.expected));
    if (operation.outcome == Outcome::kDone) {
      absl::StrAppend(&text, operation.swapped ? ", swapped" : ", differed");
    }
  }
  if (operation.seen) absl::StrAppend(&text, ", saw ", Show(*operation.seen));
  if (operation.version != 0) {
    absl::StrAppend(&text, ", version ", operation.version);
  }
  return text;
}

namespace {

// Checks one key. Pointers are into the history that is checked.
class KeyChecker {
 public:
  KeyChecker(const std::string& key,
             const std::vector<const Operation*>& operations)
      : key_(key) {
    origin_ = operations.front()->start;
    for (const Operation* op : operations) {
      origin_ = std::min(origin_, op->start);
      (op->kind == Kind::kPut ? puts_ : gets_).push_back(op);
    }
  }

  std::optional<Violation> Check() {
    if (!CollectWrites() || !CollectGets() || !LinkPuts() || !BuildPieces() ||
        !ComparePieces()) {
      return violation_;
    }
    return std::nullopt;
  }

 private:
  bool Fail(Fault fault, const std::string& what,
            std::initializer_list<const Operation*> operations) {
    violation_ = MakeViolation(fault, key_, what, operations, origin_);
    return false;
  }

  bool CollectWrites() {
    for (const Operation* put : puts_) {
      auto [at, added] = writes_.emplace(put->value, put);
      if (!added) {
        return Fail(Fault::kRepeatedValue, "two puts of one value",
                    {at->second, put});
      }
    }
    return true;
  }

  // Whether `seen`, which `reader` saw, can have been there at all.
  bool CheckSeen(const Stored& seen, const Operation* reader) {
    if (!seen) return true;
    auto write = writes_.find(*seen);
    if (write == writes_.end()) {
      return Fail(Fault::kInventedValue, "a value that nobody wrote", {reader});
    }
    if (write->second->outcome == Outcome::kRefused) {
      return Fail(Fault::kRefusedValue, "the value of a refused write",
                  {write->second, reader});
    }
    return true;
  }

  bool CollectGets() {
    for (const Operation* get : gets_) {
      if (get->outcome != Outcome::kDone || !get->seen) continue;
      if (!CheckSeen(*get->seen, get)) return false;
      readers_[*get->seen].push_back(get);
    }
    return true;
  }

  static bool KnowsOld(const Operation* put) {
    return put->outcome == Outcome::kDone && put->seen.has_value();
  }

  bool LinkPuts() {
    for (const Operation* put : puts_) {
      if (!KnowsOld(put)) continue;
      if (!CheckSeen(*put->seen, put)) return false;
      auto [at, added] = next_.emplace(*put->seen, put);
      if (!added) {
        return Fail(Fault::kFork,
                    "two puts saw the same old value: one of them was lost, "
                    "or the write that they saw was done twice",
                    {at->second, put});
      }
    }
    return true;
  }

  // The piece that begins with `head` (null: the key's first state).
  bool BuildPiece(const Operation* head, Order* order) {
    Stored state;
    if (head == nullptr) {
      order->Begin();
    } else {
      state = head->value;
    }
    const Operation* write = head;
    size_t visited = 0;
    while (true) {
      if (write != nullptr) {
        ++placed_;
        order->Add({write});
      }
      auto readers = readers_.find(state);
      if (readers != readers_.end()) order->Add(readers->second);
      auto next = next_.find(state);
      if (next == next_.end()) break;
      write = next->second;
      state = write->value;
      // Forks are excluded, so a piece with a head cannot run in a circle.
      if (++visited > puts_.size()) break;
    }
    if (!order->violated()) return true;
    const Operation* first = order->earlier_in_order();
    const Operation* second = order->later_in_order();
    if (first->kind == Kind::kGet) {
      return Fail(Fault::kStaleRead,
                  "a get began after a later value had been written or read, "
                  "and saw an older one",
                  {second, first});
    }
    if (second->kind == Kind::kGet) {
      return Fail(Fault::kEarlyRead,
                  "a get ended before the value that it saw, or one before "
                  "that, began to be written",
                  {first, second});
    }
    return Fail(Fault::kRealTime,
                "by old values the first of these puts comes before the "
                "second, which had ended when the first began",
                {first, second});
  }

  bool BuildPieces() {
    size_t needed = 0;
    pieces_.emplace_back();
    if (!BuildPiece(nullptr, &pieces_.back())) return false;
    for (const Operation* put : puts_) {
      if (put->outcome == Outcome::kRefused) continue;
      bool observed = readers_.count(put->value) || next_.count(put->value);
      if (put->outcome == Outcome::kUnknown && !observed) continue;
      ++needed;
      if (KnowsOld(put)) continue;
      pieces_.emplace_back();
      if (!BuildPiece(put, &pieces_.back())) return false;
    }
    if (placed_ == needed) return true;
    return ReportLoop();
  }

  bool ReportLoop() {
    // Some puts hang on no piece, so each follows another of them for ever.
    // Walking back from one leads into the circle.
    std::map<const Operation*, bool> in_piece;
    for (const Order& piece : pieces_) {
      for (const Operation* op : piece.operations()) in_piece[op] = true;
    }
    for (const Operation* put : puts_) {
      if (!KnowsOld(put) || in_piece.count(put)) continue;
      const Operation* before = writes_.at(**put->seen);
      return Fail(Fault::kLoop,
                  put == before ? "a put saw its own value: it was done twice"
                                : "puts follow each other in a circle",
                  {before, put});
    }
    return Fail(Fault::kLoop, "puts that follow no other", {});
  }

  bool ComparePieces() {
    for (size_t a = 0; a < pieces_.size(); ++a) {
      for (size_t b = a + 1; b < pieces_.size(); ++b) {
        const Order& x = pieces_[a];
        const Order& y = pieces_[b];
        if (x.MayPrecede(y) || y.MayPrecede(x)) continue;
        if (x.first_of_key()) {
          return Fail(Fault::kStaleRead,
                      "the first of these belongs before the second, which had "
                      "ended when the first began",
                      {x.latest_start(), y.earliest_end()});
        }
        return Fail(Fault::kNoOrder,
                    "writes that can stand in no order: of the first two and "
                    "of the last two, each in a piece of its own, the second "
                    "had ended when the first began",
                    {x.latest_start(), y.earliest_end(), y.latest_start(),
                     x.earliest_end()});
      }
    }
    return true;
  }

  const std::string& key_;
  Nanos origin_ = 0;
  std::vector<const Operation*> puts_;
  std::vector<const Operation*> gets_;
  std::map<std::string, const Operation*> writes_;           // by value
  std::map<Stored, std::vector<const Operation*>> readers_;  // by value seen
  std::map<Stored, const Operation*> next_;                  // by old value
  std::vector<Order> pieces_;
  size_t placed_ = 0;
  std::optional<Violation> violation_;
};

}  // namespace

std::optional<Violation> CheckPuts(const std::vector<Operation>& operations) {
  std::map<std::string, std::vector<const Operation*>> by_key;
  for (const Operation& operation : operations) {
    by_key[operation.key].push_back(&operation);
  }
  for (const auto& [key, of_key] : by_key) {
    if (auto violation = KeyChecker(key, of_key).Check()) return violation;
  }
  return std::nullopt;
}

void History::Add(Operation operation) {
  absl::MutexLock lock(&mutex_);
  operations_.push_back(std::move(operation));
}

std::vector<Operation> History::Take() {
  absl::MutexLock lock(&mutex_);
  return std::exchange(operations_, {});
}

size_t History::size() const {
  absl::MutexLock lock(&mutex_);
  return operations_.size();
}

}  // namespace kv739::test
