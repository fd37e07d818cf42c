// The settings file: what it takes, and how errors name the place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "server/edit_distance.h"
#include "server/settings.h"
#include "server/settings_table.h"

namespace kv739::server {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string ErrorOf(absl::string_view yaml) {
  const auto settings = Settings::Parse(yaml, "s.yaml");
  if (settings.ok()) return "";
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(settings.status().message());
}

// Equal in every setting that the table knows.
void ExpectEqual(const Settings& a, const Settings& b) {
  for (const Setting& s : AllSettings()) {
    EXPECT_EQ(FormatValue(a, s), FormatValue(b, s)) << s.FullName();
  }
}

TEST(Settings, EmptyFilesAndSectionsGiveDefaults) {
  for (const char* yaml :
       {"", "\n\n", "# only a comment\n", "---\n", "raft:\n",
        "raft:\n  # tick_ms: 5\nlog:\n", "{}", "raft: {}\n"}) {
    const auto settings = Settings::Parse(yaml, "s.yaml");
    ASSERT_TRUE(settings.ok()) << yaml << settings.status();
    ExpectEqual(*settings, Settings());
  }
}

TEST(Settings, TakesEveryKindOfValue) {
  const auto s = Settings::Parse(
      "raft: {tick_ms: 7, max_append_bytes: 64KiB}\n"
      "snapshot:\n  log_bytes: 3 MB\n  interval_s: 60\n"
      "limits:\n  key_charset: portable\n  max_value_bytes: 1000\n"
      "storage:\n  wal_direct_io: false\n  block_cache_bytes: 2GiB\n"
      "metrics:\n  host: \"::1\"\n  port: 9999\n"
      "log:\n  level: debug\n  format: json\n",
      "s.yaml");
  ASSERT_TRUE(s.ok()) << s.status();
  EXPECT_EQ(s->tick_ms, 7u);
  EXPECT_EQ(s->max_append_bytes, 65536u);
  EXPECT_EQ(s->snapshot_log_bytes, 3'000'000u);
  EXPECT_EQ(s->snapshot_interval_s, 60u);
  EXPECT_TRUE(s->portable_keys);
  EXPECT_EQ(s->max_value_bytes, 1000u);
  EXPECT_FALSE(s->wal_direct_io);
  EXPECT_EQ(s->block_cache_bytes, uint64_t{2} << 30);
  EXPECT_EQ(s->metrics_host, "::1");
  EXPECT_EQ(s->metrics_port, 9999u);
  EXPECT_EQ(s->log_level, "debug");
  EXPECT_EQ(s->log_format, "json");
  EXPECT_EQ(s->heartbeat_ticks, Settings().heartbeat_ticks);
}

TEST(Settings, UnknownNamesGetThePlaceAndTheNearestName) {
  EXPECT_EQ(ErrorOf("raft:\n  tick_mss: 5\n"),
            "s.yaml:2:3: unknown setting 'raft.tick_mss'; did you mean "
            "'raft.tick_ms'?");
  EXPECT_EQ(ErrorOf("rafft:\n  tick_ms: 5\n"),
            "s.yaml:1:1: unknown section 'rafft'; did you mean 'raft'?");
  // The right name in the wrong place.
  EXPECT_EQ(ErrorOf("tick_ms: 5\n"),
            "s.yaml:1:1: unknown section 'tick_ms'; did you mean "
            "'raft.tick_ms'?");
  EXPECT_EQ(ErrorOf("snapshot_entries: 5\n"),
            "s.yaml:1:1: unknown section 'snapshot_entries'; did you mean "
            "'snapshot.entries'?");
  EXPECT_EQ(ErrorOf("server:\n  loops: 1\n  wal_cache_bytes: 5\n"),
            "s.yaml:3:3: unknown setting 'server.wal_cache_bytes'; did you "
            "mean 'storage.wal_cache_bytes'?");
  EXPECT_EQ(ErrorOf("raft:\n  qqqqqqqqqqqqqqqqqq: 1\n"),
            "s.yaml:2:3: unknown setting 'raft.qqqqqqqqqqqqqqqqqq'");
}

TEST(Settings, WrongTypesAreNamed) {
  EXPECT_EQ(ErrorOf("raft:\n  tick_ms: fast\n"),
            "s.yaml:2:12: raft.tick_ms: expected a whole number of "
            "milliseconds, found 'fast'");
  for (const char* number : {"20ms", "-1", "+1", "1.5", "0x10", "1e3", "1 2",
                             "18446744073709551616", "''"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("raft:\n  tick_ms: ", number)),
                HasSubstr("2:12: raft.tick_ms: expected a whole number"))
        << number;
  }
  for (const char* size : {"MiB", "5XB", "-5MiB", "17179869184GiB", "1.5MiB"}) {
    EXPECT_THAT(ErrorOf(absl::StrCat("storage:\n  wal_segment_bytes: ", size)),
                HasSubstr("expected a size such as 1048576 or 64MiB"))
        << size;
  }
  EXPECT_THAT(ErrorOf("storage:\n  wal_direct_io: maybe"),
              HasSubstr("expected true or false, found 'maybe'"));
  EXPECT_THAT(ErrorOf("limits:\n  key_charset: strict"),
              HasSubstr("expected any or portable, found 'strict'"));
  EXPECT_THAT(ErrorOf("log:\n  level: loud"),
              HasSubstr("expected one of trace, debug, info, warn, error"));
  EXPECT_THAT(ErrorOf("metrics:\n  host: 'a b'"), HasSubstr("found 'a b'"));
  EXPECT_THAT(ErrorOf("raft:\n  tick_ms:\n"),
              HasSubstr("s.yaml:2:3: raft.tick_ms has no value"));
  EXPECT_THAT(ErrorOf("raft:\n  tick_ms: [1]\n"), HasSubstr("found a list"));
  EXPECT_THAT(ErrorOf("raft:\n  tick_ms: {a: 1}\n"), HasSubstr("found a map"));
}

