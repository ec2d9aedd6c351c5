#include "contracts/records/codec.h"

namespace souk::contracts::codec {
namespace {

// C0, DEL and the UTF-8 of C1: what could steer a terminal.
bool has_controls(const std::string& text) {
  for (size_t i = 0; i < text.size(); ++i) {
    auto byte = static_cast<uint8_t>(text[i]);
    if (byte < 0x20 || byte == 0x7f) return true;
    if (byte == 0xc2 && i + 1 < text.size() && static_cast<uint8_t>(text[i + 1]) < 0xa0)
      return true;
  }
  return false;
}

}  // namespace

Result<std::string> shown_text(Fields& fields, const std::string& name, size_t min_bytes,
                               size_t max_bytes) {
  auto text = TRY(fields.text(name, max_bytes));
  if (text.size() < min_bytes) return malformed(name, "a text that is not empty");
  if (has_controls(text)) return malformed(name, "no control characters");
  return text;
}

Result<std::vector<std::string>> shown_texts(Fields& fields, const std::string& name,
                                             size_t max_items, size_t max_bytes) {
  return list_member<std::string>(
      fields, name, 0, max_items, [&](const Json& json) -> Result<std::string> {
        const std::string* text = json.string();
        if (!text || text->size() > max_bytes || has_controls(*text)) {
          return malformed(name, "texts of at most " + std::to_string(max_bytes) +
                                     " bytes without control characters");
        }
        return *text;
      });
}

Result<std::string> hex_text(Fields& fields, const std::string& name, size_t digits) {
  auto text = TRY(fields.text(name, digits));
  if (text.size() != digits || !from_hex(text)) {
    return malformed(name, std::to_string(digits) + " hex digits");
  }
  return text;
}

Result<Bytes> sealed_bytes(Fields& fields, const std::string& name) {
  auto bytes = TRY(fields.base64(name));
  if (bytes.size() <= 48 || bytes.size() > kMaxSealedBytes) {
    return malformed(name, "49 to " + std::to_string(kMaxSealedBytes) + " bytes of HPKE");
  }
  return bytes;
}

Result<Json> object_member(Fields& fields, const std::string& name) {
  const Json* json = TRY(fields.any(name));
  if (!json->object()) return malformed(name, "an object");
  return *json;
}

Result<Json> array_member(Fields& fields, const std::string& name) {
  const Json* json = TRY(fields.any(name));
  if (!json->array()) return malformed(name, "a list");
  return *json;
}

Json charges_json(const Charges& charges) {
  Json::Array out;
  for (int64_t charge : charges) out.push_back(charge);
  return out;
}

Result<Charges> charges_member(Fields& fields, const std::string& name, int64_t min) {
  const Json::Array* items = TRY(fields.array(name, Charges{}.size()));
  Charges out{};
  if (items->size() != out.size()) return malformed(name, "one integer for each order");
  for (size_t order = 0; order < out.size(); ++order) {
    const int64_t* value = (*items)[order].integer();
    if (!value || *value < min) return malformed(name, "integers from " + std::to_string(min));
    out[order] = *value;
  }
  return out;
}

Json texts_json(const std::vector<std::string>& texts) {
  Json::Array out;
  for (const auto& text : texts) out.push_back(text);
  return out;
}

}  // namespace souk::contracts::codec
