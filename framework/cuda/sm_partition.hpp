// Leaves some SMs to the exchange: the kernels of a scope that size their grids by the number of
// SMs size them for the rest.
#pragma once

#include <cstdint>
#include <optional>

namespace dovetail {

/// Scope in which kernels count `comm_sms` SMs less than the current device has: LibTorch's GEMMs
/// (those by cuBLASLt, and the grouped ones) and own kernels whose blocks walk over their work
/// (swiglu, decode over latents). All others have a block for each tile or row and come in waves
/// over all SMs, other attention among them: the exchange's kernels get in between two of their
/// blocks, since their stream has the higher priority. How attention cuts keys into splits decides
/// bits, so it is by the device's SMs and not by this scope; for the same reason libraries that
/// compute the tiles of `batch_invariant` (models/layers/tiles.hpp) leave out none. Process-wide,
/// baked into what is captured inside. Scopes may be nested; the inner one's number counts alone,
/// and the end of a scope, by an exception too, brings back what was there before. 0 = kernels take
/// all SMs. Immovable.
class SmPartition {
 public:
  /// Throws InputError unless 0 <= comm_sms < the device's SMs, RunError without a device.
  explicit SmPartition(int comm_sms);
  ~SmPartition();
  SmPartition(const SmPartition&) = delete;
  SmPartition& operator=(const SmPartition&) = delete;
  SmPartition(SmPartition&&) = delete;
  SmPartition& operator=(SmPartition&&) = delete;

  /// SMs that kernels leave out now.
  static int left_out();

  /// The other SMs of the current device. Legal while a stream is captured.
  static int sms_to_compute();

 private:
  std::optional<std::int32_t> before_;
};

}  // namespace dovetail
