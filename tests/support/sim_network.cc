#include "tests/support/sim_network.h"

namespace kv739::sim {

void SimNetwork::Send(const raft::Envelope& envelope, uint64_t now) {
  if (random_->Chance(faults_.drop_permille, 1000)) return;
  const int copies = random_->Chance(faults_.duplicate_permille, 1000) ? 2 : 1;
  for (int i = 0; i < copies; ++i) {
    const uint64_t at =
        now + random_->Between(faults_.min_delay, faults_.max_delay);
    flying_.emplace(std::make_pair(at, ++sequence_), envelope);
  }
}

std::optional<raft::Envelope> SimNetwork::Next(uint64_t now) {
  while (!flying_.empty() && flying_.begin()->first.first <= now) {
    raft::Envelope envelope = std::move(flying_.begin()->second);
    flying_.erase(flying_.begin());
    if (!cut_.contains({envelope.from, envelope.to})) return envelope;
  }
  return std::nullopt;
}

}  // namespace kv739::sim
