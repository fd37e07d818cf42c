/* The classic calls, as a program in C uses them.
 *
 * usage: classic_api_program CLUSTER_FILE SERVER_TO_STOP
 * Says what went wrong on standard error and exits with 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/lib739kv.h"

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      fprintf(stderr, "line %d: %s; last error: %s\n", __LINE__, #condition, \
              kv739_last_error());                                           \
      exit(1);                                                               \
    }                                                                        \
  } while (0)

static char value[KV739_MAX_CLASSIC_VALUE + 1];
static char old_value[KV739_MAX_CLASSIC_VALUE + 1];

static void CheckBeforeInit(void) {
  strcpy(value, "x");
  CHECK(kv739_shutdown() == -1);
  CHECK(kv739_get("k", value) == -1);
  CHECK(strcmp(value, "") == 0);
  CHECK(kv739_put("k", "v", old_value) == -1);
  CHECK(strlen(kv739_last_error()) > 0);
  CHECK(kv739_init("/no/such/file") == -1);
  CHECK(strstr(kv739_last_error(), "/no/such/file") != NULL);
}

static void CheckPutAndGet(void) {
  strcpy(value, "x");
  strcpy(old_value, "x");
  CHECK(kv739_get("k", value) == 1);
  CHECK(strcmp(value, "") == 0);
  CHECK(kv739_put("k", "one", old_value) == 1);
  CHECK(strcmp(old_value, "") == 0);
  CHECK(kv739_get("k", value) == 0);
  CHECK(strcmp(value, "one") == 0);
  CHECK(kv739_put("k", "two", old_value) == 0);
  CHECK(strcmp(old_value, "one") == 0);
  CHECK(kv739_put("k", "three", NULL) == 0);
  CHECK(kv739_put("k", "", old_value) == 0);
  CHECK(strcmp(old_value, "three") == 0);
  /* An empty value is there; only a missing one is 1. */
  CHECK(kv739_get("k", value) == 0);
  CHECK(strcmp(value, "") == 0);
  CHECK(kv739_put("k", "four", old_value) == 0);
  CHECK(strcmp(old_value, "") == 0);
}

static void CheckLimits(void) {
  static char longest[KV739_MAX_CLASSIC_VALUE + 2];
  static char key[KV739_MAX_KEY + 2];
  memset(longest, 'v', KV739_MAX_CLASSIC_VALUE);
  CHECK(kv739_put("long", longest, NULL) == 1);
  CHECK(kv739_get("long", value) == 0);
  CHECK(strcmp(value, longest) == 0);
  memset(key, 'k', KV739_MAX_KEY);
  CHECK(kv739_put(key, "v", NULL) == 1);
  CHECK(kv739_get(key, value) == 0);
  key[KV739_MAX_KEY] = 'k';
  CHECK(kv739_put(key, "v", old_value) == -1);
  CHECK(strstr(kv739_last_error(), "256") != NULL);
  CHECK(kv739_put("", "v", old_value) == -1);
  CHECK(kv739_get("", value) == -1);
}

/* A value that other calls wrote and that does not fit. */
static void CheckTooLong(const char *config) {
  static char big[KV739_MAX_CLASSIC_VALUE + 100];
  kv739_client *client = NULL;
  memset(big, 'b', sizeof big);
  CHECK(kv739_open(config, NULL, &client) == KV739_OK);
  CHECK(kv739_client_put(client, "big", 3, big, sizeof big, 0, NULL) == 1);
  strcpy(value, "x");
  CHECK(kv739_get("big", value) == -1);
  CHECK(strcmp(value, "") == 0);
  CHECK(kv739_last_error_code() == KV739_E_TOO_SMALL);
  /* The write was done, and its old value does not fit. */
  strcpy(old_value, "x");
  CHECK(kv739_put("big", "small", old_value) == -1);
  CHECK(kv739_last_error_code() == KV739_E_TOO_SMALL);
  CHECK(strcmp(old_value, "") == 0);
  CHECK(kv739_get("big", value) == 0);
  CHECK(strcmp(value, "small") == 0);
  kv739_close(client);
}

int main(int argc, char **argv) {
  CHECK(argc == 3);
  CheckBeforeInit();
  CHECK(kv739_init(argv[1]) == 0);
  CHECK(kv739_init(argv[1]) == -1);
  CheckPutAndGet();
  CheckLimits();
  CheckTooLong(argv[1]);
  CHECK(kv739_die("nonsense", 1) == -1);
  CHECK(kv739_die(argv[2], 1) == 0);
  CHECK(kv739_get("k", value) == 0);
  CHECK(strcmp(value, "four") == 0);
  CHECK(kv739_shutdown() == 0);
  CHECK(kv739_shutdown() == -1);
  CHECK(kv739_init(argv[1]) == 0);
  CHECK(kv739_get("k", value) == 0);
  CHECK(strcmp(value, "four") == 0);
  CHECK(kv739_shutdown() == 0);
  printf("all is well\n");
  return 0;
}
