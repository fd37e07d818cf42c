#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "tests/support/history.h"
#include "tests/support/linearizability.h"
#include "tests/support/real_time.h"

namespace kv739::test {
namespace {

// Of a search for the order of one key's operations; the longest histories
// here take some ten thousand.
constexpr uint64_t kMaxSteps = 1'000'000;

// Checks one key. Pointers are into the history that is checked.
class VersionChecker {
 public:
  VersionChecker(const std::string& key,
                 const std::vector<const Operation*>& operations)
      : key_(key), operations_(operations) {
    origin_ = operations.front()->start;
    for (const Operation* op : operations) {
      origin_ = std::min(origin_, op->start);
    }
  }

  std::optional<Violation> Check() {
    if (CollectValues() && CollectVersions() && CheckSwaps() && CheckChain()) {
      CheckOrder();
    }
    return violation_;
  }

 private:
  bool Fail(Fault fault, const std::string& what,
            std::initializer_list<const Operation*> operations) {
    violation_ = MakeViolation(fault, key_, what, operations, origin_);
    return false;
  }

  static bool Done(const Operation& op) { return op.outcome == Outcome::kDone; }
  static bool WritesValue(const Operation& op) {
    return op.kind == Kind::kPut || op.kind == Kind::kCas;
  }
  // Its version is its own.
  static bool HasWritten(const Operation& op) {
    return Done(op) && (op.kind == Kind::kPut || op.kind == Kind::kDelete ||
                        (op.kind == Kind::kCas && op.swapped));
  }

  bool CollectValues() {
    for (const Operation* op : operations_) {
      if (op->kind == Kind::kDelete && op->outcome == Outcome::kUnknown) {
        first_unknown_delete_ = std::min(first_unknown_delete_, op->start);
      }
      if (!WritesValue(*op)) continue;
      const auto [at, added] = writers_.emplace(op->value, op);
      if (!added) {
        return Fail(Fault::kRepeatedValue, "two writes of one value",
                    {at->second, op});
      }
    }
    for (const Operation* op : operations_) {
      if (!Done(*op) || !op->seen || !*op->seen) continue;
      const auto writer = writers_.find(**op->seen);
      if (writer == writers_.end()) {
        return Fail(Fault::kInventedValue, "a value that nobody wrote", {op});
      }
      const Operation& write = *writer->second;
      if (write.outcome == Outcome::kRefused ||
          (write.kind == Kind::kCas && Done(write) && !write.swapped)) {
        return Fail(Fault::kRefusedValue, "the value of a refused write",
                    {&write, op});
      }
    }
    return true;
  }

  // `op` was told that `value` has this version.
  bool Sighted(uint64_t version, const Stored& value, const Operation* op) {
    if (version == 0) {
      return !value ||
             Fail(Fault::kWrongVersion, "a value without version", {op});
    }
    const auto [at, added] = of_version_.emplace(version, Sighting{value, op});
    if (!added && at->second.value != value) {
      return Fail(Fault::kWrongVersion, "two values of one version",
                  {at->second.op, op});
    }
    if (!value) return true;
    const auto [of, first] = versions_.emplace(*value, version);
    if (!first && of->second != version) {
      return Fail(Fault::kWrongVersion, "one value of two versions",
                  {writers_.at(*value), op});
    }
    return true;
  }

  bool CollectVersions() {
    for (const Operation* op : operations_) {
      if (!Done(*op) || !op->seen) continue;
      if (HasWritten(*op)) {
        const Stored value =
            op->kind == Kind::kDelete ? std::nullopt : Stored(op->value);
        if (!Sighted(op->version, value, op)) return false;
        const auto [at, added] = chain_.emplace(op->version, op);
        if (!added && at->second != op) {
          return Fail(Fault::kWrongVersion, "two writes of one version",
                      {at->second, op});
        }
      } else if (!Sighted(op->version, *op->seen, op)) {
        return false;
      }
    }
    // Writes whose answer was lost, and that somebody has seen.
    for (const auto& [value, version] : versions_) {
      chain_.emplace(version, writers_.at(value));
    }
    return true;
  }

