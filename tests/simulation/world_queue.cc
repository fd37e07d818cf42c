#include "tests/simulation/world_queue.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kv739::world {

std::string Journal::Line(const Entry& entry) {
  return absl::StrFormat("%5u.%09u %-24s %u %u %u %u\n", entry.time / kSecond,
                         entry.time % kSecond, entry.what, entry.values[0],
                         entry.values[1], entry.values[2], entry.values[3]);
}

void Journal::Note(const char* what, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d) {
  uint64_t digest = digest_;
  auto mix = [&](uint64_t value) {
    digest = (digest ^ value) * 0xff51afd7ed558ccdULL;
    digest ^= digest >> 29;
  };
  for (const char* p = what; *p != 0; ++p) mix(static_cast<uint8_t>(*p));
  mix(queue_->now());
  mix(a);
  mix(b);
  mix(c);
  mix(d);
  digest_ = digest;
  Entry& entry = kept_[count_++ % kKept];
  entry = {queue_->now(), what, {a, b, c, d}};
  if (print_) std::fputs(Line(entry).c_str(), stdout);
}

std::string Journal::Last() const {
  std::string text;
  const uint64_t first = count_ > kKept ? count_ - kKept : 0;
  for (uint64_t i = first; i < count_; ++i) {
    absl::StrAppend(&text, Line(kept_[i % kKept]));
  }
  return text;
}

}  // namespace kv739::world
