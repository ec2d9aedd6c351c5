#include "ledger/proof/witnessed_state.h"

#include "ledger/codec/json.h"
#include "ledger/proof/decimal.h"
#include "ledger/proof/note.h"

namespace souk::ledger {
namespace {

constexpr char kKind[] = "souk.witnessed/v1";

}  // namespace

Bytes encode(const WitnessedState& state) {
  Json::Object sizes;
  for (const auto& [vkey, size] : state.sizes) sizes[vkey] = std::to_string(size);
  return to_bytes(
      canonical(Json::Object{{"kind", kKind}, {"note", state.note}, {"sizes", std::move(sizes)}}));
}

Result<WitnessedState> decode_witnessed_state(ByteView bytes) {
  auto json = TRY(parse_canonical(as_text(bytes), 2 * kMaxNoteBytes));
  auto fields = TRY(Fields::of(json, "witnessed state"));
  auto kind = TRY(fields.text("kind"));
  WitnessedState state;
  state.note = TRY(fields.text("note", kMaxNoteBytes));
  const Json* sizes = TRY(fields.any("sizes"));
  TRY(fields.done());
  if (kind != kKind) {
    return Error(Code::kMalformed, "witnessed state: expected souk.witnessed/v1");
  }
  if (!sizes->object()) return Error(Code::kMalformed, "witnessed state.sizes: expected an object");
  for (const auto& [vkey, member] : *sizes->object()) {
    if (!member.string()) {
      return Error(Code::kMalformed, "witnessed state.sizes: expected decimal numbers");
    }
    state.sizes[vkey] = TRY(parse_decimal(*member.string()));
  }
  return state;
}

}  // namespace souk::ledger
