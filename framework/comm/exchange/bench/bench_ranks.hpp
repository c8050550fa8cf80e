// How the ranks of a bench make one figure of what each has measured.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "framework/mpi/collectives.hpp"

namespace dovetail {

/// Both calls are collective over `world` and bounded by `wait`.
class BenchRanks {
 public:
  BenchRanks(MpiComm world, const WaitPolicy& wait) : world_(std::move(world)), wait_(wait) {}

  std::int64_t reduce(std::int64_t value, Reduction reduction) const {
    std::int64_t values[] = {value};
    all_reduce(world_, values, reduction, wait_);
    return values[0];
  }

  /// Of the ranks' microseconds the most, in steps of a nanosecond.
  double slowest(double us) const {
    return static_cast<double>(reduce(std::llround(us * 1e3), Reduction::max)) * 1e-3;
  }

 private:
  const MpiComm world_;
  const WaitPolicy wait_;
};

}  // namespace dovetail
