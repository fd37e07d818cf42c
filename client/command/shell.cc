// The shell: on a terminal with a prompt, history and completion; otherwise it
// runs the lines of its input, one command each.
#include <fcntl.h>
#include <histedit.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/command/arguments.h"
#include "client/command/interrupt.h"
#include "client/command/line.h"
#include "client/command/verbs.h"

namespace kv739::command {
namespace {

constexpr int kHistoryLines = 1000;
constexpr char kShellHelp[] =
    "Verbs are those of the command line; `help VERB` explains one.\n"
    "  \"a b\" 'a b'      one word; \\xNN \\n \\t \\\\ in \"\" and outside\n"
    "  .timing          show how long each command takes, or stop that\n"
    "  help, exit       Ctrl-D exits too\n";

// What is the same on a terminal and in a batch.
class Interpreter {
 public:
  explicit Interpreter(Context* context) : context_(*context) {}

  // Runs one line; its exit code.
  int RunLine(absl::string_view line);
  bool ended() const { return ended_; }

 private:
  int RunWords(std::vector<std::string> words);

  Context& context_;
  bool ended_ = false;
  bool timing_ = false;
};

int Interpreter::RunLine(absl::string_view line) {
  absl::StatusOr<std::vector<std::string>> words = SplitLine(line);
  if (!words.ok()) {
    return context_.Fail(kUsage, std::string(words.status().message()));
  }
  if (words->empty()) return kOk;
  const std::string& first = words->front();
  if (first == "exit" || first == "quit") {
    ended_ = true;
    return kOk;
  }
  if (first == ".timing") {
    timing_ = !timing_;
    context_.io.err << "timing is " << (timing_ ? "on" : "off") << std::endl;
    return kOk;
  }
  if (first == "help") {
    if (words->size() == 1) context_.io.out << kShellHelp;
    words->erase(words->begin());
    words->push_back("--help");
  }
  const absl::Time start = absl::Now();
  const int exit = RunWords(*std::move(words));
  if (timing_) {
    context_.io.err << absl::StrFormat(
        "%.3f ms\n", absl::ToDoubleMilliseconds(absl::Now() - start));
    context_.io.err.flush();
  }
  return exit;
}

int Interpreter::RunWords(std::vector<std::string> words) {
  Parsed parsed;
  int exit = kOk;
  if (!Parse(std::move(words), context_.options, true, context_.io, &parsed,
             &exit)) {
    return exit;
  }
  if (!parsed.verb) return kOk;
  // --json and --timeout of a line are for that line.
  std::swap(context_.options, parsed.options);
  exit = parsed.verb(context_);
  std::swap(context_.options, parsed.options);
  return exit;
}

int RunBatch(Context& context) {
  Interpreter interpreter(&context);
  int last_failure = kOk;
  std::string line;
  while (!interpreter.ended() && std::getline(context.io.in, line)) {
    const int exit = interpreter.RunLine(line);
    if (exit != kOk) last_failure = exit;
  }
  return last_failure;
}

// The line editor; libedit's callbacks find it as their client data.
class Editor {
 public:
  explicit Editor(Context* context);
  ~Editor();
  Editor(const Editor&) = delete;
  Editor& operator=(const Editor&) = delete;

  // Without the newline; empty after Ctrl-C. False at the end of the input.
  bool ReadLine(std::string* line);

 private:
  static const char* Prompt(EditLine*);
  static unsigned char CompleteWord(EditLine* editor, int);
  static unsigned char DiscardLine(EditLine* editor, int);
  void OpenHistory();

