#include "market_api/cli/answer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "policy/lua/utf8.h"

namespace souk::market {
namespace {

std::string text_of(const Json* value) {
  if (!value || value->is_null()) return "";
  if (value->string()) return *value->string();
  return canonical(*value);
}

// Columns on a terminal: UTF-8 continuation bytes take none.
size_t width(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

}  // namespace

ExitStatus print(const Result<Answer>& answer, bool as_json) {
  if (!answer) {
    const Error& error = answer.error();
    ExitStatus status = exit_status(error);
    std::fprintf(stderr, "souk: %s\n", printable(error.expected()).c_str());
    return as_json ? say("souk", canonical(error_json(error)), status) : status;
  }
  if (!answer->complaint.empty())
    std::fprintf(stderr, "souk: %s\n", printable(answer->complaint).c_str());
  std::string text = as_json ? answer_json(answer->json) : answer->text;
  return text.empty() ? answer->status
                      : say("souk", text, answer->status, printable(answer->recorded));
}

std::string printable(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    auto character = policy::utf8_at(text, at);
    size_t length = std::max<size_t>(1, character.length);
    bool seen =
        text[at] == '\n' || (character.length != 0 && !policy::is_invisible(character.point));
    if (seen) {
      out.append(text.substr(at, length));
    } else {
      out.append(length, '?');  // as wide as before: tables stay in line
    }
    at += length;
  }
  return out;
}

std::string utc_text(TimeMs time) {
  std::time_t seconds = static_cast<std::time_t>(time / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  size_t n = std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", &parts);
  return {text, n};
}

std::string millionths_text(int64_t micro) {
  std::string fraction = std::to_string(micro % 1'000'000);
  fraction.insert(0, 6 - fraction.size(), '0');
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  std::string whole = std::to_string(micro / 1'000'000);
  return fraction.empty() ? whole : whole + "." + fraction;
}

std::string delta_text(int64_t pico) {
  int exponent = -12;
  for (; pico != 0 && pico % 10 == 0; pico /= 10) ++exponent;
  return std::to_string(pico) + "e" + std::to_string(exponent);
}

std::string short_hex(std::string_view hex) {
  return std::string(hex.substr(0, 12));
}

std::string reasons_text(const Json& reasons) {
  std::string text;
  if (!reasons.array()) return text;
  for (const Json& reason : *reasons.array()) {
    std::string place;
    for (const char* part : {"provider", "dataset", "path"}) {
      std::string value = text_of(reason.find(part));
      if (value.empty()) continue;
      place += (place.empty() ? "" : " · ") + value;
    }
    std::string got = text_of(reason.find("got")), need = text_of(reason.find("need"));
    std::string line = place.empty() ? text_of(reason.find("code")) : place;
    if (!got.empty() || !need.empty()) line += ":";
    if (!got.empty()) line += " got " + got;
    if (!need.empty()) line += (got.empty() ? " need " : ", need ") + need;
    std::string message = text_of(reason.find("message"));
    if (!message.empty()) line += " — " + message;
    if (!text.empty()) text += "\n";
    std::replace(line.begin(), line.end(), '\n', ' ');
    text += "  " + printable(line);
  }
  return text;
}

std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string cell = printable(row[i]);
      std::replace(cell.begin(), cell.end(), '\n', ' ');
      line += cell;
      if (i + 1 < row.size())
        line += std::string(widths[i] - std::min(widths[i], width(cell)) + 2, ' ');
    }
    if (!text.empty()) text += "\n";
    text += line;
  }
  return text;
}

Result<int64_t> parse_scaled(std::string_view text, int decimals, const std::string& what) {
  Error bad(Code::kMalformed, what + ": expected a number like 1.25 or 1e-5, at most " +
                                  std::to_string(decimals) + " decimal places");
  std::string digits;
  int point = 0;  // decimal places in `digits`
  bool seen_point = false;
  size_t i = 0;
  for (; i < text.size() && text[i] != 'e' && text[i] != 'E'; ++i) {
    if (text[i] == '.' && !seen_point) {
      seen_point = true;
    } else if (text[i] >= '0' && text[i] <= '9') {
      digits += text[i];
      if (seen_point) ++point;
    } else {
      return bad;
    }
  }
  if (digits.empty() || digits.size() > 40) return bad;
  int exponent = 0;
  if (i < text.size()) {
    bool negative = ++i < text.size() && text[i] == '-';
    if (i < text.size() && (text[i] == '-' || text[i] == '+')) ++i;
    if (i == text.size() || text.size() - i > 2) return bad;
    for (; i < text.size(); ++i) {
      if (text[i] < '0' || text[i] > '9') return bad;
      exponent = exponent * 10 + (text[i] - '0');
    }
    if (negative) exponent = -exponent;
  }
  int shift = decimals - point + exponent;
  for (; shift < 0 && !digits.empty() && digits.back() == '0'; ++shift) digits.pop_back();
  if (shift < 0 && !digits.empty()) return bad;
  if (shift > 40) shift = 40;
  for (; shift > 0; --shift) digits += '0';
  int64_t value = 0;
  for (char c : digits) {
    value = value * 10 + (c - '0');
    if (value > kMaxJsonInteger) return bad;
  }
  return value;
}

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (shown_) std::fprintf(stderr, "\r\033[K");
}

void ProgressBar::show(uint64_t done, uint64_t total, const std::string& note) {
  if (!terminal_) return;
  done_ = done;
  total_ = total;
  constexpr uint64_t kWidth = 30;
  uint64_t filled = total == 0 ? kWidth : std::min(done, total) * kWidth / total;
  std::string bar(filled, '=');
  bar += std::string(kWidth - filled, ' ');
  uint64_t percent = total == 0 ? 100 : std::min(done, total) * 100 / total;
  std::fprintf(stderr, "\r\033[K%s [%s] %3u%% %s", label_.c_str(), bar.c_str(),
               static_cast<unsigned>(percent), printable(note).c_str());
  std::fflush(stderr);
  shown_ = true;
}

}  // namespace souk::market
