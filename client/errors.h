// The thread's last error, and the texts of the codes.
#ifndef KV739_CLIENT_ERRORS_H_
#define KV739_CLIENT_ERRORS_H_

#include <exception>
#include <new>
#include <string>

#include "client/lib739kv.h"

namespace kv739::client {

// Notes why a call failed, for kv739_last_error(); returns `code`.
int Fail(int code, std::string message);

// Runs the body of a call of the C interface: no exception leaves it.
template <typename Body>
int Guarded(Body&& body) noexcept {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return Fail(KV739_E_INTERNAL, "out of memory");
  } catch (const std::exception& e) {
    return Fail(KV739_E_INTERNAL, e.what());
  }
}

}  // namespace kv739::client

#endif  // KV739_CLIENT_ERRORS_H_
