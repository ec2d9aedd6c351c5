// How every program is called: numbers that are plain decimal digits, a help that says what is
// expected, and the answers to --help and --version.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "ledger/base/result.h"

namespace souk::market {

// Plain decimal digits, from `low` to `high`. What C and its libraries would also take for a
// number (0x10, +5, 010, 1e3, spaces around it) is refused, and so is what does not fit.
CLI::Validator whole_number(int64_t low, int64_t high);

// Once every option is added: numbers without a range of their own are read as strictly, paths
// and names that were given are not empty, and the help is laid out for people.
void speak_plainly(CLI::App& app);

// Answers --help or --version on stdout, as one object with --json; the status for main().
int tell(const CLI::App& app, const CLI::Success& asked, const std::string& version, bool as_json);

// What is wrong with a call, kMalformed: the verb that is none, or what the option expected.
Error misread(const CLI::App& app, const CLI::ParseError& error);

}  // namespace souk::market
