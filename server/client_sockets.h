// The sockets of gRPC's clients, for answers that leave together.
//
// gRPC sends each answer of a unary call by itself: a system call that goes
// through all of TCP and wakes the client, for one put of the twenty or so that
// were committed together. What is written to a socket that is corked (tcp(7),
// TCP_CORK) stays there until it is uncorked, and leaves as one.
//
// gRPC owns the sockets and closes them without a word, so a descriptor that
// is known here may be another socket's by now. Its cookie (socket(7),
// SO_COOKIE) tells, and is looked at every few milliseconds. Corking another
// one in between does no harm: it is uncorked at once.
//
// Which calls came by which socket gRPC does not tell either, at a price that
// pays: so all sockets by which something came lately are corked, where there
// are many answers for each.
//
// Threads: any.
#ifndef KV739_SERVER_CLIENT_SOCKETS_H_
#define KV739_SERVER_CLIENT_SOCKETS_H_

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "absl/container/inlined_vector.h"

namespace kv739::server {

class ClientSockets {
 public:
  // Of more sockets answers leave one by one, as they do where there are fewer
  // than this for each of those in use.
  static constexpr size_t kMaxSockets = 64;
  static constexpr size_t kMinAnswersEach = 4;
  // How often is looked which sockets are in use: those by which something
  // came in the last `in_use_millis`.
  static constexpr uint64_t kLookNanos = 10'000'000;
  static constexpr uint32_t kInUseMillis = 100;

  explicit ClientSockets(uint32_t in_use_millis = kInUseMillis)
      : in_use_millis_(in_use_millis) {}
  ClientSockets(const ClientSockets&) = delete;
  ClientSockets& operator=(const ClientSockets&) = delete;

  // Of a connected socket; it stays the caller's.
  void Add(int fd);
  // Those that have been added and live, as of the last look.
  size_t size() const;

  // What is sent while it lives leaves at its end, if there are enough
  // `answers` that would each leave by itself.
  class Burst {
   public:
    // `sockets` may be null: does nothing.
    Burst(ClientSockets* sockets, size_t answers, uint64_t now_nanos);
    ~Burst();
    Burst(const Burst&) = delete;
    Burst& operator=(const Burst&) = delete;

   private:
    absl::InlinedVector<int, 8> corked_;
  };

 private:
  struct Known {
    int fd;
    uint64_t cookie;
  };

  // Forgets the sockets that are gone, and finds those in use.
  void Look();

  const uint32_t in_use_millis_;
  mutable std::mutex mutex_;  // guards all that follows
  std::vector<Known> known_;
  absl::InlinedVector<int, 8> in_use_;
  uint64_t looked_at_ = 0;  // 0: never, or something is new
};

}  // namespace kv739::server

#endif  // KV739_SERVER_CLIENT_SOCKETS_H_
