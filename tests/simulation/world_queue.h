// Virtual time: what is to happen, in order, and what has happened.
//
// Time is in nanoseconds since the world began. Events of one instant happen in
// the order in which they were made, so nothing but the seed decides.
#ifndef KV739_TESTS_SIMULATION_WORLD_QUEUE_H_
#define KV739_TESTS_SIMULATION_WORLD_QUEUE_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace kv739::world {

inline constexpr uint64_t kMicrosecond = 1'000;
inline constexpr uint64_t kMillisecond = 1'000'000;
inline constexpr uint64_t kSecond = 1'000'000'000;

using Task = absl::AnyInvocable<void()>;

class EventQueue {
 public:
  uint64_t now() const { return now_; }
  bool empty() const { return heap_.empty(); }
  uint64_t next_time() const { return heap_.front().time; }
  uint64_t events() const { return done_; }

  void Add(uint64_t time, Task task) {
    heap_.push_back({std::max(time, now_), made_++, std::move(task)});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  // Takes out the next event and lets time pass to it.
  Task Take() {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    Event event = std::move(heap_.back());
    heap_.pop_back();
    now_ = event.time;
    ++done_;
    return std::move(event.task);
  }
  void PassTo(uint64_t time) { now_ = std::max(now_, time); }
  void Clear() { heap_.clear(); }

 private:
  struct Event {
    uint64_t time;
    uint64_t number;
    Task task;
  };
  static bool Later(const Event& a, const Event& b) {
    return a.time != b.time ? a.time > b.time : a.number > b.number;
  }

  std::vector<Event> heap_;
  uint64_t now_ = 0;
  uint64_t made_ = 0;
  uint64_t done_ = 0;
};

// What has happened: a digest of all of it, and the last kKept notes.
class Journal {
 public:
  static constexpr size_t kKept = 400;

  Journal(const EventQueue* queue, bool print) : queue_(queue), print_(print) {}

  // `what` must live for ever.
  void Note(const char* what, uint64_t a = 0, uint64_t b = 0, uint64_t c = 0,
            uint64_t d = 0);
  uint64_t digest() const { return digest_; }
  // Oldest first.
  std::string Last() const;
  bool printing() const { return print_; }

 private:
  struct Entry {
    uint64_t time = 0;
    const char* what = nullptr;
    std::array<uint64_t, 4> values{};
  };
  static std::string Line(const Entry& entry);

  const EventQueue* const queue_;
  const bool print_;
  uint64_t digest_ = 0;
  std::array<Entry, kKept> kept_;
  uint64_t count_ = 0;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_WORLD_QUEUE_H_
