#include "framework/base/error.hpp"

namespace dovetail {
namespace {

std::string locate(const std::string& file, int line, int column, const std::string& message) {
  std::string text = file;
  if (line > 0) {
    text += ":" + std::to_string(line);
    if (column > 0) {
      text += ":" + std::to_string(column);
    }
  }
  return text + ": " + message;
}

}  // namespace

InputError::InputError(const std::string& file, int line, int column, const std::string& message)
    : Error(kExitBadInput, locate(file, line, column, message)) {}

std::string FailurePlace::describe() const {
  std::string text;
  const auto add = [&text](const std::string& part) { text += (text.empty() ? "" : ", ") + part; };
  if (rank >= 0) {
    add("rank " + std::to_string(rank));
  }
  if (ubatch >= 0) {
    add("ubatch " + std::to_string(ubatch));
  }
  if (layer >= 0) {
    add("layer " + std::to_string(layer));
  }
  if (!phase.empty()) {
    add("phase " + phase);
  }
  if (group >= 0) {
    add("group " + std::to_string(group));
  }
  return text;
}

OpError::OpError(FailurePlace place, const std::string& message)
    : RunError(place.describe() + ": " + message), place_(std::move(place)), detail_(message) {}

}  // namespace dovetail
