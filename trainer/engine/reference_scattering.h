// The judge of scattering.h; see reference.h.
#pragma once

#include <vector>

#include "trainer/engine/graph.h"

namespace souk::trainer {

// `example` and the answer are in channel, row, column order.
std::vector<double> reference_scattering(const Layer& layer, const std::vector<double>& example);

}  // namespace souk::trainer
