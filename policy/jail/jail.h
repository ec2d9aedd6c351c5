// One process gives up everything it will not need. The only door to seccomp.
// policy/SPEC.md, Jail.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

enum class JailProfile : uint8_t {
  kPolicyWorker,  // one thread: read, write, poll, memory, clock, exit
  kNursery,  // kPolicyWorker + fork, wait, kill, poll, pipe, close; and what a child needs to lock
             // itself down
  kEnclave,  // threads, sockets already open, files already open; no executable memory
  kTrainer,  // kEnclave + executable anonymous memory, which oneDNN's code generator needs
};

struct LockDown {
  JailProfile profile = JailProfile::kPolicyWorker;
  std::vector<int> keep_fds;  // every other descriptor is closed
  enum class Namespaces : uint8_t { kLeave, kUnshare } namespaces = Namespaces::kUnshare;
};

// What was achieved: goes into attested claims.
struct SandboxReport {
  std::string profile;  // "policy-worker", "nursery", "enclave", "trainer"
  bool no_new_privileges = false;
  bool not_dumpable = false;
  bool no_core = false;
  bool descriptors_closed = false;
  bool user_namespace = false, network_namespace = false, ipc_namespace = false,
       mount_namespace = false;
  int landlock_abi = 0;  // 0: the kernel has none
  bool seccomp = false;  // never under sanitizers

  // "seccomp,landlock,network,..." in a fixed order; "none" without seccomp.
  std::string claim() const;
  Json to_json() const;
};

// For the calling process, all its threads (TSYNC), and for ever. Namespaces and
// Landlock are best effort and reported. Failure of anything else is kBroken and
// leaves the process half locked: exit. Under sanitizers seccomp is skipped and
// the claim is "none".
// After it: no socket, open, exec, ptrace or executable mapping (but kTrainer);
// trying one kills the process.
Result<SandboxReport> lock_down(const LockDown& options);

}  // namespace souk::policy
