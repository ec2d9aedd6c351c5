// What a route sees of HTTP: plain values, no library of anybody.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "ledger/base/bytes.h"
#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::market {

struct Request {
  std::string method;                          // upper case: GET, POST, PUT, DELETE, PATCH
  std::string path;                            // as sent: "/v1/…", percent escapes untouched
  std::map<std::string, std::string> query;    // decoded; a name given twice was refused
  std::map<std::string, std::string> headers;  // names in lower case
  Bytes body;                                  // whole, at most HttpLimits::max_body
};

// Part of a file sent as a body without holding it in memory.
struct FilePart {
  std::string path;
  uint64_t offset = 0;
  uint64_t length = 0;
};

struct Response {
  int status = 200;
  std::string content_type;
  Bytes body;
  std::map<std::string, std::string> headers;  // further ones; the client gives names in lower case
  std::optional<FilePart> file;                // instead of `body`; server side only
};

Response json_response(int status, const Json& value);

// RFC 9457 application/problem+json: {code, detail, status, title, type}. `code` is stable
// and for programs; `detail` is for people and says what was expected.
Response problem(int status, std::string_view code, std::string_view title,
                 std::string_view detail);

// The problem that tells `error` as it is: the status follows from its code.
Response problem(const Error& error);

// The Error inside a problem document, the reverse of problem(error): for clients. A code that
// nobody knows, or an answer that is no such document, is told by its status (message.cc).
Error error_from(const Response& response);

// "a=1&b=%20" -> {a: "1", b: " "}. kMalformed on a bad escape or a name given twice.
Result<std::map<std::string, std::string>> parse_query(std::string_view text);

// Percent-encodes everything but RFC 3986 unreserved characters.
std::string percent_encode(std::string_view text);

}  // namespace souk::market
