#include "market_api/client/receive.h"

#include <unistd.h>

#include <sstream>

#include "contracts/lifecycle/ancestry.h"
#include "ledger/crypto/hash.h"
#include "market_api/client/local_files.h"
#include "market_api/client/onnx_model.h"
#include "market_api/client/privacy_card.h"
#include "market_api/client/receipt.h"
#include "market_api/client/receipt_beside.h"
#include "market_api/client/stored_model.h"
#include "policy/lua/utf8.h"

namespace souk::market {
namespace {

// Others chose these words: none of them is a heading, a link or a cell of the card.
std::string as_prose(std::string_view text) {
  std::string prose;
  for (char c : policy::one_line(text, 1024)) {
    if (std::string_view("\\`*_{}[]()#+!|<>&~:/@").find(c) != std::string_view::npos) prose += '\\';
    prose += c;
  }
  return prose;
}

std::string model_card(const contracts::Contract& contract, const MarketView& view) {
  const auto& result = *contract.result;
  const auto& spec = contract.submit.spec;
  std::ostringstream card;
  card << "# Model card\n\n"
       << "Trained by a souk enclave under contract `" << to_hex(contract.id) << "`.\n"
       << "`receipt.json` proves what stands here: `souk receipt verify receipt.json`.\n\n"
       << "| | |\n|---|---|\n"
       << "| market | `" << to_hex(view.market()) << "` |\n"
       << "| model.safetensors, SHA-256 | `" << to_hex(ByteView(result.model)) << "` |\n"
       << "| purpose | " << as_prose(contract.submit.purpose) << " |\n"
       << "| classes | " << spec.classes << " |\n"
       << "| layers | " << spec.model.size() << " |\n"
       << "| steps | " << result.steps << " |\n"
       << "| expected batch | " << spec.batch << " |\n";
  if (spec.privacy) {
    card << "| differential privacy | DP-SGD, epsilon "
         << real_text(static_cast<double>(result.epsilon_micro) / 1e6) << " at delta "
         << real_text(static_cast<double>(result.delta_pico) / 1e12) << " (add or remove "
         << privacy_unit(spec) << ") |\n"
         << "| clip, noise multiplier | " << real_text(spec.privacy->clip) << ", "
         << real_text(spec.privacy->noise_multiplier) << " |\n";
  } else {
    card << "| differential privacy | none: every provider waived it |\n";
  }
  card << "| price | " << contract.decision->price << " " << view.follower().genesis().currency
       << " (minor units) |\n"
       << "| evidence | " << as_prose(contract.start->trainer.kind) << " |\n\n"
       << "## Data\n\n| provider | dataset | rows | id |\n|---|---|---|---|\n";
  for (const auto& id : contract.submit.datasets) {
    const contracts::Dataset* dataset = view.state().dataset(id);
    if (!dataset) continue;
    card << "| " << as_prose(dataset->manifest.provider_name) << " | "
         << as_prose(dataset->manifest.name) << " | " << dataset->manifest.rows << " | `"
         << to_hex(id) << "` |\n";
  }
  card << "\n" << privacy_card(spec, claim_of(result, contract.start->trainer.kind));
  card << "\n`spec.json` holds the specification that was executed, with the names of features and "
          "classes.\n";
  return card.str();
}

Result<ModelNotes> notes_of(const contracts::Contract& contract, const MarketView& view) {
  const contracts::Dataset* first = view.state().dataset(contract.submit.datasets.front());
  auto notes = offered_notes(contract.submit.spec, first ? first->manifest : contracts::Manifest());
  auto obligations = TRY(policy::obligations_from_json(contract.decision->obligations));
  for (const auto& grant : contract.decision->grants) {
    if (!grant.obligations) continue;
    auto own = TRY(policy::obligations_from_json(*grant.obligations));
    own.waive_privacy = obligations.waive_privacy;
    obligations = policy::meet(obligations, own);
  }
  auto jobs = contracts::ancestry_of(view.state(), contract.submit, contract.submit_seq).jobs;
  jobs.insert(contract.id);
  notes.lineage =
      policy::Lineage{contracts::learned_from(view.state(), contract.submit, contract.submit_seq),
                      std::move(obligations), std::move(jobs)};
  return notes;
}

Result<Bytes> onnx_of(StoredModel& stored, ByteView safetensors) {
  auto file = TRY(trainer::SafeTensors::read(safetensors));
  stored.model = TRY(model_from_safetensors(stored.notes.spec, file));
  return export_onnx(stored);
}

}  // namespace

Result<Received> receive_model(const ContractId& contract_id, const std::string& directory,
                               const Identity& identity, MarketLine& line, MarketView& view,
                               const Progress& progress) {
  TRY(view.sync(line));
  auto receipt = TRY(make_receipt(view, contract_id));
  const contracts::Contract& contract = *view.state().contract(contract_id);
  if (contract.submit.recipient != identity.recipient()) {
    return Error(
        Code::kRefused,
        "the model is encrypted to another recipient: use the identity that submitted the job");
  }
  const contracts::JobResult& result = *contract.result;

  auto header = TRY(line.header(contract_id));
  if (trainer::header_digest(header) != result.header) {
    return Error(Code::kUnauthentic, "header: expected the one that job.result names");
  }
  auto payload =
      TRY(line.blob(result.payload, static_cast<uint64_t>(result.payload_size), progress));
  if (ledger::sha256(payload) != result.payload) {
    return Error(Code::kUnauthentic, "payload: expected the one that job.result names");
  }
  auto file_key = TRY(trainer::open_header(header, identity.age()));
  auto model = TRY(trainer::decrypt_payload(file_key, payload));
  if (ledger::sha256(model) != result.model) {
    return Error(Code::kUnauthentic, "model: expected the one that job.result names");
  }

  auto known = TRY(notes_of(contract, view));
  StoredModel stored{std::move(known), {}};
  auto onnx = onnx_of(stored, model);
  std::string notes = canonical(to_json(stored.notes)) + "\n";

  std::string text = receipt_text(receipt), card = model_card(contract, view) + about_onnx(onnx);
  std::vector<NewFile> files{{"receipt.json", as_bytes(text)},
                             {"spec.json", as_bytes(notes)},
                             {"MODEL_CARD.md", as_bytes(card)}};
  if (onnx) files.push_back({"model.onnx", *onnx, FileMode::kPrivate});
  files.push_back({"model.safetensors", model, FileMode::kPrivate});
  TRY(save_files(directory, files));
  if (!onnx) ::unlink((directory + "/model.onnx").c_str());  // of another model
  return Received{directory, result.model, onnx ? "" : onnx.error().expected()};
}

}  // namespace souk::market