  bool CheckSwaps() {
    for (const Operation* op : operations_) {
      if (op->kind != Kind::kCas || !Done(*op) || !op->seen) continue;
      if (op->swapped == (*op->seen == op->expected)) continue;
      return Fail(Fault::kWrongSwap,
                  "a compare-and-swap compared with something else", {op});
    }
    return true;
  }

  bool CheckChain() {
    const Operation* before = nullptr;
    std::map<std::string, const Operation*> next;  // by value seen
    for (const auto& [version, op] : chain_) {
      const Operation* previous = std::exchange(before, op);
      if (!Done(*op) || !op->seen) continue;
      const Stored& seen = *op->seen;
      if (seen) {
        const auto [at, added] = next.emplace(*seen, op);
        if (!added) {
          return Fail(Fault::kFork, "two writes saw the same old value",
                      {at->second, op});
        }
        // One that nobody was told the version of stands somewhere before.
        const auto of = versions_.find(*seen);
        if (of == versions_.end()) continue;
      } else if (first_unknown_delete_ <= op->end) {
        continue;
      }
      const Stored left = previous == nullptr ? std::nullopt
                          : previous->kind == Kind::kDelete
                              ? std::nullopt
                              : Stored(previous->value);
      if (seen == left) continue;
      return previous == nullptr
                 ? Fail(Fault::kWrongOld, "a write saw what came later", {op})
                 : Fail(Fault::kWrongOld,
                        "the second of these writes comes next after the "
                        "first, by their versions, and saw something else",
                        {previous, op});
    }
    return true;
  }

  bool CheckOrder() {
    std::map<uint64_t, std::vector<const Operation*>> readers;
    for (const Operation* op : operations_) {
      if (Done(*op) && op->seen && !HasWritten(*op) && op->version != 0) {
        readers[op->version].push_back(op);
      }
    }
    Order order;
    order.Begin();
    for (const auto& [version, op] : chain_) {
      order.Add({op});
      const auto of = readers.find(version);
      if (of != readers.end()) order.Add(of->second);
    }
    if (!order.violated()) return true;
    const Operation* first = order.earlier_in_order();
    return Fail(HasWritten(*first) ? Fault::kRealTime : Fault::kStaleRead,
                "by versions the first of these comes before the second, which "
                "had ended when the first began",
                {first, order.later_in_order()});
  }

  struct Sighting {
    Stored value;
    const Operation* op;
  };

  const std::string& key_;
  const std::vector<const Operation*>& operations_;
  Nanos origin_ = 0;
  Nanos first_unknown_delete_ = kNever;
  std::map<std::string, const Operation*> writers_;  // by value
  std::map<uint64_t, Sighting> of_version_;
  std::map<std::string, uint64_t> versions_;    // by value
  std::map<uint64_t, const Operation*> chain_;  // writes, by version
  std::optional<Violation> violation_;
};

std::map<std::string, std::vector<const Operation*>> ByKey(
    const std::vector<Operation>& operations) {
  std::map<std::string, std::vector<const Operation*>> by_key;
  for (const Operation& operation : operations) {
    by_key[operation.key].push_back(&operation);
  }
  return by_key;
}

}  // namespace

std::optional<Violation> CheckVersions(
    const std::vector<Operation>& operations) {
  for (const auto& [key, of_key] : ByKey(operations)) {
    if (auto violation = VersionChecker(key, of_key).Check()) return violation;
  }
  return std::nullopt;
}

std::optional<Violation> CheckMixed(const std::vector<Operation>& operations,
                                    uint64_t* undecided) {
  if (auto violation = CheckVersions(operations)) return violation;
  for (const auto& [key, of_key] : ByKey(operations)) {
    const std::optional<bool> good = IsLinearizable(of_key, kMaxSteps);
    if (!good && undecided != nullptr) ++*undecided;
    if (!good || *good) continue;
    return Violation{
        Fault::kNoOrder,
        absl::StrCat("key \"", absl::CHexEscape(key), "\": its ", of_key.size(),
                     " operations can stand in no order")};
  }
  return std::nullopt;
}

}  // namespace kv739::test
