// Scans of one loop that may be served: their reads are confirmed. A page costs
// as much as many gets, and the threads that serve it have puts to carry too;
// so one turn serves no more than kTurnWork, and what is left waits for another
// one, in order. Pages of one turn share a view.
//
// Threads: any; the loop need not be owned.
#ifndef KV739_SERVER_SCAN_QUEUE_H_
#define KV739_SERVER_SCAN_QUEUE_H_

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>

#include "kv/engine.h"
#include "kv/state_machine.h"
#include "server/operation.h"
#include "server/replica.h"

namespace kv739::server {

class ScanQueue {
 public:
  // Of one turn, in keys or their like (kv::ScanPage::work()): a millisecond
  // or two. The page with which it is reached is served to its end.
  static constexpr uint64_t kTurnWork = 2048;
  // So many wait at most; beyond it OVERLOADED.
  static constexpr size_t kMaxWaiting = 1024;

  explicit ScanQueue(const kv::Engine* engine) : engine_(engine) {}

  void Add(std::shared_ptr<const kv::StateMachine> machine, Operation scan,
           Turn& turn);
  // Answers what one turn may. True when some are left for another one.
  bool Serve(Turn& turn);
  bool waiting() const;
  // Refuses what waits and all that comes.
  void Close(Turn& turn);

 private:
  struct Waiting {
    std::shared_ptr<const kv::StateMachine> machine;
    Operation scan;
  };
  static void Refuse(Operation& scan, ReplyCode code, std::string why,
                     Turn& turn);

  const kv::Engine* const engine_;
  mutable std::mutex mutex_;  // guards what follows
  std::deque<Waiting> waiting_;
  bool closed_ = false;
};

}  // namespace kv739::server

#endif  // KV739_SERVER_SCAN_QUEUE_H_
