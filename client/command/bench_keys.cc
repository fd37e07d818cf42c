#include "client/command/bench_keys.h"

#include <algorithm>
#include <cmath>

namespace kv739::bench {
namespace {

// YCSB draws from so many items and hashes them onto the keys that there are,
// so that the number of keys does not change how skewed the load is.
constexpr uint64_t kScatteredItems = 10'000'000'000;
// Terms of zeta that are summed one by one; an integral for the rest.
constexpr uint64_t kZetaTerms = 10'000;

// FNV-1a over the eight bytes, lowest first.
uint64_t Scatter(uint64_t item) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (int i = 0; i < 8; ++i) {
    hash = (hash ^ (item & 0xff)) * 0x100000001b3u;
    item >>= 8;
  }
  return hash;
}

}  // namespace

uint64_t Random::Next() {
  state_ += 0x9e3779b97f4a7c15u;
  uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t Random::Below(uint64_t n) {
  return Next() % n;  // n is far too small for the remainder to favour any
}

double Random::Unit() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

double Zeta(uint64_t n, double theta) {
  double sum = 0;
  const uint64_t summed = std::min(n, kZetaTerms);
  for (uint64_t i = 1; i <= summed; ++i) {
    sum += std::pow(static_cast<double>(i), -theta);
  }
  if (n == summed) return sum;
  // Euler and Maclaurin: the integral, and half of the difference at its ends.
  const auto from = static_cast<double>(summed);
  const auto to = static_cast<double>(n);
  return sum +
         (std::pow(to, 1 - theta) - std::pow(from, 1 - theta)) / (1 - theta) +
         (std::pow(to, -theta) - std::pow(from, -theta)) / 2;
}

Zipfian::Zipfian(uint64_t items, double theta)
    : theta_(theta), alpha_(1 / (1 - theta)) {
  Resize(items);
}

void Zipfian::Resize(uint64_t items) {
  if (items == items_) return;
  const auto n = static_cast<double>(items);
  if (items_ >= kZetaTerms && items > items_) {
    // As keys come one by one.
    const auto from = static_cast<double>(items_);
    zeta_ +=
        (std::pow(n, 1 - theta_) - std::pow(from, 1 - theta_)) / (1 - theta_) +
        (std::pow(n, -theta_) - std::pow(from, -theta_)) / 2;
  } else {
    zeta_ = Zeta(items, theta_);
  }
  items_ = items;
  eta_ = (1 - std::pow(2 / n, 1 - theta_)) /
         (1 - (1 + std::pow(0.5, theta_)) / zeta_);
}

uint64_t Zipfian::Item(double unit) const {
  const double at = unit * zeta_;
  if (at < 1 || items_ == 1) return 0;
  if (at < 1 + std::pow(0.5, theta_) || items_ == 2) return 1;
  const auto item = static_cast<uint64_t>(
      static_cast<double>(items_) * std::pow(eta_ * unit - eta_ + 1, alpha_));
  return std::min(item, items_ - 1);
}

KeySpace::KeySpace(uint64_t keys)
    : initial_(keys), visible_(keys), next_(keys) {}

void KeySpace::Inserted(uint64_t key) {
  absl::MutexLock lock(&mutex_);
  ahead_.push(key);
  uint64_t visible = visible_.load(std::memory_order_relaxed);
  while (!ahead_.empty() && ahead_.top() == visible) {
    ahead_.pop();
    ++visible;
  }
  visible_.store(visible, std::memory_order_relaxed);
}

KeyChooser::KeyChooser(Distribution distribution, const KeySpace* keys)
    : distribution_(distribution),
      keys_(keys),
      zipfian_(distribution == Distribution::kZipfian ? kScatteredItems
                                                      : keys->initial()) {}

uint64_t KeyChooser::Next(Random* random) {
  switch (distribution_) {
    case Distribution::kUniform:
      return random->Below(keys_->visible());
    case Distribution::kZipfian:
      return Scatter(zipfian_.Item(random->Unit())) % keys_->initial();
    case Distribution::kLatest: {
      const uint64_t keys = keys_->visible();
      zipfian_.Resize(keys);
      return keys - 1 - zipfian_.Item(random->Unit());
    }
  }
  return 0;
}

}  // namespace kv739::bench
