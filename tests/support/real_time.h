// One order of operations, built from its beginning, and whether real time
// allows it.
#ifndef KV739_TESTS_SUPPORT_REAL_TIME_H_
#define KV739_TESTS_SUPPORT_REAL_TIME_H_

#include <vector>

#include "tests/support/history.h"

namespace kv739::test {

// Operations are added in steps; those of one step may stand in any order
// among themselves, and all of them after those of the steps before. The
// earliest possible moments are handed out greedily, which is exact: an
// operation's moment is the latest start so far, so the order is possible
// exactly if no operation ends before one of an earlier step starts.
class Order {
 public:
  // This order begins with a key's first state, before everything else.
  void Begin() { first_of_key_ = true; }
  void Add(const std::vector<const Operation*>& step);

  bool violated() const { return earlier_ != nullptr; }
  // Of the first violation: the second of the two ended before the first one
  // started, though it comes later in the order.
  const Operation* earlier_in_order() const { return earlier_; }
  const Operation* later_in_order() const { return later_; }

  // Whether all of this can stand before all of `other`.
  bool MayPrecede(const Order& other) const;
  bool first_of_key() const { return first_of_key_; }
  const Operation* latest_start() const { return latest_start_; }
  const Operation* earliest_end() const { return earliest_end_; }
  const std::vector<const Operation*>& operations() const {
    return operations_;
  }

 private:
  std::vector<const Operation*> operations_;
  const Operation* latest_start_ = nullptr;
  const Operation* earliest_end_ = nullptr;
  const Operation* earlier_ = nullptr;
  const Operation* later_ = nullptr;
  bool first_of_key_ = false;
};

// When an operation ended: never, if its outcome is unknown.
inline Nanos EndOf(const Operation& operation) {
  return operation.outcome == Outcome::kUnknown ? kNever : operation.end;
}

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_REAL_TIME_H_
