// A log of many leaves and a witness in a fresh folder, for the tests of this room.
#pragma once

#include <memory>

#include "ledger/proof/add_checkpoint.h"
#include "ledger/proof/merkle.h"
#include "ledger/witness/witness.h"
#include "tests/ledger/ledger_fixture.h"

namespace souk::ledger::test {

inline CosignerKey cosigner_of(uint8_t number) {
  return CosignerKey::of("witness.example/w" + std::to_string(number), key_of(number).public_key())
      .take();
}

// What the log key can sign: any prefix of `leaves`, and forks of it.
class FakeLog {
 public:
  explicit FakeLog(uint64_t size, uint8_t flavour = 0) {
    for (uint64_t i = 0; i < size; ++i) {
      tree_.append(sha256(as_bytes(std::to_string(flavour) + " leaf " + std::to_string(i))));
    }
  }
  MerkleTree& tree() { return tree_; }
  std::string note(uint64_t size) const {
    return sign_checkpoint({.origin = kOrigin, .size = size, .root = tree_.root(size)},
                           log_note_key(), key_of(9));
  }
  AddCheckpoint request(uint64_t old_size, uint64_t size) const {
    AddCheckpoint out{.old_size = old_size, .proof = {}, .checkpoint = note(size)};
    if (0 < old_size && old_size <= size) out.proof = tree_.consistency_proof(old_size, size);
    return out;
  }

 private:
  MerkleTree tree_;
};

// A witness that can be killed and started again on its files.
class WitnessHome {
 public:
  explicit WitnessHome(uint8_t number = 5, Clock* clock = nullptr) : number_(number) {
    if (clock) clock_ = clock;
    auto store = WitnessStore::create(file(), cosigner_of(number_).vkey()).take();
    CHECK(store.add_log(kOrigin, log_note_key().vkey()));
    CHECK(CountGuard::create(guard_file()));
  }
  std::string file() const { return folder_.file("witness.db"); }
  std::string guard_file() const { return folder_.file("witness.count"); }
  std::string backup() const { return folder_.file("backup.db"); }
  FixedClock& fixed_clock() { return own_clock_; }

  Result<std::unique_ptr<Witness>> try_start() {
    auto store = TRY(WitnessStore::open(file()));
    auto guard = TRY(CountGuard::open(guard_file()));
    return Witness::start(std::move(store), cosigner_of(number_), key_of(number_), std::move(guard),
                          *clock_);
  }
  std::unique_ptr<Witness> start() { return try_start().take(); }

 private:
  uint8_t number_;
  Folder folder_;
  FixedClock own_clock_{1'700'000'000'000};
  Clock* clock_ = &own_clock_;
};

}  // namespace souk::ledger::test
