// What a verb answers, and how the program says it: one JSON object or a short
// text on stdout, diagnostics on stderr, and an exit status.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ledger/base/clock.h"
#include "ledger/codec/json.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {

struct Answer {
  Json::Object json;
  std::string text;  // without the last newline
  ExitStatus status = ExitStatus::kYes;
  // Where the answer itself says at length what is malformed or refused: the sentence for stderr.
  std::string complaint = {};
  // What now stands on the ledger, for whoever cannot read the answer: "job ... in entry 7".
  std::string recorded = {};
};

// Prints and answers the status for main().
ExitStatus print(const Result<Answer>& answer, bool as_json);

// Safe on a terminal: control, invisible and direction-changing characters of others, and what is
// no UTF-8, become '?'.
std::string printable(std::string_view text);
std::string utc_text(TimeMs time);            // 2026-01-02 03:04:05Z
std::string millionths_text(int64_t micro);   // 1500000 -> 1.5
std::string delta_text(int64_t pico);         // 10000000 -> 1e-5
std::string short_hex(std::string_view hex);  // its first 12 digits
// One line per reason: "provider · dataset · path: got X, need Y — message".
std::string reasons_text(const Json& reasons);
// Columns padded to their widest cell; the first row is the heading.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

// "1.25", "1e-5" -> value * 10^decimals, exactly. kMalformed otherwise.
Result<int64_t> parse_scaled(std::string_view text, int decimals, const std::string& what);

// A bar on stderr, if that is a terminal; else nothing.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  void show(uint64_t done, uint64_t total, const std::string& note = "");
  // The same bar again, with this beside it.
  void note(const std::string& note) { show(done_, total_, note); }

 private:
  std::string label_;
  bool terminal_;
  bool shown_ = false;
  uint64_t done_ = 0, total_ = 1;  // as shown last
};

}  // namespace souk::market
