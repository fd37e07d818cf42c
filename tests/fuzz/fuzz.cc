#include "tests/fuzz/fuzz.h"

#include <algorithm>

namespace kv739::fuzz {
namespace {

std::vector<Target>& Registered() {
  static auto* targets = new std::vector<Target>;
  return *targets;
}

}  // namespace

Registration::Registration(const Target& target) {
  Registered().push_back(target);
}

std::vector<Target> Targets() {
  std::vector<Target> targets = Registered();
  std::sort(targets.begin(), targets.end(),
            [](const Target& a, const Target& b) {
              return absl::string_view(a.name) < absl::string_view(b.name);
            });
  return targets;
}

void Damage(Input* in, std::string* bytes) {
  for (uint64_t changes = in->Below(5); changes > 0; --changes) {
    const uint64_t place = in->Byte() << 8 | in->Byte();
    const size_t at = bytes->empty() ? 0 : place % (bytes->size() + 1);
    switch (in->Below(5)) {
      case 0:
        if (at < bytes->size()) (*bytes)[at] ^= static_cast<char>(in->Byte());
        break;
      case 1:
        bytes->erase(at, in->Byte());
        break;
      case 2: {
        const absl::string_view more = in->Bytes(64);
        bytes->insert(at, more.data(), more.size());
        break;
      }
      case 3: {
        const absl::string_view other = in->Bytes(64);
        bytes->replace(at, other.size(), other.data(), other.size());
        break;
      }
      case 4:
        bytes->resize(at);
        break;
    }
  }
}

}  // namespace kv739::fuzz
