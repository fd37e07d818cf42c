#include "tests/support/scrape.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "tests/support/tcp.h"

namespace kv739::test {

double ScrapeMetric(uint16_t port, absl::string_view name) {
  auto text = HttpGet(port, "/metrics");
  if (!text.ok()) return -1;
  for (absl::string_view line :
       absl::StrSplit(*text, absl::ByAnyChar("\r\n"), absl::SkipEmpty())) {
    double value = 0;
    if (absl::StartsWith(line, name) && line[name.size()] == ' ' &&
        absl::SimpleAtod(line.substr(name.size() + 1), &value)) {
      return value;
    }
  }
  return -1;
}

}  // namespace kv739::test
