// How a program of souk ends that could not do what it was asked: the same exit statuses and
// the same JSON object from each of them. market_api/SPEC.md, "Command line".
#pragma once

#include <string>

#include "ledger/base/result.h"
#include "ledger/codec/json.h"

namespace souk::market {

enum class ExitStatus : int {
  kYes = 0,
  kNo = 1,         // refused, not so, not found
  kUsage = 2,      // the call or a file is malformed
  kCannotNow = 3,  // network, busy, full disk: try again
  kInternal = 4,
};

ExitStatus exit_status(const Error& error);
// {"error":{"code":"malformed","message":"..."}}
Json error_json(const Error& error);

// Whether --json is among the arguments, also where others of them are wrong.
bool asks_for_json(int argc, char** argv);

// First of all in main(): a standard descriptor that is closed is taken by one on which nothing
// can be written, or the next file or socket opened would be stdout, and get the answer.
void hold_standard_descriptors();

// One line, or several, on stdout, written through. Answers `status`, or kCannotNow where they
// cannot be written (full, closed), with a sentence on stderr. `recorded`: what has been done all
// the same, and must not be repeated for want of an answer.
ExitStatus say(const char* program, const std::string& text, ExitStatus status,
               const std::string& recorded = "");

// For programs that serve. `program: message` on stderr, one line whatever is in it, and the
// object on stdout if `as_json`; answers the status for main().
int end_with(const char* program, const Error& error, bool as_json);

// What `named`, a file or folder of whoever started the program, must be: kMalformed, and says
// its name once. What passes by itself (kTryAgain, kConflict) or accuses somebody
// (kUnauthentic) keeps its code.
Error about_input(Error error, const std::string& named);
// The same of a file whose content may also be refused or not be believed: only kNotFound
// becomes kMalformed.
Error about_file(Error error, const std::string& path);
template <class T>
Result<T> about_file(Result<T> result, const std::string& path) {
  if (result) return result;
  return about_file(std::move(result).take_error(), path);
}
template <class T>
Result<T> about_input(Result<T> result, const std::string& named) {
  if (result) return result;
  return about_input(std::move(result).take_error(), named);
}

}  // namespace souk::market
