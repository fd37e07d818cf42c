#include "server/settings.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <sstream>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "server/edit_distance.h"
#include "server/settings_table.h"

namespace kv739::server {
namespace {

// A settings file is a few kilobytes; what is larger is something else.
constexpr size_t kMaxFileBytes = 1 << 20;

std::vector<std::string> SectionNames() {
  std::vector<std::string> names;
  for (const Setting& setting : AllSettings()) {
    if (names.empty() || names.back() != setting.section) {
      names.emplace_back(setting.section);
    }
  }
  return names;
}

// Decimal digits and nothing else: no sign, no hexadecimal, no fraction.
bool ParseDigits(absl::string_view text, uint64_t* value) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), absl::ascii_isdigit) &&
         absl::SimpleAtoi(text, value);
}

// "64MiB", "64 MB", "67108864". False when it is none, or beyond 64 bits.
bool ParseBytes(absl::string_view text, uint64_t* bytes) {
  static constexpr std::pair<absl::string_view, uint64_t> kSuffixes[] = {
      {"KiB", uint64_t{1} << 10},
      {"MiB", uint64_t{1} << 20},
      {"GiB", uint64_t{1} << 30},
      {"TiB", uint64_t{1} << 40},
      {"KB", 1'000},
      {"MB", 1'000'000},
      {"GB", 1'000'000'000},
      {"TB", 1'000'000'000'000},
      {"kB", 1'000},
      {"B", 1}};
  uint64_t factor = 1;
  for (const auto& [suffix, bytes_each] : kSuffixes) {
    if (absl::EndsWith(text, suffix)) {
      factor = bytes_each;
      text.remove_suffix(suffix.size());
      text = absl::StripTrailingAsciiWhitespace(text);
      break;
    }
  }
  uint64_t number = 0;
  if (!ParseDigits(text, &number)) return false;
  return !__builtin_mul_overflow(number, factor, bytes);
}

bool IsHost(absl::string_view text) {
  return !text.empty() && text.size() <= 255 &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isalnum(c) || absl::StrContains(".:-_%", c);
         });
}

std::string Shown(absl::string_view text) {
  constexpr size_t kMaxShown = 60;
  std::string shown;
  for (const char c : text.substr(0, kMaxShown)) {
    shown += absl::ascii_isprint(c) ? c : '?';
  }
  if (text.size() > kMaxShown) shown += "...";
  return shown;
}

// Remembers where the last document began.
class DocumentStart : public YAML::EventHandler {
 public:
  const YAML::Mark& mark() const { return mark_; }

  void OnDocumentStart(const YAML::Mark& mark) override { mark_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  YAML::Mark mark_;
};

class Parser {
 public:
  explicit Parser(absl::string_view name) : name_(name) {}

  absl::StatusOr<Settings> Parse(absl::string_view yaml) {
    if (yaml.size() > kMaxFileBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(name_, ": larger than ", kMaxFileBytes, " bytes"));
    }
    YAML::Node document;
    try {
      const std::string text(yaml);
      if (absl::Status s = CheckSingle(text); !s.ok()) return s;
      document = YAML::Load(text);
    } catch (const YAML::Exception& e) {
      return Error(e.mark, e.msg);
    }
    if (document.IsDefined() && !document.IsNull()) {
      // Walking the tree throws only for what was not checked before.
      try {
        if (absl::Status s = ParseTop(document); !s.ok()) return s;
      } catch (const YAML::Exception& e) {
        return Error(e.mark, e.msg);
      }
    }
    if (absl::Status s = CrossCheck(); !s.ok()) return s;
    return settings_;
  }

 private:
  absl::Status Error(const YAML::Mark& mark, absl::string_view what) const {
    if (mark.is_null()) {
      return absl::InvalidArgumentError(absl::StrCat(name_, ": ", what));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        name_, ":", mark.line + 1, ":", mark.column + 1, ": ", what));
  }

  // YAML::LoadAll would read for ever where what follows a document begins with
  // a comma: that is an empty document for it, and the comma is still there.
  absl::Status CheckSingle(const std::string& text) const {
    std::istringstream in(text);
    YAML::Parser parser(in);
    DocumentStart first;
    DocumentStart second;
    if (!parser.HandleNextDocument(first) ||
        !parser.HandleNextDocument(second)) {
      return absl::OkStatus();
    }
    if (second.mark().pos <= first.mark().pos) {
      return Error(first.mark(), "this is not YAML");
    }
    return Error(second.mark(), "a second document; only one is read");
  }

  absl::Status Unknown(const YAML::Mark& mark, absl::string_view what,
                       const std::string& name) const {
    const std::string nearest = Nearest(name);
    return Error(mark, absl::StrCat("unknown ", what, " '", Shown(name), "'",
                                    nearest.empty() ? "" : "; did you mean '",
                                    nearest, nearest.empty() ? "" : "'?"));
  }

  // A setting of any section, or a section when `name` stands at the top.
  static std::string Nearest(const std::string& name) {
    std::vector<std::string> known;
    if (!absl::StrContains(name, '.')) known = SectionNames();
    for (const Setting& s : AllSettings()) known.push_back(s.FullName());
    if (std::string found = NearestName(name, known); !found.empty()) {
      return found;
    }
    // The right name in the wrong section, or without one.
    const std::vector<std::string> parts = absl::StrSplit(name, '.');
    std::vector<std::string> leaves;
    for (const Setting& s : AllSettings()) leaves.emplace_back(s.name);
    const std::string leaf = NearestName(parts.back(), leaves);
    for (const Setting& s : AllSettings()) {
      if (!leaf.empty() && s.name == leaf) return s.FullName();
    }
    return "";
  }

  absl::Status ParseTop(const YAML::Node& top) {
    if (top.IsNull()) return absl::OkStatus();  // empty, or comments only
    if (!top.IsMap()) {
      return Error(top.Mark(), "expected sections such as 'raft:'");
    }
    const std::vector<std::string> sections = SectionNames();
    std::map<std::string, YAML::Mark> seen;
    for (const auto& item : top) {
      const YAML::Node& key = item.first;
      if (!key.IsScalar()) {
        return Error(key.Mark(), "expected the name of a section");
      }
      const std::string& section = key.Scalar();
      if (std::find(sections.begin(), sections.end(), section) ==
          sections.end()) {
        return Unknown(key.Mark(), "section", section);
      }
      if (auto [it, added] = seen.emplace(section, key.Mark()); !added) {
        return Twice(key.Mark(), "section", section, it->second);
      }
      if (absl::Status s = ParseSection(section, item.second); !s.ok()) {
        return s;
      }
    }
    return absl::OkStatus();
  }

  absl::Status Twice(const YAML::Mark& mark, absl::string_view what,
                     absl::string_view name, const YAML::Mark& first) const {
    return Error(mark, absl::StrCat(what, " '", name, "' stands here again; ",
                                    "it is given in line ", first.line + 1));
  }

  absl::Status ParseSection(const std::string& section,
                            const YAML::Node& node) {
    if (node.IsNull()) return absl::OkStatus();  // all of it commented out
    if (!node.IsMap()) {
      return Error(node.Mark(), absl::StrCat("section '", section,
                                             "' is not a list of 'name: "
                                             "value' lines"));
    }
    for (const auto& item : node) {
      const YAML::Node& key = item.first;
      if (!key.IsScalar()) {
        return Error(key.Mark(), "expected the name of a setting");
      }
      const std::string full = absl::StrCat(section, ".", key.Scalar());
      const auto settings = AllSettings();
      const auto setting =
          std::find_if(settings.begin(), settings.end(),
                       [&](const Setting& s) { return s.FullName() == full; });
      if (setting == settings.end()) {
        return Unknown(key.Mark(), "setting", full);
      }
      if (auto [it, added] = given_.emplace(full, key.Mark()); !added) {
        return Twice(key.Mark(), "setting", full, it->second);
      }
      if (absl::Status s = ParseValue(*setting, item.second); !s.ok()) {
        return s;
      }
    }
    return absl::OkStatus();
  }

  absl::Status ParseValue(const Setting& setting, const YAML::Node& node) {
    if (node.IsNull()) {
      return Error(given_.at(setting.FullName()),
                   absl::StrCat(setting.FullName(), " has no value"));
    }
    if (!node.IsScalar()) {
      return Error(node.Mark(), absl::StrCat(setting.FullName(),
                                             ": expected one value, found a ",
                                             node.IsMap() ? "map" : "list"));
    }
    return std::visit(
        [&](const auto& kind) {
          return Assign(setting, kind, node.Scalar(), node.Mark());
        },
        setting.kind);
  }

  absl::Status Expected(const Setting& setting, absl::string_view what,
                        const std::string& text, const YAML::Mark& mark) const {
    return Error(mark, absl::StrCat(setting.FullName(), ": expected ", what,
                                    ", found '", Shown(text), "'"));
  }

  absl::Status Assign(const Setting& setting, const NumberSetting& kind,
                      const std::string& text, const YAML::Mark& mark) {
    uint64_t value = 0;
    if (kind.unit == Unit::kBytes) {
      if (!ParseBytes(text, &value)) {
        return Expected(setting, "a size such as 1048576 or 64MiB", text, mark);
      }
    } else if (!ParseDigits(text, &value)) {
      const absl::string_view unit = UnitName(kind.unit);
      return Expected(
          setting,
          absl::StrCat("a whole number", unit.empty() ? "" : " of ", unit),
          text, mark);
    }
    if (value < kind.min || value > kind.max) {
      return Error(mark,
                   absl::StrCat(setting.FullName(), ": ", Shown(text),
                                " is out of range: ", FormatRange(setting)));
    }
    std::visit(
        [&]<typename T>(T Settings::*field) {
          settings_.*field = static_cast<T>(value);
        },
        kind.field);
    return absl::OkStatus();
  }

  absl::Status Assign(const Setting& setting, const BoolSetting& kind,
                      const std::string& text, const YAML::Mark& mark) {
    if (text != "true" && text != "false") {
      return Expected(setting, FormatRange(setting), text, mark);
    }
    settings_.*kind.field = text == "true";
    return absl::OkStatus();
  }

  absl::Status Assign(const Setting& setting, const WordSetting& kind,
                      const std::string& text, const YAML::Mark& mark) {
    if (text != kind.when_true && text != kind.when_false) {
      return Expected(setting, FormatRange(setting), text, mark);
    }
    settings_.*kind.field = text == kind.when_true;
    return absl::OkStatus();
  }

  absl::Status Assign(const Setting& setting, const ChoiceSetting& kind,
                      const std::string& text, const YAML::Mark& mark) {
    if (std::find(kind.choices.begin(), kind.choices.end(), text) ==
        kind.choices.end()) {
      return Expected(setting, absl::StrCat("one of ", FormatRange(setting)),
                      text, mark);
    }
    settings_.*kind.field = text;
    return absl::OkStatus();
  }

  absl::Status Assign(const Setting& setting, const HostSetting& kind,
                      const std::string& text, const YAML::Mark& mark) {
    if (!IsHost(text)) {
      return Expected(setting, FormatRange(setting), text, mark);
    }
    settings_.*kind.field = text;
    return absl::OkStatus();
  }

  // What must hold between settings. The error points at the one that the
  // file gave.
  absl::Status CrossCheck() const {
    const Settings& s = settings_;
    if (s.election_timeout_ticks <= s.heartbeat_ticks) {
      return Contradiction("raft.election_timeout_ticks",
                           s.election_timeout_ticks, "larger than",
                           "raft.heartbeat_ticks", s.heartbeat_ticks);
    }
    if (s.max_inflight_bytes < s.max_append_bytes) {
      return Contradiction("raft.max_inflight_bytes", s.max_inflight_bytes,
                           "at least", "raft.max_append_bytes",
                           s.max_append_bytes);
    }
    if (s.max_peer_queue_bytes < s.max_append_bytes) {
      return Contradiction("limits.max_peer_queue_bytes",
                           s.max_peer_queue_bytes, "at least",
                           "raft.max_append_bytes", s.max_append_bytes);
    }
    if (s.wal_segment_bytes % 4096 != 0) {
      return Error(
          given_.at("storage.wal_segment_bytes"),
          absl::StrCat("storage.wal_segment_bytes (", s.wal_segment_bytes,
                       ") must be a multiple of 4096"));
    }
    return absl::OkStatus();
  }

  absl::Status Contradiction(const std::string& a, uint64_t value_a,
                             absl::string_view must_be, const std::string& b,
                             uint64_t value_b) const {
    auto given = given_.find(a);
    if (given == given_.end()) given = given_.find(b);
    return Error(
        given == given_.end() ? YAML::Mark::null_mark() : given->second,
        absl::StrCat(a, " (", value_a, ") must be ", must_be, " ", b, " (",
                     value_b, ")"));
  }

  const std::string name_;
  Settings settings_;
  std::map<std::string, YAML::Mark> given_;
};

}  // namespace

