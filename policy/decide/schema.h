// The closed schema of what a policy is asked, as one table: validation, the lint of
// field names, what-if and remedies read it. policy/SPEC.md, Request.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::policy {

enum class FieldKind : uint8_t {
  kBlock,    // an object of further fields
  kBlocks,   // a list of such objects; their fields stand under path + "[]"
  kInteger,  // whole, from min to max
  kBoolean,
  kToken,   // 1 to 128 of A-Z a-z 0-9 . _ - : /
  kText,    // printable UTF-8, at most 256 bytes
  kTokens,  // a list of tokens, each once
  kTexts,   // a list of texts, each once
};

struct SchemaField {
  std::string_view path;  // "request.dp.epsilon_micro", "request.credential_details[].type"
  FieldKind kind;
  enum class Presence : uint8_t { kRequired, kOptional } presence;
  int64_t min, max;  // of an integer; of the number of items of a list; of the bytes of a text
  std::string_view means;
  bool required() const { return presence == Presence::kRequired; }
};

// In the order of the document, a block before its members.
std::span<const SchemaField> schema();
// The field at a path as the schema writes it, or null. "request.credentials[3]" and
// "#request.credentials" are found as their list; "…details[2].type" as its member.
const SchemaField* schema_field(std::string_view path);
// The known path nearest to one that is not, or empty when none is near.
std::string nearest_path(std::string_view unknown);

// `root` is "request", "dataset" or "ctx". kMalformed names the field, what was
// expected and, where one is near, what may have been meant.
Status check_schema(std::string_view root, const Json& value);

// {"$absent": true} as a member takes the member away: so that a file can say it.
void remove_absent(Json& value);

}  // namespace souk::policy
