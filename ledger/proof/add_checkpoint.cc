#include "ledger/proof/add_checkpoint.h"

#include "ledger/proof/decimal.h"

namespace souk::ledger {
namespace {

constexpr std::string_view kOld = "old ";

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "add-checkpoint: expected " + expected);
}

}  // namespace

std::string AddCheckpoint::text() const {
  std::string out = std::string(kOld) + std::to_string(old_size) + "\n";
  for (const auto& hash : proof) out += to_base64(hash) + "\n";
  return out + "\n" + checkpoint;
}

Result<AddCheckpoint> parse_add_checkpoint(std::string_view body) {
  AddCheckpoint out;
  auto line = TRY(take_line(body));
  if (line.substr(0, kOld.size()) != kOld) return bad("the old size");
  out.old_size = TRY(parse_decimal(line.substr(kOld.size())));
  for (line = TRY(take_line(body)); !line.empty(); line = TRY(take_line(body))) {
    if (out.proof.size() == kMaxConsistencyLines) return bad("at most 63 hashes");
    auto hash = TRY(from_base64(line));
    auto digest = TRY(fixed<32>(hash));
    out.proof.push_back(digest);
  }
  auto note = TRY(parse_note(body));
  TRY(parse_checkpoint(note.text));
  out.checkpoint = std::string(body);
  return out;
}

std::string tlog_size_text(uint64_t size) {
  return std::to_string(size) + "\n";
}

Result<uint64_t> parse_tlog_size(std::string_view body) {
  auto line = TRY(take_line(body));
  if (!body.empty()) return bad("one line with a tree size");
  return parse_decimal(line);
}

}  // namespace souk::ledger
