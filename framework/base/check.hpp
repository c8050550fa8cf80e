// Precondition checks that stay in release builds. For promises between our own parts; bad user
// input throws InputError.
#pragma once

#include <sstream>
#include <string>

#include "framework/base/error.hpp"

namespace dovetail::detail {

[[noreturn]] inline void fail_check(const char* file,
                                    int line,
                                    const char* text,
                                    const std::string& message) {
  throw ContractError(std::string(file) + ":" + std::to_string(line) + ": check failed: " + text +
                      (message.empty() ? "" : ": " + message));
}

template <class A, class B>
void check_equal(const A& a, const B& b, const char* file, int line, const char* text) {
  if (!(a == b)) {
    std::ostringstream both;
    both << a << " against " << b;
    fail_check(file, line, text, both.str());
  }
}

}  // namespace dovetail::detail

/// Throws ContractError with file, line, the condition's text and the message when the condition
/// does not hold.
#define DOVETAIL_CHECK(condition, message) \
  ((condition) ? static_cast<void>(0)      \
               : ::dovetail::detail::fail_check(__FILE__, __LINE__, #condition, (message)))

/// Throws ContractError that prints both sides when a != b.
#define DOVETAIL_CHECK_EQ(a, b) \
  ::dovetail::detail::check_equal((a), (b), __FILE__, __LINE__, #a " == " #b)
