#include "tests/support/linearizability.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "tests/support/real_time.h"

namespace kv739::test {

Stored Apply(const Operation& operation, const Stored& before) {
  switch (operation.kind) {
    case Kind::kPut:
      return operation.value;
    case Kind::kAppend:
      return before.value_or("") + operation.value;
    case Kind::kDelete:
      return std::nullopt;
    case Kind::kGet:
      return before;
  }
  return before;
}

bool Agrees(const Operation& operation, const Stored& before) {
  return operation.outcome != Outcome::kDone || !operation.seen ||
         *operation.seen == before;
}

namespace {

class Search {
 public:
  explicit Search(const std::vector<Operation>& operations) {
    for (const Operation& op : operations) {
      if (op.outcome == Outcome::kRefused) continue;
      if (op.outcome == Outcome::kUnknown && op.kind == Kind::kGet) continue;
      operations_.push_back(&op);
      if (op.outcome == Outcome::kDone) ++missing_;
    }
    std::stable_sort(operations_.begin(), operations_.end(),
                     [](const Operation* a, const Operation* b) {
                       return a->start < b->start;
                     });
    placed_.assign(operations_.size(), '0');
  }

  // Whether what is not placed yet can be placed after `state`.
  bool Place(const Stored& state) {
    if (missing_ == 0) return true;
    if (!visited_.emplace(placed_, state).second) return false;
    // Only what started before everything not yet placed ended can be next.
    Nanos limit = kNever;
    for (size_t i = 0; i < operations_.size(); ++i) {
      if (placed_[i] == '0') limit = std::min(limit, EndOf(*operations_[i]));
    }
    for (size_t i = 0; i < operations_.size(); ++i) {
      const Operation& op = *operations_[i];
      if (op.start > limit) break;
      if (placed_[i] != '0' || !Agrees(op, state)) continue;
      const int done = op.outcome == Outcome::kDone ? 1 : 0;
      placed_[i] = '1';
      missing_ -= done;
      if (Place(Apply(op, state))) return true;
      missing_ += done;
      placed_[i] = '0';
    }
    return false;
  }

 private:
  std::vector<const Operation*> operations_;  // by start
  std::string placed_;                        // '1' for each that is placed
  int missing_ = 0;                           // done ones not placed
  std::set<std::pair<std::string, Stored>> visited_;
};

}  // namespace

bool IsLinearizable(const std::vector<Operation>& operations) {
  return Search(operations).Place(std::nullopt);
}

}  // namespace kv739::test
