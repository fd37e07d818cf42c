#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "tests/support/history.h"
#include "tests/support/real_time.h"

namespace kv739::test {
namespace {

class AppendChecker {
 public:
  AppendChecker(const std::vector<Operation>& operations,
                const std::string& key, const Stored& final_value)
      : key_(key), final_(final_value.value_or("")) {
    for (const Operation& op : operations) {
      if (op.key == key) operations_.push_back(&op);
    }
    origin_ = operations_.empty() ? 0 : operations_.front()->start;
    for (const Operation* op : operations_) {
      origin_ = std::min(origin_, op->start);
    }
  }

  std::optional<Violation> Check() {
    if (!CollectAppends() || !PlaceTokens() || !PlaceGets()) return violation_;
    for (const Operation* op : operations_) {
      if (op->kind == Kind::kAppend && op->outcome == Outcome::kDone &&
          !placed_.count(op->value)) {
        Fail(Fault::kLost, "a done append is not there", {op});
        return violation_;
      }
    }
    return CheckOrder();
  }

 private:
  bool Fail(Fault fault, const std::string& what,
            std::initializer_list<const Operation*> operations) {
    violation_ = MakeViolation(fault, key_, what, operations, origin_);
    return false;
  }

  bool CollectAppends() {
    for (const Operation* op : operations_) {
      if (op->kind != Kind::kAppend) continue;
      auto [at, added] = appends_.emplace(op->value, op);
      if (!added) {
        return Fail(Fault::kRepeatedValue, "two appends of one token",
                    {at->second, op});
      }
    }
    return true;
  }

  // Cuts the final value into tokens; steps_[n] ends with its length.
  bool PlaceTokens() {
    size_t begin = 0;
    while (begin < final_.size()) {
      size_t end = final_.find(';', begin);
      if (end == std::string::npos) {
        return Fail(Fault::kInventedValue,
                    absl::StrCat("the final value ends within a token: ",
                                 final_.substr(begin)),
                    {});
      }
      ++end;
      std::string token = final_.substr(begin, end - begin);
      auto append = appends_.find(token);
      if (append == appends_.end()) {
        return Fail(Fault::kInventedValue,
                    absl::StrCat("a token that nobody appended: ", token), {});
      }
      const Operation* op = append->second;
      if (op->outcome == Outcome::kRefused) {
        return Fail(Fault::kRefusedValue, "the token of a refused append",
                    {op});
      }
      if (!placed_.emplace(token, begin).second) {
        return Fail(Fault::kDoubled, "a token is there twice", {op});
      }
      if (op->outcome == Outcome::kDone && op->seen && !SawPart(*op, begin)) {
        return Fail(Fault::kWrongOld,
                    "an append saw something else than what is before its "
                    "token",
                    {op});
      }
      steps_[end].push_back(op);
      begin = end;
    }
    return true;
  }

  // Whether `op` saw the first `length` bytes of the final value.
  bool SawPart(const Operation& op, size_t length) const {
    if (!op.seen->has_value()) return length == 0;
    return length > 0 &&
           **op.seen == absl::string_view(final_).substr(0, length);
  }

  bool PlaceGets() {
    for (const Operation* op : operations_) {
      if (op->kind != Kind::kGet || op->outcome != Outcome::kDone ||
          !op->seen) {
        continue;
      }
      size_t length = op->seen->value_or("").size();
      bool boundary = length == 0 || steps_.count(length) > 0;
      if (!boundary || !SawPart(*op, length)) {
        return Fail(Fault::kInventedValue,
                    "a get saw what is no part of the final value", {op});
      }
      gets_[length].push_back(op);
    }
    return true;
  }

  std::optional<Violation> CheckOrder() {
    Order order;
    order.Begin();
    if (gets_.count(0)) order.Add(gets_[0]);
    for (const auto& [length, step] : steps_) {
      order.Add(step);
      if (gets_.count(length)) order.Add(gets_[length]);
    }
    if (!order.violated()) return std::nullopt;
    const Operation* first = order.earlier_in_order();
    Fail(first->kind == Kind::kGet ? Fault::kStaleRead : Fault::kRealTime,
         "the first of these comes before the second, which had ended when "
         "the first began",
         {first, order.later_in_order()});
    return violation_;
  }

  const std::string& key_;
  const std::string final_;
  Nanos origin_ = 0;
  std::vector<const Operation*> operations_;
  std::map<std::string, const Operation*> appends_;  // by token
  std::map<std::string, size_t> placed_;             // token to its offset
  std::map<size_t, std::vector<const Operation*>> steps_;  // by length after
  std::map<size_t, std::vector<const Operation*>> gets_;   // by length seen
  std::optional<Violation> violation_;
};

}  // namespace

std::optional<Violation> CheckAppends(const std::vector<Operation>& operations,
                                      const std::string& key,
                                      const Stored& final_value) {
  return AppendChecker(operations, key, final_value).Check();
}

}  // namespace kv739::test
