// A directory of a test's own, removed with everything in it.
#ifndef KV739_TESTS_UNIT_SERVER_OUTER_TEMP_DIR_H_
#define KV739_TESTS_UNIT_SERVER_OUTER_TEMP_DIR_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace kv739::server {

class OuterTempDir {
 public:
  OuterTempDir() {
    std::string name = testing::TempDir() + "/kv739_outer_XXXXXX";
    if (mkdtemp(name.data()) == nullptr) abort();
    path_ = name;
  }
  ~OuterTempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  OuterTempDir(const OuterTempDir&) = delete;
  OuterTempDir& operator=(const OuterTempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string Sub(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string ReadText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

inline void WriteText(const std::string& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  EXPECT_TRUE(out) << path;
}

}  // namespace kv739::server

#endif  // KV739_TESTS_UNIT_SERVER_OUTER_TEMP_DIR_H_
