// souk-client: every verb of `souk`, which starts it; market_api/cli/main.cc.
#include "market_api/cli/log_verbs.h"
#include "market_api/cli/privacy_audit_verb.h"
#include "market_api/cli/privacy_verbs.h"
#include "market_api/cli/session.h"

int main(int argc, char** argv) {
  using namespace souk::market;
  souk::SystemClock clock;
  Session session(clock);
  return run_verb(argc, argv, session, [&session](CLI::App& app) {
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
    add_privacy_audit_verb(*add_privacy_verbs(app, session), session);
    add_bench_verbs(app, session);
    add_proof_verbs(app, session);
  });
}
