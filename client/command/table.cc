#include "client/command/table.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/command/text.h"

namespace kv739::command {

std::string Paint(const std::string& text, Color color, bool use) {
  if (!use || color == Color::kNone || text.empty()) return text;
  const char* code = "";
  switch (color) {
    case Color::kNone:
      break;
    case Color::kRed:
      code = "31";
      break;
    case Color::kGreen:
      code = "32";
      break;
    case Color::kYellow:
      code = "33";
      break;
    case Color::kBold:
      code = "1";
      break;
  }
  return absl::StrCat("\x1b[", code, "m", text, "\x1b[0m");
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::Add(std::vector<std::string> cells, Color color) {
  assert(cells.size() == columns_.size());
  for (std::string& cell : cells) cell = Escape(cell);
  rows_.push_back({std::move(cells), color});
}

std::string Table::Format(bool use_color) const {
  Row titles{{}, Color::kBold};
  for (const Column& column : columns_) titles.cells.push_back(column.title);
  std::vector<const Row*> rows = {&titles};
  for (const Row& row : rows_) rows.push_back(&row);

  std::vector<int> widths(columns_.size(), 0);
  for (const Row* row : rows) {
    for (size_t i = 0; i < widths.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row->cells[i]));
    }
  }
  std::string table;
  for (const Row* row : rows) {
    std::string line;
    for (size_t i = 0; i < widths.size(); ++i) {
      const std::string& cell = row->cells[i];
      const std::string pad(widths[i] - DisplayWidth(cell), ' ');
      const bool right = columns_[i].align == Align::kRight;
      absl::StrAppend(&line, i == 0 ? "" : "  ", right ? pad : "", cell,
                      right ? "" : pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&table, Paint(line, row->color, use_color), "\n");
  }
  return table;
}

}  // namespace kv739::command
