#include "ledger/crypto/hpke.h"

#include <sodium.h>

#include "ledger/crypto/aead.h"
#include "ledger/crypto/kdf.h"

namespace souk::ledger {
namespace {

constexpr size_t kEncBytes = 32;

const Bytes& kem_suite() {  // "KEM" || I2OSP(0x0020, 2), RFC 9180 section 4.1
  static const Bytes suite{'K', 'E', 'M', 0x00, 0x20};
  return suite;
}

const Bytes& hpke_suite() {  // "HPKE" || kem || kdf || aead, section 5.1
  static const Bytes suite{'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01, 0x00, 0x03};
  return suite;
}

Bytes labeled_extract(ByteView suite, ByteView salt, std::string_view label, ByteView ikm) {
  Bytes labeled = to_bytes("HPKE-v1");
  append(labeled, suite);
  append(labeled, as_bytes(label));
  append(labeled, ikm);
  auto prk = hkdf_extract(salt, labeled);
  sodium_memzero(labeled.data(), labeled.size());
  return prk;
}

Bytes labeled_expand(ByteView suite, ByteView prk, std::string_view label, ByteView info,
                     size_t length) {
  Bytes labeled{static_cast<uint8_t>(length >> 8), static_cast<uint8_t>(length)};
  append(labeled, as_bytes("HPKE-v1"));
  append(labeled, suite);
  append(labeled, as_bytes(label));
  append(labeled, info);
  return hkdf_expand(prk, labeled, length);
}

struct Context {
  Bytes key;
  Bytes nonce;  // of sequence number 0, the only one in single shot
  ~Context() {
    sodium_memzero(key.data(), key.size());
    sodium_memzero(nonce.data(), nonce.size());
  }
};

// Section 4.1 ExtractAndExpand, then section 5.1 KeySchedule in mode_base.
Context schedule(const Secret<32>& dh, ByteView enc, const SealingKey& receiver, ByteView info) {
  Bytes kem_context(enc.begin(), enc.end());
  append(kem_context, receiver.value());
  auto eae_prk = labeled_extract(kem_suite(), {}, "eae_prk", dh.bytes(SecretAccess()));
  auto shared = labeled_expand(kem_suite(), eae_prk, "shared_secret", kem_context, 32);

  Bytes context{0x00};  // mode_base
  append(context, labeled_extract(hpke_suite(), {}, "psk_id_hash", {}));
  append(context, labeled_extract(hpke_suite(), {}, "info_hash", info));
  auto secret = labeled_extract(hpke_suite(), shared, "secret", {});
  auto key = labeled_expand(hpke_suite(), secret, "key", context, kAeadKeyBytes);
  auto nonce = labeled_expand(hpke_suite(), secret, "base_nonce", context, kAeadNonceBytes);

  for (auto* bytes : {&eae_prk, &shared, &secret}) sodium_memzero(bytes->data(), bytes->size());
  return {.key = std::move(key), .nonce = std::move(nonce)};
}

}  // namespace

KemKey KemKey::generate() {
  auto secret = Secret<32>::random();
  return from_bytes(secret.bytes(SecretAccess())).take();
}

Result<KemKey> KemKey::from_bytes(ByteView secret) {
  if (secret.size() != crypto_scalarmult_SCALARBYTES) {
    return Error(Code::kMalformed, "expected an X25519 private key of 32 bytes");
  }
  CHECK(sodium_init() >= 0);
  Digest public_key{};
  CHECK(crypto_scalarmult_base(public_key.data(), secret.data()) == 0);
  return KemKey(Secret<32>::copy_of(secret.first<32>()), SealingKey(public_key));
}

Result<Secret<32>> KemKey::shared_secret(const SealingKey& with) const {
  std::array<uint8_t, 32> shared{};
  bool good = crypto_scalarmult(shared.data(), secret_.bytes(SecretAccess()).data(),
                                with.value().data()) == 0;
  // libsodium refuses small-order points itself; RFC 7748 section 6.1 asks for this check.
  good = good && sodium_is_zero(shared.data(), shared.size()) == 0;
  auto secret = Secret<32>::copy_of(shared);
  sodium_memzero(shared.data(), shared.size());
  if (!good) return Error(Code::kUnauthentic, "expected an X25519 key of large order");
  return secret;
}

Result<Bytes> hpke_seal(const SealingKey& to, ByteView info, ByteView aad, ByteView plain) {
  auto ephemeral = KemKey::generate();
  auto dh = TRY(ephemeral.shared_secret(to));
  Bytes out;
  append(out, ephemeral.public_key().value());
  auto context = schedule(dh, out, to, info);
  append(out, seal(context.key, context.nonce, aad, plain));
  return out;
}

Result<Bytes> hpke_open(const KemKey& key, ByteView info, ByteView aad, ByteView sealed) {
  if (sealed.size() < kEncBytes + kAeadTagBytes) {
    return Error(Code::kMalformed, "expected an encapsulated key and a ciphertext");
  }
  auto enc = TRY(fixed<kEncBytes>(sealed.first(kEncBytes)));
  auto dh = TRY(key.shared_secret(SealingKey(enc)));
  auto context = schedule(dh, enc, key.public_key(), info);
  return open(context.key, context.nonce, aad, sealed.subspan(kEncBytes));
}

}  // namespace souk::ledger
