#include "kv/command.h"

#include "absl/status/status.h"
#include "kv/coding.h"

namespace kv739::kv {
namespace {

// version | op | stamp, then by operation:
//   writes        session [sequence floor, unless session is 0]
//                 [expected, kCompareAndSwap] key [value, unless kDelete]
//   kCloseSession session
//   kDirectory    value
constexpr uint8_t kFormat = 1;

bool HasValue(Op op) { return IsWrite(op) && op != Op::kDelete; }

size_t EncodedBytes(const Command& c) {
  size_t bytes = 2 + 8;
  if (c.op == Op::kCloseSession) return bytes + VarintBytes(c.session);
  if (c.op == Op::kDirectory) {
    return bytes + VarintBytes(c.value.size()) + c.value.size();
  }
  if (!IsWrite(c.op)) return bytes;
  bytes += VarintBytes(c.session);
  if (c.session != 0) bytes += VarintBytes(c.sequence) + VarintBytes(c.floor);
  if (c.op == Op::kCompareAndSwap) bytes += VarintBytes(c.expected);
  bytes += VarintBytes(c.key.size()) + c.key.size();
  if (HasValue(c.op)) bytes += VarintBytes(c.value.size()) + c.value.size();
  return bytes;
}

bool DecodeWrite(Reader* in, Command* c) {
  if (!in->Varint(&c->session)) return false;
  if (c->session != 0 && !(in->Varint(&c->sequence) && in->Varint(&c->floor))) {
    return false;
  }
  if (c->op == Op::kCompareAndSwap && !in->Varint(&c->expected)) return false;
  if (!in->Bytes(&c->key)) return false;
  return !HasValue(c->op) || in->Bytes(&c->value);
}

bool DecodeFields(Reader* in, Command* c) {
  if (!in->Fixed64(&c->stamp)) return false;
  switch (c->op) {
    case Op::kPut:
    case Op::kDelete:
    case Op::kAppend:
    case Op::kCompareAndSwap:
      return DecodeWrite(in, c);
    case Op::kOpenSession:
      return true;
    case Op::kCloseSession:
      return in->Varint(&c->session);
    case Op::kDirectory:
      return in->Bytes(&c->value);
    case Op::kAudit:
      return true;
  }
  return false;  // an operation that we do not know
}

}  // namespace

std::string EncodeCommand(const Command& c) {
  std::string out;
  out.reserve(EncodedBytes(c));
  out.push_back(static_cast<char>(kFormat));
  out.push_back(static_cast<char>(c.op));
  AppendFixed64(&out, c.stamp);
  if (c.op == Op::kCloseSession) AppendVarint(&out, c.session);
  if (c.op == Op::kDirectory) AppendBytes(&out, c.value);
  if (!IsWrite(c.op)) return out;
  AppendVarint(&out, c.session);
  if (c.session != 0) {
    AppendVarint(&out, c.sequence);
    AppendVarint(&out, c.floor);
  }
  if (c.op == Op::kCompareAndSwap) AppendVarint(&out, c.expected);
  AppendBytes(&out, c.key);
  if (HasValue(c.op)) AppendBytes(&out, c.value);
  return out;
}

absl::StatusOr<Command> DecodeCommand(absl::string_view bytes) {
  Reader in(bytes);
  uint8_t format = 0;
  uint8_t op = 0;
  if (!in.Byte(&format) || format != kFormat) {
    return absl::InvalidArgumentError("command of an unknown format");
  }
  if (!in.Byte(&op)) return absl::InvalidArgumentError("command cut short");
  Command command;
  command.op = static_cast<Op>(op);
  if (!DecodeFields(&in, &command) || !in.done()) {
    return absl::InvalidArgumentError("malformed command");
  }
  return command;
}

bool IsAudit(absl::string_view bytes) {
  return bytes.size() > 1 && bytes[0] == static_cast<char>(kFormat) &&
         bytes[1] == static_cast<char>(Op::kAudit);
}

}  // namespace kv739::kv
