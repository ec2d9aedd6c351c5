// Key material: locked, guarded, wiped, and never printed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include <sodium.h>

namespace souk {

// The only way to the bytes of a secret. Search for this name to see every place
// that touches key material.
struct SecretAccess {
  explicit constexpr SecretAccess() = default;
};

template <size_t N>
class Secret {
 public:
  static Secret random() {
    Secret secret;
    randombytes_buf(secret.bytes_.get(), N);
    return secret;
  }
  static Secret copy_of(std::span<const uint8_t, N> bytes) {
    Secret secret;
    std::copy(bytes.begin(), bytes.end(), secret.bytes_.get());
    return secret;
  }

  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&&) noexcept = default;
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() = default;  // sodium_free wipes

  std::span<const uint8_t, N> bytes(SecretAccess) const {
    return std::span<const uint8_t, N>(bytes_.get(), N);
  }
  Secret clone(SecretAccess access) const { return copy_of(bytes(access)); }

  friend bool operator==(const Secret& a, const Secret& b) {
    return sodium_memcmp(a.bytes_.get(), b.bytes_.get(), N) == 0;
  }

 private:
  Secret() : bytes_(static_cast<uint8_t*>(allocate())) {
    if (!bytes_) std::abort();  // no secret without its guarded page
  }
  static void* allocate() {
    if (sodium_init() < 0) std::abort();
    return sodium_malloc(N);
  }
  struct Free {
    void operator()(uint8_t* p) const { sodium_free(p); }
  };
  std::unique_ptr<uint8_t, Free> bytes_;
};

}  // namespace souk
