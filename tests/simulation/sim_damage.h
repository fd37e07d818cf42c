// Damage to a log at rest, where a log can find it. One kind it cannot find:
// what is damaged within the very last write looks like a torn write, see
// docs/wal_format.md; such places are left alone here.
#ifndef KV739_TESTS_SIMULATION_SIM_DAMAGE_H_
#define KV739_TESTS_SIMULATION_SIM_DAMAGE_H_

#include "tests/support/fake_file_system.h"
#include "tests/support/sim_random.h"

namespace kv739::world {

// Flips one bit of what is used. False: there was no place for it.
bool FlipBit(wal::FakeFileSystem* files, sim::SimRandom* random);

// A write of some sectors went astray, long ago: a copy of them lies at another
// place, in this file or another one, and in half of the cases what they were
// written over never changed. False: nothing has changed.
bool Misdirect(wal::FakeFileSystem* files, sim::SimRandom* random);

}  // namespace kv739::world

#endif  // KV739_TESTS_SIMULATION_SIM_DAMAGE_H_
