// The one table that parsing, checking, printing and documentation of the
// settings are driven by.
#ifndef KV739_SERVER_SETTINGS_TABLE_H_
#define KV739_SERVER_SETTINGS_TABLE_H_

#include <cstdint>
#include <string>
#include <variant>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/settings.h"

namespace kv739::server {

enum class Unit : uint8_t {
  kNone,
  kTicks,
  kMilliseconds,
  kSeconds,
  kBytes,  // may be written as 64MiB or 64MB
  kEntries,
};

// "ticks", "milliseconds", ...; empty for kNone.
absl::string_view UnitName(Unit unit);

// A number. The default is what a Settings{} has.
struct NumberSetting {
  std::variant<uint32_t Settings::*, uint64_t Settings::*> field;
  Unit unit;
  uint64_t min;
  uint64_t max;
};

struct BoolSetting {
  bool Settings::*field;
};

// One of two words for a flag.
struct WordSetting {
  bool Settings::*field;
  absl::string_view when_false;
  absl::string_view when_true;
};

// One of a few words.
struct ChoiceSetting {
  std::string Settings::*field;
  absl::Span<const absl::string_view> choices;
};

// An address to listen on: letters, digits and ". : - _ %".
struct HostSetting {
  std::string Settings::*field;
};

using SettingKind = std::variant<NumberSetting, BoolSetting, WordSetting,
                                 ChoiceSetting, HostSetting>;

struct Setting {
  absl::string_view section;
  absl::string_view name;  // within its section
  SettingKind kind;
  absl::string_view description;  // lines of a comment, parted by \n

  std::string FullName() const;  // "raft.tick_ms"
};

// In the order of the file; those of one section stand together.
absl::Span<const Setting> AllSettings();
absl::string_view SectionDescription(absl::string_view section);

uint64_t GetNumber(const Settings& settings, const NumberSetting& setting);
// As a file would say it: "20", "64MiB", "true", "any", "\"0.0.0.0\"".
std::string FormatValue(const Settings& settings, const Setting& setting);
// "1 to 1000 milliseconds", "true or false", "trace, debug, ...".
std::string FormatRange(const Setting& setting);

}  // namespace kv739::server

#endif  // KV739_SERVER_SETTINGS_TABLE_H_
