#include "framework/base/strict_json.hpp"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>
#include <vector>

#include "framework/base/error.hpp"
#include "framework/base/non_finite_json.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

/// Hands the text to the library and tells how far the library has read: it has no places of its
/// own for what it accepts.
class TrackedText {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  /// `end` keeps the address of the byte behind the last one that was read.
  TrackedText(const char* at, const char** end) : at_(at), end_(end) {}

  reference operator*() const { return *at_; }

  TrackedText& operator++() {
    *end_ = ++at_;
    return *this;
  }

  bool operator==(const TrackedText& other) const { return at_ == other.at_; }

 private:
  const char* at_;
  const char** end_;
};

class Parser {
 public:
  Parser(std::string_view text, const JsonSource& source) : text_(text), source_(source) {}

  json parse() {
    if (const auto nul = text_.find('\0'); nul != std::string_view::npos) {
      fail("not JSON: a NUL byte in " + place(nul));
    }
    if (source_.takes_non_finite) {
      quoted_ = quote_non_finite(text_);
      text_ = quoted_.text;
    }
    read_end_ = text_.data();
    const auto watch = [this](int depth, json::parse_event_t event, json& value) {
      look_at(depth, event, value);
      return true;
    };
    try {
      return json::parse(TrackedText(text_.data(), &read_end_),
                         TrackedText(text_.data() + text_.size(), &read_end_),
                         watch);
    } catch (const json::exception& error) {
      fail("not JSON: " + printable(error.what(), kMaxLongQuoteBytes));
    }
  }

 private:
  void look_at(int depth, json::parse_event_t event, const json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (depth >= source_.max_depth) {
          fail(place(last_byte()) + ": values too deep within each other",
               "at most " + std::to_string(source_.max_depth) + " arrays and objects");
        }
        if (event == json::parse_event_t::object_start) {
          open_objects_.emplace_back();
        }
        break;
      case json::parse_event_t::key:
        if (!open_objects_.back().insert(value.get<std::string>()).second) {
          fail(place(last_byte()) + ": key '" +
               printable(value.get<std::string>(), kMaxLongQuoteBytes) +
               "' is there twice in one object");
        }
        break;
      case json::parse_event_t::object_end:
        open_objects_.pop_back();
        break;
      case json::parse_event_t::array_end:
      case json::parse_event_t::value:
        break;
    }
  }

  std::size_t last_byte() const { return static_cast<std::size_t>(read_end_ - text_.data()) - 1; }

  /// "line 3, byte 40", the line from 1, the byte from 0 and of the whole text.
  std::string place(std::size_t byte) const {
    const auto before = text_.substr(0, byte);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    return (source_.line > 0 ? "" : "line " + std::to_string(line) + ", ") + "byte " +
           std::to_string(quoted_.original(byte));
  }

  [[noreturn]] void fail(const std::string& problem, const std::string& allowed = "") const {
    const std::string right(source_.allowed.empty() ? allowed : source_.allowed);
    throw InputError(
        source_.file, source_.line, 0, problem + (right.empty() ? "" : "; allowed: " + right));
  }

  std::string_view text_;
  const JsonSource& source_;
  QuotedNumbers quoted_;  // holds the text where it takes numbers that are not finite
  const char* read_end_ = nullptr;
  std::vector<std::set<std::string>> open_objects_;  // the keys of each that is not closed yet
};

}  // namespace

json parse_strict_json(std::string_view text, const JsonSource& source) {
  return Parser(text, source).parse();
}

std::string printable_json(const json& value) {
  return printable(value.dump(-1, ' ', false, json::error_handler_t::replace), kMaxLongQuoteBytes);
}

}  // namespace dovetail
