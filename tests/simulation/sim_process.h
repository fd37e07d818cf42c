// The parts of a process that stand between the host and the simulator.
#ifndef KV739_TESTS_SIMULATION_SIM_PROCESS_H_
#define KV739_TESTS_SIMULATION_SIM_PROCESS_H_

#include <algorithm>
#include <deque>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "server/background.h"
#include "tests/simulation/sim_server.h"
#include "tests/simulation/sim_streams.h"
#include "tests/simulation/world.h"

namespace kv739::world {

// What is sent within a step; the server carries it away at the end.
class SimServer::Transport : public server::Transport {
 public:
  explicit Transport(SimServer* server) : server_(server) {}
  void Send(raft::NodeId to,
            std::vector<server::GroupMessage> messages) override;
  void SendToNode(raft::NodeId to, server::NodeMessage message) override;
  bool Connected(raft::NodeId peer) const override {
    return server_->world_->net().Connected(server_->index_, peer);
  }
  void SetMapEpoch(uint64_t epoch) override { epoch_ = epoch; }

 private:
  SimServer* const server_;
  uint64_t epoch_ = 0;
};

// Rings for every time that was set; too often is allowed.
class SimServer::Timer : public server::WakeTimer {
 public:
  Timer(SimServer* server, std::function<void()> wake)
      : server_(server), wake_(std::move(wake)) {}
  void Set(uint64_t at_nanos) override {
    const uint64_t now = server_->clock_.MonotonicNanos();
    const uint64_t wait = at_nanos - std::min(now, at_nanos);
    server_->After((wait * 1000 + 999) / server_->clock_.rate(), wake_);
  }

 private:
  SimServer* const server_;
  const std::function<void()> wake_;
};

// One job after the other, each of which takes a while.
class SimServer::Jobs : public server::Background {
 public:
  explicit Jobs(SimServer* server) : server_(server) {}
  void Run(Job job) override {
    jobs_.push_back(std::move(job));
    if (!running_) RunNext();
  }

 private:
  void RunNext();

  SimServer* const server_;
  std::deque<Job> jobs_;
  bool running_ = false;
};

class SimServer::Fetcher : public server::SnapshotFetcher {
 public:
  explicit Fetcher(SimServer* server) : server_(server) {}
  void Fetch(raft::NodeId from, server::SnapshotRequest request,
             std::shared_ptr<server::SnapshotSink> sink) override {
    server_->world_->streams().Open(server_->index_, from, std::move(request),
                                    std::move(sink));
  }
  void Cancel(const server::SnapshotSink* sink) override {
    server_->world_->streams().Cancel(sink);
  }

 private:
  SimServer* const server_;
};

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_PROCESS_H_
