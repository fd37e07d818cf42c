#include "raft/log.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "raft/check.h"

namespace kv739::raft {
namespace {

absl::Status Bad(const char* what) {
  return absl::InvalidArgumentError(absl::StrCat("raft log: ", what));
}

// Runs that are passed over before the vector is packed again.
constexpr size_t kPackAt = 1024;

}  // namespace

absl::Status Log::Validate(const Start& start) {
  if (bool(start.snapshot.index) != bool(start.snapshot.term)) {
    return Bad("snapshot position with only one of term and index");
  }
  if (start.last < start.snapshot.index) return Bad("ends before its snapshot");
  if (start.applied < start.snapshot.index) {
    return Bad("applied less than the snapshot");
  }
  if (start.applied > start.last) return Bad("applied more than the log has");
  if (start.commit > start.last) return Bad("committed more than the log has");
  if (start.terms.empty() != (start.last == start.snapshot.index)) {
    return Bad("terms do not fit the range of indexes");
  }
  Term term = start.snapshot.term;
  Index next = start.snapshot.index + 1;
  for (const TermRun& run : start.terms) {
    const bool first = &run == &start.terms.front();
    if (first ? run.first != next : run.first <= next) {
      return Bad("runs of terms out of order");
    }
    // A run may go on with the term of the snapshot.
    if (!run.term || (first ? run.term < term : run.term <= term)) {
      return Bad("terms that do not rise");
    }
    if (run.first > start.last) return Bad("a run behind the last index");
    term = run.term;
    next = run.first;
  }
  if (start.entries.size() != start.last - start.applied) {
    return Bad("entries are not those that follow the applied ones");
  }
  Index index = start.applied;
  size_t run = 0;
  for (const Entry& entry : start.entries) {
    ++index;
    while (run + 1 < start.terms.size() &&
           start.terms[run + 1].first <= index) {
      ++run;
    }
    if (entry.index != index) return Bad("entries are not contiguous");
    if (entry.term != start.terms[run].term) {
      return Bad("an entry's term differs from the list of terms");
    }
    if (!entry.data) return Bad("an entry without data");
  }
  return absl::OkStatus();
}

Log::Log(Start start, uint64_t max_cached_bytes)
    : max_cached_bytes_(max_cached_bytes),
      snapshot_(start.snapshot),
      last_(start.last),
      committed_(std::max(start.commit, start.applied)),
      applied_(start.applied),
      durable_(start.last),
      handed_to_disk_(start.last),
      handed_to_apply_(start.applied),
      runs_(std::move(start.terms)),
      memory_(std::move(start.entries)) {
  for (const Entry& entry : memory_) memory_bytes_ += EntryBytes(entry);
  Check();
}

Term Log::last_term() const {
  return runs_.empty() ? snapshot_.term : runs_.back().term;
}

std::optional<Term> Log::TermAt(Index index) const {
  if (index < snapshot_.index || index > last_) return std::nullopt;
  if (index == snapshot_.index) return snapshot_.term;
  // Nearly always the newest run.
  if (runs_.back().first <= index) return runs_.back().term;
  auto after = std::upper_bound(
      runs_.begin(), runs_.end(), index,
      [](Index wanted, const TermRun& run) { return wanted < run.first; });
  return std::prev(after)->term;
}

bool Log::IsUpToDate(LogPosition end) const {
  if (end.term != last_term()) return end.term > last_term();
  return end.index >= last_;
}

LogPosition Log::LastNotAbove(Index index, Term term) const {
  index = std::min(index, last_);
  for (auto run = runs_.rbegin(); run != runs_.rend(); ++run) {
    if (run->first > index) continue;
    if (run->term <= term) return {run->term, index};
    index = run->first - 1;
  }
  if (index < snapshot_.index) return {Term(), index};
  return snapshot_;
}

void Log::Append(Entry entry) {
  KV739_RAFT_CHECK(entry.index == last_ + 1,
                   "appended entries follow the last");
  KV739_RAFT_CHECK(entry.term >= last_term(), "terms in a log do not fall");
  if (runs_.empty() || runs_.back().term != entry.term) {
    runs_.push_back({entry.index, entry.term});
  }
  ++last_;
  memory_bytes_ += EntryBytes(entry);
  memory_.push_back(std::move(entry));
}

void Log::TruncateFrom(Index index) {
  KV739_RAFT_CHECK(index > committed_, "committed entries stay");
  if (index > last_) return;
  while (last_ >= index) {
    memory_bytes_ -= EntryBytes(memory_.back());
    memory_.pop_back();
    last_ = last_ - 1;
  }
  while (!runs_.empty() && runs_.back().first >= index) runs_.pop_back();
  // What was durable of the rest is about to be overwritten.
  durable_ = std::min(durable_, last_);
  handed_to_disk_ = std::min(handed_to_disk_, last_);
  Check();
}

void Log::CommitTo(Index index) {
  if (index <= committed_) return;
  KV739_RAFT_CHECK(index <= last_, "only what is in the log is committed");
  committed_ = index;
}

const Entry& Log::At(Index index) const {
  KV739_RAFT_CHECK(index >= first_in_memory() && index <= last_,
                   "the entry is in memory");
  return memory_[head_ + (index - first_in_memory())];
}

uint64_t Log::Copy(Index first, Index limit, uint32_t max_entries,
                   uint64_t max_bytes, std::vector<Entry>* out) const {
  KV739_RAFT_CHECK(first >= first_in_memory(), "copied entries are in memory");
  limit = std::min(limit, last_);
  if (first > limit) return 0;
  const size_t begin = head_ + (first - first_in_memory());
  const size_t count =
      std::min<uint64_t>(max_entries, uint64_t{limit - first} + 1);
  uint64_t bytes = 0;
  size_t end = begin;
  while (end < begin + count) {
    const uint64_t more = EntryBytes(memory_[end]);
    if (end > begin && bytes + more > max_bytes) break;
    bytes += more;
    ++end;
  }
  out->insert(out->end(), memory_.begin() + static_cast<ptrdiff_t>(begin),
              memory_.begin() + static_cast<ptrdiff_t>(end));
  return bytes;
}

std::vector<Entry> Log::TakeUnpersisted() {
  std::vector<Entry> entries;
  if (HasUnpersisted()) {
    Copy(handed_to_disk_ + 1, last_, ~uint32_t{0}, ~uint64_t{0}, &entries);
    handed_to_disk_ = last_;
  }
  return entries;
}

void Log::PersistedTo(LogPosition position) {
  if (position.index <= durable_ || !Matches(position)) return;
  KV739_RAFT_CHECK(position.index <= handed_to_disk_,
                   "only what was handed out can be durable");
  durable_ = position.index;
  EvictCached();
  Check();
}

std::vector<Entry> Log::TakeUnapplied(uint64_t max_bytes) {
  std::vector<Entry> entries;
  if (HasUnapplied()) {
    Copy(handed_to_apply_ + 1, Applicable(), ~uint32_t{0}, max_bytes, &entries);
    handed_to_apply_ = entries.back().index;
  }
  return entries;
}

void Log::AppliedTo(Index index) {
  if (index <= applied_) return;
  KV739_RAFT_CHECK(index <= handed_to_apply_,
                   "only what was handed out can be applied");
  applied_ = index;
  EvictCached();
  Check();
}

void Log::Compact(Index index) {
  KV739_RAFT_CHECK(index <= applied_ && index <= durable_,
                   "only what is applied and durable is dropped");
  if (index <= snapshot_.index) return;
  snapshot_ = {*TermAt(index), index};
  size_t gone = 0;
  while (gone < runs_.size() &&
         (gone + 1 < runs_.size() ? runs_[gone + 1].first <= index + 1
                                  : last_ == index)) {
    ++gone;
  }
  runs_.erase(runs_.begin(), runs_.begin() + static_cast<ptrdiff_t>(gone));
  if (!runs_.empty()) {
    runs_.front().first = std::max(runs_.front().first, index + 1);
  }
  while (memory_count() > 0 && memory_[head_].index <= index) {
    memory_bytes_ -= EntryBytes(memory_[head_]);
    memory_[head_++].data.reset();
  }
  EvictCached();
  Check();
}

bool Log::Install(LogPosition position) {
  KV739_RAFT_CHECK(position.index > applied_ && position.term,
                   "only what is ahead is installed");
  const Index index = position.index;
  const bool keep = Matches(position);
  if (!keep) {
    KV739_RAFT_CHECK(committed_ < index, "committed entries stay");
    memory_.clear();
    head_ = 0;
    memory_bytes_ = 0;
    runs_.clear();
    last_ = index;
    durable_ = index;
    handed_to_disk_ = index;
    snapshot_ = position;
  }
  committed_ = std::max(committed_, index);
  handed_to_apply_ = std::max(handed_to_apply_, index);
  applied_ = index;
  durable_ = std::max(durable_, index);
  handed_to_disk_ = std::max(handed_to_disk_, index);
  if (keep) Compact(index);
  Check();
  return keep;
}

void Log::EvictCached() {
  const Index needless = std::min(applied_, durable_);
  while (memory_bytes_ > max_cached_bytes_ && memory_count() > 0 &&
         memory_[head_].index <= needless) {
    memory_bytes_ -= EntryBytes(memory_[head_]);
    memory_[head_++].data.reset();
  }
  if (head_ == memory_.size()) {
    memory_.clear();
    head_ = 0;
  } else if (head_ >= kPackAt && head_ * 2 >= memory_.size()) {
    memory_.erase(memory_.begin(),
                  memory_.begin() + static_cast<ptrdiff_t>(head_));
    head_ = 0;
  }
}

void Log::Check() const {
  KV739_RAFT_CHECK(snapshot_.index <= applied_ &&
                       applied_ <= handed_to_apply_ &&
                       handed_to_apply_ <= committed_ && committed_ <= last_,
                   "snapshot <= applied <= handed <= committed <= last");
  KV739_RAFT_CHECK(durable_ <= handed_to_disk_ && handed_to_disk_ <= last_,
                   "durable <= handed <= last");
  KV739_RAFT_CHECK(runs_.empty() == (last_ == snapshot_.index),
                   "terms cover the log");
  KV739_RAFT_CHECK(first_in_memory() <= std::min(applied_, durable_) + 1,
                   "what is not applied or not durable is in memory");
}

}  // namespace kv739::raft
