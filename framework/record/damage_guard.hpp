// The end of a process that HDF5 cannot survive. The library trusts what a file says of itself: a
// damaged one can make it read beyond its memory, or walk in circles.
#pragma once

#include <string>

namespace dovetail {

/// How much processor time HDF5 may take for one object of a file. Far more than what it needs
/// for the largest that fits into memory; set by tests before the first guard.
inline int damage_guard_ms = 60'000;

/// While one lives, its thread reads a file of others: a fatal signal in this thread, or
/// damage_guard_ms of its processor time, end the process with exit code 2 (bad input) and a
/// line that names the file. Guards may lie within one another; the outer one names and measures.
/// One thread of the process at a time, as HDF5 asks for anyway. Costs two system calls.
class DamageGuard {
 public:
  /// `what`: the file and the place in it.
  explicit DamageGuard(const std::string& what) noexcept;
  ~DamageGuard();
  DamageGuard(const DamageGuard&) = delete;
  DamageGuard& operator=(const DamageGuard&) = delete;
  DamageGuard(DamageGuard&&) = delete;
  DamageGuard& operator=(DamageGuard&&) = delete;

 private:
  bool is_outer_ = false;
};

}  // namespace dovetail
