// souk: the command line of providers, consumers and auditors.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>

#include "market_api/arguments/arguments.h"
#include "market_api/cli/log_verbs.h"
#include "market_api/cli/session.h"
#include "market_api/outcome/outcome.h"

namespace souk::market {
namespace {

int run(int argc, char** argv) {
  SystemClock clock;
  Session session(clock);
  CLI::App app{"A confidential data market: sell training on data, not the data.", "souk"};
  app.fallthrough();
  app.require_subcommand(1);
  app.footer(
      "Every verb takes --json (one object on stdout), --as NAME and --home DIR.\n"
      "Exit: 0 yes, 1 no, 2 malformed call or file, 3 cannot now, 4 internal.\n"
      "Money is in minor units of the market's currency. Ids may be shortened to 6 digits or "
      "more.");
  session.json = asks_for_json(argc, argv);
  app.add_flag("--json", session.json, "print one JSON object");
  app.add_option("--as", session.as, "identity to use (default: the first one made)");
  app.add_option("--home", session.home_flag,
                 "folder of identities (default: $SOUK_HOME, $XDG_DATA_HOME/souk, ~/.souk)");
  app.set_version_flag("--version", "souk " SOUK_VERSION);
  add_identity_verbs(app, session);
  add_dataset_verbs(app, session);
  add_credential_verbs(app, session);
  add_job_verbs(app, session);
  add_model_verbs(app, session);
  add_ledger_verbs(app, session);
  add_money_verbs(app, session);
  add_policy_verbs(app, session);
  add_policy_study_verbs(app, session);
  add_policy_tool_verbs(app, session);
  add_policy_version_verbs(app, session);
  add_train_verbs(app, session);
  add_privacy_verbs(app, session);
  add_bench_verbs(app, session);
  add_proof_verbs(app, session);
  speak_plainly(app);

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return tell(app, asked, SOUK_VERSION, session.json);
  } catch (const CLI::ParseError& error) {
    return static_cast<int>(print(misread(app, error), session.json));
  }
  return static_cast<int>(print(session.verb(), session.json));
}

}  // namespace
}  // namespace souk::market

int main(int argc, char** argv) {
  souk::market::hold_standard_descriptors();
  try {
    return souk::market::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "souk: bug: %s\n", error.what());
    return 4;
  }
}
