// A client: one client::Engine with a clock of its own, and workers that each
// do one operation after the other through it. Keeps what came of them.
#ifndef KV739_TESTS_SIMULATION_SIM_CLIENTS_H_
#define KV739_TESTS_SIMULATION_SIM_CLIENTS_H_

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "client/engine.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/world_queue.h"
#include "tests/support/history.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

class World;

class SimClient {
 public:
  SimClient(World* world, int number);

  void Start();
  // The process dies: its operations stay unknown; another one takes its
  // place some time later.
  void Crash();
  // No new operations; what is under way ends.
  void Stop() { stopping_ = true; }
  bool idle() const { return engine_ != nullptr && under_way_ == 0; }
  // One more get of each key, until all are answered; once it is idle.
  void ReadAll();
  bool has_read_all() const {
    return reading_ && to_read_.empty() && under_way_ == 0;
  }

  // ---- from servers ----
  void Answered(int server, const AnswerTo& to,
                std::vector<client::Answer> answers, uint64_t epoch);
  void ServerDown(int server, bool silent);

  const std::vector<test::Operation>& history() const { return history_; }

 private:
  class Call;
  class Sink;
  // A version of a key that this client was told of.
  struct Known {
    kv::Version version = 0;
    test::Stored value;
  };
  struct Worker {
    std::shared_ptr<Call> call;
    test::Operation operation;
  };

  client::Instant Now() const;
  void After(uint64_t delay, Task task);
  void Begin();
  void Next(int worker);
  void Submit(int worker, client::Request request, test::Operation operation);
  void Finished(int worker, Call* call);
  // A page that begins at the operation's key.
  void DrawScan(const test::Operation& operation, client::Request* request);
  // What the page says is a read of every key that has its place there, those
  // that are not in it too.
  void TakePage(const client::ScanRequest& asked, const client::ScanPage& page,
                const test::Operation& scan);
  test::Operation Draw(client::Request* request);
  void DrawWrite(test::Operation* operation, client::Request* request);
  void Remember(const test::Operation& operation);
  void Pump();
  void SendTo(client::NodeIndex node);
  void FetchMap(client::NodeIndex node);
  void Broken(client::NodeIndex node);
  void Tick();
  SimServer* ServerOf(client::NodeIndex node);
  void ReadNext();

  World* const world_;
  const int number_;
  sim::SimRandom random_;
  uint64_t rate_ = 1000;
  std::unique_ptr<client::Engine> engine_;
  std::vector<Worker> workers_;
  std::set<client::NodeIndex> open_;  // streams
  uint64_t life_ = 0;
  uint64_t fetch_ = 0;  // number of the map's fetch
  uint64_t next_value_ = 0;
  int under_way_ = 0;
  bool ticking_ = false;
  bool pumping_ = false;
  bool stopping_ = false;
  bool reading_ = false;
  std::vector<std::string> to_read_;
  std::map<std::string, std::deque<Known>> known_;  // by key, newest last
  std::vector<test::Operation> history_;
};

// Keys of puts, deletes, compare-and-swaps and gets, and of appends and gets.
std::string PutKey(int number);
std::string AppendKey(int number);

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_CLIENTS_H_
