// Whether a short history of one key is linearizable, by search.
//
// Needs neither unique values nor old values, and takes every kind of
// operation. In the worst case the time is exponential in the number of
// operations that overlap. Where most operations saw something, histories of
// many thousands take no longer than they are: what only looks is placed as
// soon as it agrees, and a write of unknown outcome only where the next
// operation depends on what it left (any other place is as good as none).
//
// J. Wing and C. Gong, Testing and Verifying Concurrent Objects, J. Parallel
// Distrib. Comput. 17 (1993), with the memory of visited configurations of
// G. Lowe, Testing for Linearizability, Concurr. Comput. 29 (2017).
#ifndef KV739_TESTS_SUPPORT_LINEARIZABILITY_H_
#define KV739_TESTS_SUPPORT_LINEARIZABILITY_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "tests/support/history.h"

namespace kv739::test {

// `operations` are of one key, which is missing at first; their `key` is not
// looked at.
bool IsLinearizable(const std::vector<Operation>& operations);
// Gives up after so many steps of the search: nullopt.
std::optional<bool> IsLinearizable(
    const std::vector<const Operation*>& operations, uint64_t max_steps);

// What `operation` makes of `before`.
Stored Apply(const Operation& operation, const Stored& before);
// Whether what it saw agrees with `before`.
bool Agrees(const Operation& operation, const Stored& before);

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_LINEARIZABILITY_H_
