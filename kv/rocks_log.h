// RocksDB's own log, as the file LOG of the store. RocksDB's writer of it ends
// the process at the first line after one that could not be written (it takes
// that for a programming error), and a disk that is full is no reason to end.
// Here a line that cannot be written is dropped.
//
// Bounded: at `max_bytes` LOG becomes LOG.old, in place of the one before.
// Threads: any.
#ifndef KV739_KV_ROCKS_LOG_H_
#define KV739_KV_ROCKS_LOG_H_

#include <rocksdb/env.h>

#include <cstdarg>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

namespace kv739::kv {

class RocksLog : public rocksdb::Logger {
 public:
  // In `dir`, which need not have a LOG yet. A file that cannot be opened is
  // tried again at the next line.
  RocksLog(std::string dir, uint64_t max_bytes);
  ~RocksLog() override;

  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override;
  size_t GetLogFileSize() const override;

 private:
  bool Open();  // mutex_ is held, for these
  void Rotate();

  const std::string path_;
  const uint64_t max_bytes_;
  mutable std::mutex mutex_;  // guards what follows
  int fd_ = -1;
  uint64_t bytes_ = 0;
};

}  // namespace kv739::kv

#endif  // KV739_KV_ROCKS_LOG_H_
