// What a server says of itself on /metrics.
#ifndef KV739_TESTS_SUPPORT_SCRAPE_H_
#define KV739_TESTS_SUPPORT_SCRAPE_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace kv739::test {

// The value of a metric without labels; -1 when it is not there.
double ScrapeMetric(uint16_t port, absl::string_view name);

}  // namespace kv739::test

#endif  // KV739_TESTS_SUPPORT_SCRAPE_H_
