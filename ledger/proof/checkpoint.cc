#include "ledger/proof/checkpoint.h"

#include "ledger/proof/decimal.h"

namespace souk::ledger {

std::string Checkpoint::text() const {
  std::string out = origin + "\n" + std::to_string(size) + "\n" + to_base64(root) + "\n";
  for (const auto& line : extensions) out += line + "\n";
  return out;
}

Result<Checkpoint> parse_checkpoint(std::string_view text) {
  Checkpoint out;
  out.origin = TRY(take_line(text));
  if (out.origin.empty()) return Error(Code::kMalformed, "checkpoint: expected an origin");
  auto size_line = TRY(take_line(text));
  out.size = TRY(parse_decimal(size_line));
  auto root_line = TRY(take_line(text));
  auto root = TRY(from_base64(root_line));
  out.root = TRY(fixed<32>(root));
  while (!text.empty()) {
    auto line = TRY(take_line(text));
    if (line.empty()) return Error(Code::kMalformed, "checkpoint: expected no empty line");
    out.extensions.emplace_back(line);
  }
  return out;
}

std::string sign_checkpoint(const Checkpoint& checkpoint, const NoteKey& as,
                            const SigningKey& key) {
  CHECK(checkpoint.origin == as.name());
  return sign_note(checkpoint.text(), as, key);
}

Result<Checkpoint> open_checkpoint(std::string_view note_text, const NoteKey& key) {
  auto note = TRY(parse_note(note_text));
  TRY(verify_note(note, {&key, 1}));
  auto checkpoint = TRY(parse_checkpoint(note.text));
  if (checkpoint.origin != key.name()) {
    return Error(Code::kUnauthentic, "checkpoint: expected the log's name as its origin");
  }
  return checkpoint;
}

}  // namespace souk::ledger
