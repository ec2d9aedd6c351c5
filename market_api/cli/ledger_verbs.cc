// souk ledger log|show|prove.
#include <filesystem>

#include "contracts/lifecycle/void_words.h"
#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "market_api/cli/describe.h"
#include "market_api/cli/log_verbs.h"

namespace souk::market {
namespace {

struct LogOptions {
  uint64_t limit = 20;
};
struct ShowOptions {
  uint64_t seq = 0;
};
struct ProveOptions {
  uint64_t seq = 0;
  std::string out, leaf;
};

struct Entry {
  ledger::Leaf leaf;
  ledger::AuthenticEntry entry;
  Digest hash{};
};

Result<Entry> entry_at(const MarketView& view, uint64_t seq) {
  if (seq >= view.leaves().size()) {
    return Error(Code::kNotFound, "no entry " + std::to_string(seq) + ": the ledger has " +
                                      std::to_string(view.leaves().size()));
  }
  const Bytes& bytes = view.leaves()[seq];
  auto leaf = TRY(ledger::decode_leaf(bytes));
  auto signed_entry = TRY(ledger::SignedEntry::decode(leaf.envelope));
  auto entry = TRY(ledger::authenticate(std::move(signed_entry)));
  return Entry{std::move(leaf), std::move(entry), ledger::leaf_hash(bytes)};
}

std::string effect(const MarketView& view, uint64_t seq) {
  auto found = view.state().voids().find(seq);
  return found == view.state().voids().end() ? "" : found->second;
}

Result<Answer> log(Session& session, const LogOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  const MarketView& view = connection.view;
  uint64_t size = view.leaves().size();
  uint64_t from = options.limit == 0 || options.limit >= size ? 0 : size - options.limit;
  Json::Array all;
  std::vector<std::vector<std::string>> rows{{"SEQ", "TIME", "KIND", "AUTHOR", "WHAT"}};
  for (uint64_t seq = from; seq < size; ++seq) {
    auto item = TRY(entry_at(view, seq));
    auto record = contracts::record_of(item.entry);
    std::string what =
        record ? entry_summary(*record, item.entry.payload_hash()) : "unknown record";
    std::string void_because = effect(view, seq);
    std::string kind = entry_kind(item.entry.payload_type());
    all.push_back(Json::Object{{"seq", seq},
                               {"time", item.leaf.time},
                               {"kind", kind},
                               {"author", item.entry.author()},
                               {"summary", what},
                               {"void", void_because},
                               {"leaf_hash", item.hash}});
    if (!void_because.empty())
      what += " (without effect: " + contracts::words_of_void(void_because) + ")";
    rows.push_back({std::to_string(seq), utc_text(item.leaf.time), kind,
                    short_hex(to_hex(item.entry.author())), what});
  }
  Answer answer;
  answer.json = {
      {"size", size}, {"root", view.follower().confirmed_root()}, {"entries", std::move(all)}};
  answer.text = table_text(rows) + "\n" + std::to_string(size) + " entries, root " +
                to_hex(ByteView(view.follower().confirmed_root()));
  return answer;
}

Result<Answer> show(Session& session, const ShowOptions& options) {
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto item = TRY(entry_at(connection.view, options.seq));
  std::string void_because = effect(connection.view, options.seq);
  Answer answer;
  answer.json = {{"seq", options.seq},
                 {"time", item.leaf.time},
                 {"prev", item.leaf.prev},
                 {"leaf_hash", item.hash},
                 {"payload_type", item.entry.payload_type()},
                 {"payload_hash", item.entry.payload_hash()},
                 {"author", item.entry.author()},
                 {"void", void_because},
                 {"body", item.entry.body()}};
  answer.text = table_text({{"seq", std::to_string(options.seq)},
                            {"kind", entry_kind(item.entry.payload_type())},
                            {"time", utc_text(item.leaf.time)},
                            {"author", to_hex(item.entry.author())},
                            {"leaf", to_hex(ByteView(item.hash))},
                            {"prev", to_hex(ByteView(item.leaf.prev))},
                            {"effect", void_because.empty()
                                           ? "yes"
                                           : "none: " + contracts::words_of_void(void_because)}}) +
                "\n" + canonical(item.entry.body());
  return answer;
}

bool same_file(const std::string& a, const std::string& b) {
  std::error_code ignored;
  auto whole = [&](const std::string& path) {
    return std::filesystem::weakly_canonical(std::filesystem::absolute(path, ignored), ignored);
  };
  return a == b || whole(a) == whole(b) || std::filesystem::equivalent(a, b, ignored);
}

Result<Answer> prove(Session& session, const ProveOptions& options) {
  if (!options.out.empty() && !options.leaf.empty() && same_file(options.out, options.leaf)) {
    return Error(Code::kMalformed,
                 "--out and --leaf: expected two files, found " + options.out + " for both");
  }
  auto identity = TRY(session.identity());
  auto connection = TRY(session.connect(identity));
  auto proof = TRY(connection.view.prove(options.seq));
  auto item = TRY(entry_at(connection.view, options.seq));
  Answer answer;
  answer.json = {{"seq", options.seq}, {"leaf_hash", item.hash}, {"tlog_proof", proof}};
  answer.text = proof;
  if (!options.out.empty()) {
    TRY(save_file(options.out, as_bytes(proof), FileMode::kShared));
    answer.json["file"] = options.out;
    answer.text = "proof of entry " + std::to_string(options.seq) + " in " + options.out;
  }
  if (!options.leaf.empty()) {
    TRY(save_file(options.leaf, connection.view.leaves()[options.seq], FileMode::kShared));
    answer.json["leaf_file"] = options.leaf;
  }
  while (!answer.text.empty() && answer.text.back() == '\n') answer.text.pop_back();
  return answer;
}

}  // namespace

void add_ledger_verbs(CLI::App& app, Session& session) {
  CLI::App* group = add_group(app, "ledger", "What happened");
  auto logging = std::make_shared<LogOptions>();
  CLI::App* verb = add_verb(*group, session, "log", "The newest entries", logging, log);
  verb->add_option("--limit", logging->limit, "how many (0: all)")
      ->capture_default_str()
      ->check(whole_number(0, kMaxJsonInteger));
  auto showing = std::make_shared<ShowOptions>();
  verb = add_verb(*group, session, "show", "One entry in full", showing, show);
  verb->add_option("SEQ", showing->seq, "its number")
      ->required()
      ->check(whole_number(0, kMaxJsonInteger));
  auto proving = std::make_shared<ProveOptions>();
  verb = add_verb(*group, session, "prove", "A C2SP tlog-proof that an entry is in the ledger",
                  proving, prove);
  verb->add_option("SEQ", proving->seq, "its number")
      ->required()
      ->check(whole_number(0, kMaxJsonInteger));
  verb->add_option("--out", proving->out, "write the proof to a file");
  verb->add_option("--leaf", proving->leaf,
                   "write the entry to a file, as souk proof check wants it");
  add_audit_verb(*group, session);
  add_tiles_verbs(*group, session);
  add_signature_verb(*group, session);
}

}  // namespace souk::market
