// What no step changes is computed once in a run: the layers between the example and the first
// thing that is trained, where a scattering is among them. The same kernels make the same bits as
// in every step; each row's features are a function of that row alone, so clipping, sensitivity and
// sampling are what they were.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "trainer/engine/examples.h"
#include "trainer/engine/graph.h"
#include "trainer/engine/workers.h"

namespace souk::trainer {

class FixedFeatures {
 public:
  // None where no layer is worth it, where views of examples are random, or where the features of
  // all rows would take more than kMaxBytes: then every step computes its own. All of this is
  // public: the specification and the number of rows. `numbers` are all of the graph's.
  static Result<std::optional<FixedFeatures>> compute(const contracts::TrainingSpec& spec,
                                                      const Graph& graph,
                                                      const ExampleReader& reader, uint64_t rows,
                                                      std::span<const float> numbers,
                                                      Workers& workers);
  static constexpr uint64_t kMaxBytes = uint64_t{3} << 30;

  FixedFeatures(FixedFeatures&&) noexcept = default;
  FixedFeatures& operator=(FixedFeatures&&) noexcept = default;
  ~FixedFeatures();  // wipes them

  // The layer whose values they are.
  uint32_t layer() const { return layer_; }
  void read(uint64_t row, float* out) const;

 private:
  FixedFeatures(uint32_t layer, uint64_t width) : layer_(layer), width_(width) {}
  uint32_t layer_;
  uint64_t width_;
  std::vector<float> values_;
};

// The last layer of the path from the example on which nothing is trained or random, if there is a
// scattering on it; else 0.
uint32_t end_of_fixed_path(const Graph& graph);

}  // namespace souk::trainer
