// The version and git revision that this build was made from.
#ifndef KV739_VERSION_H_
#define KV739_VERSION_H_

namespace kv739 {

// "0.1.0"
extern const char kVersion[];
// "1a2b3c4d", with "-dirty" behind it when the tree held uncommitted changes;
// "unknown" when built outside a git checkout.
extern const char kGitRevision[];

}  // namespace kv739

#endif  // KV739_VERSION_H_
