// The classic calls against servers in this process: buffers, limits, errors,
// life cycle.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "client/lib739kv.h"
#include "tests/support/fake_kv_server.h"

namespace kv739 {
namespace {

using testing::FakeCluster;
using ::testing::HasSubstr;
using testing::Reaction;
using testing::Seen;

class ClassicTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("KV739_TIMEOUT_MS", "60000", 1);  // for busy machines
    ASSERT_EQ(kv739_init(cluster_.config_file().c_str()), 0)
        << kv739_last_error();
  }
  void TearDown() override {
    unsetenv("KV739_TIMEOUT_MS");
    kv739_shutdown();
    EXPECT_EQ(cluster_.violation(), "");
  }

  FakeCluster cluster_{5};
};

// A buffer of the promised size with guards behind it.
struct Buffer {
  char text[KV739_MAX_CLASSIC_VALUE + 1];
  char guard[8];

  Buffer() {
    memset(text, 'z', sizeof(text));
    memset(guard, 'g', sizeof(guard));
  }
  bool Whole() const { return std::string(guard, 8) == "gggggggg"; }
};

TEST_F(ClassicTest, PutAndGet) {
  Buffer buffer;
  EXPECT_EQ(kv739_put("k", "first", buffer.text), 1) << kv739_last_error();
  EXPECT_STREQ(buffer.text, "");
  EXPECT_EQ(kv739_put("k", "second", buffer.text), 0);
  EXPECT_STREQ(buffer.text, "first");
  EXPECT_EQ(kv739_get("k", buffer.text), 0);
  EXPECT_STREQ(buffer.text, "second");
  EXPECT_EQ(kv739_get("absent", buffer.text), 1);
  EXPECT_STREQ(buffer.text, "");
  EXPECT_EQ(kv739_put("k", "third", nullptr), 0);
}

TEST_F(ClassicTest, EmptyValueIsNotMissing) {
  Buffer buffer;
  EXPECT_EQ(kv739_put("k", "", buffer.text), 1);
  EXPECT_EQ(kv739_get("k", buffer.text), 0);
  EXPECT_STREQ(buffer.text, "");
  EXPECT_EQ(kv739_put("k", "x", buffer.text), 0);
  EXPECT_STREQ(buffer.text, "");
}

TEST_F(ClassicTest, LongestValueFitsTheBuffer) {
  const std::string longest(KV739_MAX_CLASSIC_VALUE, 'v');
  Buffer buffer;
  EXPECT_EQ(kv739_put("k", longest.c_str(), nullptr), 1);
  EXPECT_EQ(kv739_get("k", buffer.text), 0);
  EXPECT_EQ(buffer.text, longest);
  EXPECT_TRUE(buffer.Whole());
}

TEST_F(ClassicTest, TooLongValueIsRefusedBeforeItIsSent) {
  const std::string longer(KV739_MAX_CLASSIC_VALUE + 1, 'v');
  EXPECT_EQ(kv739_put("k", longer.c_str(), nullptr), -1);
  EXPECT_EQ(kv739_last_error_code(), KV739_E_INVALID);
  EXPECT_THAT(kv739_last_error(), HasSubstr("2049"));
  EXPECT_THAT(kv739_last_error(), HasSubstr("2048"));
  EXPECT_EQ(cluster_.operations(), 0u);
}

TEST_F(ClassicTest, LongerValueOfOthersNeverOverruns) {
  cluster_.SetValue("k", std::string(KV739_MAX_CLASSIC_VALUE + 1, 'v'));
  Buffer buffer;
  EXPECT_EQ(kv739_get("k", buffer.text), -1);
  EXPECT_EQ(kv739_last_error_code(), KV739_E_TOO_SMALL);
  EXPECT_STREQ(buffer.text, "");
  EXPECT_TRUE(buffer.Whole());
  // The write is done although its old value does not fit.
  EXPECT_EQ(kv739_put("k", "short", buffer.text), -1);
  EXPECT_EQ(kv739_last_error_code(), KV739_E_TOO_SMALL);
  EXPECT_EQ(kv739_maybe_applied(kv739_last_error_code()), 1);
  EXPECT_THAT(kv739_last_error(), HasSubstr("the write was done"));
  EXPECT_STREQ(buffer.text, "");
  EXPECT_TRUE(buffer.Whole());
  EXPECT_EQ(cluster_.value("k"), "short");
}

TEST_F(ClassicTest, BadArguments) {
  Buffer buffer;
  EXPECT_EQ(kv739_get(nullptr, buffer.text), -1);
  EXPECT_EQ(kv739_last_error_code(), KV739_E_INVALID);
  EXPECT_EQ(kv739_get("k", nullptr), -1);
  EXPECT_EQ(kv739_get("", buffer.text), -1);
  EXPECT_THAT(kv739_last_error(), HasSubstr("empty"));
  EXPECT_STREQ(buffer.text, "");
  EXPECT_EQ(kv739_put("k", nullptr, buffer.text), -1);
  EXPECT_EQ(kv739_put(nullptr, "v", buffer.text), -1);
  const std::string key(KV739_MAX_KEY + 1, 'k');
  EXPECT_EQ(kv739_put(key.c_str(), "v", buffer.text), -1);
  EXPECT_THAT(kv739_last_error(), HasSubstr("257"));
  EXPECT_THAT(kv739_last_error(), HasSubstr("256"));
  EXPECT_EQ(kv739_die(nullptr, 1), -1);
  EXPECT_EQ(cluster_.operations(), 0u);
  EXPECT_EQ(kv739_put(key.substr(1).c_str(), "v", nullptr), 1);
}

