#include "trainer/data/names.h"

#include "ledger/codec/json.h"
#include "trainer/data/table.h"

namespace souk::trainer {

bool is_name(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameBytes) return false;
  for (char c : name) {
    auto byte = static_cast<uint8_t>(c);
    if (byte < 0x20 || byte == 0x7f) return false;
  }
  // canonical JSON of it reads back only if it is UTF-8
  return bool(parse_canonical(canonical(Json(name))));
}

}  // namespace souk::trainer
