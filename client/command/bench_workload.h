// What a benchmark does: a mix of operations on keys, one after another, and
// the filling that goes before it. The core workloads of YCSB by their letters.
#ifndef KV739_CLIENT_COMMAND_BENCH_WORKLOAD_H_
#define KV739_CLIENT_COMMAND_BENCH_WORKLOAD_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "client/command/bench_keys.h"

namespace kv739::bench {

// What is measured apart.
enum class Kind { kRead, kUpdate, kInsert, kReadModifyWrite, kScan };
inline constexpr int kKinds = 5;
inline constexpr std::array<const char*, kKinds> kKindNames = {
    "read", "update", "insert", "read-modify-write", "scan"};
// A scan is of 1 to so many keys.
inline constexpr uint32_t kMaxScanLength = 100;

// How an operation ended.
enum class Outcome {
  kOk,
  kNotFound,  // a read of a key that is not there
  kFailed,    // had no effect
  kUnknown,   // a write that may have had one
};
struct Result {
  Outcome outcome = Outcome::kOk;
  std::string error;  // of the last two
  // Of a page of a scan: how many keys it has, whether there are more, and
  // where the next one begins.
  uint32_t keys = 0;
  bool more = false;
  uint32_t slot = 0;
  std::string from;
};

struct Operation {
  Kind kind = Kind::kRead;
  bool write = false;  // what is to be done now: put `value`, or get
  uint64_t number = 0;
  std::string key;
  absl::string_view value;  // lives as long as the workload
  uint64_t intended = 0;    // when it was meant to start; nanoseconds
  // Of a scan: where its next page begins, how many keys are still wanted and
  // how many it has got.
  uint32_t slot = 0;
  std::string from;
  uint32_t left = 0;
  uint32_t got = 0;
};

// Percentages of the kinds, 100 together.
struct Mix {
  std::array<int, kKinds> percent = {};
  Distribution distribution = Distribution::kUniform;
};

// "put", "get", "a" to "f".
absl::StatusOr<Mix> MixOf(absl::string_view workload);

struct KeyShape {
  int key_size = 16;
  int value_size = 256;
};
// "bench" and the number with zeros before it, key_size bytes in all; more
// when the number is that long.
inline constexpr char kKeyPrefix[] = "bench";
void FormatKey(uint64_t number, int key_size, std::string* key);
// The keys that a key of this size can number.
double KeysOfSize(int key_size);

// Values that do not compress to nothing: pieces of one random text. Immutable.
class Values {
 public:
  Values(int size, uint64_t seed);
  absl::string_view Pick(Random* random) const;

 private:
  const size_t size_;
  std::string text_;
};

// Where a loop gets its operations. The loop's owner calls, under its lock.
class Source {
 public:
  virtual ~Source() = default;
  // False: none now. Sets all but `intended`.
  virtual bool Next(Operation* operation) = 0;
  // An operation has ended.
  virtual void Ended(const Operation& operation, Outcome outcome) = 0;
  // There will not be another one.
  virtual bool Exhausted() const = 0;
};

// Operations of a mix without an end. `keys` and `values` may be shared by
// several; both outlive it.
std::unique_ptr<Source> NewMixSource(const Mix& mix, const KeyShape& shape,
                                     KeySpace* keys, const Values* values,
                                     uint64_t seed);
// Puts every initial key once; again when that failed.
std::unique_ptr<Source> NewFillSource(const KeyShape& shape,
                                      const KeySpace* keys,
                                      const Values* values, uint64_t seed);

}  // namespace kv739::bench

#endif  // KV739_CLIENT_COMMAND_BENCH_WORKLOAD_H_
