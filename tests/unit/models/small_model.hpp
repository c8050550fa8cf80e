// A small model with every kind of layer, for tests.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "models/decoder/architecture.hpp"
#include "tests/unit/models/memory_source.hpp"

namespace dovetail {

/// Three layers: MoE, dense, MoE, with shared experts; 50 tokens of vocabulary.
MoeDecoderConfig small_config();

/// Token ids of requests of these lengths, for a vocabulary of 50.
std::vector<std::vector<std::int64_t>> random_requests(std::uint64_t seed,
                                                       const std::vector<int>& lengths);

/// The models of an ep group.
std::vector<std::unique_ptr<Model>> make_ranks(const MoeDecoderConfig& config,
                                               WeightSource& source,
                                               int ep_size = 1,
                                               at::ScalarType dtype = at::kFloat);

}  // namespace dovetail
