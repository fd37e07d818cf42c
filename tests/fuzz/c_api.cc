// Calls lib739kv as no program should: null pointers, lengths that are not
// those of the bytes, timeouts that are none, names of nothing, in any order;
// and in between as programs do, against servers in this process. Promises: an
// error and a sentence for what is wrong, and right answers for the rest.
#include <climits>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/lib739kv.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_kv_server.h"

namespace kv739::fuzz {
namespace {

constexpr size_t kMaxCalls = 24;

struct Servers {
  Servers() : cluster(3) {
    const kv739_options options = {sizeof(options), 20'000, 0};
    KV739_FUZZ_CHECK(kv739_open(cluster.config_file().c_str(), &options,
                                &client) == KV739_OK,
                     kv739_last_error());
  }
  testing::FakeCluster cluster;
  kv739_client* client = nullptr;
};

// Lives as long as the process: gRPC is not started and stopped for each run.
Servers& Shared() {
  static auto* servers = new Servers;
  return *servers;
}

struct Bytes {
  std::string storage;
  const void* data = nullptr;
  size_t length = 0;
  bool good = false;  // what it says is there, and within the limit
};

// `limit`: more than that is refused, so it may be said of fewer bytes.
Bytes AnyBytes(Input* in, size_t limit) {
  Bytes bytes;
  bytes.storage = std::string(in->Bytes(300));
  switch (in->Below(8)) {
    case 0:  // nothing, of any length
      bytes.length = in->Bool() ? in->Number() : 0;
      break;
    case 1:
      bytes.data = bytes.storage.data();
      bytes.length = limit + 1 + in->Number() % (SIZE_MAX - limit);
      break;
    case 2:
      bytes.storage.assign(limit, 'x');
      [[fallthrough]];
    default:
      bytes.data = bytes.storage.data();
      bytes.length = bytes.storage.size();
      bytes.good = bytes.length <= limit;
  }
  return bytes;
}

int AnyTimeout(Input* in) {
  switch (in->Below(8)) {
    case 0:
      return -1;
    case 1:
      return INT_MIN;
    case 2:
      return INT_MAX;
    case 3:
      return 1;
    default:
      return 0;
  }
}

const char* AnyText(Input* in, std::string* storage) {
  if (in->Below(4) == 0) return nullptr;
  *storage = std::string(in->Bytes(300));
  return storage->c_str();
}

// What each call says of itself.
void CheckCode(int code) {
  KV739_FUZZ_CHECK(kv739_strerror(code) != nullptr, "a code without a text");
  if (code >= 0) return;
  KV739_FUZZ_CHECK(kv739_last_error()[0] != '\0', "an error says nothing");
  kv739_maybe_applied(code);
  kv739_is_retryable(code);
}

void CheckResult(int code, kv739_result* result, bool asked) {
  KV739_FUZZ_CHECK((result != nullptr) == (asked && code >= 0),
                   "a result and an error");
  size_t length = 7;
  const char* value = kv739_result_value(result, &length);
  KV739_FUZZ_CHECK(value != nullptr && value[length] == '\0',
                   "a value without an end");
  kv739_result_found(result);
  kv739_result_version(result);
  kv739_result_free(result);
}

// A key within the limits and a put to it, which must be read again.
void GoodCalls(Input* in, kv739_client* client) {
  const std::string key = absl::StrCat("key", in->Below(4));
  const std::string value(in->Bytes(1000));
  int code = kv739_client_put(client, key.data(), key.size(), value.data(),
                              value.size(), 0, nullptr);
  KV739_FUZZ_CHECK(code >= 0, kv739_last_error());
  kv739_result* result = nullptr;
  code = kv739_client_get(client, key.data(), key.size(), 0, &result);
  KV739_FUZZ_CHECK(code == 0, kv739_last_error());
  size_t length = 0;
  const char* found = kv739_result_value(result, &length);
  KV739_FUZZ_CHECK(absl::string_view(found, length) == value,
                   "another value than was put");
  kv739_result_free(result);
}

void OneOperation(Input* in, kv739_client* client) {
  const uint64_t kind = in->Below(5);
  const Bytes key = AnyBytes(in, KV739_MAX_KEY);
  const Bytes value = AnyBytes(in, KV739_MAX_VALUE);
  const int timeout = AnyTimeout(in);
  kv739_result* result = nullptr;
  kv739_result** to = in->Bool() ? &result : nullptr;
  int code = 0;
  switch (kind) {
    case 0:
      code = kv739_client_get(client, key.data, key.length, timeout, to);
      break;
    case 1:
      code = kv739_client_put(client, key.data, key.length, value.data,
                              value.length, timeout, to);
      break;
    case 2:
      code = kv739_client_delete(client, key.data, key.length, timeout, to);
      break;
    case 3:
      code = kv739_client_append(client, key.data, key.length, value.data,
                                 value.length, timeout, to);
      break;
    default:
      code = kv739_client_cas(client, key.data, key.length, in->Number(),
                              value.data, value.length, timeout, to);
  }
  CheckCode(code);
  CheckResult(code, result, to != nullptr);
  KV739_FUZZ_CHECK(key.good || code < 0, "took a key that is none");
  KV739_FUZZ_CHECK(client != nullptr || code < 0, "took no client");
}

void Batch(Input* in, kv739_client* client) {
  std::vector<Bytes> bytes;
  std::vector<kv739_slice> slices;
  const size_t count = in->Below(5);
  for (size_t i = 0; i < 2 * count; ++i) {
    bytes.push_back(AnyBytes(in, KV739_MAX_KEY));
  }
  for (const Bytes& b : bytes) slices.push_back({b.data, b.length});
  std::vector<int> codes(count);
  std::vector<kv739_result*> results(count);
  const kv739_slice* keys = in->Below(8) == 0 ? nullptr : slices.data();
  const kv739_slice* values =
      in->Below(8) == 0 ? nullptr : slices.data() + count;
  int* code_list = in->Below(8) == 0 ? nullptr : codes.data();
  kv739_result** result_list = in->Bool() ? nullptr : results.data();
  const int code =
      in->Bool()
          ? kv739_client_batch_get(client, keys, count, AnyTimeout(in),
                                   code_list, result_list)
          : kv739_client_batch_put(client, keys, values, count, AnyTimeout(in),
                                   code_list, result_list);
  CheckCode(code);
  for (kv739_result* result : results) kv739_result_free(result);
}

void Classic(Input* in) {
  std::string storage[3];
  char buffer[KV739_MAX_CLASSIC_VALUE + 1];
  char* out = in->Below(4) == 0 ? nullptr : buffer;
  int code = 0;
  switch (in->Below(6)) {
    case 0:
      code = kv739_init(in->Bool() ? Shared().cluster.config_file().c_str()
                                   : AnyText(in, &storage[0]));
      break;
    case 1:
      code = kv739_shutdown();
      break;
    case 2:
      code = kv739_get(AnyText(in, &storage[0]), out);
      break;
    case 3:
      code = kv739_put(AnyText(in, &storage[0]), AnyText(in, &storage[1]), out);
      break;
    case 4: {
      const Bytes key = AnyBytes(in, KV739_MAX_KEY);
      kv739_result* result = nullptr;
      code = kv739_get_sized(key.data, key.length, &result);
      kv739_result_free(result);
      break;
    }
    default: {
      const Bytes key = AnyBytes(in, KV739_MAX_KEY);
      const Bytes value = AnyBytes(in, KV739_MAX_VALUE);
      code = kv739_put_sized(key.data, key.length, value.data, value.length,
                             nullptr);
    }
  }
  KV739_FUZZ_CHECK(code == 0 || code == 1 || code == -1,
                   "a classic call ends with another code");
  if (code < 0) {
    KV739_FUZZ_CHECK(kv739_last_error()[0] != '\0', "an error says nothing");
  }
}

void Open(Input* in) {
  std::string storage;
  kv739_options options = {sizeof(options), static_cast<int>(in->Number()),
                           static_cast<int>(in->Number())};
  if (in->Below(4) == 0) options.struct_size = in->Below(40);
  kv739_client* client = nullptr;
  const char* file = in->Bool() ? Shared().cluster.config_file().c_str()
                                : AnyText(in, &storage);
  const int code = kv739_open(file, in->Bool() ? &options : nullptr,
                              in->Below(8) == 0 ? nullptr : &client);
  CheckCode(code);
  KV739_FUZZ_CHECK(code == KV739_OK || client == nullptr,
                   "a client and an error");
  kv739_close(client);
}

// Names of servers that are none: the call must not wait for them.
void Servers739(Input* in, kv739_client* client) {
  std::string storage;
  const char* name = AnyText(in, &storage);
  if (name != nullptr) {
    storage.insert(0, "no server ");
    name = storage.c_str();
  }
  const int flag = static_cast<int>(in->Number());
  const uint64_t kind = in->Below(3);
  const int code = kind == 0   ? kv739_client_die(client, name, flag, 100)
                   : kind == 1 ? kv739_client_start(client, name, flag, 100)
                               : kv739_client_leave(client, name, flag, 100);
  CheckCode(code);
  KV739_FUZZ_CHECK(code < 0, "did something to no server");
}

}  // namespace

KV739_FUZZ_TARGET(c_api, 150) {
  Input in(bytes);
  for (size_t calls = 0; calls < kMaxCalls && !in.done(); ++calls) {
    kv739_client* client = in.Below(16) == 0 ? nullptr : Shared().client;
    switch (in.Below(8)) {
      case 0:
        GoodCalls(&in, Shared().client);
        break;
      case 1:
        Batch(&in, client);
        break;
      case 2:
        Classic(&in);
        break;
      case 3:
        if (in.Below(8) == 0) Open(&in);
        break;
      case 4:
        Servers739(&in, client);
        break;
      default:
        OneOperation(&in, client);
    }
  }
  kv739_shutdown();
}

}  // namespace kv739::fuzz
