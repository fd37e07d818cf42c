// What the fuzz targets share. A target is one function of a string of bytes;
// the same function is called by libFuzzer (./run fuzz: one program a target)
// and by the tests of this folder, which need no clang (kept inputs, and a
// bounded number of mutations of them).
//
// A target ends the process when it finds something: by a sanitizer, by one of
// the product's own checks, or by KV739_FUZZ_CHECK. It may keep nothing from
// one call to the next that changes what the next one does.
#ifndef KV739_TESTS_FUZZ_FUZZ_H_
#define KV739_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kv739::fuzz {

struct Target {
  const char* name;
  void (*run)(absl::string_view bytes);
  // Mutated inputs that the tests try: fewer for slow targets.
  int tries;
};

// In the order of their names.
std::vector<Target> Targets();

struct Registration {
  explicit Registration(const Target& target);
};

// KV739_FUZZ_TARGET(name, tries) { ... bytes ... }
#define KV739_FUZZ_TARGET(name, tries)                          \
  static void FuzzTarget_##name(absl::string_view bytes);       \
  static const ::kv739::fuzz::Registration registration_##name( \
      ::kv739::fuzz::Target{#name, &FuzzTarget_##name, tries}); \
  static void FuzzTarget_##name([[maybe_unused]] absl::string_view bytes)

#define KV739_FUZZ_CHECK(condition, what)                                 \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::fprintf(stderr, "%s:%d: found: %s (%s)\n", __FILE__, __LINE__, \
                   std::string(what).c_str(), #condition);                \
      std::abort();                                                       \
    }                                                                     \
  } while (false)

// Reads an input as a list of decisions, from its front. Behind the end all is
// zero, so every string of bytes is a whole input.
class Input {
 public:
  explicit Input(absl::string_view bytes) : rest_(bytes) {}

  bool done() const { return rest_.empty(); }
  absl::string_view rest() const { return rest_; }

  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return byte;
  }
  bool Bool() { return (Byte() & 1) != 0; }
  // 0 .. bound - 1, for a bound up to 256.
  uint64_t Below(uint64_t bound) { return Byte() % bound; }
  uint64_t Word() {
    uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word = word << 8 | Byte();
    return word;
  }
  // Mostly small, at times near a power of two or the top, at times anything.
  uint64_t Number() {
    const uint8_t byte = Byte();
    if (byte < 200) return byte % 20;
    if (byte < 220) return Byte();
    if (byte < 235) return (uint64_t{1} << (Byte() % 64)) + Byte() % 4 - 2;
    if (byte < 245) return ~uint64_t{0} - Byte() % 4;
    return Word();
  }
  // Up to `limit` bytes, with a length in front.
  absl::string_view Bytes(size_t limit) {
    size_t size = Byte();
    if (size >= 240) size = (size - 239) * 256 + Byte();
    return Take(size < limit ? size : limit);
  }
  absl::string_view Take(size_t size) {
    if (size > rest_.size()) size = rest_.size();
    const absl::string_view taken = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return taken;
  }

 private:
  absl::string_view rest_;
};

// Up to four changes of bytes: some are overwritten, taken away, put in, or the
// end is cut off.
void Damage(Input* in, std::string* bytes);

}  // namespace kv739::fuzz

#endif  // KV739_TESTS_FUZZ_FUZZ_H_
