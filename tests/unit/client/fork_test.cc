// A handle does not survive fork(): every call on it fails at once in the
// child, nothing hangs, and the parent's goes on.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "client/lib739kv.h"
#include "tests/support/fake_kv_server.h"

namespace kv739 {
namespace {

using testing::FakeCluster;

// Runs `body` in a child, which must end by itself, and returns its result.
template <typename Body>
int InChild(Body body) {
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);  // a child that hangs is killed and seen below
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int ClassicInChild() {
  char value[KV739_MAX_CLASSIC_VALUE + 1];
  if (kv739_get("k", value) != -1) return 1;
  if (kv739_last_error_code() != KV739_E_FORKED) return 2;
  if (kv739_put("k", "child", value) != -1) return 3;
  if (kv739_last_error_code() != KV739_E_FORKED) return 4;
  if (kv739_die("127.0.0.1:1", 1) != -1) return 5;
  if (kv739_last_error_code() != KV739_E_FORKED) return 6;
  if (kv739_shutdown() != 0) return 7;
  if (kv739_shutdown() != -1) return 8;
  return 0;
}

// First, while gRPC is not in use here: its servers run in a child.
TEST(ForkTest, AChildOfAProcessWithoutAnOpenClientOpensItsOwn) {
  int names[2], stop[2];
  ASSERT_EQ(pipe(names), 0);
  ASSERT_EQ(pipe(stop), 0);
  const pid_t servers = fork();
  if (servers == 0) {
    close(stop[1]);
    FakeCluster cluster(5);
    const std::string& name = cluster.config_file();
    if (write(names[1], name.data(), name.size()) < 0) _exit(1);
    char byte;
    if (read(stop[0], &byte, 1) != 0) _exit(1);  // the other end is closed
    cluster.~FakeCluster();
    _exit(0);
  }
  char config[256] = {};
  ASSERT_GT(read(names[0], config, sizeof(config) - 1), 0);
  close(stop[0]);
  const auto use = [&](int expected) {
    const auto fails = [](int code) {
      std::cerr << "step " << code << ": " << kv739_last_error() << std::endl;
      return code;
    };
    if (kv739_init(config) != 0) return fails(1);
    if (kv739_put("k", "v", nullptr) != expected) return fails(2);
    return kv739_shutdown() == 0 ? 0 : fails(3);
  };
  EXPECT_EQ(InChild([&] { return use(1); }), 0);
  // A client that was closed again leaves nothing behind.
  for (int round = 0; round < 3; ++round) {
    EXPECT_EQ(use(0), 0) << kv739_last_error();
    EXPECT_EQ(InChild([&] { return use(0); }), 0);
  }
  close(stop[1]);
  int status = 0;
  waitpid(servers, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(ForkTest, AChildOfAnOpenClientOpensNothing) {
  FakeCluster cluster(5);
  ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
  ASSERT_EQ(kv739_put("k", "parent", nullptr), 1);
  EXPECT_EQ(InChild([&] {
              if (kv739_init(cluster.config_file().c_str()) != -1) return 1;
              return kv739_last_error_code() == KV739_E_FORKED ? 0 : 2;
            }),
            0);
  EXPECT_EQ(kv739_put("k", "parent", nullptr), 0) << kv739_last_error();
  EXPECT_EQ(kv739_shutdown(), 0);
}

TEST(ForkTest, ClassicClientOfTheParent) {
  FakeCluster cluster(5);
  ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
  ASSERT_EQ(kv739_put("k", "parent", nullptr), 1);
  EXPECT_EQ(InChild(ClassicInChild), 0);
  EXPECT_EQ(kv739_put("k", "parent", nullptr), 0) << kv739_last_error();
  EXPECT_EQ(cluster.writes("k"), 2);
  EXPECT_EQ(kv739_shutdown(), 0);
}

TEST(ForkTest, HandleOfTheParent) {
  FakeCluster cluster(5);
  kv739_client* client = nullptr;
  ASSERT_EQ(kv739_open(cluster.config_file().c_str(), nullptr, &client), 0);
  ASSERT_EQ(kv739_client_put(client, "k", 1, "v", 1, 0, nullptr), 1);
  EXPECT_EQ(
      InChild([client] {
        if (kv739_client_get(client, "k", 1, 0, nullptr) != KV739_E_FORKED) {
          return 1;
        }
        if (kv739_client_get_async(
                client, "k", 1, 0, [](void*, int, const kv739_result*) {},
                nullptr) != KV739_E_FORKED) {
          return 2;
        }
        if (kv739_client_die(client, "127.0.0.1:1", 1, 0) != KV739_E_FORKED) {
          return 3;
        }
        kv739_close(client);
        return 0;
      }),
      0);
  EXPECT_EQ(kv739_client_get(client, "k", 1, 0, nullptr), 0);
  kv739_close(client);
}

// The locks of the library are free in a child, whoever held them.
TEST(ForkTest, WhileOtherThreadsCall) {
  FakeCluster cluster(5);
  ASSERT_EQ(kv739_init(cluster.config_file().c_str()), 0);
  std::atomic<bool> stop{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([&] {
      char value[KV739_MAX_CLASSIC_VALUE + 1];
      while (!stop) EXPECT_NE(kv739_get("k", value), -1);
    });
  }
  for (int i = 0; i < 20; ++i) EXPECT_EQ(InChild(ClassicInChild), 0);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(kv739_shutdown(), 0);
}

}  // namespace
}  // namespace kv739
