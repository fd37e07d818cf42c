// A tour of lib739kv in C++.
//
//   c++ example.cc $(pkg-config --cflags --libs lib739kv) -o example
//   ./example config/local.conf
#include <lib739kv.h>

#include <iostream>
#include <string>

namespace {

// The classic calls with strings: any length up to the limit, any bytes.
bool Strings(const std::string& config_file) {
  if (kv739_init(config_file) != 0) return false;
  std::string value;
  const std::string key = "page/1";
  int code = kv739_put(key, std::string(100'000, 'x'), value);
  if (code < 0) return false;
  std::cout << (code == 0 ? "replaced " : "new, before it was ") << value.size()
            << " bytes\n";
  code = kv739_get(key, value);
  if (code < 0) return false;
  std::cout << "read " << value.size() << " bytes\n";
  return kv739_shutdown() == 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (Strings(argc > 1 ? argv[1] : "config/local.conf")) return 0;
  const int code = kv739_last_error_code();
  std::cerr << kv739_strerror(code) << ": " << kv739_last_error() << "\n"
            << (kv739_maybe_applied(code) ? "it may have taken effect\n" : "")
            << (kv739_is_retryable(code) ? "asking again may help\n" : "");
  return 1;
}
