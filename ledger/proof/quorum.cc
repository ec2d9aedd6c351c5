#include "ledger/proof/quorum.h"

#include <algorithm>

namespace souk::ledger {

Result<WitnessQuorum> WitnessQuorum::parse(std::string_view policy) {
  WitnessQuorum out(TRY(TlogPolicy::parse(policy)));
  for (const auto& witness : out.policy_.witnesses()) {
    if (witness.key.type != KeyType::kCosignature) continue;
    auto key = TRY(CosignerKey::parse(witness.key.text()));
    out.members_.push_back({witness.name, std::move(key), witness.url});
  }
  return out;
}

Result<CosignTime> WitnessQuorum::witnessed_at(const Note& note) const {
  if (!needed()) return CosignTime{0};
  std::vector<std::pair<CosignTime, const std::string*>> cosigned;
  for (const auto& member : members_) {
    auto time = TRY(cosigned_at(note, member.key));
    if (time) cosigned.emplace_back(*time, &member.name);
  }
  std::sort(cosigned.begin(), cosigned.end(),
            [](const auto& a, const auto& b) { return a.first > b.first; });
  std::set<std::string> names;
  for (const auto& [time, name] : cosigned) {
    names.insert(*name);
    if (policy_.satisfied_by(names)) return time;
  }
  return Error(Code::kUnauthentic,
               "checkpoint: expected the cosignatures of a quorum of witnesses");
}

Result<bool> WitnessQuorum::intersects() const {
  if (!needed()) return true;
  const auto& witnesses = policy_.witnesses();
  if (witnesses.size() > 20) {
    return Error(Code::kRefused, "policy: expected at most 20 witnesses");
  }
  // A quorum beside another is a quorum within the other's complement.
  for (uint32_t subset = 0; subset < uint32_t{1} << witnesses.size(); ++subset) {
    std::set<std::string> inside;
    std::set<std::string> outside;
    for (size_t i = 0; i < witnesses.size(); ++i) {
      ((subset >> i & 1) != 0 ? inside : outside).insert(witnesses[i].name);
    }
    if (policy_.satisfied_by(inside) && policy_.satisfied_by(outside)) return false;
  }
  return true;
}

}  // namespace souk::ledger
