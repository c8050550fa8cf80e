// What a model registers: an architecture reads a config.json and then makes models.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <c10/core/Device.h>

#include "framework/config/experiment.hpp"
#include "framework/plan/phase.hpp"
#include "framework/step/model.hpp"
#include "framework/step/weight_source.hpp"

namespace dovetail {

/// Where one rank's model lives and which experts it owns: block ep_rank of num_experts / ep_size.
struct ModelPlacement {
  int ep_size = 1;
  int ep_rank = 0;
  at::ScalarType dtype = at::kFloat;
  at::Device device = at::kCPU;
};

/// Bytes of a part of the memory estimate of one rank.
struct MemoryPart {
  std::string name;
  std::int64_t bytes = 0;
  std::optional<Phase> read_by = std::nullopt;  ///< of weights: the phase that reads all of them
};

/// The configuration of a model, or of a stage of it (a range of layers), before any weight is
/// read.
class Architecture {
 public:
  Architecture() = default;
  virtual ~Architecture() = default;
  Architecture(const Architecture&) = delete;
  Architecture& operator=(const Architecture&) = delete;
  Architecture(Architecture&&) = delete;
  Architecture& operator=(Architecture&&) = delete;

  /// Layers of the stage.
  virtual const ModelShape& shape() const = 0;

  /// dims().dtype is float32 here: a model's dtype is that of its placement.
  virtual const ModelDims& dims() const = 0;

  /// What the config.json says of the dtype of the published weights ("bfloat16"); empty = nothing.
  /// A run takes execution.dtype all the same.
  virtual std::string config_dtype() const { return ""; }

  /// Weights of one rank by part (embedding, attention, router, experts, shared experts, dense
  /// layers, lm_head): exactly what make_model allocates, but for untied_memory.
  virtual std::vector<MemoryPart> weight_memory(const ModelPlacement& placement) const = 0;

  /// What make_model keeps beside that, by the same parts, since a checkpoint stores two matrices
  /// that the config ties, and they differ. Reads the values of these alone, up to the first
  /// difference. Throws InputError as make_model does.
  virtual std::vector<MemoryPart> untied_memory(WeightSource& /*weights*/,
                                                const ModelPlacement& /*placement*/) const {
    return {};
  }

  /// Throws what make_model would throw because of names, shapes and dtypes of the weights that the
  /// rank owns. Takes memory for no weight and reads no values.
  virtual void check_weights(WeightSource& weights, const ModelPlacement& placement) const = 0;

  /// Reads all weights that the rank owns, each once, always in the same order. Throws InputError
  /// naming file and tensor.
  virtual std::unique_ptr<Model> make_model(WeightSource& weights,
                                            const ModelPlacement& placement) const = 0;
};

/// Reads the Hugging Face config.json of an experiment's model, for its range of layers. Throws
/// InputError naming file and key, or the layers that are allowed.
using ArchitectureFactory = std::function<std::unique_ptr<Architecture>(const ModelConfig& model)>;

}  // namespace dovetail
