// Numbers and byte strings in records of our own: little-endian fixed width,
// LEB128 varints in their shortest form (a longer one does not decode, so a
// value has one encoding), and big-endian where bytes must sort like numbers.
#ifndef KV739_KV_CODING_H_
#define KV739_KV_CODING_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"

namespace kv739::kv {

inline constexpr size_t kMaxVarintBytes = 10;

inline size_t VarintBytes(uint64_t value) {
  size_t bytes = 1;
  for (; value >= 0x80; value >>= 7) ++bytes;
  return bytes;
}

inline void AppendVarint(std::string* out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) {
    out->push_back(static_cast<char>(value | 0x80));
  }
  out->push_back(static_cast<char>(value));
}

inline void AppendFixed64(std::string* out, uint64_t value) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  out->append(bytes, sizeof bytes);
}

inline void AppendFixed32(std::string* out, uint32_t value) {
  char bytes[4];
  for (int i = 0; i < 4; ++i) bytes[i] = static_cast<char>(value >> (8 * i));
  out->append(bytes, sizeof bytes);
}

inline void AppendBigEndian64(std::string* out, uint64_t value) {
  char bytes[8];
  for (int i = 0; i < 8; ++i) {
    bytes[i] = static_cast<char>(value >> (56 - 8 * i));
  }
  out->append(bytes, sizeof bytes);
}

inline void AppendBigEndian16(std::string* out, uint16_t value) {
  out->push_back(static_cast<char>(value >> 8));
  out->push_back(static_cast<char>(value));
}

inline void AppendBytes(std::string* out, absl::string_view bytes) {
  AppendVarint(out, bytes.size());
  out->append(bytes.data(), bytes.size());
}

// Takes fields off the front of `bytes`. Each call is false, and what it was
// to set undefined, when the bytes do not hold such a field.
class Reader {
 public:
  explicit Reader(absl::string_view bytes) : rest_(bytes) {}

  bool Byte(uint8_t* out) {
    if (rest_.empty()) return false;
    *out = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return true;
  }

  bool Fixed64(uint64_t* out) {
    if (rest_.size() < 8) return false;
    *out = 0;
    for (int i = 7; i >= 0; --i) {
      *out = *out << 8 | static_cast<uint8_t>(rest_[i]);
    }
    rest_.remove_prefix(8);
    return true;
  }

  bool Fixed32(uint32_t* out) {
    if (rest_.size() < 4) return false;
    *out = 0;
    for (int i = 3; i >= 0; --i) {
      *out = *out << 8 | static_cast<uint8_t>(rest_[i]);
    }
    rest_.remove_prefix(4);
    return true;
  }

  bool BigEndian64(uint64_t* out) {
    if (rest_.size() < 8) return false;
    *out = 0;
    for (int i = 0; i < 8; ++i) {
      *out = *out << 8 | static_cast<uint8_t>(rest_[i]);
    }
    rest_.remove_prefix(8);
    return true;
  }

  bool Varint(uint64_t* out) {
    *out = 0;
    for (size_t i = 0; i < kMaxVarintBytes && i < rest_.size(); ++i) {
      const uint64_t byte = static_cast<uint8_t>(rest_[i]);
      if (i == kMaxVarintBytes - 1 && byte > 1) return false;  // over 64 bits
      *out |= (byte & 0x7f) << (7 * i);
      if (byte & 0x80) continue;
      if (byte == 0 && i > 0) return false;  // not the shortest form
      rest_.remove_prefix(i + 1);
      return true;
    }
    return false;
  }

  // A varint length and as many bytes; a view into what is read.
  bool Bytes(absl::string_view* out) {
    uint64_t size = 0;
    if (!Varint(&size) || size > rest_.size()) return false;
    *out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return true;
  }

  absl::string_view rest() const { return rest_; }
  bool done() const { return rest_.empty(); }

 private:
  absl::string_view rest_;
};

}  // namespace kv739::kv

#endif  // KV739_KV_CODING_H_
