// Small entries and ledgers for the tests of these rooms.
#pragma once

#include <filesystem>
#include <string>

#include "ledger/base/clock.h"
#include "ledger/crypto/hash.h"
#include "ledger/entry/entry.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"

namespace souk::ledger::test {

inline constexpr char kType[] = "application/vnd.souk.test+json";
inline constexpr char kOrigin[] = "ledger.example/test";

inline SigningKey key_of(uint8_t number) {
  Bytes seed(32, number);
  return SigningKey::from_seed(seed).take();
}

inline std::string nonce_of(uint64_t number) {
  auto hash = sha256(as_bytes("nonce " + std::to_string(number)));
  return to_hex(ByteView(hash).first(16));
}

inline Json body_of(const SigningKey& key, const std::string& market, uint64_t number) {
  return Json::Object{{"author", key.public_key()},
                      {"market", market},
                      {"nonce", nonce_of(number)},
                      {"number", number}};
}

inline AuthenticEntry climb(const Bytes& envelope) {
  return authenticate(SignedEntry::decode(envelope).take()).take();
}

inline Bytes envelope_of(const SigningKey& key, const std::string& market, uint64_t number) {
  return sign_entry(key, kType, body_of(key, market, number)).take();
}

inline AuthenticEntry genesis() {
  return climb(envelope_of(key_of(1), "", 0));
}
inline const std::string& market() {
  static const std::string market = to_hex(ByteView(genesis().payload_hash()));
  return market;
}

inline AuthenticEntry entry(uint64_t number, uint8_t author = 2) {
  return number == 0 ? genesis() : climb(envelope_of(key_of(author), market(), number));
}

inline NoteKey log_note_key() {
  return NoteKey::of(kOrigin, key_of(9).public_key()).take();
}

// The leaves of a ledger of `count` entries.
inline std::vector<Bytes> chain(uint64_t count) {
  std::vector<Bytes> leaves;
  Digest prev{};
  for (uint64_t seq = 0; seq < count; ++seq) {
    leaves.push_back(encode_leaf({.seq = seq,
                                  .prev = prev,
                                  .time = static_cast<TimeMs>(1000 + seq),
                                  .envelope = entry(seq).envelope_bytes()}));
    prev = leaf_hash(leaves.back());
  }
  return leaves;
}

class FixedClock final : public Clock {
 public:
  explicit FixedClock(TimeMs time) : time_(time) {}
  TimeMs now() override { return time_; }
  void set(TimeMs time) { time_ = time; }

 private:
  TimeMs time_;
};

// A fresh folder, gone with its owner.
class Folder {
 public:
  Folder() {
    auto base = (std::filesystem::temp_directory_path() / "souk-ledger-XXXXXX").string();
    CHECK(mkdtemp(base.data()) != nullptr);
    path_ = base;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace souk::ledger::test
