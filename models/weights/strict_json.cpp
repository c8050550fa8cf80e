#include "models/weights/strict_json.hpp"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "framework/base/error.hpp"

namespace dovetail {

using nlohmann::json;

json parse_strict_json(std::string_view text, const std::string& where, int max_depth) {
  // The parser takes a NUL for the end of its input and would not look at what follows.
  if (text.find('\0') != std::string_view::npos) {
    throw InputError(
        where, 0, 0, "not JSON: a NUL byte at offset " + std::to_string(text.find('\0')));
  }
  std::vector<std::set<std::string>> open_keys;  // of each object that is not closed yet
  const auto watch = [&](int depth, json::parse_event_t event, json& value) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (depth >= max_depth) {
          throw InputError(where, 0, 0, "nested deeper than " + std::to_string(max_depth));
        }
        if (event == json::parse_event_t::object_start) {
          open_keys.emplace_back();
        }
        break;
      case json::parse_event_t::key:
        if (!open_keys.back().insert(value.get<std::string>()).second) {
          throw InputError(
              where, 0, 0, "key '" + abbreviate(value.get<std::string>()) + "' appears twice");
        }
        break;
      case json::parse_event_t::object_end:
        open_keys.pop_back();
        break;
      case json::parse_event_t::array_end:
      case json::parse_event_t::value:
        break;
    }
    return true;
  };
  json parsed;
  try {
    parsed = json::parse(text, watch);
  } catch (const json::exception& error) {
    throw InputError(where, 0, 0, "not JSON: " + abbreviate(error.what()));
  }
  if (!parsed.is_object()) {
    throw InputError(where, 0, 0, "not a JSON object");
  }
  return parsed;
}

std::string abbreviate(std::string text) {
  constexpr std::size_t most = 200;
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7F; }, '?');
  if (text.size() > most) {
    text.resize(most);
    text += "...";
  }
  return text;
}

}  // namespace dovetail
