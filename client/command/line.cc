#include "client/command/line.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace kv739::command {
namespace {

absl::Status At(size_t column, absl::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("column ", column + 1, ": ", what));
}

// Decodes the escape whose backslash is at line[*at], which moves behind it.
absl::StatusOr<char> ReadEscape(absl::string_view line, size_t* at) {
  const size_t start = *at;
  if (start + 1 >= line.size()) return At(start, "nothing follows the \\");
  const char kind = line[start + 1];
  *at = start + 2;
  switch (kind) {
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case '0':
      return '\0';
    case 'x': {
      const absl::string_view digits = line.substr(start + 2, 2);
      if (digits.size() < 2 || !absl::ascii_isxdigit(digits[0]) ||
          !absl::ascii_isxdigit(digits[1])) {
        return At(start, "\\x needs two hexadecimal digits");
      }
      *at = start + 4;
      return absl::HexStringToBytes(digits)[0];
    }
    default:
      if (absl::ascii_ispunct(kind) || absl::ascii_isspace(kind)) return kind;
      return At(start,
                absl::StrCat("unknown escape \\", line.substr(start + 1, 1)));
  }
}

// One word, from line[*at] on. `literal`: some of it was quoted or escaped.
absl::Status ReadWord(absl::string_view line, size_t* at, std::string* word,
                      bool* literal) {
  char quote = 0;
  size_t opened = 0;
  while (*at < line.size()) {
    const char c = line[*at];
    if (c == '\\' && quote != '\'') {
      absl::StatusOr<char> byte = ReadEscape(line, at);
      if (!byte.ok()) return byte.status();
      word->push_back(*byte);
      *literal = true;
      continue;
    }
    if (quote == 0 && absl::ascii_isspace(c)) break;
    if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      opened = *at;
      *literal = true;
    } else if (quote != 0 && c == quote) {
      quote = 0;
    } else {
      word->push_back(c);
    }
    ++*at;
  }
  if (quote != 0) return At(opened, "this quote is never closed");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::string>> SplitLine(absl::string_view line) {
  std::vector<std::string> words;
  bool options_ended = false;
  size_t at = 0;
  while (true) {
    while (at < line.size() && absl::ascii_isspace(line[at])) ++at;
    if (at == line.size() || line[at] == '#') return words;
    std::string word;
    bool literal = false;
    if (absl::Status status = ReadWord(line, &at, &word, &literal);
        !status.ok()) {
      return status;
    }
    if (literal && !options_ended && absl::StartsWith(word, "-")) {
      words.push_back("--");
      options_ended = true;
    }
    options_ended = options_ended || (!literal && word == "--");
    words.push_back(std::move(word));
  }
}

Completion Complete(absl::string_view typed,
                    const std::vector<std::string>& verbs,
                    const std::vector<std::string>& words) {
  const absl::string_view line = absl::StripLeadingAsciiWhitespace(typed);
  const size_t blank = line.find_last_of(" \t");
  const bool first = blank == absl::string_view::npos;
  const absl::string_view prefix = first ? line : line.substr(blank + 1);
  Completion completion;
  for (const std::string& candidate : first ? verbs : words) {
    if (absl::StartsWith(candidate, prefix)) {
      completion.candidates.push_back(candidate);
    }
  }
  if (completion.candidates.empty()) return completion;
  std::sort(completion.candidates.begin(), completion.candidates.end());
  // Sorted: what the first and the last share, all share.
  const std::string& low = completion.candidates.front();
  const std::string& high = completion.candidates.back();
  const auto differs =
      std::mismatch(low.begin(), low.end(), high.begin(), high.end()).first;
  completion.insert = std::string(low.begin() + prefix.size(), differs);
  if (completion.candidates.size() == 1) completion.insert += ' ';
  return completion;
}

}  // namespace kv739::command
