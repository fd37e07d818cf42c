/* The header in C: every declaration is one, the buffers have their sizes,
 * and a C program links and runs. */
#include <stdio.h>
#include <string.h>

#include "lib739kv.h"

#define CHECK(condition)                                      \
  do {                                                        \
    if (!(condition)) {                                       \
      fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
      return 1;                                               \
    }                                                         \
  } while (0)

static void Ignore(void *context, int code, const kv739_result *result) {
  (void)context;
  (void)code;
  (void)result;
}

int main(void) {
  char value[KV739_MAX_CLASSIC_VALUE + 1] = "rest";
  kv739_options options = {sizeof(kv739_options), 100, 10};
  kv739_client *client = NULL;
  kv739_callback callback = Ignore;
  kv739_scan_cursor cursor = {0, 0, {0}};
  kv739_scan_result *page = NULL;
  CHECK(callback != NULL);
  CHECK(kv739_get("key", value) == -1);
  CHECK(value[0] == '\0');
  CHECK(strlen(kv739_last_error()) > 0);
  CHECK(kv739_last_error_code() == KV739_E_CLOSED);
  CHECK(kv739_init("/nonexistent/file") == -1);
  CHECK(kv739_shutdown() == -1);
  CHECK(kv739_open("/nonexistent/file", &options, &client) == KV739_E_CONFIG);
  CHECK(client == NULL);
  CHECK(kv739_scan_cursor_set(&cursor, "key", 3) == KV739_OK);
  CHECK(cursor.from_length == 3 && memcmp(cursor.from, "key", 3) == 0);
  CHECK(kv739_client_scan(NULL, NULL, 0, 0, KV739_SCAN_KEYS_ONLY, &cursor, 0,
                          &page) == KV739_E_INVALID);
  CHECK(page == NULL && kv739_scan_result_count(page) == 0);
  CHECK(strlen(kv739_version()) > 5);
  CHECK(strlen(kv739_strerror(KV739_E_UNKNOWN)) > 0);
  return 0;
}
