#include "tests/trainer/audit/planted.h"

namespace souk::trainer::seam {

Fault planted_fault = Fault::kNone;
const char planted_mark[] = "this program can plant faults in its trainer";

}  // namespace souk::trainer::seam
