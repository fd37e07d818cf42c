// The entry that libFuzzer calls, of a program that has one target.
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const kv739::fuzz::Target target = kv739::fuzz::Targets().front();
  target.run({reinterpret_cast<const char*>(data), size});
  return 0;
}
