// Qwen3-MoE in double precision with plain loops: slow, one request at a time, no tensor library in
// the arithmetic. What it says is what the model has to say.
#pragma once

#include <cstdint>
#include <vector>

#include "models/decoder/config.hpp"
#include "tests/unit/models/memory_source.hpp"

namespace dovetail {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

struct OracleResult {
  Rows hidden;                                            ///< [T][H] after the final norm
  Rows logits;                                            ///< [T][vocabulary]
  std::vector<std::vector<std::vector<int>>> expert_ids;  ///< [layer][T][k]; dense layers: empty
  std::vector<Rows> router_logits;                        ///< [layer][T][experts]
};

/// positions 0, 1, 2, ... of one request. Reads the weights of `source` that a model read before.
OracleResult oracle_forward(const MoeDecoderConfig& config,
                            const MemorySource& source,
                            const std::vector<std::int64_t>& input_ids);

}  // namespace dovetail
