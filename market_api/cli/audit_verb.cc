// souk ledger audit.
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/policy_check.h"
#include "market_api/cli/log_verbs.h"
#include "market_api/client/audit.h"

namespace souk::market {
namespace {

struct AuditOptions {
  std::string data, url, market_id, tiles, key, policy, seen;
};

void add_counts(Json::Object& json, const LedgerAudit& audit) {
  const auto& counts = audit.counts;
  auto rate = [&](uint64_t done) {
    return Json::real(audit.seconds > 0 ? static_cast<double>(done) / audit.seconds : 0);
  };
  json["size"] = audit.entries;
  json["bytes"] = counts.bytes;
  json["signatures"] = counts.signatures;
  json["hashes"] = counts.hashes;
  json["checkpoints"] = counts.checkpoints;
  json["cosignatures"] = counts.cosignatures;
  json["threads"] = counts.threads;
  json["seconds"] = Json::real(audit.seconds);
  json["entries_per_second"] = rate(audit.entries);
  json["signatures_per_second"] = rate(counts.signatures);
  json["bytes_per_second"] = rate(counts.bytes);
  json["file"] = audit.place && !audit.place->file.empty() ? Json(audit.place->file) : Json();
  json["byte_range"] = audit.place && !audit.place->file.empty()
                           ? Json(Json::Array{Json(audit.place->from), Json(audit.place->to)})
                           : Json();
}

Answer audit_answer(const LedgerAudit& audit) {
  Answer answer;
  answer.status = audit.ok ? ExitStatus::kYes : ExitStatus::kNo;
  answer.json = {{"ok", audit.ok},
                 {"entries", audit.entries},
                 {"root", audit.root},
                 {"first_bad", audit.first_bad ? Json(*audit.first_bad) : Json(nullptr)},
                 {"reason", audit.reason},
                 {"market", audit.market},
                 {"market_from_ledger", audit.market_from_ledger},
                 {"without_effect", audit.without_effect}};
  add_counts(answer.json, audit);
  if (audit.ok) {
    answer.text = "ok: " + std::to_string(audit.entries) + " entries, " +
                  std::to_string(audit.without_effect) + " without effect, root " +
                  to_hex(ByteView(audit.root));
  } else if (audit.first_bad) {
    std::string place = "entry " + std::to_string(*audit.first_bad) + ": ";
    bool placed = audit.reason.compare(0, place.size(), place) == 0;
    answer.text = "BAD: " + (placed ? "" : place) + printable(audit.reason);
  } else {
    answer.text = "BAD: " + printable(audit.reason);
  }
  if (audit.place && !audit.place->file.empty()) {
    answer.text += "\nin " + printable(audit.place->file) + ", bytes " +
                   std::to_string(audit.place->from) + " to " + std::to_string(audit.place->to);
  }
  bool unnamed = audit.market_from_ledger && audit.market != MarketId();
  if (audit.ok && unnamed) {
    answer.text += "\nthe market id was taken from the ledger itself: " + to_hex(audit.market) +
                   "; give --market-id to say which market it must be";
  }
  return answer;
}

Result<std::string> seen_checkpoint(const AuditOptions& options) {
  auto bytes = TRY(load_argument(options.seen, ledger::kMaxNoteBytes));
  auto note = TRY(about_file(ledger::parse_note(as_text(bytes)), options.seen));
  TRY(about_file(ledger::parse_checkpoint(note.text), options.seen));
  return to_text(bytes);
}

}  // namespace

ledger::FetchTileFile served_files(const std::string& url) {
  auto opened = std::make_shared<Result<HttpClient>>(HttpClient::open(url));
  return [opened](const std::string& path) -> Result<Bytes> {
    if (!*opened) return opened->error();
    auto response = TRY((*opened)->send("GET", "/" + path));
    if (response.status == 200) return std::move(response.body);
    return error_from(response);
  };
}

bool is_url(const std::string& text) {
  return text.rfind("http://", 0) == 0 || text.rfind("https://", 0) == 0;
}

Result<JudgeCheckpoint> judge_by(const std::string& vkey, const std::string& policy_file) {
  if (vkey.empty() && policy_file.empty()) {
    return Error(Code::kMalformed, "expected --key VKEY, --policy FILE or both with a log's tiles");
  }
  std::optional<ledger::NoteKey> key;
  if (!vkey.empty()) key = TRY(about_input(ledger::NoteKey::parse(vkey), "--key"));
  if (policy_file.empty()) {
    return JudgeCheckpoint(
        [key](std::string_view note) { return ledger::check_under_key(note, *key); });
  }
  auto text = TRY(load_input(policy_file, ledger::kMaxPolicyBytes + 1));
  auto policy = TRY(about_file(ledger::TlogPolicy::parse(as_text(text)), policy_file));
  if (!key && policy.logs().empty()) {
    return Error(Code::kMalformed,
                 policy_file + ": expected a line `log VKEY`, without one it accepts no log");
  }
  return JudgeCheckpoint([policy, key](std::string_view note) {
    return key ? ledger::check_under_policy(note, policy, *key)
               : ledger::check_under_policy(note, policy);
  });
}

Result<AuditBasis> pinned_basis(const Session& session, const std::string& market_id) {
  AuditBasis basis;
  std::optional<Identity> known;
  if (market_id.empty()) {
    known = TRY(session.identity_if_any());
    if (known) basis.market = known->pin().market;
  } else {
    basis.market = TRY(parse_hex_argument<MarketId>(market_id, "--market-id"));
    known = TRY(session.identity_for(*basis.market));
  }
  if (!known) return basis;
  basis.seen = session.seen_at_home(*known);
  basis.quorum = TRY(pinned_quorum(known->pin()));
  return basis;
}

namespace {

// Somebody's log: the market that an identity pins is not asked for.
Result<Answer> audit_tiles(Session& session, const AuditOptions& options) {
  AuditBasis basis;
  if (!options.market_id.empty()) {
    basis = TRY(pinned_basis(session, options.market_id));
  }
  if (!options.seen.empty()) basis.seen.push_back({TRY(seen_checkpoint(options)), ""});
  auto judge = TRY(judge_by(options.key, options.policy));
  bool url = is_url(options.tiles);
  if (!url && !is_directory(options.tiles)) {
    return Error(Code::kMalformed, "--tiles: expected a directory or a URL: " + options.tiles);
  }
  bool empty =
      !url && !path_exists(options.tiles + "/checkpoint") && !path_exists(options.tiles + "/tile");
  if (empty) {
    return Error(Code::kMalformed,
                 "--tiles: expected a log's checkpoint and tile/ in " + options.tiles);
  }
  auto fetch = url ? served_files(options.tiles) : ledger::files_of(options.tiles);
  if (url) {  // where no log is, nothing is bad
    auto answers = fetch("checkpoint");
    if (!answers) return std::move(answers).take_error().within(options.tiles + "/checkpoint");
  }
  auto audit = audit_log_tiles(fetch, judge, basis);
  if (audit.cannot_now) return Error(Code::kTryAgain, options.tiles + "/" + audit.reason);
  return audit_answer(audit);
}

// The market to audit by: the one on the command line, else the one the identity
// pins, with the highest checkpoints that it and the others of its home have seen.
Result<Answer> audit(Session& session, const AuditOptions& options) {
  if (options.tiles.empty() && !(options.key.empty() && options.policy.empty())) {
    return Error(Code::kMalformed, "--key and --policy: expected --tiles with them");
  }
  if (!options.tiles.empty()) return audit_tiles(session, options);
  auto basis = TRY(pinned_basis(session, options.market_id));
  if (!options.seen.empty()) basis.seen.push_back({TRY(seen_checkpoint(options)), ""});
  if (!options.data.empty()) {
    std::string path = is_directory(options.data) ? options.data + "/ledger.db" : options.data;
    if (!path_exists(path)) return Error(Code::kMalformed, "no ledger " + path);
    return audit_answer(audit_ledger_file(path, basis));
  }
  std::string url = options.url;
  if (url.empty()) {
    auto identity = TRY(session.identity_if_any());
    if (!identity) {
      return Error(Code::kMalformed,
                   "expected --data DIR, --url URL, or an identity that pins a market");
    }
    url = identity->pin().url;
  }
  auto line = TRY(MarketLine::open(url));
  auto audit = TRY(audit_served_ledger(line, basis));
  return audit_answer(audit);
}

}  // namespace

void add_audit_verb(CLI::App& ledger, Session& session) {
  auto auditing = std::make_shared<AuditOptions>();
  CLI::App* verb =
      add_verb(ledger, session, "audit", "Verify every entry from genesis on", auditing, audit);
  auto* data =
      verb->add_option("--data", auditing->data, "a market's folder, read as it lies on disk");
  auto* url = verb->add_option("--url", auditing->url, "a market's URL (default: the pinned one)")
                  ->excludes(data);
  verb->add_option("--tiles", auditing->tiles, "a log's tlog-tiles: a directory or a URL")
      ->excludes(data)
      ->excludes(url);
  verb->add_option("--key", auditing->key, "with --tiles: vkey of the log");
  verb->add_option(
      "--policy", auditing->policy,
      "with --tiles: C2SP tlog-policy that its checkpoint must meet (with --key: its witnesses)");
  verb->add_option("--seen", auditing->seen,
                   "a checkpoint kept from earlier, which the ledger must have grown out of");
  verb->add_option("--market-id", auditing->market_id,
                   "which market it must be (default: the pinned one)");
}

}  // namespace souk::market
