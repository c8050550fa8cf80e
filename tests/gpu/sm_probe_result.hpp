// Memory of an SmProbe, and what it says once its kernel has ended.
#pragma once

#include <cstdint>
#include <limits>
#include <set>

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include "tests/gpu/sm_probe.hpp"

namespace dovetail::test {

/// On the current device. Calls wait for the device where they read.
class SmProbeResult {
 public:
  SmProbeResult()
      : blocks_of_sm_(at::zeros({kMostSms}, at::TensorOptions().device(at::kCUDA).dtype(at::kInt))),
        starts_(at::zeros({2}, at::TensorOptions().device(at::kCUDA).dtype(at::kLong))) {
    forget();
  }

  void forget() {
    blocks_of_sm_.zero_();
    starts_.zero_();
    starts_.select(0, 0).fill_(std::numeric_limits<std::int64_t>::max());
  }

  SmProbe probe() const {
    auto* starts = starts_.mutable_data_ptr<std::int64_t>();
    return {.blocks_of_sm = blocks_of_sm_.mutable_data_ptr<std::int32_t>(),
            .first_start = starts,
            .last_start = starts + 1};
  }

  std::int64_t num_blocks() const { return blocks_of_sm_.sum().item<std::int64_t>(); }

  /// Ids of the SMs that blocks ran on.
  std::set<int> sms() const {
    const auto counts = blocks_of_sm_.cpu();
    std::set<int> ids;
    for (int sm = 0; sm < kMostSms; ++sm) {
      if (counts.const_data_ptr<std::int32_t>()[sm] > 0) {
        ids.insert(sm);
      }
    }
    return ids;
  }

  std::int64_t first_start_ns() const { return starts_.select(0, 0).item<std::int64_t>(); }

  std::int64_t last_start_ns() const { return starts_.select(0, 1).item<std::int64_t>(); }

 private:
  at::Tensor blocks_of_sm_;
  at::Tensor starts_;  ///< first, last
};

}  // namespace dovetail::test
