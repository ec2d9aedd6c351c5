// What a witness remembers, in a SQLite file of its own: the logs it watches and the
// newest checkpoint it has cosigned of each. ledger/SPEC.md, "Witness".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"

namespace souk::ledger {

// For one thread at a time.
class WitnessStore {
 public:
  struct Latest {
    uint64_t size = 0;
    Digest root{};
    uint64_t time = 0;  // of the cosignature, POSIX seconds
    std::string note;   // with the log's signature and ours
  };
  struct Log {
    std::string origin;
    std::string vkey;
  };

  // A new file for the witness with this vkey. kConflict when there is one already: a
  // witness that began anew would cosign whatever it is shown. On every error nothing of it is
  // left.
  static Result<WitnessStore> create(const std::string& path, const std::string& witness_vkey);
  // kNotFound when there is no file, kBroken when it is not a witness's.
  static Result<WitnessStore> open(const std::string& path);

  WitnessStore(WitnessStore&&) noexcept;
  WitnessStore& operator=(WitnessStore&&) noexcept;
  ~WitnessStore();

  const std::string& witness_vkey() const;

  // One more key under which this origin is known. The same again changes nothing.
  Status add_log(const std::string& origin, const std::string& vkey);
  Result<std::vector<Log>> logs() const;
  // The vkeys of an origin; empty when it is unknown.
  Result<std::vector<std::string>> keys_of(const std::string& origin) const;

  Result<std::optional<Latest>> latest(const std::string& origin) const;
  // By the lower-case hex of SHA-256 of the origin.
  Result<std::optional<Latest>> latest_by_hash(const std::string& origin_hash) const;

  // Compare-and-swap, and on disk when it returns the number of all cosignatures made so
  // far. kConflict when what is stored has not `old_size` and `old_root` (0 and anything:
  // nothing is stored); kTryAgain when nothing was written; kBroken when that is unknown,
  // and then for ever.
  Result<uint64_t> record(const std::string& origin, uint64_t old_size, const Digest& old_root,
                          const Latest& newest);
  // How many cosignatures were recorded.
  Result<uint64_t> cosignatures() const;

  // Keeps a request that a known log signed and that contradicts what was cosigned, as
  // evidence; the first hundred of each origin.
  Status keep_evidence(const std::string& origin, uint64_t time, const std::string& request);
  Result<std::vector<std::string>> evidence(const std::string& origin) const;

 private:
  struct Impl;
  explicit WitnessStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
