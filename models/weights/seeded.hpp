// Weights from a seed: the same bits on every grid, rank and device.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "framework/step/weight_source.hpp"
#include "models/weights/seeded_generator.hpp"

namespace dovetail {

/// The distribution of a parameter. Uniform, with standard deviation 1 for embeddings
/// ("embed_tokens"), 1/sqrt(last size) for other tensors of 2 and more dimensions, 1/50 for biases;
/// norms (1-D "weight") are uniform in 1 +- 1/16. Throws InputError where none of these applies.
SeededScale seeded_scale(const std::string& name, std::span<const std::int64_t> shape);

/// Makes the values of elements [first, first + count) of a whole row-major parameter in float32.
void generate_seeded(std::uint64_t seed,
                     std::uint64_t parameter,
                     const SeededScale& scale,
                     std::int64_t first,
                     std::int64_t count,
                     float* values);

/// Every parameter of every model, under the names of transformers 4 (one tensor per expert): a
/// name is there if it ends in ".weight" or ".bias". Values depend on seed, name and element index
/// within the whole tensor; they are float32, rounded once to the destination type. On a GPU they
/// are made there, on its current stream, without a wait. For one thread.
class SeededSource final : public WeightSource {
 public:
  explicit SeededSource(std::uint64_t seed) : seed_(seed) {}

  bool has(const std::string& name) const override;
  void read(const WeightRequest& request) override;

 private:
  std::uint64_t seed_;
};

}  // namespace dovetail
