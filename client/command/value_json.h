// Keys and values in JSON: text when they are UTF-8, else {"base64": "..."}.
#ifndef KV739_CLIENT_COMMAND_VALUE_JSON_H_
#define KV739_CLIENT_COMMAND_VALUE_JSON_H_

#include <nlohmann/json.hpp>

#include "absl/strings/escaping.h"
#include "absl/strings/string_view.h"
#include "client/command/text.h"

namespace kv739::command {

inline nlohmann::ordered_json ValueJson(absl::string_view bytes) {
  if (IsUtf8(bytes)) return std::string(bytes);
  return {{"base64", absl::Base64Escape(bytes)}};
}

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_VALUE_JSON_H_