absl::StatusOr<Settings> Settings::Parse(absl::string_view yaml,
                                         absl::string_view name) {
  return Parser(name).Parse(yaml);
}

absl::StatusOr<Settings> Settings::Read(const std::string& path) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
      std::fopen(path.c_str(), "re"), std::fclose);
  const auto failed = [&] {
    return absl::NotFoundError(absl::StrCat("cannot read the settings file ",
                                            path, ": ", strerror(errno)));
  };
  if (file == nullptr) return failed();
  std::string text(kMaxFileBytes + 1, '\0');  // one more: Parse refuses it
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) return failed();
  return Parse(text, path);
}

std::string Settings::ToYaml() const {
  const Settings defaults;
  std::string out =
      "# Settings of kv739d, each with its default, its range and what it is\n"
      "# for. Any may be left out. Sizes are in bytes, or with a suffix: "
      "64MiB\n"
      "# (2^20 each), 64MB (10^6 each).\n";
  absl::string_view section;
  for (const Setting& setting : AllSettings()) {
    if (setting.section != section) {
      section = setting.section;
      absl::StrAppend(&out, "\n# ", SectionDescription(section), "\n", section,
                      ":\n");
    }
    absl::StrAppend(
        &out, "  # ",
        absl::StrReplaceAll(setting.description, {{"\n", "\n  # "}}), "\n  # [",
        FormatRange(setting), "; default ", FormatValue(defaults, setting),
        "]\n  ", setting.name, ": ", FormatValue(*this, setting), "\n");
  }
  return out;
}

}  // namespace kv739::server
