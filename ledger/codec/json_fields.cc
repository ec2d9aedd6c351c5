// Fields: the members of one object, each asked for once.
#include "ledger/codec/json.h"

#include <algorithm>

namespace souk {

Result<Fields> Fields::of(const Json& value, std::string what) {
  auto* object = value.object();
  if (!object) return Error(Code::kMalformed, what + ": expected an object");
  return Fields(object, std::move(what));
}

Result<const Json*> Fields::take(const std::string& name) {
  auto it = object_->find(name);
  if (it == object_->end()) return Error(Code::kMalformed, place(name) + ": expected this member");
  taken_.push_back(name);
  return &it->second;
}

Result<const Json*> Fields::any(const std::string& name) {
  return take(name);
}

Result<std::string> Fields::text(const std::string& name, size_t max_bytes) {
  const Json* value = TRY(take(name));
  auto* text = value->string();
  if (!text) return Error(Code::kMalformed, place(name) + ": expected a string");
  if (text->size() > max_bytes) {
    return Error(Code::kMalformed,
                 place(name) + ": expected at most " + std::to_string(max_bytes) + " bytes");
  }
  return *text;
}

Result<int64_t> Fields::integer(const std::string& name, int64_t min, int64_t max) {
  const Json* value = TRY(take(name));
  auto* integer = value->integer();
  if (!integer || *integer < min || *integer > max) {
    return Error(Code::kMalformed, place(name) + ": expected an integer from " +
                                       std::to_string(min) + " to " + std::to_string(max));
  }
  return *integer;
}

Result<bool> Fields::boolean(const std::string& name) {
  const Json* value = TRY(take(name));
  auto* boolean = value->boolean();
  if (!boolean) return Error(Code::kMalformed, place(name) + ": expected true or false");
  return *boolean;
}

Result<const Json::Array*> Fields::array(const std::string& name, size_t max_items) {
  const Json* value = TRY(take(name));
  auto* array = value->array();
  if (!array || array->size() > max_items) {
    return Error(Code::kMalformed,
                 place(name) + ": expected a list of at most " + std::to_string(max_items));
  }
  return array;
}

Result<Bytes> Fields::base64(const std::string& name) {
  auto value = TRY(text(name, 1 << 20));
  auto bytes = from_base64(value);
  if (!bytes) return std::move(bytes).take_error().within(place(name));
  return bytes;
}

Result<Bytes> Fields::hex(const std::string& name) {
  auto value = TRY(text(name, 1 << 20));
  auto bytes = from_hex(value);
  if (!bytes) return std::move(bytes).take_error().within(place(name));
  return bytes;
}

Result<Digest> Fields::digest(const std::string& name) {
  auto bytes = TRY(hex(name));
  auto digest = fixed<32>(bytes);
  if (!digest) return std::move(digest).take_error().within(place(name));
  return digest;
}

Result<double> Fields::real(const std::string& name) {
  auto value = TRY(text(name, 64));
  auto real = parse_real(value);
  if (!real) return std::move(real).take_error().within(place(name));
  return real;
}

Status Fields::done() const {
  for (const auto& [name, value] : *object_) {
    if (std::find(taken_.begin(), taken_.end(), name) == taken_.end()) {
      return Error(Code::kMalformed, place(name) + ": expected no such member");
    }
  }
  return Done{};
}

}  // namespace souk
