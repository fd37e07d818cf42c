// Where slots go: consistent hashing with virtual nodes and bounded load.
#ifndef KV739_KV_RING_H_
#define KV739_KV_RING_H_

#include <vector>

#include "kv/types.h"
#include "raft/types.h"

namespace kv739::kv {

// Owner of every slot (kSlotCount of them), for groups given in any order.
// Depends on nothing but the set of groups; groups hold equal numbers of
// slots within 5 %.
std::vector<raft::GroupId> AssignSlots(std::vector<raft::GroupId> groups);

// The assignment after the set of groups has changed from that of `current`
// to `groups`: balanced within 5 %, moving no more than 1.05 times the
// smallest possible number of slots. Slots of groups that are gone all move.
std::vector<raft::GroupId> ReassignSlots(
    const std::vector<raft::GroupId>& current,
    std::vector<raft::GroupId> groups);

}  // namespace kv739::kv

#endif  // KV739_KV_RING_H_
