/* A tour of lib739kv in C.
 *
 *   cc example.c $(pkg-config --cflags --libs lib739kv) -o example
 *   ./example config/local.conf
 */
#include <lib739kv.h>
#include <stdio.h>
#include <string.h>

/* The classic calls: one client for the process, C strings. */
static int classic(const char *config_file) {
  char value[KV739_MAX_CLASSIC_VALUE + 1];
  if (kv739_init(config_file) != 0) return -1;

  switch (kv739_put("greeting", "hello", value)) {
    case 0:
      printf("put; before it was \"%s\"\n", value);
      break;
    case 1:
      printf("put; there was none before\n");
      break;
    default:
      /* Refused for sure, or nobody could say before the deadline? */
      printf("put failed%s\n", kv739_maybe_applied(kv739_last_error_code())
                                   ? ", but it may take effect"
                                   : "");
      return -1;
  }
  switch (kv739_get("greeting", value)) {
    case 0:
      printf("get: \"%s\"\n", value);
      break;
    case 1:
      printf("get: no such key\n");
      break;
    default:
      return -1;
  }
  return kv739_shutdown();
}

/* The handle-based calls: any bytes, a deadline for each call, versions. */
static int handles(const char *config_file) {
  kv739_client *client = NULL;
  kv739_result *result = NULL;
  int code = kv739_open(config_file, NULL, &client);
  if (code != KV739_OK) return code;

  code = kv739_client_put(client, "counter", 7, "1", 1, 2000, NULL);
  if (code >= 0) code = kv739_client_get(client, "counter", 7, 2000, &result);
  if (code == 0) {
    const uint64_t version = kv739_result_version(result);
    size_t length = 0;
    const char *bytes = kv739_result_value(result, &length);
    printf("counter is %.*s\n", (int)length, bytes);
    kv739_result_free(result);
    /* Done only when nobody has written in between. */
    code =
        kv739_client_cas(client, "counter", 7, version, "2", 1, 2000, &result);
    if (code >= 0) printf(code == 0 ? "swapped\n" : "somebody was faster\n");
    kv739_result_free(result);
  }
  kv739_close(client);
  return code < 0 ? code : 0;
}

int main(int argc, char **argv) {
  const char *config_file = argc > 1 ? argv[1] : "config/local.conf";
  if (classic(config_file) != 0 || handles(config_file) != 0) {
    fprintf(stderr, "failed: %s\n", kv739_last_error());
    return 1;
  }
  return 0;
}
