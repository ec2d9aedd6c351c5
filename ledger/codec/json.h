// Canonical JSON: RFC 8785 limited to ASCII member names, strings, booleans,
// null and integers |x| < 2^53. No floats. One value has one text, and the
// reader refuses every other: canonical(parse_canonical(t)) == t.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "ledger/base/bytes.h"
#include "ledger/base/named.h"
#include "ledger/base/result.h"

namespace souk {

inline constexpr int64_t kMaxJsonInteger = (int64_t{1} << 53) - 1;
inline constexpr size_t kMaxRecordBytes = 65535;

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::map<std::string, Json>;  // ASCII names sort as RFC 8785 asks

  // A finite real, for answers (answer_json) alone: canonical JSON has none.
  static Json real(double value);
  // The whole range of uint64_t: for answer_json, never for what is signed.
  static Json wide(uint64_t value);

  Json() : value_(nullptr) {}
  Json(std::nullptr_t) : value_(nullptr) {}                      // NOLINT
  Json(bool value) : value_(value) {}                            // NOLINT
  Json(int64_t value) : value_(value) {}                         // NOLINT
  Json(int value) : value_(int64_t{value}) {}                    // NOLINT
  Json(uint32_t value) : value_(int64_t{value}) {}               // NOLINT
  Json(uint64_t value) : value_(static_cast<int64_t>(value)) {}  // NOLINT
  Json(std::string value) : value_(std::move(value)) {}          // NOLINT
  Json(std::string_view value) : value_(std::string(value)) {}   // NOLINT
  Json(const char* value) : value_(std::string(value)) {}        // NOLINT
  Json(Array value) : value_(std::move(value)) {}                // NOLINT
  Json(Object value) : value_(std::move(value)) {}               // NOLINT
  template <class M, class R>
  Json(const Named<M, R>& name) : value_(to_hex(name)) {}           // NOLINT
  Json(const Digest& digest) : value_(to_hex(ByteView(digest))) {}  // NOLINT

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  const bool* boolean() const { return std::get_if<bool>(&value_); }
  const int64_t* integer() const { return std::get_if<int64_t>(&value_); }
  const double* real() const { return std::get_if<double>(&value_); }
  // Any non-negative integer; those of 2^53 and more come from parse_wide_json alone.
  std::optional<uint64_t> natural() const;
  const std::string* string() const { return std::get_if<std::string>(&value_); }
  const Array* array() const { return std::get_if<Array>(&value_); }
  const Object* object() const { return std::get_if<Object>(&value_); }
  Array* array() { return std::get_if<Array>(&value_); }
  Object* object() { return std::get_if<Object>(&value_); }

  // Member of an object, or null pointer.
  const Json* find(const std::string& name) const;

  friend bool operator==(const Json&, const Json&) = default;

 private:
  // uint64_t only above kMaxJsonInteger.
  std::variant<std::nullptr_t, bool, int64_t, std::string, Array, Object, double, uint64_t> value_;
};

// The canonical text. CHECKs that integers are in range, names are ASCII, and nothing is real.
std::string canonical(const Json& value);

// canonical() with reals as JSON numbers in their shortest form: for what a program prints,
// never for what is hashed or signed.
std::string answer_json(const Json& value);

// Reads canonical text and nothing else. kMalformed names the byte offset.
// Depth <= 32.
Result<Json> parse_canonical(std::string_view text, size_t max_bytes = kMaxRecordBytes);

// Reads ordinary JSON (white space, any member order; still no floats,
// duplicates or bad UTF-8). For files people write; never for what is signed.
Result<Json> parse_json(std::string_view text, size_t max_bytes = 16 << 20);

// The same with integers up to 2^64 - 1, for sizes and indices of other people's trees.
Result<Json> parse_wide_json(std::string_view text, size_t max_bytes = 16 << 20);

// Reads the members of one object, each once, and refuses those nobody asked for.
//   auto f = TRY(Fields::of(json, "dataset.offer"));
//   auto rows = TRY(f.integer("rows", 1, 1 << 30));
//   TRY(f.done());
class Fields {
 public:
  static Result<Fields> of(const Json& value, std::string what);

  Result<std::string> text(const std::string& name, size_t max_bytes = 4096);
  Result<int64_t> integer(const std::string& name, int64_t min = 0, int64_t max = kMaxJsonInteger);
  Result<bool> boolean(const std::string& name);
  Result<const Json*> any(const std::string& name);
  Result<const Json::Array*> array(const std::string& name, size_t max_items = 4096);
  Result<Bytes> base64(const std::string& name);
  Result<Bytes> hex(const std::string& name);
  template <class Name>
  Result<Name> named(const std::string& name) {
    auto value = TRY(text(name));
    auto parsed = named_from_hex<Name>(value);
    if (!parsed) return std::move(parsed).take_error().within(place(name));
    return parsed;
  }
  Result<Digest> digest(const std::string& name);
  // A binary64 written as a decimal string in its shortest round-trip form.
  Result<double> real(const std::string& name);
  bool has(const std::string& name) const { return object_->count(name) != 0; }

  Status done() const;

 private:
  Fields(const Json::Object* object, std::string what) : object_(object), what_(std::move(what)) {}
  Result<const Json*> take(const std::string& name);
  std::string place(const std::string& name) const { return what_ + "." + name; }

  const Json::Object* object_;
  std::string what_;
  std::vector<std::string> taken_;
};

// The shortest decimal string that reads back as the same binary64. Finite only.
std::string real_text(double value);
Result<double> parse_real(std::string_view text);

}  // namespace souk
