#include "ledger/proof/tlog_proof.h"

#include "ledger/proof/decimal.h"
#include "ledger/proof/note.h"

namespace souk::ledger {
namespace {

constexpr std::string_view kHeader = "c2sp.org/tlog-proof@v1";
constexpr size_t kMaxPath = 64;  // no tree of less than 2^64 leaves needs more
constexpr size_t kMaxExtraBytes = 65535;

bool take_word(std::string_view& line, std::string_view word) {
  if (line.substr(0, word.size()) != word) return false;
  line.remove_prefix(word.size());
  return true;
}

Error bad(const std::string& expected) {
  return Error(Code::kMalformed, "tlog-proof: expected " + expected);
}

}  // namespace

std::string TlogProof::text() const {
  std::string out = std::string(kHeader) + "\n";
  if (extra && !extra->empty()) out += "extra " + to_base64(*extra) + "\n";
  out += "index " + std::to_string(index) + "\n";
  for (const auto& hash : path) out += to_base64(hash) + "\n";
  return out + "\n" + checkpoint;
}

Result<TlogProof> parse_tlog_proof(std::string_view text) {
  TlogProof out;
  auto line = TRY(take_line(text));
  if (line != kHeader) return bad("c2sp.org/tlog-proof@v1");
  line = TRY(take_line(text));
  if (take_word(line, "extra ")) {
    auto extra = TRY(from_base64(line));
    if (extra.empty()) return bad("no line for extra data where there is none");
    if (extra.size() > kMaxExtraBytes) return bad("at most 65535 bytes of extra data");
    out.extra = std::move(extra);
    line = TRY(take_line(text));
  }
  if (!take_word(line, "index ")) return bad("the index");
  out.index = TRY(parse_decimal(line));
  for (line = TRY(take_line(text)); !line.empty(); line = TRY(take_line(text))) {
    if (out.path.size() == kMaxPath) return bad("at most 64 hashes");
    auto hash = TRY(from_base64(line));
    auto digest = TRY(fixed<32>(hash));
    out.path.push_back(digest);
  }
  out.checkpoint = std::string(text);
  TRY(parse_note(out.checkpoint));
  return out;
}

}  // namespace souk::ledger
