#include "policy/decide/joint.h"

namespace souk::policy {

Status Joint::add(const PolicyDecision& part) {
  if (part.price_minor > kMaxJsonInteger - price_minor_) {
    return Error(Code::kExhausted, "expected prices that add up below 2^53");
  }
  ++parts_;
  reasons_.insert(reasons_.end(), part.reasons.begin(), part.reasons.end());
  if (!part.allowed()) {
    ++refusals_;
    return Done{};
  }
  price_minor_ += part.price_minor;
  obligations_ = obligations_ ? meet(*obligations_, part.obligations) : part.obligations;
  return Done{};
}

void Joint::inherit(const Obligations& obligations) {
  obligations_ = obligations_ ? meet(*obligations_, obligations) : obligations;
}

}  // namespace souk::policy
