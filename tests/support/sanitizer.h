// Which sanitizer a test is built with, for those that do less under one.
#ifndef KV739_TESTS_SUPPORT_SANITIZER_H_
#define KV739_TESTS_SUPPORT_SANITIZER_H_

namespace kv739::testing {

// The thread sanitizer slows code in one thread down forty times and has
// nothing to find there.
#ifdef __SANITIZE_THREAD__
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif

}  // namespace kv739::testing

#endif  // KV739_TESTS_SUPPORT_SANITIZER_H_