  Context& context_;
  std::vector<std::string> verbs_;
  std::vector<std::string> servers_;
  EditLine* editor_;
  History* history_;
  HistEvent event_;
  bool discarded_ = false;  // Ctrl-C ended the line
  std::string history_path_;
};

Editor::Editor(Context* context)
    : context_(*context),
      verbs_(Verbs(true)),
      editor_(el_init("kv739", stdin, stdout, stderr)),
      history_(history_init()) {
  for (const char* word : {"help", "exit", ".timing"}) verbs_.push_back(word);
  if (absl::StatusOr<ClusterClient*> client = context->Cluster(); client.ok()) {
    for (const kv::ServerLine& server : (*client)->file().servers) {
      servers_.push_back(server.address.ToString());
    }
  }
  el_set(editor_, EL_CLIENTDATA, this);
  el_set(editor_, EL_PROMPT, &Editor::Prompt);
  el_set(editor_, EL_EDITOR, "emacs");
  el_set(editor_, EL_ADDFN, "complete-word", "complete", &Editor::CompleteWord);
  el_set(editor_, EL_BIND, "^I", "complete-word", nullptr);
  // Ctrl-C is a key here: it drops the line, and not the shell.
  el_set(editor_, EL_SETTY, "-d", "-isig", nullptr);
  el_set(editor_, EL_ADDFN, "discard-line", "discard", &Editor::DiscardLine);
  el_set(editor_, EL_BIND, "^C", "discard-line", nullptr);
  history(history_, &event_, H_SETSIZE, kHistoryLines);
  history(history_, &event_, H_SETUNIQUE, 1);
  el_set(editor_, EL_HIST, history, history_);
  OpenHistory();
}

Editor::~Editor() {
  if (!history_path_.empty()) {
    history(history_, &event_, H_SAVE, history_path_.c_str());
  }
  history_end(history_);
  el_end(editor_);
}

// Lines hold keys and values, so the file is the user's alone.
void Editor::OpenHistory() {
  const std::string path = HistoryPath(context_.io.env);
  if (path.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(),
                                      error);
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || fchmod(fd, 0600) != 0) {
    context_.io.err << "kv739: no history: cannot write " << path << std::endl;
    if (fd >= 0) close(fd);
    return;
  }
  close(fd);
  history_path_ = path;
  history(history_, &event_, H_LOAD, path.c_str());
}

const char* Editor::Prompt(EditLine*) { return "kv739> "; }

unsigned char Editor::CompleteWord(EditLine* editor, int) {
  Editor* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  const LineInfo* line = el_line(editor);
  const Completion completion =
      Complete(absl::string_view(line->buffer, line->cursor - line->buffer),
               self->verbs_, self->servers_);
  if (!completion.insert.empty()) {
    return el_insertstr(editor, completion.insert.c_str()) == 0 ? CC_REFRESH
                                                                : CC_ERROR;
  }
  if (completion.candidates.size() < 2) return CC_ERROR;
  std::string all = "\n";
  for (const std::string& word : completion.candidates) {
    absl::StrAppend(&all, word, "  ");
  }
  self->context_.io.out << all << "\n" << std::flush;
  return CC_REDISPLAY;
}

unsigned char Editor::DiscardLine(EditLine* editor, int) {
  Editor* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  const LineInfo* line = el_line(editor);
  el_cursor(editor, static_cast<int>(line->lastchar - line->cursor));
  el_deletestr(editor, static_cast<int>(line->lastchar - line->buffer));
  self->discarded_ = true;
  return CC_NEWLINE;
}

bool Editor::ReadLine(std::string* line) {
  line->clear();
  discarded_ = false;
  int length = 0;
  const char* text = el_gets(editor_, &length);
  if (discarded_) {  // looks like the end of the input to libedit
    context_.io.out << "^C" << std::endl;
    return true;
  }
  if (text == nullptr || length <= 0) return false;
  if (text[length - 1] == '\n') --length;
  line->assign(text, length);
  if (!line->empty()) history(history_, &event_, H_ENTER, line->c_str());
  return true;
}

int RunTerminal(Context& context) {
  Interpreter interpreter(&context);
  Editor editor(&context);
  context.io.out << "help explains, exit leaves.\n" << std::flush;
  std::string line;
  while (!interpreter.ended() && editor.ReadLine(&line)) {
    interpreter.RunLine(line);
  }
  if (!interpreter.ended()) context.io.out << std::endl;
  return kOk;
}

}  // namespace

int Shell(Context& context) {
  context.in_shell = true;
  if (!context.io.in_terminal) return RunBatch(context);
  // Threads that connections start must not take the Ctrl-C that ends a
  // `ping`; every other verb ends by its timeout.
  Interrupt interrupt;
  return RunTerminal(context);
}

}  // namespace kv739::command
