// Scans: the handle-based calls of lib739kv.h.
#include <string.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/errors.h"
#include "client/handle.h"
#include "kv/types.h"

namespace kv739::client {
namespace {

// More than a page of any server holds.
constexpr size_t kMaxPageKeys = 1 << 20;

void SetCursor(uint32_t slot, const std::string& from,
               kv739_scan_cursor* cursor) {
  *cursor = kv739_scan_cursor();
  cursor->slot = slot;
  cursor->from_length = static_cast<unsigned>(from.size());
  if (!from.empty()) memcpy(cursor->from, from.data(), from.size());
}

bool AtEnd(const kv739_scan_cursor& cursor) {
  return cursor.slot == kv::kSlotCount;
}

struct ScanArguments {
  const void* prefix;
  size_t prefix_length;
  size_t max_keys;
  int flags;
  const kv739_scan_cursor* cursor;

  int Make(Request* request) const;
};

int ScanArguments::Make(Request* request) const {
  if (cursor == nullptr) return Fail(KV739_E_INVALID, "the cursor is NULL");
  if (cursor->slot > kv::kSlotCount || cursor->from_length > KV739_MAX_KEY) {
    return Fail(KV739_E_INVALID, "the cursor was not set by this library");
  }
  if (prefix == nullptr && prefix_length > 0) {
    return Fail(KV739_E_INVALID, "the prefix is NULL");
  }
  if (prefix_length > KV739_MAX_KEY) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("the prefix has ", prefix_length,
                             " bytes, the limit of keys is ", KV739_MAX_KEY));
  }
  if ((flags & ~KV739_SCAN_KEYS_ONLY) != 0) {
    return Fail(KV739_E_INVALID,
                absl::StrCat("flags are ", flags, ", of which some are none"));
  }
  auto scan = std::make_shared<ScanRequest>();
  scan->slot = cursor->slot;
  scan->from.assign(cursor->from, cursor->from_length);
  if (prefix_length > 0) {
    scan->prefix.assign(static_cast<const char*>(prefix), prefix_length);
  }
  scan->max_keys = static_cast<uint32_t>(std::min(max_keys, kMaxPageKeys));
  scan->keys_only = (flags & KV739_SCAN_KEYS_ONLY) != 0;
  request->kind = OpKind::kScan;
  request->scan = std::move(scan);
  return KV739_OK;
}

std::unique_ptr<kv739_scan_result> MakePage(std::shared_ptr<ScanPage> page) {
  auto result = std::make_unique<kv739_scan_result>();
  result->page = std::move(page);
  return result;
}

class AsyncScan : public Operation {
 public:
  AsyncScan(Request r, kv739_scan_callback done, void* context)
      : Operation(std::move(r)), done_(done), context_(context) {}

  void Finished() override {
    const int code = outcome.code;
    if (code < 0) {
      Fail(code, std::move(outcome.message));
      done_(context_, code, nullptr);
      return;
    }
    const std::unique_ptr<kv739_scan_result> page =
        MakePage(std::move(outcome.page));
    done_(context_, code, page.get());
  }

 private:
  const kv739_scan_callback done_;
  void* const context_;
};

}  // namespace
}  // namespace kv739::client

using namespace kv739::client;  // NOLINT: the names of this file

extern "C" {

int kv739_scan_cursor_set(kv739_scan_cursor* cursor, const void* key,
                          size_t key_length) {
  return Guarded([&] {
    if (cursor == nullptr) return Fail(KV739_E_INVALID, "the cursor is NULL");
    Request request;
    if (const int code = MakeRequest(OpKind::kGet, key, key_length, false,
                                     nullptr, 0, 0, &request)) {
      return code;
    }
    SetCursor(kv739::kv::SlotOf(request.key), request.key, cursor);
    return KV739_OK;
  });
}

void kv739_scan_result_free(kv739_scan_result* result) { delete result; }

size_t kv739_scan_result_count(const kv739_scan_result* result) {
  return result == nullptr ? 0 : result->page->entries.size();
}

int kv739_scan_result_more(const kv739_scan_result* result) {
  return result != nullptr && result->page->more ? 1 : 0;
}

const char* kv739_scan_result_key(const kv739_scan_result* result, size_t index,
                                  size_t* length) {
  const bool there = index < kv739_scan_result_count(result);
  if (length != nullptr) {
    *length = there ? result->page->entries[index].key.size() : 0;
  }
  return there ? result->page->entries[index].key.c_str() : "";
}

const char* kv739_scan_result_value(const kv739_scan_result* result,
                                    size_t index, size_t* length) {
  const bool there = index < kv739_scan_result_count(result);
  if (length != nullptr) {
    *length = there ? result->page->entries[index].value.size() : 0;
  }
  return there ? result->page->entries[index].value.c_str() : "";
}

uint64_t kv739_scan_result_version(const kv739_scan_result* result,
                                   size_t index) {
  return index < kv739_scan_result_count(result)
             ? result->page->entries[index].version
             : 0;
}

void kv739_scan_result_cursor(const kv739_scan_result* result,
                              kv739_scan_cursor* cursor) {
  if (result == nullptr || cursor == nullptr) return;
  SetCursor(result->page->next_slot, result->page->next_from, cursor);
}

int kv739_client_scan(kv739_client* client, const void* prefix,
                      size_t prefix_length, size_t max_keys, int flags,
                      kv739_scan_cursor* cursor, int timeout_ms,
                      kv739_scan_result** result) {
  return Guarded([&] {
    if (result != nullptr) *result = nullptr;
    std::shared_ptr<Client> own;
    Request request;
    if (const int code = Enter(client, timeout_ms, true, &own)) return code;
    const ScanArguments arguments{prefix, prefix_length, max_keys, flags,
                                  cursor};
    if (const int code = arguments.Make(&request)) return code;
    Outcome outcome;
    if (AtEnd(*cursor)) {
      outcome.page = std::make_shared<ScanPage>();
    } else if (const int code =
                   RunSync(own.get(), std::move(request), timeout_ms, &outcome);
               code != KV739_OK) {
      return code;
    }
    auto page = MakePage(std::move(outcome.page));
    kv739_scan_result_cursor(page.get(), cursor);
    if (result != nullptr) *result = page.release();
    return KV739_OK;
  });
}

int kv739_client_scan_async(kv739_client* client, const void* prefix,
                            size_t prefix_length, size_t max_keys, int flags,
                            const kv739_scan_cursor* cursor, int timeout_ms,
                            kv739_scan_callback done, void* context) {
  return Guarded([&] {
    std::shared_ptr<Client> own;
    Request request;
    if (const int code = Enter(client, timeout_ms, false, &own)) return code;
    if (done == nullptr) return Fail(KV739_E_INVALID, "the callback is NULL");
    const ScanArguments arguments{prefix, prefix_length, max_keys, flags,
                                  cursor};
    if (const int code = arguments.Make(&request)) return code;
    if (AtEnd(*cursor)) {
      return Fail(KV739_E_INVALID, "the cursor is at the end");
    }
    const auto operation =
        std::make_shared<AsyncScan>(std::move(request), done, context);
    operation->deadline = own->DeadlineIn(timeout_ms);
    const int code = own->Submit(operation);
    if (code != KV739_OK) Fail(code, std::move(operation->outcome.message));
    return code;
  });
}

}  // extern "C"
