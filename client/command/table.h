// Tables for people: columns as wide as their widest cell, two blanks between
// them, no lines. Not thread-safe.
#ifndef KV739_CLIENT_COMMAND_TABLE_H_
#define KV739_CLIENT_COMMAND_TABLE_H_

#include <string>
#include <vector>

namespace kv739::command {

enum class Color { kNone, kRed, kGreen, kYellow, kBold };

// `text` in colour when `use` is true.
std::string Paint(const std::string& text, Color color, bool use);

class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns);
  // As many cells as columns; control characters are shown escaped.
  void Add(std::vector<std::string> cells, Color color = Color::kNone);
  // Title and rows, each with a newline and without trailing blanks.
  std::string Format(bool use_color) const;

 private:
  struct Row {
    std::vector<std::string> cells;
    Color color;
  };
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace kv739::command

#endif  // KV739_CLIENT_COMMAND_TABLE_H_