TEST_F(ClassicTest, Strings) {
  const std::string key("nul\0in it", 9);
  std::string value(KV739_MAX_VALUE, '\0');
  std::string out = "rest";
  EXPECT_EQ(kv739_put(key, value, out), 1) << kv739_last_error();
  EXPECT_EQ(out, "");
  EXPECT_EQ(kv739_get(key, out), 0);
  EXPECT_EQ(out, value);
  EXPECT_EQ(kv739_put(key, std::string("x"), out), 0);
  EXPECT_EQ(out, value);
  EXPECT_EQ(kv739_get(std::string("nul"), out), 1);
  EXPECT_EQ(out, "");
  value.push_back('x');
  EXPECT_EQ(kv739_put(key, value, out), -1);
  EXPECT_THAT(kv739_last_error(), HasSubstr("1024001"));
  EXPECT_THAT(kv739_last_error(), HasSubstr("1024000"));
}

TEST_F(ClassicTest, SecondInitIsRefused) {
  EXPECT_EQ(kv739_init(cluster_.config_file().c_str()), -1);
  EXPECT_THAT(kv739_last_error(), HasSubstr("already initialized"));
  EXPECT_EQ(kv739_put("k", "v", nullptr), 1);
}

TEST(ClassicLifeTest, NothingBeforeInit) {
  char value[KV739_MAX_CLASSIC_VALUE + 1] = "rest";
  EXPECT_EQ(kv739_shutdown(), -1);
  EXPECT_EQ(kv739_get("k", value), -1);
  EXPECT_STREQ(value, "");
  EXPECT_THAT(kv739_last_error(), HasSubstr("kv739_init"));
  EXPECT_EQ(kv739_put("k", "v", value), -1);
  EXPECT_EQ(kv739_die("localhost:1", 1), -1);
}

TEST(ClassicLifeTest, ConfigErrorsNameFileAndLine) {
  EXPECT_EQ(kv739_init("/nonexistent/file"), -1);
  EXPECT_EQ(kv739_last_error_code(), KV739_E_CONFIG);
  EXPECT_THAT(kv739_last_error(), HasSubstr("/nonexistent/file"));
  EXPECT_EQ(kv739_init(nullptr), -1);
  char path[] = "/tmp/kv739-bad-XXXXXX";
  close(mkstemp(path));
  std::ofstream(path) << "localhost:50051\nlocalhost\nlocalhost:50053\n";
  EXPECT_EQ(kv739_init(path), -1);
  EXPECT_THAT(kv739_last_error(), HasSubstr(std::string(path) + ":2:"));
  EXPECT_EQ(kv739_shutdown(), -1) << "a failed init leaves nothing behind";
  unlink(path);
}

TEST(ClassicLifeTest, InitAndShutdownAgainAndAgain) {
  FakeCluster cluster(5);
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
    // With and without any connection.
    if (i % 2 == 0) {
      ASSERT_EQ(kv739_put("k", "v", nullptr), i == 0 ? 1 : 0);
    }
    ASSERT_EQ(kv739_shutdown(), 0);
  }
}

TEST(ClassicLifeTest, TimeoutFromTheEnvironment) {
  FakeCluster cluster(5);
  cluster.SetScript([](const Seen&) {
    return Reaction{Reaction::kSilent, {}};
  });
  for (const char* bad : {"0", "-1", "abc", "5s", "99999999999"}) {
    setenv("KV739_TIMEOUT_MS", bad, 1);
    EXPECT_EQ(kv739_init(cluster.config_file().c_str()), -1) << bad;
    EXPECT_THAT(kv739_last_error(), HasSubstr("KV739_TIMEOUT_MS"));
  }
  setenv("KV739_TIMEOUT_MS", "300", 1);
  ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
  unsetenv("KV739_TIMEOUT_MS");
  const auto start = std::chrono::steady_clock::now();
  char value[KV739_MAX_CLASSIC_VALUE + 1];
  EXPECT_EQ(kv739_get("k", value), -1);
  EXPECT_THAT(kv739_last_error_code(),
              ::testing::AnyOf(KV739_E_TIMEOUT, KV739_E_UNAVAILABLE));
  const auto took = std::chrono::steady_clock::now() - start;
  EXPECT_GE(took, std::chrono::milliseconds(300));
  EXPECT_LT(took, std::chrono::seconds(4)) << "the default is 5 s";
  EXPECT_EQ(kv739_shutdown(), 0);
}

TEST(ClassicLifeTest, ShutdownEndsCallsOfAllThreads) {
  for (int round = 0; round < 5; ++round) {
    FakeCluster cluster(5);
    cluster.SetScript([](const Seen& seen) {
      // Sessions open; puts hang and gets are answered.
      return Reaction{seen.kind == v1::Operation::kPut ? Reaction::kSilent
                                                       : Reaction::kHonest,
                      {}};
    });
    ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
    std::vector<std::thread> threads;
    for (int t = 0; t < 16; ++t) {
      threads.emplace_back([t] {
        char value[KV739_MAX_CLASSIC_VALUE + 1];
        const std::string key = "k" + std::to_string(t);
        while (true) {
          const int code = t % 2 == 0 ? kv739_put(key.c_str(), "v", value)
                                      : kv739_get(key.c_str(), value);
          if (code == -1) break;
        }
        // A write that was sent may take effect; a read has no such doubt.
        const int code = kv739_last_error_code();
        if (t % 2 == 0) {
          EXPECT_TRUE(code == KV739_E_UNKNOWN || code == KV739_E_CLOSED);
        } else {
          EXPECT_EQ(code, KV739_E_CLOSED);
        }
      });
    }
    cluster.AwaitSeen(8 + 20);
    EXPECT_EQ(kv739_shutdown(), 0);
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(kv739_shutdown(), -1);
  }
}

}  // namespace
}  // namespace kv739
