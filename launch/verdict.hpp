// From a verdict to an exit code, for `run` and `verify` alike.
#pragma once

#include "framework/compare/verify.hpp"

namespace dovetail {

/// 0 verified, 4 mismatch, 2 not comparable.
int exit_code_of(Verdict verdict);

}  // namespace dovetail
