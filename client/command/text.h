// Small questions about text: is it UTF-8, how wide is it, how does it look
// escaped, which word did they mean. Pure functions.
#ifndef KV739_CLIENT_COMMAND_TEXT_H_
#define KV739_CLIENT_COMMAND_TEXT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace kv739::command {

// Makes wcwidth() know all characters whatever the user's locale. Once, before
// other threads start.
void InitLocale();

// Well-formed UTF-8: no overlong forms, no surrogates, at most U+10FFFF.
bool IsUtf8(absl::string_view text);

// The text as it may be shown in a line: control characters and bytes that are
// not UTF-8 become \xNN, \n, \r, \t; a backslash is doubled.
std::string Escape(absl::string_view text);

// Columns on a terminal. Bytes that are not UTF-8 count one each.
int DisplayWidth(absl::string_view text);

// The candidate that takes the fewest edits from `word`, or "" when none is
// near enough to be meant (more than a third of its letters, at least 1).
std::string Nearest(absl::string_view word,
                    const std::vector<std::string>& candidates);

// "1 byte", "5 bytes".
std::string Count(size_t n, absl::string_view noun);
// 512 B, 1.5 KiB, 64.0 MiB.
std::string Bytes(double n);

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_TEXT_H_
