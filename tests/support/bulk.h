// Many keys with values that can be told from their number and a round.
#ifndef KV739_TESTS_SUPPORT_BULK_H_
#define KV739_TESTS_SUPPORT_BULK_H_

#include <algorithm>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tests/support/client.h"

namespace kv739::test {

class Bulk {
 public:
  Bulk(Client& client, size_t value_bytes)
      : client_(client), value_bytes_(value_bytes) {}

  static std::string Key(int number) { return absl::StrCat("bulk/", number); }
  // Not to be compressed to nothing: every value differs.
  std::string Value(int number, int round) const {
    std::string value = absl::StrCat(round, "/", number, "/");
    uint64_t state = uint64_t(number) * 0x9E3779B97F4A7C15u + uint64_t(round);
    while (value.size() < value_bytes_) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value.push_back(static_cast<char>('a' + (state >> 59)));
    }
    return value;
  }

  // Puts keys [first, last).
  absl::Status Put(int first, int last, int round) {
    for (int begin = first; begin < last; begin += kBatch) {
      const int end = std::min(begin + kBatch, last);
      std::vector<std::string> keys, values;
      for (int i = begin; i < end; ++i) {
        keys.push_back(Key(i));
        values.push_back(Value(i, round));
      }
      const std::vector<kv739_slice> key_slices = Slices(keys);
      const std::vector<kv739_slice> value_slices = Slices(values);
      std::vector<int> codes(keys.size());
      const int code = kv739_client_batch_put(
          client_.handle(), key_slices.data(), value_slices.data(), keys.size(),
          kTimeoutMs, codes.data(), nullptr);
      if (code < 0) return absl::UnavailableError(kv739_last_error());
    }
    return absl::OkStatus();
  }

  // Reads keys [first, last), which must all be there as of `round`.
  absl::Status Verify(int first, int last, int round) {
    for (int begin = first; begin < last; begin += kBatch) {
      const int end = std::min(begin + kBatch, last);
      std::vector<std::string> keys;
      for (int i = begin; i < end; ++i) keys.push_back(Key(i));
      const std::vector<kv739_slice> slices = Slices(keys);
      std::vector<int> codes(keys.size());
      std::vector<kv739_result*> results(keys.size(), nullptr);
      const int code =
          kv739_client_batch_get(client_.handle(), slices.data(), keys.size(),
                                 kTimeoutMs, codes.data(), results.data());
      absl::Status status;
      if (code < 0) status = absl::UnavailableError(kv739_last_error());
      for (int i = begin; i < end; ++i) {
        kv739_result* result = results[i - begin];
        if (status.ok()) {
          size_t length = 0;
          const char* value = kv739_result_value(result, &length);
          if (!kv739_result_found(result)) {
            status = absl::DataLossError(absl::StrCat(Key(i), " is missing"));
          } else if (std::string(value, length) != Value(i, round)) {
            status = absl::DataLossError(absl::StrCat(
                Key(i), " has a value of ", length,
                " bytes: ", std::string(value, std::min<size_t>(length, 30))));
          }
        }
        kv739_result_free(result);
      }
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int kBatch = 1000;
  static constexpr int kTimeoutMs = 60'000;

  static std::vector<kv739_slice> Slices(const std::vector<std::string>& all) {
    std::vector<kv739_slice> slices;
    for (const std::string& s : all) slices.push_back({s.data(), s.size()});
    return slices;
  }

  Client& client_;
  const size_t value_bytes_;
};

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_BULK_H_
