#include "framework/comm/exchange/received_poison.hpp"

#include <limits>
#include <optional>

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>

namespace dovetail {

void poison_received(Exchange& exchange, int ubatch, Phase phase) {
  const c10::InferenceMode inference;  // in which the steps have made the buffers
  for (auto& rows : exchange.buffers().received_rows(ubatch, phase, std::nullopt)) {
    if (rows.is_floating_point()) {
      rows.fill_(std::numeric_limits<double>::quiet_NaN());
    } else {
      rows.fill_(0xFF);  // as bytes of a float of any size: NaN
    }
  }
}

void poison_all_received(Exchange& exchange, int num_ubatches) {
  for (int ubatch = 0; ubatch < num_ubatches; ++ubatch) {
    for (const auto phase : {Phase::dispatch, Phase::combine}) {
      poison_received(exchange, ubatch, phase);
    }
  }
}

}  // namespace dovetail
