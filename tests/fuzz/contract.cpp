#include <exception>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

/// Enough for a list of every name that is allowed.
constexpr std::size_t kMaxMessageBytes = 4096;

Target& own_target() {
  static Target own{};
  return own;
}

void check_message(const std::string& name, const std::string& message) {
  const std::string shown = printable(message, kMaxMessageBytes);
  require(message.starts_with(name), "the message does not begin with '" + name + "': " + shown);
  require(message.size() <= kMaxMessageBytes, "a message of more than 4 KiB: " + shown);
  require(message == shown, "a message of more than readable text: " + shown);
}

}  // namespace

const Target& target() {
  return own_target();
}

TargetOfProgram::TargetOfProgram(const Target& target) {
  own_target() = target;
}

void require(bool holds, const std::string& what) {
  if (!holds) {
    throw BrokenContract(what);
  }
}

bool is_read(const std::string& name, const std::function<void()>& read) {
  try {
    read();
    return true;
  } catch (const BrokenContract&) {
    throw;
  } catch (const InputError& error) {
    check_message(name, error.what());
    return false;
  } catch (const std::exception& error) {
    throw BrokenContract(std::string("not an InputError: ") + error.what());
  }
}

}  // namespace dovetail::fuzz
