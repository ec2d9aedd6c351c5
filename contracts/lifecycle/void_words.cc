#include "contracts/lifecycle/void_words.h"

#include <array>
#include <utility>

namespace souk::contracts {
namespace {

// What participants can run into; the codes between keeper, trainer and host stand alone.
constexpr auto kWords = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"no_genesis", "the ledger does not begin with a market's genesis"},
    {"other_market", "it was signed for another market"},
    {"replayed", "the same signed record is on the ledger already"},
    {"malformed", "it is no record of this version"},
    {"second_genesis", "a market has one genesis"},
    {"not_the_ledger", "the key of the ledger has not signed it"},
    {"unappraised", "the evidence of the enclave does not hold"},
    {"wrong_keys", "the evidence of the enclave is for other keys"},
    {"not_the_treasury", "only the treasury that genesis names may do this"},
    {"overflow", "the sum would be larger than numbers here can be"},
    {"unknown_keeper_evidence", "its key is wrapped to a keeper that is not on the ledger"},
    {"already_offered", "this very offer is on the ledger already"},
    {"unknown_dataset", "there is no such dataset on the ledger"},
    {"not_the_provider", "only the provider of the dataset may do this"},
    {"revoked", "the dataset is revoked"},
    {"erased", "the dataset is erased"},
    {"too_many", "the dataset has as many policy versions as it can have"},
    {"already_published", "the dataset has this policy version already"},
    {"policy_unknown", "the dataset has no such policy version"},
    {"policy_revoked", "the policy version is revoked"},
    {"policy_active", "the policy version is active already"},
    {"policy_not_active", "the policy version is not active"},
    {"not_the_keeper", "only the market's keeper may do this"},
    {"unknown_contract", "there is no such contract on the ledger"},
    {"deadline", "its deadline passed"},
    {"trainer_died", "the trainer ended before there was a result"},
    {"ciphertext_missing", "the host could not bring the ciphertext of a dataset"},
    {"not_submitted", "the contract is decided already"},
});

}  // namespace

std::string words_of_void(std::string_view code) {
  for (const auto& [known, words] : kWords) {
    if (known == code) return std::string(words) + " (" + std::string(code) + ")";
  }
  return std::string(code);
}

}  // namespace souk::contracts
