/* lib739kv: the client library of kv739, for C and C++.
 *
 * Two interfaces over one engine. The classic calls (kv739_init, kv739_put,
 * ...) work on one client per process and C strings. The handle-based calls
 * take lengths, deadlines and callbacks; new programs should use them.
 *
 * Threads: every call may be made from any thread, on one handle too. The
 * library has threads of its own and never calls back while it holds a lock.
 * A handle does not survive fork(): in the child every call on it fails with
 * KV739_E_FORKED. The child may open its own when the parent had none open at
 * the time and did not use gRPC otherwise; else opening fails with that code
 * too (gRPC cannot be taken up again in a child), until it execs a program.
 * The library prints nothing; it switches gRPC's own log off in a program
 * that has neither used gRPC before the first client nor set GRPC_VERBOSITY.
 *
 * Outcomes: a write ends in one of three ways. 0 or a positive result: done,
 * exactly once, however often the library had to send it. An error for which
 * kv739_maybe_applied() is 0: it has not taken effect and never will.
 * KV739_E_UNKNOWN: nobody could say before the deadline; it may take effect,
 * at most once.
 */
#ifndef LIB739KV_H_
#define LIB739KV_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#include <string>
extern "C" {
#endif

/* What the library exports; nothing else is visible. */
#if defined(__GNUC__)
#define KV739_API __attribute__((visibility("default")))
#else
#define KV739_API
#endif

/* Laid out by hand, to be read. */
/* clang-format off */

/* ---- limits ---- */

#define KV739_MAX_KEY 256
#define KV739_MAX_VALUE 1024000
/* Longest value of the classic calls; their buffers hold it and a NUL. */
#define KV739_MAX_CLASSIC_VALUE 2048
/* How long kv739_start and kv739_leave may take, and those of a handle with
 * timeout 0: they wait until data has moved between servers. */
#define KV739_MEMBERSHIP_TIMEOUT_MS 120000

/* ---- error codes of the handle-based calls; all negative ---- */

#define KV739_OK 0
#define KV739_E_INVALID (-2)     /* bad argument or over a limit; says which */
#define KV739_E_TIMEOUT (-3)     /* deadline passed; nothing took effect */
#define KV739_E_UNKNOWN (-4)     /* deadline passed; a write may take effect */
#define KV739_E_UNAVAILABLE (-5) /* no server could be reached */
#define KV739_E_CONFIG (-6)      /* cluster file missing or malformed */
#define KV739_E_TOO_SMALL (-7)   /* buffer too small; *length says how much */
#define KV739_E_CLOSED (-8)      /* handle closed while the call waited */
#define KV739_E_FORKED (-9)      /* handle of the parent process, or opened
                                    in a child of one that had a handle */
#define KV739_E_DENIED (-10)     /* the server refuses this from here */
#define KV739_E_OVERLOADED (-11) /* too many operations wait in this client */
#define KV739_E_INTERNAL (-12)
#define KV739_E_REFUSED (-13)    /* the servers cannot do this; says why */

/* Text for a code; static. */
KV739_API const char *kv739_strerror(int code);
/* 1 when a write that ended with `code` has, may have or may yet have taken
 * effect: results that are no errors, KV739_E_UNKNOWN, and KV739_E_TOO_SMALL
 * (done, but its old value did not fit). */
KV739_API int kv739_maybe_applied(int code);
/* 1 when asking again later may succeed. */
KV739_API int kv739_is_retryable(int code);
/* What went wrong in the last failed call of this thread, as a sentence;
 * valid until the next call of this thread. "" when none failed. */
KV739_API const char *kv739_last_error(void);
/* Code of that failure; KV739_OK when none failed. */
KV739_API int kv739_last_error_code(void);
/* "0.1.0 (revision)"; static. */
KV739_API const char *kv739_version(void);

/* ---- classic calls ---- */

/* Reads the cluster file and opens the process's client. Does not wait for a
 * server. 0, or -1 (file missing or malformed, already initialized). */
KV739_API int kv739_init(const char *config_file);
/* Ends the client; calls that wait end with -1. 0, or -1 when not
 * initialized. kv739_init may be called again. */
KV739_API int kv739_shutdown(void);
/* 0 found, 1 no such key, -1 failure. `value` has room for
 * KV739_MAX_CLASSIC_VALUE + 1 bytes; it is "" on 1 and -1. */
KV739_API int kv739_get(const char *key, char *value);
/* 0 there was an old value, 1 there was none, -1 failure: refused, or its
 * outcome is unknown; kv739_last_error() says which. `old_value` has room
 * for KV739_MAX_CLASSIC_VALUE + 1 bytes and may be NULL; it is "" on 1 and
 * -1. An old value that is longer (written by other calls) gives -1 after
 * the write was done; kv739_last_error() says so, and
 * kv739_last_error_code() is KV739_E_TOO_SMALL. */
KV739_API int kv739_put(const char *key, const char *value, char *old_value);
/* Stops a server: clean 1 hands over leaderships, flushes and exits, and
 * returns when the server is gone; clean 0 exits at once. 0 or -1. */
KV739_API int kv739_die(const char *server, int clean);
/* Starts a server, and returns when it has caught up with its groups.
 * is_new 0: one that was stopped, on the data that it has. is_new 1: one with
 * an empty data directory, which joins the cluster: it is a voter of a group
 * that had room then, or a spare.
 * It is started by the supervisor (kv739d -c) of its host: on this host
 * directly, on another through a server that runs there. Where there is none,
 * it fails and kv739_last_error() says what to run there. Refused for a server
 * that runs already, for one that has left the cluster (is_new 0) and on a
 * data directory that is not empty (is_new 1).
 * 0 or -1; KV739_E_UNKNOWN in kv739_last_error_code() when it was started and
 * had not caught up after KV739_MEMBERSHIP_TIMEOUT_MS: it goes on. The
 * deadline of the other calls does not bound this one. */
KV739_API int kv739_start(const char *server, int is_new);
/* Takes a server out of its groups; spares fill its places where there are
 * some. clean 0: returns when it is out; clean 1: and its process has ended,
 * which it does by itself. The server may be running or not. Refused, with
 * the group and the reason in kv739_last_error(), when a group would be left
 * with fewer than three voters or without a live majority. 0 or -1; deadline
 * and KV739_E_UNKNOWN as for kv739_start: asking again waits on. */
KV739_API int kv739_leave(const char *server, int clean);

/* The same with lengths, for values up to KV739_MAX_VALUE and with any bytes;
 * *result as in the handle-based calls below, NULL on -1. */
struct kv739_result;
KV739_API int kv739_get_sized(const void *key, size_t key_length,
                              struct kv739_result **result);
KV739_API int kv739_put_sized(const void *key, size_t key_length,
                              const void *value, size_t value_length,
                              struct kv739_result **result);

/* ---- handle-based calls ---- */

typedef struct kv739_client kv739_client;

typedef struct kv739_options {
  size_t struct_size;      /* sizeof(kv739_options) */
  int timeout_ms;          /* default of calls that give 0; 0: 5000 */
  int max_pending;         /* operations that may wait at once; 0: 65536 */
} kv739_options;

/* Deadline of every call: timeout_ms, 0 for the handle's default. */

/* *client is set on KV739_OK alone. `options` may be NULL. */
KV739_API int kv739_open(const char *config_file, const kv739_options *options,
               kv739_client **client);
/* Ends calls that wait with KV739_E_CLOSED (a write that was sent already:
 * KV739_E_UNKNOWN) and frees the handle; no call may begin on it after or
 * while kv739_close runs. NULL is allowed. Not from a callback. */
KV739_API void kv739_close(kv739_client *client);

/* What an operation found; owned by the caller, or by the library for the
 * time of a callback. Never NULL after a call that did not fail. */
typedef struct kv739_result kv739_result;
KV739_API void kv739_result_free(kv739_result *result); /* NULL is allowed */
/* A value was there: the one read, or before a write the old one. */
KV739_API int kv739_result_found(const kv739_result *result);
/* That value, NUL-terminated beyond its length; valid as long as `result`.
 * "" with length 0 when there was none. `length` may be NULL. */
KV739_API const char *kv739_result_value(const kv739_result *result, size_t *length);
/* Version of the value read, of the write done, or, for a failed
 * compare-and-swap, of the value there; 0 when there is none. */
KV739_API uint64_t kv739_result_version(const kv739_result *result);

/* 0 found, 1 no such key, or an error. `result` may be NULL in all of them;
 * *result is NULL on errors. */
KV739_API int kv739_client_get(kv739_client *client, const void *key, size_t key_length,
                     int timeout_ms, kv739_result **result);
/* 0 there was an old value, 1 there was none, or an error. */
KV739_API int kv739_client_put(kv739_client *client, const void *key, size_t key_length,
                     const void *value, size_t value_length, int timeout_ms,
                     kv739_result **result);
/* 0 deleted, 1 no such key, or an error. */
KV739_API int kv739_client_delete(kv739_client *client, const void *key,
                        size_t key_length, int timeout_ms,
                        kv739_result **result);
/* Appends to the value, making it when there is none: 0 there was one, 1
 * there was none, or an error. */
KV739_API int kv739_client_append(kv739_client *client, const void *key,
                        size_t key_length, const void *value,
                        size_t value_length, int timeout_ms,
                        kv739_result **result);
/* Puts the value when the key's version is `expected` (0: when there is no
 * such key): 0 done, 1 it differs and `result` has what is there, or an
 * error. */
KV739_API int kv739_client_cas(kv739_client *client, const void *key, size_t key_length,
                     uint64_t expected, const void *value, size_t value_length,
                     int timeout_ms, kv739_result **result);

/* Asynchronous forms: return KV739_OK when the operation was taken, and then
 * call `done` exactly once, on a thread of the library, with the code that
 * the synchronous form returns. `done` must not block and must not make
 * synchronous calls (they fail with KV739_E_INVALID there); it may start
 * asynchronous ones. Otherwise they return the error and `done` is not
 * called. Keys and values are copied. */
typedef void (*kv739_callback)(void *context, int code,
                               const kv739_result *result);
KV739_API int kv739_client_get_async(kv739_client *client, const void *key,
                           size_t key_length, int timeout_ms,
                           kv739_callback done, void *context);
KV739_API int kv739_client_put_async(kv739_client *client, const void *key,
                           size_t key_length, const void *value,
                           size_t value_length, int timeout_ms,
                           kv739_callback done, void *context);
KV739_API int kv739_client_delete_async(kv739_client *client, const void *key,
                              size_t key_length, int timeout_ms,
                              kv739_callback done, void *context);
KV739_API int kv739_client_append_async(kv739_client *client, const void *key,
                              size_t key_length, const void *value,
                              size_t value_length, int timeout_ms,
                              kv739_callback done, void *context);
KV739_API int kv739_client_cas_async(kv739_client *client, const void *key,
                           size_t key_length, uint64_t expected,
                           const void *value, size_t value_length,
                           int timeout_ms, kv739_callback done, void *context);

/* Many operations in one call, in parallel, each on its own (a batch is not
 * atomic): codes[i] and results[i] are as of the single call. Returns
 * KV739_OK when every one ended without an error, otherwise the first error.
 * `results` may be NULL. */
typedef struct kv739_slice {
  const void *data;
  size_t length;
} kv739_slice;
KV739_API int kv739_client_batch_get(kv739_client *client, const kv739_slice *keys,
                           size_t count, int timeout_ms, int *codes,
                           kv739_result **results);
KV739_API int kv739_client_batch_put(kv739_client *client, const kv739_slice *keys,
                           const kv739_slice *values, size_t count,
                           int timeout_ms, int *codes, kv739_result **results);

/* ---- scans: many keys, in pages ----
 *
 * Keys are given in the order of the store: by slot (a hash of the key, of
 * which there are 4096), then by key. They are not sorted over slots.
 * Every page is a linearizable read of one moment. Several pages are not of one
 * moment: a key that is there from the first page to the last is given exactly
 * once; one that comes or goes meanwhile is given once or not at all. */

/* Where the next page begins. All zero: at the first key; set anew by every
 * page. A plain value, which may be copied and kept. */
typedef struct kv739_scan_cursor {
  unsigned slot;               /* 4096: at the end */
  unsigned from_length;        /* of the key in `from`; 0: the slot's first */
  char from[KV739_MAX_KEY];
} kv739_scan_cursor;
/* Sets the cursor to a key, which need not be there. KV739_OK or
 * KV739_E_INVALID. */
KV739_API int kv739_scan_cursor_set(kv739_scan_cursor *cursor, const void *key,
                          size_t key_length);

#define KV739_SCAN_KEYS_ONLY 1 /* values are not sent, and are "" */

/* A page; owned by the caller, or by the library for the time of a callback.
 * Pointers into it are valid as long as it is. */
typedef struct kv739_scan_result kv739_scan_result;
KV739_API void kv739_scan_result_free(kv739_scan_result *result); /* NULL is allowed */
KV739_API size_t kv739_scan_result_count(const kv739_scan_result *result);
/* 0 when the last key there is was looked at. */
KV739_API int kv739_scan_result_more(const kv739_scan_result *result);
/* Of entry `index`, below the count: NUL-terminated beyond their lengths, which
 * may be NULL. */
KV739_API const char *kv739_scan_result_key(const kv739_scan_result *result, size_t index,
                                  size_t *length);
KV739_API const char *kv739_scan_result_value(const kv739_scan_result *result,
                                    size_t index, size_t *length);
KV739_API uint64_t kv739_scan_result_version(const kv739_scan_result *result,
                                   size_t index);
/* Where the next page begins. */
KV739_API void kv739_scan_result_cursor(const kv739_scan_result *result,
                              kv739_scan_cursor *cursor);

/* One page of the keys that begin with `prefix` (NULL with length 0: all): at
 * most max_keys of them, and at most what the servers give in one page (1000
 * keys, about 1 MiB); max_keys 0: that. KV739_OK or an error, with which
 * *cursor is as it was and *result NULL. A page may be short or empty though
 * there is more, where slots of another group begin or few keys match:
 * kv739_scan_result_more() alone says that all is done. At the end of all keys
 * another page is empty. */
KV739_API int kv739_client_scan(kv739_client *client, const void *prefix,
                      size_t prefix_length, size_t max_keys, int flags,
                      kv739_scan_cursor *cursor, int timeout_ms,
                      kv739_scan_result **result);
/* As the other asynchronous forms; *cursor is copied and not set, which
 * kv739_scan_result_cursor() does. `result` is NULL for errors. A cursor at the
 * end is KV739_E_INVALID. */
typedef void (*kv739_scan_callback)(void *context, int code,
                                    const kv739_scan_result *result);
KV739_API int kv739_client_scan_async(kv739_client *client, const void *prefix,
                            size_t prefix_length, size_t max_keys, int flags,
                            const kv739_scan_cursor *cursor, int timeout_ms,
                            kv739_scan_callback done, void *context);

/* As kv739_die. KV739_OK or an error. */
KV739_API int kv739_client_die(kv739_client *client, const char *server, int clean,
                     int timeout_ms);
/* As kv739_start and kv739_leave. KV739_OK or an error; timeout_ms 0:
 * KV739_MEMBERSHIP_TIMEOUT_MS, not the handle's. */
KV739_API int kv739_client_start(kv739_client *client, const char *server, int is_new,
                     int timeout_ms);
KV739_API int kv739_client_leave(kv739_client *client, const char *server, int clean,
                     int timeout_ms);

#ifdef __cplusplus
} /* extern "C" */

/* The classic calls for std::string, of any length up to KV739_MAX_VALUE and
 * with any bytes. Inline: nothing of C++ crosses the library's boundary. */
#include "lib739kv_strings.h"
#endif

/* clang-format on */

#endif /* LIB739KV_H_ */
