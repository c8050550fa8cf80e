// A hint to the kernel's scheduler for threads that wake often and run briefly.
#pragma once

namespace dovetail {

/// Asks for a time slice of 0.1 ms for the calling thread, in place of the kernel's 3 ms: a thread
/// that polls an exchange then runs as soon as it wakes, also where compute keeps all cores busy;
/// otherwise each wake-up waits for a slice of compute to end. Needs no privilege; kernels before
/// 6.12 (where custom slices came with the EEVDF scheduler) ignore it.
void ask_for_short_slices() noexcept;

}  // namespace dovetail
