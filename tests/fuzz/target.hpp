// What a fuzz target is: each *_target.cpp makes one for one format, and a program has one.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

namespace dovetail::fuzz {

struct Target {
  /// Good inputs to start from: files of this repository, or what our own writers write.
  std::vector<std::string> (*seeds)();
  /// Pieces of text that mean something in the format.
  std::vector<std::string> (*tokens)();
  /// Whether the bytes are read. Throws BrokenContract where the reader does anything else than to
  /// take an input or to refuse it as bad input.
  bool (*accepts)(const std::string& bytes);
};

/// The program's.
const Target& target();

/// Makes a target the program's; a constant of its source.
struct TargetOfProgram {
  explicit TargetOfProgram(const Target& target);
};

/// What a reader did that it must not.
class BrokenContract : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws BrokenContract with `what` unless `holds`.
void require(bool holds, const std::string& what);

/// True where `read` returns, false where it throws an InputError whose message begins with
/// `name` and a place, and is one short line of readable text. All else is a BrokenContract.
bool is_read(const std::string& name, const std::function<void()>& read);

}  // namespace dovetail::fuzz
