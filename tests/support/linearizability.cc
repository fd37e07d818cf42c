#include "tests/support/linearizability.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <tuple>
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
    case Kind::kCas:
      return before == operation.expected ? operation.value : before;
    case Kind::kGet:
      return before;
  }
  return before;
}

bool Agrees(const Operation& operation, const Stored& before) {
  if (operation.outcome != Outcome::kDone) return true;
  if (operation.seen && *operation.seen != before) return false;
  return operation.kind != Kind::kCas ||
         operation.swapped == (before == operation.expected);
}

namespace {

// Apply() without a copy, where it leaves everything as it is.
bool Keeps(const Operation& operation, const Stored& before) {
  switch (operation.kind) {
    case Kind::kGet:
      return true;
    case Kind::kPut:
      return before == operation.value;
    case Kind::kAppend:
      return before && operation.value.empty();
    case Kind::kDelete:
      return !before;
    case Kind::kCas:
      return before != operation.expected || before == operation.value;
  }
  return false;
}

// Whether it is the same to it, and to what follows, what was there before.
bool IsBlind(const Operation& operation) {
  return (operation.kind == Kind::kPut || operation.kind == Kind::kDelete) &&
         (operation.outcome != Outcome::kDone || !operation.seen);
}

// Depth first, with a stack of its own: an order may be many thousands long.
class Search {
 public:
  Search(const std::vector<const Operation*>& operations, uint64_t max_steps)
      : steps_(max_steps) {
    for (const Operation* op : operations) {
      if (op->outcome == Outcome::kRefused) continue;
      if (op->outcome == Outcome::kDone) {
        done_.push_back(op);
      } else if (op->kind != Kind::kGet) {
        unknown_.push_back(op);
      }
    }
    for (auto* list : {&done_, &unknown_}) {
      std::stable_sort(list->begin(), list->end(),
                       [](const Operation* a, const Operation* b) {
                         return a->start < b->start;
                       });
    }
    done_placed_.assign(done_.size(), '0');
    unknown_placed_.assign(unknown_.size(), '0');
  }

  // nullopt: gave up.
  std::optional<bool> Run() {
    Enter(NumberOf(std::nullopt), false, nullptr);
    while (!stack_.empty()) {
      if (stack_.back().first == done_.size()) return true;
      if (steps_ == 0 || --steps_ == 0) return std::nullopt;
      if (!PlaceNext()) Leave();
    }
    return false;
  }

 private:
  // One step: what is there before it, and which candidate is tried next.
  struct Frame {
    int state = 0;
    bool depends = false;       // the next one must not be blind
    char* placed = nullptr;     // by the step before
    std::vector<size_t> looks;  // placed with it
    size_t first = 0;           // of done_, not placed
    size_t end = 0;             // of those of done_ that may be next
    Nanos limit = kNever;
    size_t next = 0;  // of done_, then of unknown_
  };

  void Enter(int state, bool depends, char* placed) {
    Frame frame;
    frame.state = state;
    frame.depends = depends;
    frame.placed = placed;
    frame.first = stack_.empty() ? 0 : stack_.back().first;
    while (FindLimit(&frame), PlaceOneThatLooks(&frame)) {
    }
    frame.next = Visited(frame) ? done_.size() + unknown_.size() : frame.first;
    stack_.push_back(std::move(frame));
  }

  void Leave() {
    const Frame& frame = stack_.back();
    for (size_t i : frame.looks) done_placed_[i] = '0';
    if (frame.placed != nullptr) *frame.placed = '0';
    stack_.pop_back();
  }

  // Only what started before everything not yet placed ended can be next.
  void FindLimit(Frame* frame) const {
    size_t& first = frame->first;
    while (first < done_.size() && done_placed_[first] == '1') ++first;
    frame->limit = kNever;
    size_t i = first;
    for (; i < done_.size() && done_[i]->start <= frame->limit; ++i) {
      if (done_placed_[i] == '1') continue;
      frame->limit = std::min(frame->limit, EndOf(*done_[i]));
    }
    frame->end = i;
  }

  // What leaves everything as it is can go first wherever it agrees.
  bool PlaceOneThatLooks(Frame* frame) {
    const Stored& state = states_[frame->state];
    for (size_t i = frame->first; i < frame->end; ++i) {
      const Operation& op = *done_[i];
      if (done_placed_[i] == '1' || op.start > frame->limit || IsBlind(op) ||
          !Keeps(op, state) || !Agrees(op, state)) {
        continue;
      }
      done_placed_[i] = '1';
      frame->looks.push_back(i);
      frame->depends = false;
      return true;
    }
    return false;
  }

  bool Visited(const Frame& frame) {
    size_t last = frame.end;  // behind it nothing is placed
    while (last < done_.size() && done_placed_[last] == '1') ++last;
    return !visited_
                .emplace(frame.first,
                         done_placed_.substr(frame.first, last - frame.first),
                         unknown_placed_, frame.state, frame.depends)
                .second;
  }

  // False: there is no candidate any more.
  bool PlaceNext() {
    Frame& frame = stack_.back();
    const Stored& state = states_[frame.state];
    while (frame.next < done_.size() + unknown_.size()) {
      if (frame.next >= frame.end && frame.next < done_.size()) {
        frame.next = done_.size();
        continue;
      }
      const size_t at = frame.next++;
      const bool done = at < done_.size();
      const Operation& op = done ? *done_[at] : *unknown_[at - done_.size()];
      char* const placed =
          done ? &done_placed_[at] : &unknown_placed_[at - done_.size()];
      if (*placed == '1' || op.start > frame.limit || !Agrees(op, state) ||
          (frame.depends && IsBlind(op))) {
        continue;
      }
      if (!done && Keeps(op, state)) continue;
      *placed = '1';
      Enter(NumberOf(Apply(op, state)), !done, placed);
      return true;
    }
    return false;
  }

  int NumberOf(const Stored& state) {
    const auto [at, added] =
        numbers_.emplace(state, static_cast<int>(states_.size()));
    if (added) states_.push_back(state);
    return at->second;
  }

  std::vector<const Operation*> done_;     // by start
  std::vector<const Operation*> unknown_;  // by start
  std::string done_placed_;                // '1' for each that is placed
  std::string unknown_placed_;
  uint64_t steps_;  // that may yet be made
  std::map<Stored, int> numbers_;
  std::deque<Stored> states_;  // by number; stay where they are
  std::vector<Frame> stack_;
  std::set<std::tuple<size_t, std::string, std::string, int, bool>> visited_;
};

}  // namespace

std::optional<bool> IsLinearizable(
    const std::vector<const Operation*>& operations, uint64_t max_steps) {
  return Search(operations, max_steps).Run();
}

bool IsLinearizable(const std::vector<Operation>& operations) {
  std::vector<const Operation*> pointers;
  pointers.reserve(operations.size());
  for (const Operation& op : operations) pointers.push_back(&op);
  return *IsLinearizable(pointers, ~uint64_t{0});
}

}  // namespace kv739::test
