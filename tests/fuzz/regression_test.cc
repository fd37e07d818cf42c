// The short form of fuzzing, for every build: all kept inputs, and mutations
// of them from fixed seeds. An input that ends the process is printed, so that
// it can be kept.
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"
#include "tests/fuzz/fuzz.h"

namespace kv739::fuzz {
namespace {

constexpr size_t kMaxInput = 4096;

// The input that runs now, in hexadecimal, for the handler.
std::string running;

void OnCrash(int signal_number) {
  const auto say = [](const char* text, size_t size) {
    [[maybe_unused]] const ssize_t ignored = write(2, text, size);
  };
  say("input in hexadecimal: ", 22);
  say(running.data(), running.size());
  say("\n", 1);
  signal(signal_number, SIG_DFL);
  raise(signal_number);
}

void RunInput(const Target& target, const std::string& input) {
  running = absl::BytesToHexString(input);
  target.run(input);
}

std::vector<std::string> Kept(const Target& target) {
  std::vector<std::string> inputs;
  const std::filesystem::path folder =
      std::filesystem::path(KV739_FUZZ_CORPUS) / target.name;
  std::error_code none;
  for (const auto& file : std::filesystem::directory_iterator(folder, none)) {
    std::ifstream in(file.path(), std::ios::binary);
    inputs.emplace_back(std::istreambuf_iterator<char>(in),
                        std::istreambuf_iterator<char>());
  }
  std::sort(inputs.begin(), inputs.end());  // folders have no order
  return inputs;
}

class Mutator {
 public:
  Mutator(std::vector<std::string> inputs, uint64_t seed)
      : inputs_(std::move(inputs)), random_(seed) {
    if (inputs_.empty()) inputs_.emplace_back();
  }

  std::string Next() {
    std::string bytes = Any();
    for (uint64_t i = 1 + Below(6); i > 0; --i) Change(&bytes);
    if (bytes.size() > kMaxInput) bytes.resize(kMaxInput);
    return bytes;
  }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  const std::string& Any() { return inputs_[Below(inputs_.size())]; }

  void Change(std::string* bytes) {
    const size_t at = Below(bytes->size() + 1);
    switch (Below(7)) {
      case 0:
        if (at < bytes->size())
          (*bytes)[at] ^= static_cast<char>(1 << Below(8));
        break;
      case 1:
        if (at < bytes->size()) (*bytes)[at] = static_cast<char>(random_());
        break;
      case 2:
        bytes->erase(at, 1 + Below(8));
        break;
      case 3:
        for (uint64_t i = 1 + Below(16); i > 0; --i) {
          bytes->insert(at, 1, static_cast<char>(random_()));
        }
        break;
      case 4: {  // part of another one
        const std::string& other = Any();
        const size_t from = Below(other.size() + 1);
        bytes->insert(at, other.substr(from, Below(64)));
        break;
      }
      case 5:  // goes on as another one
        *bytes = bytes->substr(0, at) + Any().substr(0, kMaxInput);
        break;
      case 6:  // a part again
        bytes->insert(at, bytes->substr(Below(bytes->size() + 1), Below(64)));
        break;
    }
  }

  std::vector<std::string> inputs_;
  std::mt19937_64 random_;
};

class FuzzTarget : public testing::TestWithParam<Target> {};

TEST_P(FuzzTarget, KeptInputs) {
  const std::vector<std::string> inputs = Kept(GetParam());
  ASSERT_FALSE(inputs.empty()) << "no corpus for " << GetParam().name;
  for (const std::string& input : inputs) RunInput(GetParam(), input);
  RunInput(GetParam(), "");
}

TEST_P(FuzzTarget, MutatedInputs) {
  Mutator mutator(Kept(GetParam()), 739);
  for (int i = 0; i < GetParam().tries; ++i)
    RunInput(GetParam(), mutator.Next());
}

std::string NameOf(const testing::TestParamInfo<Target>& target) {
  return target.param.name;
}
INSTANTIATE_TEST_SUITE_P(, FuzzTarget, testing::ValuesIn(Targets()), NameOf);

}  // namespace
}  // namespace kv739::fuzz

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int number : {SIGABRT, SIGSEGV, SIGFPE, SIGBUS, SIGILL}) {
    signal(number, kv739::fuzz::OnCrash);
  }
  return RUN_ALL_TESTS();
}
