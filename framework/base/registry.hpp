// A table from names to factories whose error lists the known names. Filled explicitly, never by
// static objects.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {

/// A named entry with one line that tells a user what it is (`dovetail info` prints it).
struct Description {
  std::string name;
  std::string summary;
};

/// Joins names as "a, b, c", for messages that say what is allowed; printable, as names may come
/// from damaged files.
template <class Range>
std::string join_names(const Range& names, const std::string& separator = ", ") {
  std::string text;
  for (const auto& name : names) {
    text += (text.empty() ? "" : separator) + printable(name, std::string::npos);
  }
  return text;
}

template <class Factory>
class Registry {
 public:
  explicit Registry(std::string kind) : kind_(std::move(kind)) {}

  void add(std::string name, std::string summary, Factory factory) {
    descriptions_.push_back({std::move(name), std::move(summary)});
    factories_.push_back(std::move(factory));
  }

  /// The factory of that name. Throws InputError "unknown <kind> 'x'; known: a, b" otherwise.
  const Factory& at(const std::string& name) const {
    for (std::size_t i = 0; i < descriptions_.size(); ++i) {
      if (descriptions_[i].name == name) {
        return factories_[i];
      }
    }
    throw InputError("unknown " + kind_ + " '" + printable(name) +
                     "'; known: " + join_names(names()));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& description : descriptions_) {
      all.push_back(description.name);
    }
    return all;
  }

  const std::vector<Description>& descriptions() const { return descriptions_; }

 private:
  std::string kind_;
  std::vector<Description> descriptions_;
  std::vector<Factory> factories_;
};

}  // namespace dovetail
