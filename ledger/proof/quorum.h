// Whether enough witnesses have cosigned a checkpoint, and when: a tlog-policy with the
// Ed25519 cosigners it names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ledger/proof/cosignature.h"
#include "ledger/proof/tlog_policy.h"

namespace souk::ledger {

class WitnessQuorum {
 public:
  struct Member {
    std::string name;  // in the policy
    CosignerKey key;
    std::string url;  // submission prefix, or ""
  };

  // kMalformed as TlogPolicy::parse.
  static Result<WitnessQuorum> parse(std::string_view policy);

  // False for `quorum none`: then there is nobody to wait for.
  bool needed() const { return policy_.quorum() != "none"; }
  // The witnesses whose cosignatures we can check; others of the policy never count.
  const std::vector<Member>& members() const { return members_; }
  bool satisfied_by(const std::set<std::string>& names) const {
    return policy_.satisfied_by(names);
  }

  // The newest time at which a quorum stood behind this text: the members whose newest
  // cosignature is not older are a quorum. 0 when none is needed. kUnauthentic without a
  // quorum, or when a line in the name of a member is false.
  Result<CosignTime> witnessed_at(const Note& note) const;

  // Whether every two quorums have a member in common, without which a log could show
  // each of them another tree. kRefused for policies of more than 20 witnesses.
  Result<bool> intersects() const;

 private:
  explicit WitnessQuorum(TlogPolicy policy) : policy_(std::move(policy)) {}

  TlogPolicy policy_;
  std::vector<Member> members_;
};

}  // namespace souk::ledger
