#include "tests/support/real_time.h"

namespace kv739::test {

void Order::Add(const std::vector<const Operation*>& step) {
  for (const Operation* op : step) {
    if (latest_start_ != nullptr && !violated() &&
        latest_start_->start > EndOf(*op)) {
      earlier_ = latest_start_;
      later_ = op;
    }
    operations_.push_back(op);
  }
  for (const Operation* op : step) {
    if (latest_start_ == nullptr || op->start > latest_start_->start) {
      latest_start_ = op;
    }
    if (earliest_end_ == nullptr || EndOf(*op) < EndOf(*earliest_end_)) {
      earliest_end_ = op;
    }
  }
}

bool Order::MayPrecede(const Order& other) const {
  if (other.first_of_key_) return false;
  if (latest_start_ == nullptr) return true;
  return latest_start_->start <= EndOf(*other.earliest_end_);
}

}  // namespace kv739::test
