// Runs the command in this process and keeps what it prints.
#ifndef KV739_TESTS_UNIT_COMMAND_HARNESS_H_
#define KV739_TESTS_UNIT_COMMAND_HARNESS_H_

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "client/command/arguments.h"

namespace kv739::command {

// A folder of its own, gone at the end.
class TempDir {
 public:
  TempDir() {
    std::string path =
        (std::filesystem::temp_directory_path() / "kv739-command-XXXXXX")
            .string();
    path_ = mkdtemp(path.data());
  }
  ~TempDir() { std::filesystem::remove_all(path_); }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  // Writes a file and returns its path.
  std::string Write(const std::string& name, const std::string& text) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
    return file.string();
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

struct Ran {
  int exit = 0;
  std::string out;
  std::string err;
};

// With an environment of its own, so that the user's is not seen.
inline Ran RunCommand(std::vector<std::string> words,
                      const std::string& input = "",
                      const std::map<std::string, std::string>& env = {}) {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  const Io io{in, out, err, false, false, [&env](const char* name) {
                const auto found = env.find(name);
                return found == env.end() ? nullptr : found->second.c_str();
              }};
  Ran ran;
  ran.exit = Run(std::move(words), io);
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

}  // namespace kv739::command

#endif  // KV739_TESTS_UNIT_COMMAND_HARNESS_H_
