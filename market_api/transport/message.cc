#include "market_api/transport/message.h"

#include <array>

namespace souk::market {
namespace {

constexpr std::array kCodes = {Code::kMalformed, Code::kUnauthentic, Code::kRefused,
                               Code::kNotFound,  Code::kConflict,    Code::kExhausted,
                               Code::kTryAgain,  Code::kBroken};

// market_api/SPEC.md
int status_of(Code code) {
  switch (code) {
    case Code::kMalformed:
      return 400;
    case Code::kUnauthentic:
      return 401;
    case Code::kRefused:
      return 403;
    case Code::kNotFound:
      return 404;
    case Code::kConflict:
      return 409;
    case Code::kExhausted:
      return 429;
    case Code::kTryAgain:
      return 503;
    case Code::kBroken:
      return 500;
  }
  return 500;
}

const char* title_of(Code code) {
  switch (code) {
    case Code::kMalformed:
      return "The request is not well formed";
    case Code::kUnauthentic:
      return "The signature or proof does not hold";
    case Code::kRefused:
      return "The rules say no";
    case Code::kNotFound:
      return "Not found";
    case Code::kConflict:
      return "Someone was first, or the state has moved on";
    case Code::kExhausted:
      return "A budget, quota or balance is spent";
    case Code::kTryAgain:
      return "Try again later";
    case Code::kBroken:
      return "A fault of the server";
  }
  return "A fault of the server";
}

// Of a proxy, or a server that is no market: what may pass by itself is for later, and a fault of
// theirs is never one of ours.
Code code_of_foreign(int status) {
  if (status == 408 || status == 429 || status / 100 == 5) return Code::kTryAgain;
  if (status == 404 || status == 410) return Code::kNotFound;
  return Code::kRefused;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> percent_decode(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out.push_back(text[i] == '+' ? ' ' : text[i]);
      continue;
    }
    int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1;
    int low = i + 2 < text.size() ? hex_digit(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return Error(Code::kMalformed, "query: expected two hexadecimal digits after '%'");
    }
    out.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return out;
}

}  // namespace

Response json_response(int status, const Json& value) {
  return {.status = status,
          .content_type = "application/json",
          .body = to_bytes(canonical(value)),
          .headers = {},
          .file = {}};
}

Response problem(int status, std::string_view code, std::string_view title,
                 std::string_view detail) {
  auto response = json_response(status, Json::Object{{"type", "about:blank"},
                                                     {"status", status},
                                                     {"title", title},
                                                     {"code", code},
                                                     {"detail", detail}});
  response.content_type = "application/problem+json";
  return response;
}

Response problem(const Error& error) {
  return problem(status_of(error.code()), code_name(error.code()), title_of(error.code()),
                 error.expected());
}

Error error_from(const Response& response) {
  auto json = parse_json(as_text(response.body));
  auto* code = json ? json->find("code") : nullptr;
  auto* detail = json ? json->find("detail") : nullptr;
  if (code != nullptr && detail != nullptr && code->string() && detail->string()) {
    for (Code known : kCodes) {
      if (*code->string() == code_name(known)) return Error(known, *detail->string());
    }
    for (Code known : kCodes) {  // a code newer than this program: its status still tells
      if (response.status == status_of(known)) return Error(known, *detail->string());
    }
    return Error(code_of_foreign(response.status), *detail->string());
  }
  Code told = code_of_foreign(response.status);
  return Error(told, "expected 200 from the server, not " + std::to_string(response.status) +
                         (told == Code::kTryAgain ? "; try again later" : ""));
}

Result<std::map<std::string, std::string>> parse_query(std::string_view text) {
  std::map<std::string, std::string> out;
  while (!text.empty()) {
    auto pair = text.substr(0, text.find('&'));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    if (pair.empty()) continue;
    auto equals = std::min(pair.find('='), pair.size());
    auto name = TRY(percent_decode(pair.substr(0, equals)));
    auto value = TRY(percent_decode(pair.substr(std::min(pair.size(), equals + 1))));
    if (!out.emplace(std::move(name), std::move(value)).second) {
      return Error(Code::kMalformed, "query: expected each name once");
    }
  }
  return out;
}

std::string percent_encode(std::string_view text) {
  constexpr char digits[] = "0123456789ABCDEF";
  std::string out;
  for (char c : text) {
    bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      out.push_back(c);
    } else {
      out.push_back('%');
      out.push_back(digits[(static_cast<uint8_t>(c) >> 4) & 15]);
      out.push_back(digits[static_cast<uint8_t>(c) & 15]);
    }
  }
  return out;
}

}  // namespace souk::market
