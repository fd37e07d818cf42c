// Bugs that the tests must find: KV739_PLANTED(name) marks a place where a
// known bug of a store like this one can be put back in. It is `false`, and
// nothing else, unless the build was configured with KV739_PLANTED_BUGS (preset
// `planted`), which is for tests/planted/run.sh and nothing else. There it is
// true for the one name in the environment variable KV739_PLANTED_BUG.
//
// The names and what they do are listed in tests/planted/bugs.txt.
#ifndef KV739_RAFT_PLANTED_H_
#define KV739_RAFT_PLANTED_H_

#ifdef KV739_PLANTED_BUGS

#include <cstdlib>
#include <cstring>

namespace kv739 {

inline bool IsPlanted(const char* name) {
  const char* wanted = std::getenv("KV739_PLANTED_BUG");
  return wanted != nullptr && std::strcmp(wanted, name) == 0;
}

}  // namespace kv739

// Asked once at each place.
#define KV739_PLANTED(name)                                \
  ([] {                                                    \
    static const bool planted = ::kv739::IsPlanted(#name); \
    return planted;                                        \
  }())

#else
#define KV739_PLANTED(name) false
#endif

#endif  // KV739_RAFT_PLANTED_H_
