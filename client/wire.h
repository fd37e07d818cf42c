// Between the engine's values and the messages of proto/kv739/v1. Bad input
// from a server gives an error value, never a crash.
#ifndef KV739_CLIENT_WIRE_H_
#define KV739_CLIENT_WIRE_H_

#include <memory>
#include <vector>

#include "client/engine.h"
#include "kv/cluster_map.h"
#include "kv739/v1/cluster.pb.h"
#include "kv739/v1/kv.pb.h"

namespace kv739::client {

// Replaces what is in `message`, and reuses its memory.
void FillBatch(const std::vector<Outgoing>& batch, v1::OperationBatch* message);
// Takes the values out of `message`.
std::vector<Answer> TakeAnswers(v1::ResultBatch* message);
// nullptr when the message is no whole map.
std::unique_ptr<kv::ClusterMap> ReadMap(const v1::GetMapResponse& message);

}  // namespace kv739::client

#endif  // KV739_CLIENT_WIRE_H_
