// souk proof inclusion|consistency|check, souk note verify, souk policy-file check:
// what anyone may ask of texts that C2SP describes, ours or other people's.
#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "ledger/entry/leaf.h"
#include "ledger/proof/checkpoint.h"
#include "ledger/proof/claims.h"
#include "ledger/proof/merkle.h"
#include "ledger/proof/policy_check.h"
#include "ledger/proof/tlog_proof.h"
#include "market_api/cli/log_verbs.h"

namespace souk::market {
namespace {

constexpr size_t kMaxProofFile = 4 << 20;

// What stands in a file that somebody typed: said of it when it does not read.
template <class T>
Result<T> read_from(const std::string& file, Result<T> read) {
  return about_file(std::move(read), file == "-" ? "stdin" : file);
}

struct ClaimOptions {
  std::string file = "-";
};
struct CheckOptions {
  std::string file, key, policy, leaf;
};
struct NoteOptions {
  std::string file;
  std::vector<std::string> keys;
};
struct PolicyOptions {
  std::string file;
  std::vector<std::string> cosigners;
  // Given at all: an empty list asks whether nobody is enough.
  const CLI::Option* cosigners_option = nullptr;
};

Answer no(std::string why, Json::Object json) {
  Answer answer;
  answer.status = ExitStatus::kNo;
  json["ok"] = false;
  json["reason"] = why;
  answer.json = std::move(json);
  answer.text = "no: " + printable(why);
  return answer;
}

Answer yes(std::string text, Json::Object json) {
  json["ok"] = true;
  return {.json = std::move(json), .text = std::move(text)};
}

// A malformed text is an error; a false one is an answer.
Result<Answer> judged(const Status& verdict, std::string yes_text, Json::Object json) {
  if (verdict) return yes(std::move(yes_text), std::move(json));
  if (verdict.error().code() == Code::kUnauthentic) {
    return no(verdict.error().expected(), std::move(json));
  }
  return verdict.error();
}

Result<Answer> inclusion(Session&, const ClaimOptions& options) {
  auto text = TRY(load_input(options.file, kMaxProofFile));
  auto claim = TRY(read_from(options.file, ledger::InclusionClaim::parse(as_text(text))));
  return judged(
      claim.check(),
      "leaf " + std::to_string(claim.index) + " is in the tree of " + std::to_string(claim.size),
      {{"index", Json::wide(claim.index)},
       {"leaf_hash", to_hex(claim.leaf_hash)},
       {"root", to_hex(claim.root)},
       {"size", Json::wide(claim.size)}});
}

Result<Answer> consistency(Session&, const ClaimOptions& options) {
  auto text = TRY(load_input(options.file, kMaxProofFile));
  auto claim = TRY(read_from(options.file, ledger::ConsistencyClaim::parse(as_text(text))));
  return judged(claim.check(),
                "the tree of " + std::to_string(claim.size2) + " extends that of " +
                    std::to_string(claim.size1),
                {{"root1", to_hex(claim.root1)},
                 {"root2", to_hex(claim.root2)},
                 {"size1", Json::wide(claim.size1)},
                 {"size2", Json::wide(claim.size2)}});
}

Result<Answer> verify_signature(Session&, const ClaimOptions& options) {
  auto text = TRY(load_input(options.file, size_t{64} << 20));
  auto claim = TRY(read_from(options.file, ledger::SignatureClaim::parse(as_text(text))));
  return judged(claim.check(), "the signature holds", {});
}

Json::Object checkpoint_json(const ledger::Checkpoint& checkpoint) {
  return {{"origin", checkpoint.origin},
          {"root", checkpoint.root},
          {"size", Json::wide(checkpoint.size)}};
}

// Whether a path has the one length that index and size allow.
Status check_length(uint64_t index, uint64_t size, size_t hashes) {
  if (ledger::inclusion_length(index, size) == hashes) return Done{};
  return Error(Code::kUnauthentic, "expected a proof of the length its index and size ask for");
}

// Names in a policy are any octets.
std::string shown(const std::string& name) {
  return ledger::is_note_text(name) ? name : "0x" + to_hex(as_bytes(name));
}

// A checkpoint's verdict; the outer error is that of a key or policy that does not read.
Result<Result<ledger::PolicyVerdict>> judge_checkpoint(const std::string& note,
                                                       const CheckOptions& options) {
  std::optional<ledger::NoteKey> key;
  if (!options.key.empty()) key = TRY(about_input(ledger::NoteKey::parse(options.key), "--key"));
  if (options.policy.empty()) return ledger::check_under_key(note, *key);
  auto text = TRY(load_input(options.policy, ledger::kMaxPolicyBytes + 1));
  auto policy = TRY(read_from(options.policy, ledger::TlogPolicy::parse(as_text(text))));
  return key ? ledger::check_under_policy(note, policy, *key)
             : ledger::check_under_policy(note, policy);
}

Result<Answer> check(Session&, const CheckOptions& options) {
  if (options.key.empty() && options.policy.empty()) {
    return Error(Code::kMalformed, "expected --key VKEY, --policy FILE or both");
  }
  auto text = TRY(load_input(options.file, kMaxProofFile));
  auto proof = TRY(read_from(options.file, ledger::parse_tlog_proof(as_text(text))));
  auto note = TRY(read_from(options.file, ledger::parse_note(proof.checkpoint)));
  auto checkpoint = TRY(read_from(options.file, ledger::parse_checkpoint(note.text)));
  Json::Object json = checkpoint_json(checkpoint);
  json["index"] = Json::wide(proof.index);
  json["leaf_checked"] = !options.leaf.empty();

  // Every file is read before anything is answered.
  Bytes leaf;
  if (!options.leaf.empty()) leaf = TRY(load_input(options.leaf, size_t{1} << 30));
  auto verdict = TRY(judge_checkpoint(proof.checkpoint, options));
  if (!verdict) return judged(verdict.error(), "", std::move(json));
  json["log_key"] = verdict->log_key;
  Json::Array witnesses;
  for (const auto& name : verdict->witnesses) witnesses.push_back(shown(name));
  json["witnesses"] = std::move(witnesses);

  std::string said = "checkpoint of " + std::to_string(checkpoint.size) + " entries is signed";
  if (options.leaf.empty()) {
    auto length = check_length(proof.index, checkpoint.size, proof.path.size());
    return judged(length, said + "; without --leaf no entry was looked for", std::move(json));
  }
  auto hash = ledger::leaf_hash(leaf);
  json["leaf_hash"] = hash;
  auto included =
      ledger::verify_inclusion(hash, proof.index, checkpoint.size, proof.path, checkpoint.root);
  return judged(included, said + " and has this leaf at " + std::to_string(proof.index),
                std::move(json));
}

// The keys of --key: those of logs and authors, and those of cosigners.
struct NoteKeys {
  std::vector<ledger::NoteKey> plain;
  std::vector<ledger::CosignerKey> cosigners;
};

Result<NoteKeys> note_keys(const std::vector<std::string>& vkeys) {
  NoteKeys out;
  std::map<std::pair<std::string, uint32_t>, Bytes> known;
  for (const auto& text : vkeys) {
    auto vkey = TRY(about_input(ledger::Vkey::parse(text), "--key"));
    auto [at, is_new] = known.try_emplace({vkey.name, vkey.id}, vkey.key);
    if (!is_new && at->second != vkey.key) {
      return Error(Code::kMalformed, "--key: expected keys of different names or hashes");
    }
    if (!is_new) continue;
    if (vkey.type == ledger::KeyType::kCosignature) {
      auto key = TRY(ledger::CosignerKey::of(std::move(vkey)));
      out.cosigners.push_back(std::move(key));
    } else {
      auto key = TRY(ledger::NoteKey::of(std::move(vkey)));
      out.plain.push_back(std::move(key));
    }
  }
  return out;
}

// The vkeys that signed; kUnauthentic when none did, or a signature of one is false.
Result<std::vector<std::string>> signers_of(const ledger::Note& note, const NoteKeys& keys) {
  std::vector<std::string> signers;
  for (const auto& key : keys.plain) {
    bool named = std::any_of(note.signatures.begin(), note.signatures.end(), [&](const auto& line) {
      return line.name == key.name() && line.id == key.id();
    });
    if (!named) continue;
    TRY(ledger::verify_note(note, {&key, 1}));
    signers.push_back(key.vkey());
  }
  for (const auto& key : keys.cosigners) {
    auto time = TRY(ledger::cosigned_at(note, key));
    if (time) signers.push_back(key.vkey());
  }
  if (signers.empty()) {
    return Error(Code::kUnauthentic, "note: expected the signature of a known key");
  }
  return signers;
}

Result<Answer> verify_note(Session&, const NoteOptions& options) {
  auto keys = TRY(note_keys(options.keys));
  auto text = TRY(load_input(options.file, ledger::kMaxNoteBytes + 1));
  auto note = TRY(read_from(options.file, ledger::parse_note(as_text(text))));
  Json::Object json;
  if (auto checkpoint = ledger::parse_checkpoint(note.text)) json = checkpoint_json(*checkpoint);
  json["signatures"] = note.signatures.size();
  auto signers = signers_of(note, keys);
  if (!signers) return judged(signers.error(), "", std::move(json));
  Json::Array list;
  std::string said;
  for (const auto& vkey : *signers) {
    list.push_back(Json(vkey));
    said += (said.empty() ? "signed by " : "\nsigned by ") + vkey;
  }
  json["signed_by"] = std::move(list);
  return yes(std::move(said), std::move(json));
}

// Names of witnesses, separated by commas; a name that has one stands alone in its option.
std::set<std::string> cosigner_names(const ledger::TlogPolicy& policy,
                                     const std::vector<std::string>& lists) {
  std::set<std::string> names;
  for (const std::string& list : lists) {
    auto whole = std::any_of(policy.witnesses().begin(), policy.witnesses().end(),
                             [&](const auto& witness) { return witness.name == list; });
    for (size_t at = 0; !whole && at <= list.size();) {
      size_t comma = std::min(list.find(',', at), list.size());
      // A vkey's name has no spaces in it: those beside a comma are of whoever typed the list.
      std::string_view name = std::string_view(list).substr(at, comma - at);
      name.remove_prefix(std::min(name.find_first_not_of(' '), name.size()));
      names.emplace(name.substr(0, name.find_last_not_of(' ') + 1));
      at = comma + 1;
    }
    if (whole) names.insert(list);
  }
  names.erase("");
  return names;
}

Result<Answer> check_policy(Session&, const PolicyOptions& options) {
  auto text = TRY(load_input(options.file, ledger::kMaxPolicyBytes + 1));
  auto policy = TRY(read_from(options.file, ledger::TlogPolicy::parse(as_text(text))));
  Json::Object json{{"logs", policy.logs().size()},
                    {"witnesses", policy.witnesses().size()},
                    {"groups", policy.groups().size()},
                    {"quorum", shown(policy.quorum())}};
  if (options.cosigners_option->count() == 0) {
    return yes("a policy of " + std::to_string(policy.logs().size()) + " logs and " +
                   std::to_string(policy.witnesses().size()) + " witnesses",
               std::move(json));
  }
  auto names = cosigner_names(policy, options.cosigners);
  Json::Array unknown;
  std::string listed;
  for (const auto& name : names) {
    bool known = std::any_of(policy.witnesses().begin(), policy.witnesses().end(),
                             [&](const auto& witness) { return witness.name == name; });
    if (known) continue;
    unknown.push_back(shown(name));
    listed += (listed.empty() ? "" : ", ") + shown(name);
  }
  bool met = policy.satisfied_by(names);
  json["satisfied"] = met;
  json["unknown"] = std::move(unknown);
  if (!listed.empty())
    std::fprintf(stderr, "souk: no witnesses of this policy, and not counted: %s\n",
                 printable(listed).c_str());
  if (!met) return no("the quorum is not met by these cosigners", std::move(json));
  return yes("the quorum is met", std::move(json));
}

}  // namespace

void add_signature_verb(CLI::App& ledger, Session& session) {
  auto claim = std::make_shared<ClaimOptions>();
  CLI::App* verb = add_verb(ledger, session, "verify-signature",
                            "Whether an Ed25519 signature holds by the rule of every part of souk",
                            claim, verify_signature);
  verb->add_option("FILE", claim->file, "JSON {public_key, message, signature}, hex (-: stdin)")
      ->capture_default_str();
}

void add_proof_verbs(CLI::App& app, Session& session) {
  CLI::App* proofs = add_group(app, "proof", "Proofs of any RFC 6962 tree");
  auto included = std::make_shared<ClaimOptions>();
  CLI::App* verb =
      add_verb(*proofs, session, "inclusion", "Whether a leaf is in a tree", included, inclusion);
  verb->add_option("FILE", included->file,
                   "JSON {leaf_hash, index, size, root, proof}; hashes in hex or base64 (-: stdin)")
      ->capture_default_str();
  auto extends = std::make_shared<ClaimOptions>();
  verb = add_verb(*proofs, session, "consistency", "Whether a tree extends another", extends,
                  consistency);
  verb->add_option("FILE", extends->file,
                   "JSON {size1, root1, size2, root2, proof}; hashes in hex or base64 (-: stdin)")
      ->capture_default_str();
  auto checking = std::make_shared<CheckOptions>();
  verb = add_verb(*proofs, session, "check", "A C2SP tlog-proof file", checking, check);
  verb->add_option("FILE", checking->file, "the proof (-: stdin)")->required();
  verb->add_option("--key", checking->key, "vkey of the log");
  verb->add_option("--policy", checking->policy,
                   "C2SP tlog-policy: its logs (or --key) and its quorum");
  verb->add_option("--leaf", checking->leaf,
                   "the entry that it proves, byte for byte (-: stdin, if no other argument is)");

  CLI::App* notes = add_group(app, "note", "C2SP signed notes");
  auto verifying = std::make_shared<NoteOptions>();
  verb = add_verb(*notes, session, "verify", "Which of the given keys signed a note", verifying,
                  verify_note);
  verb->add_option("FILE", verifying->file, "the note (-: stdin)")->required();
  verb->add_option("--key", verifying->keys, "vkey of somebody who may have signed")->required();

  CLI::App* policies = add_group(app, "policy-file", "C2SP tlog-policy files");
  auto policy = std::make_shared<PolicyOptions>();
  verb = add_verb(*policies, session, "check",
                  "Whether a policy reads, and whether these cosigners meet its quorum", policy,
                  check_policy);
  verb->add_option("FILE", policy->file, "the policy (-: stdin)")->required();
  policy->cosigners_option =
      verb->add_option("--cosigners", policy->cosigners,
                       "names of witnesses that cosigned, separated by commas")
          ->type_name("LIST")
          ->allow_extra_args(false);
}

}  // namespace souk::market
