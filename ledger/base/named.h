// The words of the market: one type per idea, so that a swapped argument does
// not compile.
#pragma once

#include <array>
#include <compare>
#include <cstdint>

#include "ledger/base/bytes.h"

namespace souk {

// A value of type Rep that means something. Two meanings never mix: a DatasetId
// is not a ContractId though both are 32 bytes.
template <class Meaning, class Rep>
class Named {
 public:
  constexpr Named() : value_{} {}
  constexpr explicit Named(Rep value) : value_(value) {}
  constexpr const Rep& value() const { return value_; }
  friend constexpr auto operator<=>(const Named&, const Named&) = default;

 private:
  Rep value_;
};

using Digest = std::array<uint8_t, 32>;

using MarketId = Named<struct MarketIdMeaning, Digest>;    // SHA-256 of the genesis payload
using DatasetId = Named<struct DatasetIdMeaning, Digest>;  // SHA-256 of the dataset manifest
using ContractId =
    Named<struct ContractIdMeaning, Digest>;               // SHA-256 of the contract.submit payload
using PublicKey = Named<struct PublicKeyMeaning, Digest>;  // Ed25519; also the account number
using SealingKey = Named<struct SealingKeyMeaning, Digest>;  // X25519
using Signature = Named<struct SignatureMeaning, std::array<uint8_t, 64>>;

template <class Meaning, class Rep>
std::string to_hex(const Named<Meaning, Rep>& name) {
  return to_hex(ByteView(name.value()));
}

template <class Name>
Result<Name> named_from_hex(std::string_view text) {
  auto bytes = TRY(from_hex(text));
  auto value = TRY(fixed<sizeof(typename std::remove_cvref_t<decltype(Name{}.value())>)>(bytes));
  return Name(value);
}

}  // namespace souk
