// Leaves some SMs to the exchange: the GEMMs of a scope size their grids for the rest.
#pragma once

#include <cstdint>
#include <optional>

namespace dovetail {

/// Scope in which LibTorch's GEMMs (those by cuBLASLt, and the grouped ones) count `comm_sms` SMs
/// less than the current device has. Process-wide, baked into what is captured inside. Scopes may
/// be nested; the inner one's number counts alone, and the end of a scope, by an exception too,
/// brings back what was there before. 0 = GEMMs take all SMs. Immovable.
class SmPartition {
 public:
  /// Throws InputError unless 0 <= comm_sms < the device's SMs, RunError without a device.
  explicit SmPartition(int comm_sms);
  ~SmPartition();
  SmPartition(const SmPartition&) = delete;
  SmPartition& operator=(const SmPartition&) = delete;
  SmPartition(SmPartition&&) = delete;
  SmPartition& operator=(SmPartition&&) = delete;

  /// SMs that GEMMs leave out now.
  static int left_out();

 private:
  std::optional<std::int32_t> before_;
};

}  // namespace dovetail
