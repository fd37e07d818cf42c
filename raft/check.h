// Ends the process when one of our own rules is broken: going on would risk
// data. Input from outside never reaches a check; it is refused before.
#ifndef KV739_RAFT_CHECK_H_
#define KV739_RAFT_CHECK_H_

#include <cstdio>
#include <cstdlib>

#define KV739_RAFT_CHECK(condition, what)                                \
  do {                                                                   \
    if (!(condition)) [[unlikely]] {                                     \
      std::fprintf(stderr, "%s:%d: broken invariant of raft: %s (%s)\n", \
                   __FILE__, __LINE__, what, #condition);                \
      std::abort();                                                      \
    }                                                                    \
  } while (false)

#endif  // KV739_RAFT_CHECK_H_
