#include "market_api/cli/verb.h"

#include <csignal>

namespace souk::market {
namespace {

int read_and_run(int argc, char** argv, CommandLine& line,
                 const std::function<void(CLI::App&)>& add_verbs) {
  CLI::App app{"A confidential data market: sell training on data, not the data.", "souk"};
  app.fallthrough();
  app.require_subcommand(1);
  app.footer(
      "Every verb takes --json (one object on stdout), --as NAME and --home DIR.\n"
      "Exit: 0 yes, 1 no, 2 malformed call or file, 3 cannot now, 4 internal.\n"
      "Money is in minor units of the market's currency. Ids may be shortened to 6 digits or "
      "more.");
  line.json = asks_for_json(argc, argv);
  app.add_flag("--json", line.json, "print one JSON object");
  app.add_option("--as", line.as, "identity to use (default: the first one made)");
  app.add_option("--home", line.home_flag,
                 "folder of identities (default: $SOUK_HOME, $XDG_DATA_HOME/souk, ~/.souk)");
  app.set_version_flag("--version", "souk " SOUK_VERSION);
  add_verbs(app);
  speak_plainly(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return tell(app, asked, SOUK_VERSION, line.json);
  } catch (const CLI::ParseError& error) {
    return static_cast<int>(print(misread(app, error), line.json));
  }
  return static_cast<int>(print(line.verb(), line.json));
}

}  // namespace

int run_verb(int argc, char** argv, CommandLine& line,
             const std::function<void(CLI::App&)>& add_verbs) {
  hold_standard_descriptors();
  // An answer that nobody reads, or that outgrows a file, is not written: print() says what of it
  // is on the ledger all the same.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    return read_and_run(argc, argv, line, add_verbs);
  } catch (const std::exception& error) {
    return internal_fault(error, asks_for_json(argc, argv));
  }
}

int internal_fault(const std::exception& error, bool as_json) {
  return static_cast<int>(
      print(Error(Code::kBroken, std::string("bug: ") + error.what()), as_json));
}

CLI::App* add_group(CLI::App& app, const std::string& name, const std::string& help) {
  CLI::App* group = app.add_subcommand(name, help);
  group->require_subcommand(1);
  return group;
}

CLI::App* add_verb(CLI::App& group, const std::string& name, const std::string& help,
                   std::function<void()> read) {
  CLI::App* verb = group.add_subcommand(name, help);
  verb->callback(std::move(read));
  return verb;
}

void add_footer(CLI::App* verb, const std::string& words) {
  verb->footer(words + "\n\n" + verb->get_footer());
}

}  // namespace souk::market
