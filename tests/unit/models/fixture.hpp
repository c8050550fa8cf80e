// The checkpoints of tests/fixtures, and what transformers computed with them
// (tests/fixtures/make_fixtures.py).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/step/architecture.hpp"
#include "framework/step/model.hpp"
#include "framework/step/weight_source.hpp"
#include "models/decoder/config.hpp"

namespace dovetail {

/// Rows of all requests one after another; float32. What a file does not have is undefined.
struct Fixture {
  std::string folder;
  std::vector<std::int64_t> lengths;                ///< of each request; decode: of its prompt
  std::vector<std::vector<std::int64_t>> requests;  ///< ids; zeros where there are embeds
  at::Tensor embeds;                                ///< [T, H]
  at::Tensor positions;                             ///< [3, T]
  at::Tensor hidden;                                ///< [T, H]
  at::Tensor logits;                                ///< [T, vocabulary]; decode: of each pass
};

/// `file`: expected, embeds, or decode, whose requests are `extra_tokens` longer than the lengths.
Fixture load_fixture(const std::string& name,
                     const std::string& file = "expected",
                     std::int64_t extra_tokens = 0);

/// The architecture that the fixture's config.json names.
std::unique_ptr<Architecture> architecture_of(const Fixture& fixture);

/// Called after each weight was read, to change it on purpose.
using WeightChange = std::function<void(const WeightRequest& request)>;

/// The models of an ep group.
std::vector<std::unique_ptr<Model>> make_models(const Fixture& fixture,
                                                int ep_size,
                                                at::ScalarType dtype,
                                                const WeightChange& change = {});

/// The fixture's weights under a configuration of its own.
std::vector<std::unique_ptr<Model>> make_models(const Fixture& fixture,
                                                const MoeDecoderConfig& config);

}  // namespace dovetail
