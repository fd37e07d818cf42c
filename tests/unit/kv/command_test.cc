#include "kv/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace kv739::kv {
namespace {

Command Make(Op op) {
  Command c;
  c.op = op;
  c.stamp = 0x0123456789abcdef;
  c.session = 300;
  c.sequence = 77;
  c.floor = 70;
  c.expected = 12345678901234;
  c.key = "key";
  c.value = absl::string_view("v\0lue", 5);
  return c;
}

void ExpectSame(const Command& a, const Command& b) {
  EXPECT_EQ(a.op, b.op);
  EXPECT_EQ(a.stamp, b.stamp);
  EXPECT_EQ(a.session, b.session);
  EXPECT_EQ(a.sequence, b.sequence);
  EXPECT_EQ(a.floor, b.floor);
  EXPECT_EQ(a.expected, b.expected);
  EXPECT_EQ(a.key, b.key);
  EXPECT_EQ(a.value, b.value);
}

// What is left of a command when the fields that its operation has no use for
// are taken away.
Command Meaningful(Command c) {
  const Command all = c;
  c = Command();
  c.op = all.op;
  c.stamp = all.stamp;
  if (c.op == Op::kOpenSession || c.op == Op::kAudit) return c;
  if (c.op == Op::kDirectory) {
    c.value = all.value;
    return c;
  }
  c.session = all.session;
  if (c.op == Op::kCloseSession) return c;
  if (c.session != 0) {
    c.sequence = all.sequence;
    c.floor = all.floor;
  }
  if (c.op == Op::kCompareAndSwap) c.expected = all.expected;
  c.key = all.key;
  if (c.op != Op::kDelete) c.value = all.value;
  return c;
}

constexpr Op kOps[] = {
    Op::kPut,         Op::kDelete,       Op::kAppend,    Op::kCompareAndSwap,
    Op::kOpenSession, Op::kCloseSession, Op::kDirectory, Op::kAudit};

TEST(Command, EveryOperationComesBackAsItWas) {
  for (Op op : kOps) {
    for (SessionId session : {SessionId{0}, SessionId{1}, ~SessionId{0}}) {
      Command c = Make(op);
      c.session = session;
      const std::string bytes = EncodeCommand(c);
      const absl::StatusOr<Command> back = DecodeCommand(bytes);
      ASSERT_TRUE(back.ok()) << back.status();
      ExpectSame(*back, Meaningful(c));
    }
  }
}

// The bytes are in logs: they may not change.
TEST(Command, FormIsFixed) {
  EXPECT_EQ(EncodeCommand(Make(Op::kCompareAndSwap)),
            std::string("\x01\x04\xef\xcd\xab\x89\x67\x45\x23\x01"
                        "\xac\x02\x4d\x46\xf2\xdf\xb8\x9e\xa7\xe7\x02"
                        "\x03key\x05v\0lue",
                        31));
}

TEST(Command, DecodedViewsPointIntoTheBytes) {
  const std::string bytes = EncodeCommand(Make(Op::kPut));
  const absl::StatusOr<Command> c = DecodeCommand(bytes);
  ASSERT_TRUE(c.ok());
  EXPECT_GE(c->key.data(), bytes.data());
  EXPECT_EQ(c->value.data() + c->value.size(), bytes.data() + bytes.size());
}

TEST(Command, EncodingTakesWhatItNeedsAndNoMore) {
  for (size_t size : {0, 100, 127, 128, 5000, 1'024'000}) {
    const std::string value(size, 'x');
    Command c = Make(Op::kPut);
    c.value = value;
    const std::string bytes = EncodeCommand(c);
    // Exact: what the library rounds up to for its small strings aside.
    EXPECT_LE(bytes.capacity() - bytes.size(), 30 - std::min<size_t>(size, 30))
        << size;
  }
}

TEST(Command, NoPartOfACommandIsACommand) {
  for (Op op : kOps) {
    const std::string bytes = EncodeCommand(Make(op));
    for (size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_EQ(DecodeCommand(bytes.substr(0, size)).status().code(),
                absl::StatusCode::kInvalidArgument)
          << static_cast<int>(op) << " " << size;
    }
    EXPECT_FALSE(DecodeCommand(bytes + '\0').ok());
  }
}

TEST(Command, RefusesWhatEncodeDoesNotMake) {
  std::string bytes = EncodeCommand(Make(Op::kPut));
  for (int format = 0; format < 256; ++format) {
    bytes[0] = static_cast<char>(format);
    EXPECT_EQ(DecodeCommand(bytes).ok(), format == 1) << format;
  }
  bytes[0] = 1;
  for (int op : {0, 9, 10, 255}) {
    bytes[1] = static_cast<char>(op);
    EXPECT_FALSE(DecodeCommand(bytes).ok()) << op;
  }
  // A number in a longer form than needed: session 1 as 81 00.
  const std::string close("\x01\x06\0\0\0\0\0\0\0\0\x81\0", 12);
  EXPECT_FALSE(DecodeCommand(close).ok());
  // A number over 64 bits.
  const std::string wide =
      std::string("\x01\x06\0\0\0\0\0\0\0\0", 10) + std::string(9, '\xff');
  EXPECT_TRUE(DecodeCommand(wide + '\x01').ok());
  EXPECT_FALSE(DecodeCommand(wide + '\x02').ok());
}

// Whatever decodes is what would be encoded; nothing crashes.
TEST(Command, RandomAndDamagedBytesDecodeToThemselvesOrNotAtAll) {
  std::mt19937_64 random(739);
  int decoded = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::string bytes;
    if (round % 2 == 0) {
      bytes.resize(random() % 40);
      for (char& c : bytes) c = static_cast<char>(random());
      if (bytes.size() > 1) bytes[0] = 1, bytes[1] = 1 + random() % 8;
    } else {
      bytes = EncodeCommand(Make(kOps[random() % 8]));
      for (int n = random() % 3; n >= 0; --n) {
        bytes[random() % bytes.size()] = static_cast<char>(random());
      }
    }
    const absl::StatusOr<Command> c = DecodeCommand(bytes);
    if (!c.ok()) continue;
    ++decoded;
    EXPECT_EQ(EncodeCommand(*c), bytes);
  }
  EXPECT_GT(decoded, 1000);
}

}  // namespace
}  // namespace kv739::kv
