// What every verb of `souk` is: read from the command line, it answers.
#pragma once

#include <CLI/CLI.hpp>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "market_api/arguments/arguments.h"
#include "market_api/cli/answer.h"

namespace souk::market {

// Set while the command line is read: what any verb is told, and the verb.
struct CommandLine {
  std::optional<std::string> home_flag, as;
  bool json = false;
  std::function<Result<Answer>()> verb;
};

// All of a program: reads the command line into `line` with the verbs that `add_verbs` adds, runs
// the one that was asked for and prints its answer. The status for main().
int run_verb(int argc, char** argv, CommandLine& line,
             const std::function<void(CLI::App&)>& add_verbs);

// What nobody foresaw, said as every error is; the status for main().
int internal_fault(const std::exception& error, bool as_json);

// A group of verbs that asks for one of them.
CLI::App* add_group(CLI::App& app, const std::string& name, const std::string& help);

// What the help of `verb` says above the words that all helps end with.
void add_footer(CLI::App* verb, const std::string& words);

// A verb of a group; `read` is called once its options are.
CLI::App* add_verb(CLI::App& group, const std::string& name, const std::string& help,
                   std::function<void()> read);

// Options live as long as the App that fills them. Making an App stays out of this template: every
// file that does it compiles all of CLI11 once more. `From` is what the verb starts from: the
// command line, or more.
template <class From, class Options>
CLI::App* add_verb(CLI::App& group, From& from, const std::string& name, const std::string& help,
                   std::shared_ptr<Options> options,
                   Result<Answer> (*verb)(From&, const Options&)) {
  return add_verb(group, name, help, [&from, options, verb] {
    from.verb = [&from, options, verb] { return verb(from, *options); };
  });
}

}  // namespace souk::market