TEST(Settings, ValuesOutsideTheirRangeGetTheRange) {
  EXPECT_EQ(ErrorOf("raft:\n  tick_ms: 0\n"),
            "s.yaml:2:12: raft.tick_ms: 0 is out of range: 1 to 1000 "
            "milliseconds");
  EXPECT_EQ(ErrorOf("storage:\n  wal_segment_bytes: 1KiB"),
            "s.yaml:2:22: storage.wal_segment_bytes: 1KiB is out of range: "
            "4MiB to 1GiB");
  // Both ends of every number are taken, one beyond is not.
  for (const Setting& s : AllSettings()) {
    const auto* number = std::get_if<NumberSetting>(&s.kind);
    if (number == nullptr) continue;
    const auto yaml = [&](uint64_t value) {
      return absl::StrCat(s.section, ":\n  ", s.name, ": ", value, "\n");
    };
    for (uint64_t end : {number->min, number->max}) {
      EXPECT_THAT(ErrorOf(yaml(end)), Not(HasSubstr("out of range"))) << end;
    }
    EXPECT_THAT(ErrorOf(yaml(number->max + 1)), HasSubstr("out of range"));
    if (number->min > 0) {
      EXPECT_THAT(ErrorOf(yaml(number->min - 1)), HasSubstr("out of range"));
    }
  }
}

