// Adds the place of an op to an exception that left it.
#pragma once

#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Call in a catch block: rethrows the exception in flight with the op's ubatch, layer, phase and
/// group.
/// An OpError is rethrown as it is. An Error with an exit code other than 3 keeps its code (an
/// InputError stays one), its message prefixed by the place. All else becomes an OpError. The
/// original is nested (std::rethrow_if_nested).
[[noreturn]] void rethrow_from_op(const Op& op);

}  // namespace dovetail
