// How a server finds out who it is when it starts, and becomes a node: the
// rules of server/joining.cc step by step. That one blocks in threads and
// sleeps on the real clock, so its course is written again here; whoever is
// asked answers with its functions (HandleInquiry, HandleJoin).
#ifndef KV739_TESTS_SIMULATION_SIM_JOINING_H_
#define KV739_TESTS_SIMULATION_SIM_JOINING_H_

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "server/joining.h"
#include "tests/simulation/sim_server.h"

namespace kv739::world {

class Joining : public std::enable_shared_from_this<Joining> {
 public:
  // Within a step of the server; it serves some time later, or is gone.
  static void Begin(SimServer* server);

 private:
  using Map = std::shared_ptr<const kv::ClusterMap>;
  using Answers = std::vector<server::InquiryReply>;

  explicit Joining(SimServer* server);
  void Run();
  void Resume();
  void ResumeUnknown(Answers answers);
  void BeginNew(Answers answers);
  void BeginAsFirst(const Map& map);
  void BeginJoining(const Map& map);
  void Join();
  void AskNext();
  void Joined(std::optional<absl::StatusOr<server::JoinReply>> answer);
  void Serve();
  void StayAway();
  // Ends this start; another one follows.
  void Again();

  // One answer per server that gave one, once all have or the time is up.
  void Inquire(std::function<void(Answers)> done);
  void InquireUntilAnswered(std::function<void(Answers)> done);

  World* const world_;
  SimServer* const server_;
  const Map file_map_;
  Map map_;
  uint64_t deadline_;
  std::vector<kv::Address> candidates_;
  size_t next_candidate_ = 0;
  std::optional<kv::Address> hint_;
  uint64_t question_ = 0;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_JOINING_H_
