// Lines of the shell: words, quotes and escapes, and what Tab may add.
#ifndef KV739_CLIENT_COMMAND_LINE_H_
#define KV739_CLIENT_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace kv739::command {

// Splits a line into words at blanks. 'single quotes' keep everything as it
// is; in "double quotes" and outside quotes \xNN is that byte, \n \r \t \0 are
// the usual ones, and \ before any other punctuation or a blank is that
// character. A # that begins a word begins a comment. A quoted or escaped word
// that begins with - is put behind a "--", so that it is no option.
// INVALID_ARGUMENT for an open quote or an unknown escape, with its column.
absl::StatusOr<std::vector<std::string>> SplitLine(absl::string_view line);

// What may follow: `insert` is what all candidates agree on beyond what is
// typed, with a blank behind it when there is only one.
struct Completion {
  std::string insert;
  std::vector<std::string> candidates;
};
// The last word of `typed` (the line up to the cursor) is completed with the
// verbs when it is the first, else with `words` (server names).
Completion Complete(absl::string_view typed,
                    const std::vector<std::string>& verbs,
                    const std::vector<std::string>& words);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_LINE_H_
