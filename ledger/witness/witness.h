// A witness of C2SP tlog-witness v1.0.0 (c2sp.org/tlog-witness): cosigns the newest
// checkpoint of each log it knows, and never two of one log that contradict each other.
// Bytes in, bytes out; market_api/witness carries them over HTTP.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "ledger/base/clock.h"
#include "ledger/crypto/sign.h"
#include "ledger/proof/cosignature.h"
#include "ledger/store/witness_store.h"
#include "ledger/witness/guard.h"

namespace souk::ledger {

// What goes over HTTP.
struct WitnessAnswer {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body = {};

  friend bool operator==(const WitnessAnswer&, const WitnessAnswer&) = default;
};

// All functions may be called from any thread.
class Witness {
 public:
  // kConflict when the file is another witness's. kRefused when the file knows of fewer
  // cosignatures than the guard: it is an old copy, and what was cosigned since is unknown.
  static Result<std::unique_ptr<Witness>> start(WitnessStore store, CosignerKey name,
                                                SigningKey key, CountGuard guard, Clock& clock);
  ~Witness();
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;

  // POST add-checkpoint. 200 with our signature line, once the checkpoint is on disk; 400
  // malformed, or an old size above the new; 403 not signed by a key of the origin; 404
  // unknown origin; 409 with the size we hold; 422 not an extension of it; 500 when our own
  // disk fails, and then for ever.
  WitnessAnswer add_checkpoint(std::string_view body);

  // GET <sha256 of the origin, lower-case hex>/checkpoint: the newest we cosigned, with the
  // log's signature and ours. 404 when there is none.
  WitnessAnswer checkpoint(std::string_view origin_hash);

 private:
  struct Impl;
  explicit Witness(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk::ledger