TEST(Settings, ShapesAndSyntaxErrorsGetTheirLine) {
  EXPECT_THAT(ErrorOf("raft:\n  tick_ms: 5\n  tick_ms: 6\n"),
              HasSubstr("s.yaml:3:3: setting 'raft.tick_ms' stands here "
                        "again; it is given in line 2"));
  EXPECT_THAT(ErrorOf("raft:\n  tick_ms: 5\nlog:\nraft:\n  tick_ms: 6\n"),
              HasSubstr("s.yaml:4:1: section 'raft' stands here again"));
  EXPECT_THAT(ErrorOf("- raft\n"), HasSubstr("s.yaml:1:1: expected sections"));
  EXPECT_THAT(ErrorOf("hello"), HasSubstr("s.yaml:1:1: expected sections"));
  EXPECT_THAT(ErrorOf("raft: 5\n"), HasSubstr("s.yaml:1:7: section 'raft'"));
  EXPECT_THAT(ErrorOf("[a]: 5\n"), HasSubstr("the name of a section"));
  EXPECT_THAT(ErrorOf("raft:\n  [a]: 5\n"), HasSubstr("name of a setting"));
  EXPECT_THAT(ErrorOf("raft:\n  tick_ms: 5\n bad: ]\n"),
              HasSubstr("s.yaml:3:"));
  EXPECT_THAT(ErrorOf("raft:\n\ttick_ms: 5\n"), HasSubstr("s.yaml:2:"));
  EXPECT_THAT(ErrorOf("raft: {}\n---\nlog: {}\n"),
              HasSubstr("a second document"));
  // What a YAML reader may wait at for ever.
  EXPECT_THAT(ErrorOf(","), HasSubstr("s.yaml:1:1: this is not YAML"));
  EXPECT_THAT(ErrorOf("log: {}\n---\n,"), Not(IsEmpty()));
  EXPECT_THAT(ErrorOf("raft: *nowhere\n"), HasSubstr("s.yaml:1:"));
  EXPECT_THAT(ErrorOf(std::string(2 << 20, '#')), HasSubstr("larger than"));
  EXPECT_THAT(ErrorOf(std::string(100'000, '[')), Not(IsEmpty()));
  EXPECT_THAT(ErrorOf(std::string(100'000, '{')), Not(IsEmpty()));
  EXPECT_THAT(ErrorOf(std::string("raft:\n  tick_ms: \0\xff", 19)),
              Not(IsEmpty()));
}

TEST(Settings, ContradictionsPointAtWhatWasGiven) {
  EXPECT_EQ(ErrorOf("raft:\n  heartbeat_ticks: 25\n"),
            "s.yaml:2:3: raft.election_timeout_ticks (25) must be larger than "
            "raft.heartbeat_ticks (25)");
  EXPECT_THAT(ErrorOf("raft:\n  max_inflight_bytes: 64KiB\n"),
              HasSubstr("must be at least raft.max_append_bytes"));
  EXPECT_THAT(ErrorOf("raft:\n  max_append_bytes: 64MiB\n"
                      "  max_inflight_bytes: 64MiB\n"
                      "limits:\n  max_peer_queue_bytes: 4MiB"),
              HasSubstr("s.yaml:5:3: limits.max_peer_queue_bytes"));
  EXPECT_THAT(ErrorOf("storage:\n  wal_segment_bytes: 5000000\n"),
              HasSubstr("s.yaml:2:3: storage.wal_segment_bytes (5000000) must "
                        "be a multiple of 4096"));
}

TEST(Settings, MissingFileIsNamed) {
  const auto settings = Settings::Read("/nonexistent/kv739d.yaml");
  EXPECT_EQ(settings.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(settings.status().message()),
              HasSubstr("/nonexistent/kv739d.yaml: No such file"));
  // A directory can be opened and not be read.
  EXPECT_FALSE(Settings::Read("/tmp").ok());
}

// Change each setting, print, parse: every setting survives, so the table
// gives each its own field.
TEST(Settings, PrintedSettingsParseToThemselves) {
  Settings changed;
  for (const Setting& s : AllSettings()) {
    if (const auto* n = std::get_if<NumberSetting>(&s.kind)) {
      const uint64_t value = GetNumber(changed, *n) == n->min
                                 ? n->min + 1
                                 : std::max(n->min, GetNumber(changed, *n) - 1);
      std::visit([&]<typename T>(T Settings::*f) { changed.*f = T(value); },
                 n->field);
    } else if (const auto* b = std::get_if<BoolSetting>(&s.kind)) {
      changed.*b->field = !(changed.*b->field);
    } else if (const auto* w = std::get_if<WordSetting>(&s.kind)) {
      changed.*w->field = !(changed.*w->field);
    }
  }
  changed.wal_segment_bytes = 32 << 20;
  changed.metrics_host = "::";
  changed.log_level = "trace";
  changed.log_format = "json";
  const Settings defaults;
  for (const Setting& s : AllSettings()) {
    EXPECT_NE(FormatValue(changed, s), FormatValue(defaults, s))
        << s.FullName();
  }
  const auto parsed = Settings::Parse(changed.ToYaml(), "printed");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ExpectEqual(*parsed, changed);
}

TEST(Settings, TheFileInTheTreeIsTheGeneratedOne) {
  std::ifstream in("config/kv739d.yaml");
  ASSERT_TRUE(in) << "run from the top of the source tree";
  std::stringstream text;
  text << in.rdbuf();
  EXPECT_EQ(text.str(), Settings().ToYaml())
      << "write it again: kv739d --print-settings > config/kv739d.yaml";
  const auto parsed = Settings::Parse(text.str(), "config/kv739d.yaml");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ExpectEqual(*parsed, Settings());
}

TEST(Settings, TableIsSound) {
  std::set<std::string> names;
  std::set<std::string> closed;  // sections that have ended
  std::string section;
  for (const Setting& s : AllSettings()) {
    EXPECT_TRUE(names.insert(s.FullName()).second) << s.FullName();
    EXPECT_FALSE(s.description.empty()) << s.FullName();
    if (s.section != section) {
      EXPECT_TRUE(closed.insert(section).second) << s.FullName();
      section = std::string(s.section);
      EXPECT_FALSE(closed.contains(section)) << s.FullName();
      EXPECT_FALSE(SectionDescription(section).empty()) << section;
    }
    if (const auto* n = std::get_if<NumberSetting>(&s.kind)) {
      EXPECT_LE(n->min, GetNumber(Settings(), *n)) << s.FullName();
      EXPECT_GE(n->max, GetNumber(Settings(), *n)) << s.FullName();
    }
  }
  // A new field of Settings needs a line in the table; this notices.
  std::ifstream header("server/settings.h");
  const std::regex field(R"(^  (uint32_t|uint64_t|bool|std::string) \w+ = .*)");
  size_t fields = 0;
  for (std::string line; std::getline(header, line);) {
    fields += std::regex_match(line, field);
  }
  EXPECT_EQ(AllSettings().size(), fields);
}

TEST(EditDistance, CountsLetters) {
  EXPECT_EQ(EditDistance("", ""), 0u);
  EXPECT_EQ(EditDistance("abc", ""), 3u);
  EXPECT_EQ(EditDistance("", "abc"), 3u);
  EXPECT_EQ(EditDistance("kitten", "sitting"), 3u);
  EXPECT_EQ(EditDistance("abcd", "abdc"), 1u);  // neighbours swapped
  EXPECT_EQ(NearestName("lisen", {"data", "listen"}), "listen");
  EXPECT_EQ(NearestName("zzz", {"data", "listen"}), "");
  EXPECT_EQ(NearestName(std::string(1000, 'a'), {"data"}), "");
}

}  // namespace
}  // namespace kv739::server
