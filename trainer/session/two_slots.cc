#include "trainer/session/two_slots.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "ledger/crypto/aead.h"
#include "ledger/crypto/random.h"

namespace souk::trainer {
namespace {

// sequence (8 bytes, little endian) | length of what follows the head (8) | nonce (12).
constexpr size_t kNumber = 8, kHead = 2 * kNumber + ledger::kAeadNonceBytes;
constexpr size_t kOverhead = kHead + ledger::kAeadTagBytes;

void put(uint8_t* to, uint64_t number) {
  for (size_t i = 0; i < kNumber; ++i) to[i] = static_cast<uint8_t>(number >> (8 * i));
}

uint64_t get(const uint8_t* from) {
  uint64_t number = 0;
  for (size_t i = kNumber; i-- > 0;) number = number << 8 | from[i];
  return number;
}

}  // namespace

TwoSlots::TwoSlots(std::span<uint8_t> shared, Bytes key, std::string context)
    : shared_(shared), key_(std::move(key)), context_(std::move(context)) {
  CHECK(key_.size() == ledger::kAeadKeyBytes);
}

uint64_t TwoSlots::file_bytes(uint64_t size) {
  return 2 * (size + kOverhead);
}

bool TwoSlots::holds(uint64_t size) const {
  return size <= shared_.size() && file_bytes(size) <= shared_.size();
}

std::span<uint8_t> TwoSlots::slot(uint64_t sequence) const {
  const size_t each = shared_.size() / 2;
  return shared_.subspan(sequence % 2 * each, each);
}

Bytes TwoSlots::bound_to(uint64_t sequence, uint64_t length) const {
  Bytes out(2 * kNumber);
  put(out.data(), sequence);
  put(out.data() + kNumber, length);
  append(out, as_bytes(context_));
  return out;
}

void TwoSlots::write(ByteView message) {
  CHECK(holds(message.size()));
  const uint64_t sequence = sequence_ + 1, length = message.size() + ledger::kAeadTagBytes;
  std::array<uint8_t, kHead> head;
  put(head.data(), sequence);
  put(head.data() + kNumber, length);
  const auto nonce = ledger::random_array<ledger::kAeadNonceBytes>();
  std::copy(nonce.begin(), nonce.end(), head.begin() + 2 * kNumber);
  // Sealed outside the shared memory: no half of it ever depends on what a host writes there.
  const Bytes sealed = ledger::seal(key_, nonce, bound_to(sequence, length), message);
  auto to = slot(sequence);
  std::memcpy(to.data(), head.data(), kHead);
  std::memcpy(to.data() + kHead, sealed.data(), sealed.size());
  sequence_ = sequence;
}

Result<Bytes> TwoSlots::read() {
  struct Found {
    uint64_t sequence;
    std::array<uint8_t, kHead> head;
  };
  std::vector<Found> found;
  for (uint64_t place : {uint64_t{0}, uint64_t{1}}) {
    auto from = slot(place);
    if (from.size() < kOverhead) continue;
    Found one{};
    std::memcpy(one.head.data(), from.data(), kHead);
    one.sequence = get(one.head.data());
    if (one.sequence > 0 && one.sequence % 2 == place) found.push_back(one);
  }
  std::sort(found.begin(), found.end(),
            [](const Found& a, const Found& b) { return a.sequence > b.sequence; });
  for (const Found& one : found) {
    const uint64_t length = get(one.head.data() + kNumber);
    auto from = slot(one.sequence);
    if (length > from.size() - kHead) continue;
    auto sealed = from.subspan(kHead, length);
    const Bytes copy(sealed.begin(), sealed.end());
    auto message = ledger::open(key_, ByteView(one.head).subspan(2 * kNumber),
                                bound_to(one.sequence, length), copy);
    if (!message) continue;
    sequence_ = one.sequence;
    return message;
  }
  return Error(Code::kUnauthentic,
               "expected a state sealed by this program on this platform for this contract");
}

}  // namespace souk::trainer
