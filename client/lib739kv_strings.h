/* The classic calls of lib739kv.h for std::string: values of any length up to
 * KV739_MAX_VALUE and with any bytes. Inline, so that the program's own C++
 * library is all they need; included by lib739kv.h.
 *
 * Results and errors are those of the classic calls. The string is empty on 1
 * and -1. Keys and values may hold NULs. Out of memory throws std::bad_alloc,
 * as everywhere in C++; a write is done by then.
 */
#ifndef LIB739KV_STRINGS_H_
#define LIB739KV_STRINGS_H_

#ifndef LIB739KV_H_
#error "include lib739kv.h"
#endif

#include <memory>

inline int kv739_init(const std::string& config_file) {
  return kv739_init(config_file.c_str());
}

inline int kv739_get(const std::string& key, std::string& value) {
  value.clear();
  kv739_result* raw = nullptr;
  const int code = kv739_get_sized(key.data(), key.size(), &raw);
  const std::unique_ptr<kv739_result, void (*)(kv739_result*)> result(
      raw, kv739_result_free);
  if (code != 0) return code;
  size_t length = 0;
  const char* data = kv739_result_value(raw, &length);
  value.assign(data, length);
  return code;
}

inline int kv739_put(const std::string& key, const std::string& value,
                     std::string& old_value) {
  // The new value may be the string that the old one goes to.
  kv739_result* raw = nullptr;
  const int code =
      kv739_put_sized(key.data(), key.size(), value.data(), value.size(), &raw);
  const std::unique_ptr<kv739_result, void (*)(kv739_result*)> result(
      raw, kv739_result_free);
  old_value.clear();
  if (code != 0) return code;
  size_t length = 0;
  const char* data = kv739_result_value(raw, &length);
  old_value.assign(data, length);
  return code;
}

inline int kv739_die(const std::string& server, int clean) {
  return kv739_die(server.c_str(), clean);
}

inline int kv739_start(const std::string& server, int is_new) {
  return kv739_start(server.c_str(), is_new);
}

inline int kv739_leave(const std::string& server, int clean) {
  return kv739_leave(server.c_str(), clean);
}

#endif /* LIB739KV_STRINGS_H_ */
