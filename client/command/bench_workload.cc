#include "client/command/bench_workload.h"

#include <cmath>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kv/types.h"

namespace kv739::bench {
namespace {

constexpr size_t kPrefixLength = sizeof(kKeyPrefix) - 1;
// How far into the random text a value may begin.
constexpr size_t kValueStarts = 4096;

class MixSource : public Source {
 public:
  MixSource(const Mix& mix, const KeyShape& shape, KeySpace* keys,
            const Values* values, uint64_t seed)
      : mix_(mix),
        key_size_(shape.key_size),
        keys_(keys),
        values_(values),
        random_(seed),
        chooser_(mix.distribution, keys) {}

  bool Next(Operation* operation) override {
    auto draw = static_cast<int>(random_.Below(100));
    int kind = 0;
    while (draw >= mix_.percent[kind]) draw -= mix_.percent[kind++];
    operation->kind = static_cast<Kind>(kind);
    const bool insert = operation->kind == Kind::kInsert;
    operation->write = insert || operation->kind == Kind::kUpdate;
    operation->number = insert ? keys_->NewKey() : chooser_.Next(&random_);
    FormatKey(operation->number, key_size_, &operation->key);
    if (operation->kind == Kind::kScan) {
      operation->slot = kv::SlotOf(operation->key);
      operation->from = operation->key;
      operation->left =
          1 + static_cast<uint32_t>(random_.Below(kMaxScanLength));
      operation->got = 0;
    } else if (operation->kind != Kind::kRead) {
      operation->value = values_->Pick(&random_);
    }
    return true;
  }
  void Ended(const Operation& operation, Outcome) override {
    if (operation.kind == Kind::kInsert) keys_->Inserted(operation.number);
  }
  bool Exhausted() const override { return false; }

 private:
  const Mix mix_;
  const int key_size_;
  KeySpace* const keys_;
  const Values* const values_;
  Random random_;
  KeyChooser chooser_;
};

class FillSource : public Source {
 public:
  FillSource(const KeyShape& shape, const KeySpace* keys, const Values* values,
             uint64_t seed)
      : key_size_(shape.key_size),
        keys_(keys),
        values_(values),
        random_(seed) {}

  bool Next(Operation* operation) override {
    if (!again_.empty()) {
      operation->number = again_.back();
      again_.pop_back();
    } else if (next_ < keys_->initial()) {
      operation->number = next_++;
    } else {
      return false;
    }
    operation->kind = Kind::kInsert;
    operation->write = true;
    FormatKey(operation->number, key_size_, &operation->key);
    operation->value = values_->Pick(&random_);
    return true;
  }
  void Ended(const Operation& operation, Outcome outcome) override {
    if (outcome == Outcome::kOk) {
      ++filled_;
    } else {
      again_.push_back(operation.number);
    }
  }
  bool Exhausted() const override { return filled_ == keys_->initial(); }

 private:
  const int key_size_;
  const KeySpace* const keys_;
  const Values* const values_;
  Random random_;
  uint64_t next_ = 0;
  uint64_t filled_ = 0;
  std::vector<uint64_t> again_;  // failed; bounded by what is in flight
};

}  // namespace

absl::StatusOr<Mix> MixOf(absl::string_view workload) {
  // Read, update, insert, read-modify-write, scan.
  if (workload == "get") return Mix{{100, 0, 0, 0}, Distribution::kUniform};
  if (workload == "put") return Mix{{0, 100, 0, 0}, Distribution::kUniform};
  if (workload == "a") return Mix{{50, 50, 0, 0}, Distribution::kZipfian};
  if (workload == "b") return Mix{{95, 5, 0, 0}, Distribution::kZipfian};
  if (workload == "c") return Mix{{100, 0, 0, 0}, Distribution::kZipfian};
  if (workload == "d") return Mix{{95, 0, 5, 0}, Distribution::kLatest};
  if (workload == "f") return Mix{{50, 0, 0, 50}, Distribution::kZipfian};
  if (workload == "e") return Mix{{0, 0, 5, 0, 95}, Distribution::kZipfian};
  return absl::InvalidArgumentError(absl::StrCat("no such workload: ", workload,
                                                 "; there are put, get, a, b, "
                                                 "c, d, e, f"));
}

void FormatKey(uint64_t number, int key_size, std::string* key) {
  const absl::AlphaNum digits(number);
  const size_t zeros =
      std::max<size_t>(key_size, kPrefixLength + digits.size()) -
      kPrefixLength - digits.size();
  key->assign(kKeyPrefix, kPrefixLength);
  key->append(zeros, '0');
  key->append(digits.data(), digits.size());
}

double KeysOfSize(int key_size) {
  return std::pow(10.0, key_size - static_cast<int>(kPrefixLength));
}

Values::Values(int size, uint64_t seed)
    : size_(size), text_(size + kValueStarts, '\0') {
  static constexpr char kLetters[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
  Random random(seed);
  for (char& c : text_) c = kLetters[random.Next() >> 58];
}

absl::string_view Values::Pick(Random* random) const {
  return absl::string_view(text_).substr(random->Below(kValueStarts + 1),
                                         size_);
}

std::unique_ptr<Source> NewMixSource(const Mix& mix, const KeyShape& shape,
                                     KeySpace* keys, const Values* values,
                                     uint64_t seed) {
  return std::make_unique<MixSource>(mix, shape, keys, values, seed);
}

std::unique_ptr<Source> NewFillSource(const KeyShape& shape,
                                      const KeySpace* keys,
                                      const Values* values, uint64_t seed) {
  return std::make_unique<FillSource>(shape, keys, values, seed);
}

}  // namespace kv739::bench
