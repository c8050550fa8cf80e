// What an InputError says, for tests of what is refused.
#pragma once

#include <string>

#include "framework/base/error.hpp"

namespace dovetail::testing {

/// What the InputError says that `call` throws; empty where it throws none. Other exceptions pass
/// through.
template <class Call>
std::string input_error_of(const Call& call) {
  try {
    call();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

}  // namespace dovetail::testing
