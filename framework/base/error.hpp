// What can go wrong, as types. Every error carries the exit code that the process must end with.
#pragma once

#include <stdexcept>
#include <string>

namespace dovetail {

inline constexpr int kExitDone = 0;
inline constexpr int kExitBadInput = 2;
inline constexpr int kExitRunFailure = 3;
inline constexpr int kExitMismatch = 4;
inline constexpr int kExitStopped = 5;  ///< stopped early on request; what is missing is named

/// Base of all errors that Dovetail throws on purpose.
class Error : public std::runtime_error {
 public:
  Error(int exit_code, const std::string& message)
      : std::runtime_error(message), exit_code_(exit_code) {}

  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

/// Bad usage, configuration or input; found before work starts. Exit code 2.
class InputError : public Error {
 public:
  explicit InputError(const std::string& message) : Error(kExitBadInput, message) {}

  /// Message prefixed by "file:line:column: "; line and column count from 1, 0 = not known and left
  /// out.
  InputError(const std::string& file, int line, int column, const std::string& message);
};

/// A failure while running. Exit code 3.
class RunError : public Error {
 public:
  explicit RunError(const std::string& message) : Error(kExitRunFailure, message) {}
};

/// Where in a step something happened; -1 or empty = does not apply.
struct FailurePlace {
  int rank = -1;
  int ubatch = -1;
  int layer = -1;
  std::string phase;
  int group = -1;

  /// "rank 1, ubatch 0, layer 3, phase experts, group 2"; only what is known.
  std::string describe() const;
};

/// A failure inside an op, with its place. what() = "<place>: <message>".
class OpError : public RunError {
 public:
  OpError(FailurePlace place, const std::string& message);

  const FailurePlace& place() const { return place_; }

  /// The message without the place.
  const std::string& detail() const { return detail_; }

 private:
  FailurePlace place_;
  std::string detail_;
};

/// A wait that ran into its deadline. Exit code 3.
class TimeoutError : public RunError {
 public:
  using RunError::RunError;
};

/// A broken promise between our own parts: a bug. Exit code 3.
class ContractError : public RunError {
 public:
  using RunError::RunError;
};

}  // namespace dovetail
