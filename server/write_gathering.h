// Decides whether writes that a leader has taken in wait for more of them, to
// be proposed together.
//
// A batch costs nearly the same whether it holds one write or a hundred: a
// message to each follower and one back, a log write and a sync on every
// member. Clients that wait for their answers come back soon after them, but
// one after the other; a leader that proposes the first of them at once makes
// small batches of them for ever. So the next batch waits until it has its
// share of the writes that have lately been in flight together, but for no
// longer than they lately needed to come, twice over, nor than kMaxWait. Where
// that time passes in vain, or nothing came for a while, fewer are expected
// from then on.
//
// A pure computation. Times in nanoseconds of a clock that does not jump.
#ifndef KV739_SERVER_WRITE_GATHERING_H_
#define KV739_SERVER_WRITE_GATHERING_H_

#include <cstddef>
#include <cstdint>

namespace kv739::server {

class WriteGathering {
 public:
  // A batch's share is one in so many. More: smaller batches, each dearer for
  // what it holds. Fewer: less is done while a batch is under way.
  static constexpr size_t kShare = 3;
  static constexpr uint64_t kMaxWait = 4'000'000;

  // Where fewer than `from` are in flight nothing waits: a batch would hardly
  // be cheaper.
  explicit WriteGathering(size_t from) : from_(from) {}

  // `waiting` writes could be proposed, `under_way` have been and are not
  // answered. False: propose them. True: not before more have come or
  // wait_ends() has.
  bool Waits(size_t waiting, size_t under_way, uint64_t now);
  uint64_t wait_ends() const { return ends_; }

  void Proposed(size_t count, uint64_t now);
  void Answered(uint64_t now) { active_at_ = now; }
  // What was proposed came to nothing: no longer the leader.
  void Reset() { *this = WriteGathering(from_); }

  size_t expected() const { return expected_; }

 private:
  size_t from_;
  size_t expected_ = 0;     // in flight together
  uint64_t ends_ = 0;       // of the wait under way; 0: none
  uint64_t active_at_ = 0;  // the last time that writes came or were answered
  // Sums in which what is long ago counts little: how fast writes come.
  uint64_t proposed_at_ = 0;
  double nanos_ = 0;
  double writes_ = 0;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_WRITE_GATHERING_H_
