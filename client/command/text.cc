#include "client/command/text.h"

#include <langinfo.h>
#include <wchar.h>

#include <algorithm>
#include <array>
#include <clocale>
#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace kv739::command {
namespace {

constexpr uint32_t kBad = 0xffffffff;

// The character at the front of `text`, which loses it; kBad takes one byte.
uint32_t NextCharacter(absl::string_view* text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>((*text)[i]); };
  const uint8_t first = byte(0);
  size_t length = 0;
  uint32_t character = 0;
  uint32_t smallest = 0;  // below it the form is overlong
  if (first < 0x80) {
    text->remove_prefix(1);
    return first;
  } else if ((first & 0xe0) == 0xc0) {
    length = 2, character = first & 0x1f, smallest = 0x80;
  } else if ((first & 0xf0) == 0xe0) {
    length = 3, character = first & 0x0f, smallest = 0x800;
  } else if ((first & 0xf8) == 0xf0) {
    length = 4, character = first & 0x07, smallest = 0x10000;
  }
  bool good = length != 0 && text->size() >= length;
  for (size_t i = 1; good && i < length; ++i) {
    good = (byte(i) & 0xc0) == 0x80;
    character = character << 6 | (byte(i) & 0x3f);
  }
  good = good && character >= smallest && character <= 0x10ffff &&
         (character < 0xd800 || character > 0xdfff);
  text->remove_prefix(good ? length : 1);
  return good ? character : kBad;
}

bool IsControl(uint32_t character) {
  return character < 0x20 || (character >= 0x7f && character < 0xa0);
}

}  // namespace

void InitLocale() {
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) {
    std::setlocale(LC_CTYPE, "C.UTF-8");
  }
}

bool IsUtf8(absl::string_view text) {
  while (!text.empty()) {
    if (NextCharacter(&text) == kBad) return false;
  }
  return true;
}

std::string Escape(absl::string_view text) {
  std::string escaped;
  while (!text.empty()) {
    const absl::string_view before = text;
    const uint32_t character = NextCharacter(&text);
    const absl::string_view bytes =
        before.substr(0, before.size() - text.size());
    if (character == '\\') {
      escaped += "\\\\";
    } else if (character == '\n') {
      escaped += "\\n";
    } else if (character == '\r') {
      escaped += "\\r";
    } else if (character == '\t') {
      escaped += "\\t";
    } else if (character == kBad || IsControl(character)) {
      for (const char c : bytes) {
        absl::StrAppendFormat(&escaped, "\\x%02x", static_cast<uint8_t>(c));
      }
    } else {
      absl::StrAppend(&escaped, bytes);
    }
  }
  return escaped;
}

int DisplayWidth(absl::string_view text) {
  int width = 0;
  while (!text.empty()) {
    const uint32_t character = NextCharacter(&text);
    const int columns =
        character == kBad ? 1 : wcwidth(static_cast<wchar_t>(character));
    width += std::max(columns, 0);
  }
  return width;
}

std::string Nearest(absl::string_view word,
                    const std::vector<std::string>& candidates) {
  std::string best;
  size_t best_edits = std::max<size_t>(1, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    // Levenshtein distance, one row at a time.
    std::vector<size_t> row(candidate.size() + 1);
    for (size_t j = 0; j < row.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= word.size(); ++i) {
      size_t diagonal = row[0];
      row[0] = i;
      for (size_t j = 1; j < row.size(); ++j) {
        const size_t replaced = diagonal + (word[i - 1] != candidate[j - 1]);
        diagonal = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
      }
    }
    if (row.back() < best_edits) {
      best_edits = row.back();
      best = candidate;
    }
  }
  return best;
}

std::string Count(size_t n, absl::string_view noun) {
  return absl::StrCat(n, " ", noun, n == 1 ? "" : "s");
}

std::string Bytes(double n) {
  static constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (n >= 1024 && unit + 1 < kUnits.size()) {
    n /= 1024;
    ++unit;
  }
  return absl::StrFormat("%.*f %s", unit == 0 ? 0 : 1, n, kUnits[unit]);
}

}  // namespace kv739::command
